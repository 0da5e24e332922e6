"""Every error of the model, provoked over each protocol: its status, its names, its words and its form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore import xform_name

from tests.contract.forms import post_form, told
from tests.contract.query_client import query_client
from tests.contract.wire import Members, post
from tests.protocol.service_model import error_shapes
from tests.server import ACCOUNT, REGION, Server, running

SQS = "com.amazonaws.sqs#"
COMMON = "com.amazon.coral.service#"
QUERY = "AWS.SimpleQueueService."
XML_TEXT = (
    "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | "
    "#xE000 to #xFFFD | #x10000 to #x10FFFF"
)
ID_TEXT = (
    "A batch entry id can only contain alphanumeric characters, hyphens and underscores. "
    "It can be at most 80 letters long."
)
WRONG_SIGNATURE_TEXT = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
    "Access Key and signing method. Consult the service documentation for details."
)
FIFO = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}

OUT_OF_REACH = {
    "InvalidIdFormat": "the model calls it deprecated: a wrong handle is ReceiptHandleIsInvalid",
    "RequestThrottled": "no rate is limited",
    "UnsupportedOperation": "every operation of the model is served, in all its uses",
    **dict.fromkeys(
        (
            "KmsAccessDenied",
            "KmsDisabled",
            "KmsInvalidKeyUsage",
            "KmsInvalidState",
            "KmsNotFound",
            "KmsOptInRequired",
            "KmsThrottled",
        ),
        "no key service is asked: the id of a key is kept and shown, and that is all",
    ),
}
"""Errors of the model that no request can provoke, and why."""

Before = Callable[[Any, str], dict[str, str]]
"""What has to happen first, with a client and the name of a queue; gives more to fill in."""


@dataclass(frozen=True)
class Case:
    """A request, and the error that it gets. `{name}` stands for the name of a queue that is there."""

    shape: str
    operation: str
    members: Members
    message: str
    code: str = ""
    """In the Query protocol; the shape's name if empty."""
    status: int = 400
    before: Before = lambda *_: {}
    namespace: str = SQS
    how: dict[str, Any] = field(default_factory=dict)
    """Headers and signature of the request."""

    @property
    def query_code(self) -> str:
        return self.code or self.shape


def delete_a_queue(sqs: Any, name: str) -> dict[str, str]:
    sqs.delete_queue(QueueUrl=sqs.create_queue(QueueName=f"{name}-gone")["QueueUrl"])
    return {}


def purge(sqs: Any, name: str) -> dict[str, str]:
    sqs.purge_queue(QueueUrl=name)
    return {}


def let_a_receive_of_a_fifo_queue_end(sqs: Any, name: str) -> dict[str, str]:
    url = sqs.create_queue(QueueName=f"{name}.fifo", Attributes=FIFO)["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="x", MessageGroupId="group")
    [message] = sqs.receive_message(QueueUrl=url, VisibilityTimeout=600)["Messages"]
    receipt = {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]}
    sqs.change_message_visibility(**receipt, VisibilityTimeout=0)
    return {"handle": message["ReceiptHandle"]}


def entry(entry_id: str, body: str = "x") -> Members:
    return {"Id": entry_id, "MessageBody": body}


def batch(*entries: Members) -> Members:
    return {"QueueUrl": "{name}", "Entries": list(entries)}


OF_QUEUES = [
    Case(
        "QueueDoesNotExist",
        "SendMessage",
        {"QueueUrl": "{name}-not", "MessageBody": "x"},
        "The specified queue does not exist.",
        f"{QUERY}NonExistentQueue",
    ),
    Case(
        "QueueNameExists",
        "CreateQueue",
        {"QueueName": "{name}", "Attributes": {"DelaySeconds": "7"}},
        "A queue already exists with the same name and a different value for attribute DelaySeconds",
        "QueueAlreadyExists",
    ),
    Case(
        "QueueDeletedRecently",
        "CreateQueue",
        {"QueueName": "{name}-gone"},
        "You must wait 60 seconds after deleting a queue before you can create another with the same name.",
        f"{QUERY}QueueDeletedRecently",
        before=delete_a_queue,
    ),
    Case(
        "PurgeQueueInProgress",
        "PurgeQueue",
        {"QueueUrl": "{name}"},
        "Only one PurgeQueue operation on {name} is allowed every 60 seconds.",
        f"{QUERY}PurgeQueueInProgress",
        status=403,
        before=purge,
    ),
    Case(
        "InvalidAttributeName",
        "CreateQueue",
        {"QueueName": "{name}-new", "Attributes": {"Colour": "red"}},
        "Unknown Attribute Colour.",
    ),
    Case(
        "InvalidAttributeValue",
        "SetQueueAttributes",
        {"QueueUrl": "{name}", "Attributes": {"DelaySeconds": "soon"}},
        "Invalid value for the parameter DelaySeconds.",
    ),
    Case(
        "OverLimit",
        "AddPermission",
        {
            "QueueUrl": "{name}",
            "Label": "a",
            "AWSAccountIds": ["111111111111"],
            "Actions": ["SendMessage"] * 8,
        },
        "8 Actions were found, maximum allowed is 7.",
        status=403,
    ),
    Case(
        "InvalidAddress",
        "SendMessage",
        {"QueueUrl": "http://localhost/{name}", "MessageBody": "x"},
        "The address http://localhost/{name} is not valid for this endpoint.",
        status=404,
    ),
]
OF_BATCHES = [
    Case(
        "EmptyBatchRequest",
        "SendMessageBatch",
        batch(),
        "There should be at least one SendMessageBatchRequestEntry in the request.",
        f"{QUERY}EmptyBatchRequest",
    ),
    Case(
        "TooManyEntriesInBatchRequest",
        "SendMessageBatch",
        batch(*(entry(str(number)) for number in range(11))),
        "Maximum number of entries per request are 10. You have sent 11.",
        f"{QUERY}TooManyEntriesInBatchRequest",
    ),
    Case(
        "BatchEntryIdsNotDistinct",
        "SendMessageBatch",
        batch(entry("a"), entry("a")),
        "Id a repeated.",
        f"{QUERY}BatchEntryIdsNotDistinct",
    ),
    Case(
        "InvalidBatchEntryId",
        "SendMessageBatch",
        batch(entry("a b")),
        ID_TEXT,
        f"{QUERY}InvalidBatchEntryId",
    ),
    Case(
        "BatchRequestTooLong",
        "SendMessageBatch",
        batch(entry("a", "x" * 1_048_577)),
        "Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 bytes.",
        f"{QUERY}BatchRequestTooLong",
    ),
]
OF_MESSAGES = [
    Case(
        "InvalidMessageContents",
        "SendMessage",
        {"QueueUrl": "{name}", "MessageBody": "\x00"},
        XML_TEXT,
    ),
    Case(
        "ReceiptHandleIsInvalid",
        "DeleteMessage",
        {"QueueUrl": "{name}", "ReceiptHandle": "<garbage & more>"},
        'The input receipt handle "<garbage & more>" is not a valid receipt handle.',
    ),
    Case(
        "MessageNotInflight",
        "ChangeMessageVisibility",
        {"QueueUrl": "{name}.fifo", "ReceiptHandle": "{handle}", "VisibilityTimeout": 30},
        "The specified message isn't in flight.",
        f"{QUERY}MessageNotInflight",
        before=let_a_receive_of_a_fifo_queue_end,
    ),
    Case(
        "ResourceNotFoundException",
        "StartMessageMoveTask",
        {"SourceArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{{name}}-not"},
        "The resource that you specified for the SourceArn parameter doesn't exist.",
        status=404,
    ),
]
OF_CALLERS = [
    Case(
        "InvalidSecurity",
        "ListQueues",
        {},
        "AWS Signature Version 2 is not supported. Sign with Version 4 (AWS4-HMAC-SHA256).",
        status=403,
        how={"signed": False, "headers": {"Authorization": "AWS AKIA:signature"}},
    ),
    Case(
        "MissingAuthenticationTokenException",
        "ListQueues",
        {},
        "Request is missing Authentication Token",
        "MissingAuthenticationToken",
        status=403,
        namespace=COMMON,
        how={"signed": False},
    ),
    Case(
        "UnrecognizedClientException",
        "ListQueues",
        {},
        "The security token included in the request is invalid.",
        "InvalidClientTokenId",
        status=403,
        namespace=COMMON,
        how={"access_key_id": "AKIANOBODY"},
    ),
    Case(
        "InvalidSignatureException",
        "ListQueues",
        {},
        WRONG_SIGNATURE_TEXT,
        "SignatureDoesNotMatch",
        status=403,
        namespace=COMMON,
        how={"secret": "guessed"},
    ),
    Case(
        "IncompleteSignatureException",
        "ListQueues",
        {},
        "Unsupported AWS 'algorithm': 'Basic'.",
        "IncompleteSignature",
        namespace=COMMON,
        how={"signed": False, "headers": {"Authorization": "Basic x"}},
    ),
]
OF_PARAMETERS = [
    Case(
        "InvalidParameterValueException",
        "ReceiveMessage",
        {"QueueUrl": "{name}", "WaitTimeSeconds": 21},
        "Value 21 for parameter WaitTimeSeconds is invalid. Reason: Must be >= 0 and <= 20, if provided.",
        "InvalidParameterValue",
    ),
    Case(
        "MissingRequiredParameterException",
        "SendMessage",
        {"QueueUrl": "{name}"},
        "The request must contain the parameter MessageBody.",
        "MissingParameter",
    ),
]
CASES = [*OF_QUEUES, *OF_BATCHES, *OF_MESSAGES, *OF_CALLERS, *OF_PARAMETERS]
ONE_OF_EACH = pytest.mark.parametrize("case", CASES, ids=[case.shape for case in CASES])
OF_THE_MODEL = [case for case in CASES if case.shape in error_shapes() and not case.how]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that keeps the names of deleted queues for a minute, as AWS does."""
    with running(tmp_path_factory.mktemp("errors") / "data", "--service.name-reuse-s", "60") as server:
        yield server


def prepare(node: Server, case: Case, name: str) -> tuple[Members, str]:
    """Make a queue, and all that the case needs; returns the members and the message, filled in."""
    sqs = node.client()
    sqs.create_queue(QueueName=name)
    names = {"name": name, **case.before(sqs, name)}
    members, message = json.dumps(case.members), case.message
    for key, value in names.items():
        members, message = members.replace(f"{{{key}}}", value), message.replace(f"{{{key}}}", value)
    return json.loads(members), message


def test_every_error_of_the_model_is_provoked_here_or_out_of_reach_for_a_reason() -> None:
    provoked = {case.shape for case in CASES}

    assert set(error_shapes()) - provoked == set(OUT_OF_REACH)
    assert provoked.isdisjoint(OUT_OF_REACH)


@ONE_OF_EACH
def test_an_error_in_aws_json_has_a_shape_a_text_and_its_query_code_in_a_header(
    node: Server, new_name: Callable[[], str], case: Case
) -> None:
    members, message = prepare(node, case, new_name())
    answer = post(node.url, case.operation, members, **case.how)

    assert answer.error == (case.status, case.namespace + case.shape, f"{case.query_code};Sender")
    assert told(answer).text == message


@ONE_OF_EACH
def test_an_error_in_query_blames_the_sender_and_has_a_code_and_a_text(
    node: Server, new_name: Callable[[], str], case: Case
) -> None:
    members, message = prepare(node, case, new_name())
    error = told(post_form(node.url, case.operation, members, **case.how))

    assert (error.status, error.code, error.blame) == (case.status, case.query_code, "Sender")
    if case.shape == "QueueDoesNotExist":
        message = message.replace(".", " for this wsdl version.")
    assert error.text == message


@pytest.mark.parametrize("protocol", ["json", "query"])
@pytest.mark.parametrize("case", OF_THE_MODEL, ids=[case.shape for case in OF_THE_MODEL])
def test_sdks_raise_the_exception_that_the_model_has_for_an_error(
    node: Server, new_name: Callable[[], str], tmp_path: Any, protocol: str, case: Case
) -> None:
    members, _ = prepare(node, case, new_name())
    sqs = node.client() if protocol == "json" else query_client(node, tmp_path)

    with pytest.raises(getattr(sqs.exceptions, case.shape)):
        getattr(sqs, xform_name(case.operation))(**members)
