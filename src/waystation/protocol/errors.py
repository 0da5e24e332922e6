"""Everything a client can be refused, and the one thing it is asked to try again.

Two of the three families of errors live here; the third, a broken invariant, is
an `assert`. A `Refusal` is the client's mistake: one class per SQS error, built
from data, that knows its JSON shape, its Query code and its HTTP status but not
how either protocol writes them down. `Unavailable` means "not now".

Always: the class is named after the shape of botocore's model where that has
one, and texts that clients have been seen to match are AWS's own, word for word.

Source: botocore's `sqs` model (shapes); the last Query model and recorded
responses (Query codes and statuses); SQS API Reference, Common Errors.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

SQS_NAMESPACE = "com.amazonaws.sqs"
COMMON_NAMESPACE = "com.amazon.coral.service"


class Refusal(Exception):
    """A request that cannot be served as it is; sending it again will not help.

    Subclasses give what differs from the defaults as class keywords: `shape`
    (default: the class's name), `query_code` (default: the shape) and `status`
    (default: 400).
    """

    namespace: ClassVar[str] = SQS_NAMESPACE
    shape: ClassVar[str] = "Refusal"
    query_code: ClassVar[str] = "Refusal"
    status: ClassVar[int] = 400

    def __init_subclass__(
        cls, *, shape: str | None = None, query_code: str | None = None, status: int = 400
    ) -> None:
        super().__init_subclass__()
        cls.shape = shape or cls.__name__
        cls.query_code = query_code or cls.shape
        cls.status = status

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Unavailable(Exception):
    """Not now: the node cannot serve this request, and the same one may succeed later.

    Whether the request may have happened is for each subclass to say; of a plain
    `Unavailable` nothing happened. SDKs try a 503 again by themselves: botocore
    retries it by its status alone, in its legacy, standard and adaptive modes.
    """

    namespace: ClassVar[str] = COMMON_NAMESPACE
    shape: ClassVar[str] = "ServiceUnavailable"
    query_code: ClassVar[str] = "ServiceUnavailable"
    status: ClassVar[int] = 503

    def __init__(self, message: str = "The service is temporarily unable to handle the request.") -> None:
        super().__init__(message)
        self.message = message


# Queues


class QueueDoesNotExist(Refusal, query_code="AWS.SimpleQueueService.NonExistentQueue"):
    """No queue of that name and owner, or none any more."""

    def __init__(self) -> None:
        super().__init__("The specified queue does not exist.")


class QueueNameExists(Refusal, query_code="QueueAlreadyExists"):
    """CreateQueue of an existing queue with a different value for `attribute`, the first that differs."""

    def __init__(self, attribute: str) -> None:
        super().__init__(
            f"A queue already exists with the same name and a different value for attribute {attribute}"
        )


class QueueDeletedRecently(Refusal, query_code="AWS.SimpleQueueService.QueueDeletedRecently"):
    """The name is not free again yet."""

    def __init__(self, wait_s: int = 60) -> None:
        super().__init__(
            f"You must wait {wait_s} seconds after deleting a queue before you can create another with the "
            "same name."
        )


class PurgeQueueInProgress(Refusal, query_code="AWS.SimpleQueueService.PurgeQueueInProgress", status=403):
    """The last purge is too recent."""

    def __init__(self, queue_name: str, interval_s: int = 60) -> None:
        super().__init__(
            f"Only one PurgeQueue operation on {queue_name} is allowed every {interval_s} seconds."
        )


class InvalidAttributeName(Refusal):
    """A queue attribute that does not exist, or not for this kind of queue."""

    @classmethod
    def unknown(cls, name: str) -> Self:
        """AWS's usual text."""
        return cls(f"Unknown Attribute {name}.")


class InvalidAttributeValue(Refusal):
    """A queue attribute whose value cannot be."""

    @classmethod
    def of(cls, name: str, reason: str | None = None) -> Self:
        """The attribute's name and, where AWS gives one, the reason (a sentence)."""
        text = f"Invalid value for the parameter {name}."
        return cls(f"{text} Reason: {reason}" if reason else text)


class OverLimit(Refusal, status=403):
    """Too many messages in flight, permissions on a queue, or running moves."""

    @classmethod
    def in_flight(cls, in_flight_max: int) -> Self:
        """A short poll of a standard queue that has all it may have in flight. The text is our own."""
        return cls(f"The maximum number of in flight messages, {in_flight_max}, is reached.")


class InvalidAddress(Refusal, status=404):
    """A queue URL that is no queue URL."""


class ResourceNotFoundException(Refusal, status=404):
    """A move task, or one of its queues, that does not exist."""


class UnsupportedOperation(Refusal, query_code="AWS.SimpleQueueService.UnsupportedOperation"):
    """An operation, or a use of one, that is not offered."""


class RequestThrottled(Refusal, status=403):
    """Too fast. SDKs slow down and try again; botocore does so only if the status is 403."""

    def __init__(self, message: str = "The request was denied due to request throttling.") -> None:
        super().__init__(message)


# Batches

BatchEntryType = Literal[
    "SendMessageBatchRequestEntry",
    "DeleteMessageBatchRequestEntry",
    "ChangeMessageVisibilityBatchRequestEntry",
]


class EmptyBatchRequest(Refusal, query_code="AWS.SimpleQueueService.EmptyBatchRequest"):
    """A batch of nothing."""

    def __init__(self, entry_type: BatchEntryType) -> None:
        super().__init__(f"There should be at least one {entry_type} in the request.")


class TooManyEntriesInBatchRequest(Refusal, query_code="AWS.SimpleQueueService.TooManyEntriesInBatchRequest"):
    """A batch with more entries than AWS allows."""

    def __init__(self, entries: int, entries_max: int = 10) -> None:
        super().__init__(f"Maximum number of entries per request are {entries_max}. You have sent {entries}.")


class BatchEntryIdsNotDistinct(Refusal, query_code="AWS.SimpleQueueService.BatchEntryIdsNotDistinct"):
    """Two entries of a batch with one id."""

    def __init__(self, entry_id: str) -> None:
        super().__init__(f"Id {entry_id} repeated.")


class BatchRequestTooLong(Refusal, query_code="AWS.SimpleQueueService.BatchRequestTooLong"):
    """The messages of a batch are too long together; each may be short enough."""

    def __init__(self, batch_bytes: int, batch_bytes_max: int) -> None:
        super().__init__(
            f"Batch requests cannot be longer than {batch_bytes_max} bytes. "
            f"You have sent {batch_bytes} bytes."
        )


class InvalidBatchEntryId(Refusal, query_code="AWS.SimpleQueueService.InvalidBatchEntryId"):
    """An id of a batch entry that is empty, too long or has other characters; the whole batch fails."""

    def __init__(self) -> None:
        super().__init__(
            "A batch entry id can only contain alphanumeric characters, hyphens and underscores. "
            "It can be at most 80 letters long."
        )


# Messages and receipts


class InvalidMessageContents(Refusal):
    """A body, or an attribute, with a character that XML 1.0 does not have."""

    def __init__(self) -> None:
        super().__init__(
            "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | "
            "#xE000 to #xFFFD | #x10000 to #x10FFFF"
        )


class ReceiptHandleIsInvalid(Refusal):
    """Not a receipt handle that this service gave out."""

    def __init__(self, receipt_handle: str) -> None:
        super().__init__(f'The input receipt handle "{receipt_handle}" is not a valid receipt handle.')


class InvalidIdFormat(Refusal):
    """A receipt handle of another version; kept for the model's sake."""


class MessageNotInflight(Refusal, query_code="AWS.SimpleQueueService.MessageNotInflight"):
    """Nothing to extend: the message's visibility timeout is over."""

    def __init__(self) -> None:
        super().__init__("The specified message isn't in flight.")


# Encryption. The server's key service says these; the texts are its own.


class KmsAccessDenied(Refusal, query_code="KMS.AccessDeniedException"):
    """The caller may not use the queue's key."""


class KmsDisabled(Refusal, query_code="KMS.DisabledException"):
    """The queue's key is disabled."""


class KmsInvalidKeyUsage(Refusal, query_code="KMS.InvalidKeyUsageException"):
    """The queue's key is not one for encryption."""


class KmsInvalidState(Refusal, query_code="KMS.InvalidStateException"):
    """The queue's key cannot be used as it is."""


class KmsNotFound(Refusal, query_code="KMS.NotFoundException"):
    """The queue's key does not exist."""


class KmsOptInRequired(Refusal, query_code="KMS.OptInRequired", status=403):
    """The key service is not set up for this account."""


class KmsThrottled(Refusal, query_code="KMS.ThrottlingException"):
    """The key service was asked too often."""


# Parameters: not in the model, but what AWS answers for most bad input.


class InvalidParameterValue(
    Refusal, shape="InvalidParameterValueException", query_code="InvalidParameterValue"
):
    """A member of a request, or a message attribute, whose value cannot be."""

    @classmethod
    def of(cls, value: object, name: str, reason: str) -> Self:
        """`reason` is AWS's sentence, such as "Must be between 1 and 10, if provided."."""
        return cls(f"Value {value} for parameter {name} is invalid. Reason: {reason}")


class MissingParameter(Refusal, shape="MissingRequiredParameterException", query_code="MissingParameter"):
    """A mandatory member of a request is absent; `name` is its name on the wire."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The request must contain the parameter {name}.")


class InvalidSecurity(Refusal, status=403):
    """Signed in a way that is not SigV4, or sent without the TLS that is demanded."""


# What every AWS service answers before it looks at the operation. JSON shapes and
# Query codes differ for historical reasons; SDKs show the Query code.


class CommonRefusal(Refusal):
    """One that any AWS service gives."""

    namespace = COMMON_NAMESPACE


class MissingAuthenticationToken(
    CommonRefusal,
    shape="MissingAuthenticationTokenException",
    query_code="MissingAuthenticationToken",
    status=403,
):
    """The request is not signed at all."""

    def __init__(self) -> None:
        super().__init__("Request is missing Authentication Token")


class IncompleteSignature(
    CommonRefusal, shape="IncompleteSignatureException", query_code="IncompleteSignature"
):
    """A signature that lacks a part or has one that cannot be read."""


class SignatureDoesNotMatch(
    CommonRefusal, shape="InvalidSignatureException", query_code="SignatureDoesNotMatch", status=403
):
    """The signature is well formed but not right, or too old, or too new."""

    def __init__(
        self,
        message: str = (
            "The request signature we calculated does not match the signature you provided. Check your AWS "
            "Secret Access Key and signing method. Consult the service documentation for details."
        ),
    ) -> None:
        super().__init__(message)


class InvalidClientTokenId(
    CommonRefusal, shape="UnrecognizedClientException", query_code="InvalidClientTokenId", status=403
):
    """No such access key, or not with this session token."""

    def __init__(self) -> None:
        super().__init__("The security token included in the request is invalid.")


class RequestExpired(CommonRefusal):
    """A presigned URL past its end."""

    def __init__(self) -> None:
        super().__init__("Request has expired.")


class AccessDenied(CommonRefusal, shape="AccessDeniedException", query_code="AccessDenied", status=403):
    """The caller is known, but may not do this; `resource` is an ARN or a URL."""

    def __init__(self, resource: str) -> None:
        super().__init__(f"Access to the resource {resource} is denied.")


class UnknownOperation(CommonRefusal, shape="UnknownOperationException", status=404):
    """No such operation. AWS gives no text, so that none of the client's own comes back."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)


class InvalidAction(CommonRefusal):
    """An operation that the Query protocol does not offer at this path."""

    def __init__(self, action: str) -> None:
        super().__init__(f"The action {action} is not valid for this endpoint.")


class SerializationError(CommonRefusal, shape="SerializationException"):
    """A body that cannot be read: not JSON, or a value of the wrong type."""
