"""Batches: what fails as a whole, what fails entry by entry, and in which order answers come."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.wire import refused

NewQueue = Callable[..., str]

BATCH_BYTES_MAX = 1_048_576


def entries(*bodies: str) -> list[dict[str, Any]]:
    return [{"Id": f"id-{number}", "MessageBody": body} for number, body in enumerate(bodies)]


def send(sqs: Any, queue: str, batch: list[dict[str, Any]]) -> Any:
    return sqs.send_message_batch(QueueUrl=queue, Entries=batch)


def count_of(sqs: Any, queue: str) -> int:
    names = ["ApproximateNumberOfMessages"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return int(attributes[names[0]])


def test_the_answer_names_each_message_in_the_order_of_the_entries(sqs: Any, queue: str) -> None:
    bodies = [f"message {number}" for number in range(10)]
    sent = send(sqs, queue, entries(*bodies))
    received = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]

    assert "Failed" not in sent
    assert [each["Id"] for each in sent["Successful"]] == [f"id-{number}" for number in range(10)]
    digests = [hashlib.md5(body.encode()).hexdigest() for body in bodies]
    assert [each["MD5OfMessageBody"] for each in sent["Successful"]] == digests
    assert [(each["MessageId"], each["Body"]) for each in received] == list(
        zip([each["MessageId"] for each in sent["Successful"]], bodies, strict=True)
    )


def test_each_entry_has_its_own_attributes_delay_group_and_trace_header(sqs: Any, queue: str) -> None:
    text = {"DataType": "String", "StringValue": "x"}
    first, second = entries("with everything", "delayed")
    first |= {
        "MessageAttributes": {"a": text},
        "MessageSystemAttributes": {"AWSTraceHeader": text},
        "MessageGroupId": "tenant",
    }
    sent = send(sqs, queue, [first, second | {"DelaySeconds": 900}])["Successful"]
    [message] = sqs.receive_message(
        QueueUrl=queue,
        MaxNumberOfMessages=10,
        MessageAttributeNames=["All"],
        MessageSystemAttributeNames=["AWSTraceHeader", "MessageGroupId"],
    )["Messages"]

    assert message["MD5OfMessageAttributes"] == sent[0]["MD5OfMessageAttributes"]
    assert "MD5OfMessageSystemAttributes" in sent[0]
    assert set(sent[1]) == {"Id", "MessageId", "MD5OfMessageBody"}
    assert message["Attributes"] == {"AWSTraceHeader": "x", "MessageGroupId": "tenant"}


def test_an_entry_that_cannot_be_sent_fails_alone(sqs: Any, queue: str) -> None:
    batch = entries("good", "bad \x00", "good too", "delayed too long")
    batch[3]["DelaySeconds"] = 901
    sent = send(sqs, queue, batch)

    assert [each["Id"] for each in sent["Successful"]] == ["id-0", "id-2"]
    failed = {each["Id"]: each for each in sent["Failed"]}
    assert failed["id-1"]["Code"] == "InvalidMessageContents"
    assert failed["id-3"]["Code"] == "InvalidParameterValue"
    assert all(each["SenderFault"] for each in failed.values())
    assert count_of(sqs, queue) == 2


def test_a_batch_whose_every_entry_fails_is_still_an_answer(sqs: Any, queue: str) -> None:
    sent = send(sqs, queue, entries("bad \x00", "\uffff"))

    assert "Successful" not in sent
    assert len(sent["Failed"]) == 2


def test_an_entry_over_the_queues_own_maximum_fails_alone(sqs: Any, new_queue: NewQueue) -> None:
    queue = new_queue(MaximumMessageSize="1024")
    sent = send(sqs, queue, entries("x" * 1_025, "x" * 1_024))

    assert sent["Failed"] == [
        {
            "Id": "id-0",
            "SenderFault": True,
            "Code": "InvalidParameterValue",
            "Message": "One or more parameters cannot be validated. Reason: Message must be shorter than "
            "1024 bytes.",
        }
    ]
    assert [each["Id"] for each in sent["Successful"]] == ["id-1"]


def test_a_batch_of_the_largest_size_is_taken_and_one_byte_more_is_refused(sqs: Any, queue: str) -> None:
    half = "x" * (BATCH_BYTES_MAX // 2)
    assert len(send(sqs, queue, entries(half, half))["Successful"]) == 2

    with refused(
        "BatchRequestTooLong",
        "Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 bytes.",
    ):
        send(sqs, queue, entries(half, half + "x"))
    assert count_of(sqs, queue) == 2


def test_the_limit_of_a_batch_does_not_depend_on_the_queues_own_maximum(
    sqs: Any, new_queue: NewQueue
) -> None:
    queue = new_queue(MaximumMessageSize="1024")

    assert len(send(sqs, queue, entries("x" * (BATCH_BYTES_MAX - 10), "x" * 10))["Failed"]) == 1
    with refused("BatchRequestTooLong"):
        send(sqs, queue, entries("x" * BATCH_BYTES_MAX, "x"))


def test_attributes_count_in_the_size_of_a_batch(sqs: Any, queue: str) -> None:
    [entry] = entries("x" * (BATCH_BYTES_MAX - 9))
    attribute = {"a": {"DataType": "String", "StringValue": "12"}}
    assert send(sqs, queue, [entry | {"MessageAttributes": attribute}])["Successful"]

    longer = {"a": {"DataType": "String", "StringValue": "123"}}
    with refused("BatchRequestTooLong"):
        send(sqs, queue, [entry | {"MessageAttributes": longer}])


# What every batch operation refuses as a whole

OPERATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "send_message_batch": ("SendMessageBatchRequestEntry", {"MessageBody": "x"}),
    "delete_message_batch": ("DeleteMessageBatchRequestEntry", {"ReceiptHandle": "x"}),
    "change_message_visibility_batch": (
        "ChangeMessageVisibilityBatchRequestEntry",
        {"ReceiptHandle": "x", "VisibilityTimeout": 1},
    ),
}


@pytest.fixture(params=sorted(OPERATIONS))
def operation(request: pytest.FixtureRequest, sqs: Any, queue: str) -> Callable[[list[str]], Any]:
    """Calls one of the three batch operations with entries of these ids."""
    _, members = OPERATIONS[request.param]

    def call(ids: list[str]) -> Any:
        batch = [{"Id": entry_id, **members} for entry_id in ids]
        return getattr(sqs, request.param)(QueueUrl=queue, Entries=batch)

    return call


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_an_empty_batch_is_refused(sqs: Any, queue: str, name: str) -> None:
    with refused("EmptyBatchRequest", f"There should be at least one {OPERATIONS[name][0]} in the request."):
        getattr(sqs, name)(QueueUrl=queue, Entries=[])


def test_a_batch_has_up_to_10_entries(operation: Callable[[list[str]], Any]) -> None:
    assert operation([str(number) for number in range(10)])

    with refused(
        "TooManyEntriesInBatchRequest", "Maximum number of entries per request are 10. You have sent 11."
    ):
        operation([str(number) for number in range(11)])


def test_the_ids_of_a_batch_are_distinct(operation: Callable[[list[str]], Any]) -> None:
    with refused("BatchEntryIdsNotDistinct", "Id id_2 repeated."):
        operation(["id_1", "id_2", "id_2"])


@pytest.mark.parametrize("entry_id", ["", "a" * 81, "a b", "a.b", "ü", "a\n"])
def test_an_odd_id_refuses_the_whole_batch(operation: Callable[[list[str]], Any], entry_id: str) -> None:
    with refused(
        "InvalidBatchEntryId",
        "A batch entry id can only contain alphanumeric characters, hyphens and underscores. "
        "It can be at most 80 letters long.",
    ):
        operation(["good", entry_id])


def test_an_id_of_80_characters_is_taken(operation: Callable[[list[str]], Any]) -> None:
    assert operation(["a-Z_0" * 16])


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_an_entry_that_lacks_a_member_refuses_the_whole_batch(sqs: Any, queue: str, name: str) -> None:
    entry_type, members = OPERATIONS[name]
    missing = next(iter(members))
    batch = [{"Id": "a", **members}, {"Id": "b"}]

    with refused("MissingParameter", f"The request must contain the parameter {entry_type}.2.{missing}."):
        getattr(sqs, name)(QueueUrl=queue, Entries=batch)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_an_entry_without_an_id_refuses_the_whole_batch(sqs: Any, queue: str, name: str) -> None:
    entry_type, members = OPERATIONS[name]

    with refused("MissingParameter", f"The request must contain the parameter {entry_type}.1.Id."):
        getattr(sqs, name)(QueueUrl=queue, Entries=[members])
