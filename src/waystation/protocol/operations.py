"""The 23 operations of SQS and every structure they carry.

Data and nothing else: what a value may be is for validation to say, how bytes
become these and back is for the codecs.

Always: names are those of botocore's `sqs` model, in Python's spelling for the
members; a test walks the model and finds every member here and nothing more.
What a client sends has no mandatory field, because AWS answers a missing member
with `MissingParameter` and a decoder could not; `required` says what `require`
then looks for. In what we answer, mandatory members have no default, and members
left at their default stay off the wire, as AWS does it: an empty receive is `{}`.

`gc=False`: these hold no cycles, and a busy server makes thousands a second.
"""

# ruff: noqa: D101 (what each structure is for, the model says under the same name)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import msgspec
from msgspec import field

from waystation.protocol.errors import MissingParameter


class Shape(msgspec.Struct, rename="pascal", omit_defaults=True, gc=False):
    """Anything that crosses the wire."""

    required: ClassVar[tuple[str, ...]] = ()
    """Members that a client must send, in the order in which AWS misses them."""


def require(shape: Shape, prefix: str = "") -> None:
    """Check that every mandatory member was sent.

    Args:
        shape: a request, or an entry of a batch.
        prefix: put before the member's name, for example "SendMessageBatchRequestEntry.1.".

    Raises:
        MissingParameter: names the first member that is absent or null, or empty where it is to
            hold something. A form cannot tell the one from the other; an empty batch has an
            error of its own.
    """
    for member in shape.required:
        value = getattr(shape, member)
        if value is None or (value in ([], {}) and member != "entries"):
            raise MissingParameter(prefix + wire_name(type(shape), member))


def wire_name(shape: type[Shape], member: str) -> str:
    """The name on the wire of a member, given its Python name."""
    return shape.__struct_encode_fields__[shape.__struct_fields__.index(member)]


# Values shared by several operations


class QueueRequest(Shape, kw_only=True):
    """Any request about one queue that exists."""

    required: ClassVar[tuple[str, ...]] = ("queue_url",)
    queue_url: str | None = None


class MessageAttributeValue(Shape, kw_only=True):
    """`data_type` is String, Number or Binary, maybe with a suffix after a dot. The lists are reserved."""

    required = ("data_type",)
    data_type: str | None = None
    string_value: str | None = None
    binary_value: bytes | None = None
    string_list_values: list[str] | None = None
    binary_list_values: list[bytes] | None = None


class MessageSystemAttributeValue(MessageAttributeValue, kw_only=True):
    """The same, for `AWSTraceHeader`."""


class BatchResultErrorEntry(Shape, kw_only=True):
    """`code` is a Query code."""

    id: str
    sender_fault: bool
    code: str
    message: str | None = None


# Sending


class SendMessageRequest(QueueRequest, kw_only=True):
    required = ("queue_url", "message_body")
    message_body: str | None = None
    delay_seconds: int | None = None
    message_attributes: dict[str, MessageAttributeValue] | None = None
    message_system_attributes: dict[str, MessageSystemAttributeValue] | None = None
    message_deduplication_id: str | None = None
    message_group_id: str | None = None


class SendMessageResult(Shape, kw_only=True):
    md5_of_message_body: str = field(name="MD5OfMessageBody")
    md5_of_message_attributes: str | None = field(name="MD5OfMessageAttributes", default=None)
    md5_of_message_system_attributes: str | None = field(name="MD5OfMessageSystemAttributes", default=None)
    message_id: str
    sequence_number: str | None = None


class SendMessageBatchRequestEntry(Shape, kw_only=True):
    required = ("id", "message_body")
    id: str | None = None
    message_body: str | None = None
    delay_seconds: int | None = None
    message_attributes: dict[str, MessageAttributeValue] | None = None
    message_system_attributes: dict[str, MessageSystemAttributeValue] | None = None
    message_deduplication_id: str | None = None
    message_group_id: str | None = None


class SendMessageBatchRequest(QueueRequest, kw_only=True):
    required = ("queue_url", "entries")
    entries: list[SendMessageBatchRequestEntry] | None = None


class SendMessageBatchResultEntry(Shape, kw_only=True):
    id: str
    message_id: str
    md5_of_message_body: str = field(name="MD5OfMessageBody")
    md5_of_message_attributes: str | None = field(name="MD5OfMessageAttributes", default=None)
    md5_of_message_system_attributes: str | None = field(name="MD5OfMessageSystemAttributes", default=None)
    sequence_number: str | None = None


class SendMessageBatchResult(Shape, kw_only=True):
    successful: list[SendMessageBatchResultEntry] = field(default_factory=list)
    failed: list[BatchResultErrorEntry] = field(default_factory=list)


# Receiving


class ReceiveMessageRequest(QueueRequest, kw_only=True):
    """`attribute_names` is the older name of `message_system_attribute_names`; both count."""

    attribute_names: list[str] | None = None
    message_system_attribute_names: list[str] | None = None
    message_attribute_names: list[str] | None = None
    max_number_of_messages: int | None = None
    visibility_timeout: int | None = None
    wait_time_seconds: int | None = None
    receive_request_attempt_id: str | None = None


class Message(Shape, kw_only=True):
    """`attributes` are the system attributes asked for, all of them as text."""

    message_id: str
    receipt_handle: str
    md5_of_body: str = field(name="MD5OfBody")
    body: str
    attributes: dict[str, str] | None = None
    md5_of_message_attributes: str | None = field(name="MD5OfMessageAttributes", default=None)
    message_attributes: dict[str, MessageAttributeValue] | None = None


class ReceiveMessageResult(Shape, kw_only=True):
    messages: list[Message] = field(default_factory=list)


# Deleting, and changing how long a message stays hidden


class DeleteMessageRequest(QueueRequest, kw_only=True):
    required = ("queue_url", "receipt_handle")
    receipt_handle: str | None = None


class DeleteMessageBatchRequestEntry(Shape, kw_only=True):
    required = ("id", "receipt_handle")
    id: str | None = None
    receipt_handle: str | None = None


class DeleteMessageBatchRequest(QueueRequest, kw_only=True):
    required = ("queue_url", "entries")
    entries: list[DeleteMessageBatchRequestEntry] | None = None


class DeleteMessageBatchResultEntry(Shape, kw_only=True):
    id: str


class DeleteMessageBatchResult(Shape, kw_only=True):
    successful: list[DeleteMessageBatchResultEntry] = field(default_factory=list)
    failed: list[BatchResultErrorEntry] = field(default_factory=list)


class ChangeMessageVisibilityRequest(QueueRequest, kw_only=True):
    required = ("queue_url", "receipt_handle", "visibility_timeout")
    receipt_handle: str | None = None
    visibility_timeout: int | None = None


class ChangeMessageVisibilityBatchRequestEntry(Shape, kw_only=True):
    required = ("id", "receipt_handle")
    id: str | None = None
    receipt_handle: str | None = None
    visibility_timeout: int | None = None


class ChangeMessageVisibilityBatchRequest(QueueRequest, kw_only=True):
    required = ("queue_url", "entries")
    entries: list[ChangeMessageVisibilityBatchRequestEntry] | None = None


class ChangeMessageVisibilityBatchResultEntry(Shape, kw_only=True):
    id: str


class ChangeMessageVisibilityBatchResult(Shape, kw_only=True):
    successful: list[ChangeMessageVisibilityBatchResultEntry] = field(default_factory=list)
    failed: list[BatchResultErrorEntry] = field(default_factory=list)


# Queues


class CreateQueueRequest(Shape, kw_only=True):
    required = ("queue_name",)
    queue_name: str | None = None
    attributes: dict[str, str] | None = None
    tags: dict[str, str] | None = field(name="tags", default=None)


class CreateQueueResult(Shape, kw_only=True):
    queue_url: str


class GetQueueUrlRequest(Shape, kw_only=True):
    required = ("queue_name",)
    queue_name: str | None = None
    queue_owner_aws_account_id: str | None = field(name="QueueOwnerAWSAccountId", default=None)


class GetQueueUrlResult(Shape, kw_only=True):
    queue_url: str


class ListQueuesRequest(Shape, kw_only=True):
    queue_name_prefix: str | None = None
    next_token: str | None = None
    max_results: int | None = None


class ListQueuesResult(Shape, kw_only=True):
    queue_urls: list[str] = field(default_factory=list)
    next_token: str | None = None


class DeleteQueueRequest(QueueRequest, kw_only=True):
    pass


class PurgeQueueRequest(QueueRequest, kw_only=True):
    pass


class GetQueueAttributesRequest(QueueRequest, kw_only=True):
    attribute_names: list[str] | None = None


class GetQueueAttributesResult(Shape, kw_only=True):
    attributes: dict[str, str] = field(default_factory=dict)


class SetQueueAttributesRequest(QueueRequest, kw_only=True):
    required = ("queue_url", "attributes")
    attributes: dict[str, str] | None = None


# Tags and permissions


class TagQueueRequest(QueueRequest, kw_only=True):
    required = ("queue_url", "tags")
    tags: dict[str, str] | None = None


class UntagQueueRequest(QueueRequest, kw_only=True):
    required = ("queue_url", "tag_keys")
    tag_keys: list[str] | None = None


class ListQueueTagsRequest(QueueRequest, kw_only=True):
    pass


class ListQueueTagsResult(Shape, kw_only=True):
    tags: dict[str, str] = field(default_factory=dict)


class AddPermissionRequest(QueueRequest, kw_only=True):
    required = ("queue_url", "label", "aws_account_ids", "actions")
    label: str | None = None
    aws_account_ids: list[str] | None = field(name="AWSAccountIds", default=None)
    actions: list[str] | None = None


class RemovePermissionRequest(QueueRequest, kw_only=True):
    required = ("queue_url", "label")
    label: str | None = None


# Dead-letter queues and moves


class ListDeadLetterSourceQueuesRequest(QueueRequest, kw_only=True):
    next_token: str | None = None
    max_results: int | None = None


class ListDeadLetterSourceQueuesResult(Shape, kw_only=True):
    """Lower-case `queueUrls` on the wire and, unlike in ListQueues, there even when empty."""

    queue_urls: list[str] = field(name="queueUrls")
    next_token: str | None = None


class StartMessageMoveTaskRequest(Shape, kw_only=True):
    required = ("source_arn",)
    source_arn: str | None = None
    destination_arn: str | None = None
    max_number_of_messages_per_second: int | None = None


class StartMessageMoveTaskResult(Shape, kw_only=True):
    task_handle: str


class CancelMessageMoveTaskRequest(Shape, kw_only=True):
    required = ("task_handle",)
    task_handle: str | None = None


class CancelMessageMoveTaskResult(Shape, kw_only=True):
    approximate_number_of_messages_moved: int


class ListMessageMoveTasksRequest(Shape, kw_only=True):
    required = ("source_arn",)
    source_arn: str | None = None
    max_results: int | None = None


class ListMessageMoveTasksResultEntry(Shape, kw_only=True):
    """`started_timestamp` is Unix time in milliseconds."""

    status: str
    source_arn: str
    started_timestamp: int
    approximate_number_of_messages_moved: int
    approximate_number_of_messages_to_move: int | None = None
    task_handle: str | None = None
    destination_arn: str | None = None
    max_number_of_messages_per_second: int | None = None
    failure_reason: str | None = None


class ListMessageMoveTasksResult(Shape, kw_only=True):
    results: list[ListMessageMoveTasksResultEntry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Operation:
    """What one operation takes and gives; `result` is None where it gives nothing."""

    name: str
    request: type[Shape]
    result: type[Shape] | None
    decoder: msgspec.json.Decoder[Shape]


def _operations(*pairs: tuple[type[Shape], type[Shape] | None]) -> dict[str, Operation]:
    return {
        name: Operation(name, request, result, msgspec.json.Decoder(request))
        for request, result in pairs
        for name in [request.__name__.removesuffix("Request")]
    }


OPERATIONS: dict[str, Operation] = _operations(
    (AddPermissionRequest, None),
    (CancelMessageMoveTaskRequest, CancelMessageMoveTaskResult),
    (ChangeMessageVisibilityRequest, None),
    (ChangeMessageVisibilityBatchRequest, ChangeMessageVisibilityBatchResult),
    (CreateQueueRequest, CreateQueueResult),
    (DeleteMessageRequest, None),
    (DeleteMessageBatchRequest, DeleteMessageBatchResult),
    (DeleteQueueRequest, None),
    (GetQueueAttributesRequest, GetQueueAttributesResult),
    (GetQueueUrlRequest, GetQueueUrlResult),
    (ListDeadLetterSourceQueuesRequest, ListDeadLetterSourceQueuesResult),
    (ListMessageMoveTasksRequest, ListMessageMoveTasksResult),
    (ListQueueTagsRequest, ListQueueTagsResult),
    (ListQueuesRequest, ListQueuesResult),
    (PurgeQueueRequest, None),
    (ReceiveMessageRequest, ReceiveMessageResult),
    (RemovePermissionRequest, None),
    (SendMessageRequest, SendMessageResult),
    (SendMessageBatchRequest, SendMessageBatchResult),
    (SetQueueAttributesRequest, None),
    (StartMessageMoveTaskRequest, StartMessageMoveTaskResult),
    (TagQueueRequest, None),
    (UntagQueueRequest, None),
)
"""Every operation by its name."""
