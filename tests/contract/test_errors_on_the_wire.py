"""Every refusal as it goes over the wire: status, `__type`, the query error, and nothing secret."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.wire import SERVED, Answer, post, refused
from tests.protocol.service_model import OPERATION_NAMES
from tests.server import Server

SQS = "com.amazonaws.sqs#"
COMMON = "com.amazon.coral.service#"
QUERY = "AWS.SimpleQueueService."

Entry = dict[str, Any]


def entry(entry_id: str, **members: Any) -> Entry:
    return {"Id": entry_id, "MessageBody": "x", **members}


REFUSALS: list[tuple[str, dict[str, Any], int, str, str]] = [
    (
        "SendMessage",
        {"QueueUrl": "no-such-queue", "MessageBody": "x"},
        400,
        "QueueDoesNotExist",
        f"{QUERY}NonExistentQueue",
    ),
    (
        "CreateQueue",
        {"QueueName": "{name}", "Attributes": {"DelaySeconds": "7"}},
        400,
        "QueueNameExists",
        "QueueAlreadyExists",
    ),
    (
        "CreateQueue",
        {"QueueName": "x", "Attributes": {"Colour": "7"}},
        400,
        "InvalidAttributeName",
        "InvalidAttributeName",
    ),
    (
        "SetQueueAttributes",
        {"QueueUrl": "{name}", "Attributes": {"DelaySeconds": "x"}},
        400,
        "InvalidAttributeValue",
        "InvalidAttributeValue",
    ),
    (
        "SetQueueAttributes",
        {"QueueUrl": "{name}"},
        400,
        "MissingRequiredParameterException",
        "MissingParameter",
    ),
    ("CreateQueue", {"QueueName": "a b"}, 400, "InvalidParameterValueException", "InvalidParameterValue"),
    (
        "SendMessage",
        {"QueueUrl": "{name}", "MessageBody": "\x00"},
        400,
        "InvalidMessageContents",
        "InvalidMessageContents",
    ),
    ("SendMessage", {"QueueUrl": "http://x/y", "MessageBody": "x"}, 404, "InvalidAddress", "InvalidAddress"),
    ("SendMessage", {"MessageBody": "x"}, 400, "MissingRequiredParameterException", "MissingParameter"),
    (
        "DeleteMessage",
        {"QueueUrl": "{name}", "ReceiptHandle": "x"},
        400,
        "ReceiptHandleIsInvalid",
        "ReceiptHandleIsInvalid",
    ),
    (
        "SendMessageBatch",
        {"QueueUrl": "{name}", "Entries": []},
        400,
        "EmptyBatchRequest",
        f"{QUERY}EmptyBatchRequest",
    ),
    (
        "SendMessageBatch",
        {"QueueUrl": "{name}", "Entries": [entry(str(n)) for n in range(11)]},
        400,
        "TooManyEntriesInBatchRequest",
        f"{QUERY}TooManyEntriesInBatchRequest",
    ),
    (
        "SendMessageBatch",
        {"QueueUrl": "{name}", "Entries": [entry("a"), entry("a")]},
        400,
        "BatchEntryIdsNotDistinct",
        f"{QUERY}BatchEntryIdsNotDistinct",
    ),
    (
        "SendMessageBatch",
        {"QueueUrl": "{name}", "Entries": [entry("a b")]},
        400,
        "InvalidBatchEntryId",
        f"{QUERY}InvalidBatchEntryId",
    ),
    (
        "SendMessageBatch",
        {"QueueUrl": "{name}", "Entries": [entry("a", MessageBody="x" * 1_048_577)]},
        400,
        "BatchRequestTooLong",
        f"{QUERY}BatchRequestTooLong",
    ),
    (
        "CreateQueue",
        {"QueueName": "x.fifo", "Attributes": {"FifoQueue": "true"}},
        400,
        "UnsupportedOperation",
        f"{QUERY}UnsupportedOperation",
    ),
]


def fill(value: Any, name: str) -> Any:
    """Put the queue's name where "{name}" stands."""
    return json.loads(json.dumps(value).replace("{name}", name))


def is_well_formed(answer: Answer) -> bool:
    return (
        set(answer.json) == {"__type", "message"}
        and answer.headers["content-type"] == "application/x-amz-json-1.0"
        and len(answer.headers["x-amzn-requestid"]) == 36
    )


@pytest.mark.parametrize(
    ("operation", "members", "status", "shape", "query_code"),
    REFUSALS,
    ids=[f"{each[3]} of {each[0]}" for each in REFUSALS],
)
def test_a_refusal_has_the_status_the_shape_and_the_query_code_of_aws(
    server: Server,
    queue: str,
    operation: str,
    members: dict[str, Any],
    status: int,
    shape: str,
    query_code: str,
) -> None:
    answer = post(server.url, operation, fill(members, queue.rpartition("/")[2]))

    assert answer.error == (status, SQS + shape, f"{query_code};Sender")
    assert is_well_formed(answer)


def test_a_purge_too_soon_is_status_403(server: Server, queue: str) -> None:
    assert post(server.url, "PurgeQueue", {"QueueUrl": queue}).status == 200

    answer = post(server.url, "PurgeQueue", {"QueueUrl": queue})
    assert answer.error == (403, f"{SQS}PurgeQueueInProgress", f"{QUERY}PurgeQueueInProgress;Sender")


def test_sdks_raise_their_modelled_exceptions(sqs: Any) -> None:
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.get_queue_url(QueueName="no-such-queue")


# What is not an operation, or not one yet


@pytest.mark.parametrize("operation", sorted(set(OPERATION_NAMES) - set(SERVED)))
def test_an_operation_that_is_not_there_yet_is_unsupported(server: Server, operation: str) -> None:
    answer = post(server.url, operation, {})

    assert answer.error == (400, f"{SQS}UnsupportedOperation", f"{QUERY}UnsupportedOperation;Sender")
    assert is_well_formed(answer)


def test_all_23_operations_are_known(server: Server) -> None:
    assert len(OPERATION_NAMES) == 23

    for operation in OPERATION_NAMES:
        assert "UnknownOperation" not in post(server.url, operation, {}).headers.get("x-amzn-query-error", "")


@pytest.mark.parametrize(
    "target", ["AmazonSQS.Fly", "AmazonSQS.", "SendMessage", "Other.SendMessage", "amazonsqs.SendMessage"]
)
def test_an_unknown_operation_is_status_404(server: Server, target: str) -> None:
    answer = post(server.url, "", {}, headers={"X-Amz-Target": target})

    assert answer.error == (404, f"{COMMON}UnknownOperationException", "UnknownOperationException;Sender")
    assert is_well_formed(answer)


# What is not a request


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"1",
        b"{}{}",
        b"\xff\xfe",
        b"QueueUrl=x",
        b"{'QueueUrl':1}",
        b"[" * 100_000,
    ],
)
def test_what_is_no_json_object_is_refused_without_repeating_it(server: Server, body: bytes) -> None:
    answer = post(server.url, "SendMessage", body)

    assert answer.error == (400, f"{COMMON}SerializationException", "SerializationException;Sender")
    assert is_well_formed(answer)


@pytest.mark.parametrize(
    "members",
    [
        {"QueueUrl": 1},
        {"QueueUrl": ["x"]},
        {"DelaySeconds": "1"},
        {"DelaySeconds": 1.5},
        {"DelaySeconds": True},
        {"MessageAttributes": []},
        {"MessageAttributes": {"a": "x"}},
        {"MessageAttributes": {"a": {"BinaryValue": "not base64!"}}},
    ],
)
def test_a_member_of_another_type_is_refused(server: Server, queue: str, members: dict[str, Any]) -> None:
    answer = post(server.url, "SendMessage", {"QueueUrl": queue, "MessageBody": "x", **members})

    assert answer.status == 400
    assert answer.json["__type"] == f"{COMMON}SerializationException"
    assert next(iter(members)) in answer.json["message"] or "JSON" in answer.json["message"]


def test_unknown_and_null_members_are_ignored(server: Server, queue: str) -> None:
    members = {"QueueUrl": queue, "MessageBody": "x", "Colour": "red", "DelaySeconds": None}

    assert post(server.url, "SendMessage", members).status == 200


def test_an_empty_body_is_a_request_without_members(server: Server) -> None:
    assert post(server.url, "ListQueues", b"").status == 200
    assert (
        post(server.url, "SendMessage", b"").json["message"]
        == "The request must contain the parameter QueueUrl."
    )


def test_every_answer_has_a_request_id_of_its_own(server: Server, queue: str) -> None:
    ids = {post(server.url, "ListQueues", {}).headers["x-amzn-requestid"] for _ in range(3)}
    ids.add(post(server.url, "Fly", {}).headers["x-amzn-requestid"])

    assert len(ids) == 4


def test_an_operation_that_gives_nothing_answers_with_an_empty_body(
    server: Server, new_queue: Callable[..., str]
) -> None:
    answer = post(server.url, "DeleteQueue", {"QueueUrl": new_queue()})

    assert (answer.status, answer.body) == (200, b"")


# Who asks


def test_an_unsigned_request_is_refused(server: Server) -> None:
    answer = post(server.url, "ListQueues", {}, signed=False)

    assert answer.error == (
        403,
        f"{COMMON}MissingAuthenticationTokenException",
        "MissingAuthenticationToken;Sender",
    )
    assert is_well_formed(answer)


def test_an_unknown_access_key_is_refused(server: Server) -> None:
    answer = post(server.url, "ListQueues", {}, access_key_id="AKIANOBODY")

    assert answer.error == (403, f"{COMMON}UnrecognizedClientException", "InvalidClientTokenId;Sender")


def test_a_wrong_secret_is_refused(server: Server) -> None:
    answer = post(server.url, "ListQueues", {}, secret="guessed")

    assert answer.error == (403, f"{COMMON}InvalidSignatureException", "SignatureDoesNotMatch;Sender")


@pytest.mark.parametrize("late_s", [-400.0, 400.0])
def test_a_signature_of_another_time_is_refused(server: Server, late_s: float) -> None:
    answer = post(server.url, "ListQueues", {}, late_s=late_s)

    assert answer.error == (403, f"{COMMON}InvalidSignatureException", "SignatureDoesNotMatch;Sender")
    assert answer.json["message"].startswith(
        "Signature expired" if late_s > 0 else "Signature not yet current"
    )


@pytest.mark.parametrize("late_s", [-200.0, 200.0])
def test_a_clock_that_is_a_little_off_is_forgiven(server: Server, late_s: float) -> None:
    assert post(server.url, "ListQueues", {}, late_s=late_s).status == 200


def test_a_body_changed_after_signing_is_refused(server: Server, sqs: Any, queue: str) -> None:
    def tamper(request: Any, **_: Any) -> None:
        request.body = request.body.replace(b"one", b"two")

    client = server.client()
    client.meta.events.register("before-send.sqs.SendMessage", tamper)
    with refused("SignatureDoesNotMatch", status=403):
        client.send_message(QueueUrl=queue, MessageBody="one")
    assert "Messages" not in sqs.receive_message(QueueUrl=queue)


def test_nobody_learns_of_a_queue_without_a_signature(server: Server, queue: str) -> None:
    exists = post(server.url, "SendMessage", {"QueueUrl": queue}, signed=False)
    does_not = post(server.url, "SendMessage", {"QueueUrl": "no-such-queue"}, signed=False)

    assert (exists.status, exists.body) == (does_not.status, does_not.body)
