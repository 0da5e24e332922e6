"""What FIFO queues refuse, and what a refusal leaves alone, as clients of both protocols read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.receiving import receive
from tests.contract.wire import refused
from tests.server import arn

NewQueue = Callable[..., str]
NewName = Callable[[], str]

FIFO_NAME_RULE = (
    "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, "
    "must end with .fifo suffix and be 1 to 80 in length."
)
NAME_RULE = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
NO_GROUP = "The request must contain the parameter MessageGroupId."
NO_ID = (
    "The queue should either have ContentBasedDeduplication enabled or "
    "MessageDeduplicationId provided explicitly"
)
ID_RULE = (
    "Value {value} for parameter {name} is invalid. Reason: {name} can only include alphanumeric "
    "and punctuation characters. 1 to 128 in length."
)
WRONG_TYPE = (
    "Value {value} for parameter {name} is invalid. Reason: "
    "The request includes a parameter that is not valid for this queue type."
)
DELAY = (
    "Value 2 for parameter DelaySeconds is invalid. Reason: "
    "The request include parameter that is not valid for this queue type."
)


@pytest.fixture
def new_fifo(new_fifo: NewQueue) -> NewQueue:
    """Creates a FIFO queue that deduplicates by contents, and returns its URL."""
    return lambda **attributes: new_fifo(**{"ContentBasedDeduplication": "true", **attributes})


def change(sqs: Any, queue: str, **attributes: str) -> None:
    sqs.set_queue_attributes(QueueUrl=queue, Attributes=attributes)


def entry(entry_id: str, **more: Any) -> dict[str, Any]:
    return {"Id": entry_id, "MessageBody": f"body of {entry_id}", "MessageGroupId": "g", **more}


# Queues


@pytest.mark.parametrize("name", ["orders", "a" * 76 + ".fifo", ".fifo", "a.b.fifo", "orders.FIFO", ""])
def test_the_name_of_a_fifo_queue_ends_with_fifo_and_has_up_to_80_characters(sqs: Any, name: str) -> None:
    with refused("InvalidParameterValue", FIFO_NAME_RULE):
        sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"})


def test_only_a_fifo_queue_has_a_name_that_ends_with_fifo(sqs: Any, new_name: NewName) -> None:
    name = f"{new_name()}.fifo"
    with refused("InvalidParameterValue", NAME_RULE):
        sqs.create_queue(QueueName=name)

    sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"})
    with refused("InvalidParameterValue", NAME_RULE):
        sqs.create_queue(QueueName=name)


def test_a_fifo_queue_created_again_otherwise_is_refused_by_the_name_of_the_attribute(
    sqs: Any, fifo: str
) -> None:
    with refused(
        "QueueAlreadyExists",
        "A queue already exists with the same name and a different value for attribute "
        "ContentBasedDeduplication",
    ):
        sqs.create_queue(
            QueueName=fifo.rpartition("/")[2],
            Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "false"},
        )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ContentBasedDeduplication", "yes"),
        ("DeduplicationScope", "group"),
        ("FifoThroughputLimit", "perGroup"),
    ],
)
def test_an_attribute_of_a_fifo_queue_has_one_of_its_values(
    sqs: Any, fifo: str, name: str, value: str
) -> None:
    with refused("InvalidAttributeValue", f"Invalid value for the parameter {name}."):
        change(sqs, fifo, **{name: value})


def test_a_limit_of_throughput_by_groups_needs_deduplication_by_groups(sqs: Any, fifo: str) -> None:
    text = (
        "Invalid value for the parameter FifoThroughputLimit. Reason: The value perMessageGroupId is allowed "
        "only when DeduplicationScope is messageGroup."
    )
    with refused("InvalidAttributeValue", text):
        change(sqs, fifo, FifoThroughputLimit="perMessageGroupId")
    change(sqs, fifo, FifoThroughputLimit="perMessageGroupId", DeduplicationScope="messageGroup")
    with refused("InvalidAttributeValue", text):
        change(sqs, fifo, DeduplicationScope="queue")

    names = ["FifoThroughputLimit", "DeduplicationScope"]
    assert sqs.get_queue_attributes(QueueUrl=fifo, AttributeNames=names)["Attributes"] == {
        "FifoThroughputLimit": "perMessageGroupId",
        "DeduplicationScope": "messageGroup",
    }


def test_the_dead_letters_of_a_queue_go_to_one_of_its_own_type(
    sqs: Any, new_fifo: NewQueue, new_queue: NewQueue
) -> None:
    fifo, standard = new_fifo(), new_queue()
    for source, target in ((fifo, standard), (standard, fifo)):
        policy = json.dumps({"deadLetterTargetArn": arn(target), "maxReceiveCount": 1})
        text = (
            f"Value {policy} for parameter RedrivePolicy is invalid. Reason: "
            "Dead-letter queue must be same type of queue as the source."
        )
        with refused("InvalidParameterValue", text):
            change(sqs, source, RedrivePolicy=policy)


# Sending


@pytest.mark.parametrize("value", ["", "a b", "ü", "x" * 129])
@pytest.mark.parametrize("name", ["MessageGroupId", "MessageDeduplicationId"])
def test_an_id_of_other_characters_is_refused_by_its_name(sqs: Any, fifo: str, name: str, value: str) -> None:
    with refused("InvalidParameterValue", ID_RULE.format(value=value, name=name)):
        sqs.send_message(QueueUrl=fifo, MessageBody="x", **{"MessageGroupId": "g", name: value})


def test_ids_of_128_letters_digits_and_punctuation_are_taken(sqs: Any, fifo: str) -> None:
    value = "".join(map(chr, range(0x21, 0x7F))) + "x" * 34
    sqs.send_message(QueueUrl=fifo, MessageBody="x", MessageGroupId=value, MessageDeduplicationId=value)

    [message] = receive(sqs, fifo, ReceiveRequestAttemptId=value, VisibilityTimeout=0)
    assert message["Attributes"]["MessageGroupId"] == value
    assert message["Attributes"]["MessageDeduplicationId"] == value


def test_a_batch_with_an_entry_that_lacks_an_id_sends_nothing(sqs: Any, new_fifo: NewQueue) -> None:
    queue = new_fifo(ContentBasedDeduplication="false")
    good = entry("good", MessageDeduplicationId="d")
    no_group = {"Id": "bad", "MessageBody": "x", "MessageDeduplicationId": "e"}
    for bad, text in ((no_group, NO_GROUP), (entry("bad"), NO_ID)):
        with refused("InvalidParameterValue", text):
            sqs.send_message_batch(QueueUrl=queue, Entries=[good, bad])

    assert receive(sqs, queue) == []


def test_a_batch_sends_what_it_can_in_order_and_names_what_it_cannot(sqs: Any, fifo: str) -> None:
    entries = [
        entry("a"),
        entry("b", DelaySeconds=2),
        entry("c", MessageGroupId="a b"),
        entry("d", MessageDeduplicationId="ü"),
        entry("e", DelaySeconds=0),
    ]
    answer = sqs.send_message_batch(QueueUrl=fifo, Entries=entries)

    assert [each["Id"] for each in answer["Successful"]] == ["a", "e"]
    assert {each["Id"]: (each["Code"], each["Message"]) for each in answer["Failed"]} == {
        "b": ("InvalidParameterValue", DELAY),
        "c": ("InvalidParameterValue", ID_RULE.format(value="a b", name="MessageGroupId")),
        "d": ("InvalidParameterValue", ID_RULE.format(value="ü", name="MessageDeduplicationId")),
    }
    assert all(each["SenderFault"] for each in answer["Failed"])
    assert [message["Body"] for message in receive(sqs, fifo)] == ["body of a", "body of e"]


def test_a_delay_of_0_is_none_of_its_own_and_the_queue_has_its_say(sqs: Any, new_fifo: NewQueue) -> None:
    queue = new_fifo(DelaySeconds="900")
    sqs.send_message(QueueUrl=queue, MessageBody="x", MessageGroupId="g", DelaySeconds=0)

    assert receive(sqs, queue) == []
    change(sqs, queue, DelaySeconds="0")
    assert len(receive(sqs, queue)) == 1


def test_a_standard_queue_takes_no_deduplication_id(sqs: Any, queue: str) -> None:
    text = WRONG_TYPE.format(value="d", name="MessageDeduplicationId")
    with refused("InvalidParameterValue", text):
        sqs.send_message(QueueUrl=queue, MessageBody="x", MessageDeduplicationId="d")
    answer = sqs.send_message_batch(
        QueueUrl=queue,
        Entries=[entry("good"), entry("bad", MessageDeduplicationId="d")],
    )

    assert [each["Id"] for each in answer["Successful"]] == ["good"]
    assert [(each["Id"], each["Message"]) for each in answer["Failed"]] == [("bad", text)]


# Receiving


@pytest.mark.parametrize("value", ["", "a b", "ü", "x" * 129])
def test_an_attempt_id_of_other_characters_is_refused(sqs: Any, fifo: str, value: str) -> None:
    name = "ReceiveRequestAttemptId"
    with refused("InvalidParameterValue", ID_RULE.format(value=value, name=name)):
        receive(sqs, fifo, ReceiveRequestAttemptId=value)


def test_a_standard_queue_takes_no_attempt_id(sqs: Any, queue: str) -> None:
    with refused("InvalidParameterValue", WRONG_TYPE.format(value="try", name="ReceiveRequestAttemptId")):
        receive(sqs, queue, ReceiveRequestAttemptId="try")


def test_a_receipt_of_an_earlier_receive_has_expired(sqs: Any, fifo: str) -> None:
    sqs.send_message(QueueUrl=fifo, MessageBody="x", MessageGroupId="g")
    [first] = receive(sqs, fifo, VisibilityTimeout=0)
    [second] = receive(sqs, fifo)
    handle = first["ReceiptHandle"]
    text = f"Value {handle} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."

    with refused("InvalidParameterValue", text):
        sqs.delete_message(QueueUrl=fifo, ReceiptHandle=handle)
    with refused("InvalidParameterValue", text):
        sqs.change_message_visibility(QueueUrl=fifo, ReceiptHandle=handle, VisibilityTimeout=60)
    sqs.delete_message(QueueUrl=fifo, ReceiptHandle=second["ReceiptHandle"])
    sqs.delete_message(QueueUrl=fifo, ReceiptHandle=handle)  # gone already is no error


def test_a_message_that_is_visible_again_is_not_in_flight(sqs: Any, fifo: str) -> None:
    sqs.send_message(QueueUrl=fifo, MessageBody="x", MessageGroupId="g")
    [message] = receive(sqs, fifo, VisibilityTimeout=0)
    handle = message["ReceiptHandle"]

    with refused("MessageNotInflight", "The specified message isn't in flight."):
        sqs.change_message_visibility(QueueUrl=fifo, ReceiptHandle=handle, VisibilityTimeout=60)
    answer = sqs.change_message_visibility_batch(
        QueueUrl=fifo, Entries=[{"Id": "a", "ReceiptHandle": handle, "VisibilityTimeout": 60}]
    )
    [failed] = answer["Failed"]
    assert failed["Code"] == "AWS.SimpleQueueService.MessageNotInflight"
    assert len(receive(sqs, fifo)) == 1
