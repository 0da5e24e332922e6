"""Message move tasks as clients of both protocols start, watch and cancel them."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.receiving import receive
from tests.contract.wire import refused
from tests.server import Server, arn, eventually

NewQueue = Callable[..., str]

NO_SUCH_QUEUE = "The resource that you specified for the {} parameter doesn't exist."


@pytest.fixture
def letters(new_queue: NewQueue) -> str:
    """The URL of a dead-letter queue."""
    return new_queue()


@pytest.fixture
def orders(new_queue: NewQueue, letters: str) -> str:
    """The URL of a queue whose messages are received once."""
    policy = {"deadLetterTargetArn": arn(letters), "maxReceiveCount": 1}
    return new_queue(RedrivePolicy=json.dumps(policy))


def send(sqs: Any, queue: str, count: int, *, group: str = "") -> list[str]:
    """Send messages with bodies of their own; returns the bodies."""
    bodies = [f"poison {number:04}" for number in range(count)]
    fifo = {"MessageGroupId": group} if group else {}
    for first in range(0, count, 10):
        entries = [
            {"Id": str(number), "MessageBody": body, **fifo}
            for number, body in enumerate(bodies[first : first + 10])
        ]
        sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    return bodies


def lose(sqs: Any, queue: str, letters: str, count: int) -> list[str]:
    """Send messages and let all become dead letters; returns their bodies."""
    bodies = send(sqs, queue, count)
    eventually(lambda: not receive(sqs, queue, VisibilityTimeout=0) and visible(sqs, letters) == count)
    return bodies


def drain(sqs: Any, queue: str) -> list[str]:
    """The bodies of everything that is visible, once for each time that it is there."""
    found: list[str] = []
    while messages := receive(sqs, queue, VisibilityTimeout=600):
        found += [message["Body"] for message in messages]
    return sorted(found)


def visible(sqs: Any, queue: str) -> int:
    name = "ApproximateNumberOfMessages"
    return int(sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=[name])["Attributes"][name])


def newest(sqs: Any, queue: str) -> dict[str, Any]:
    [task] = sqs.list_message_move_tasks(SourceArn=arn(queue))["Results"]
    found: dict[str, Any] = task
    return found


def ended(sqs: Any, queue: str) -> dict[str, Any]:
    """The newest task of a queue once it has ended."""
    eventually(lambda: newest(sqs, queue)["Status"] not in ("RUNNING", "CANCELLING"))
    return newest(sqs, queue)


def test_a_task_moves_everything_to_its_destination_and_tells_of_it(
    sqs: Any, new_queue: NewQueue, letters: str, orders: str
) -> None:
    other = new_queue()
    bodies = send(sqs, letters, 25)
    sqs.start_message_move_task(SourceArn=arn(letters), DestinationArn=arn(other))

    task = ended(sqs, letters)
    started = task.pop("StartedTimestamp")
    assert isinstance(started, int)
    assert task == {
        "Status": "COMPLETED",
        "SourceArn": arn(letters),
        "DestinationArn": arn(other),
        "ApproximateNumberOfMessagesMoved": 25,
        "ApproximateNumberOfMessagesToMove": 25,
    }
    assert drain(sqs, other) == bodies
    assert visible(sqs, letters) == 0


def test_without_a_destination_dead_letters_go_back_as_new_messages(
    sqs: Any, letters: str, orders: str
) -> None:
    bodies = lose(sqs, orders, letters, 5)
    sqs.start_message_move_task(SourceArn=arn(letters))
    assert ended(sqs, letters)["Status"] == "COMPLETED"

    messages = receive(sqs, orders, VisibilityTimeout=600)
    assert sorted(message["Body"] for message in messages) == bodies
    for message in messages:
        assert message["Attributes"]["ApproximateReceiveCount"] == "1"
        assert "DeadLetterQueueSourceArn" not in message["Attributes"]


def test_a_running_task_is_listed_with_its_handle_and_cancelled_by_it(
    sqs: Any, new_queue: NewQueue, letters: str, orders: str
) -> None:
    other = new_queue()
    bodies = send(sqs, letters, 20)
    handle = sqs.start_message_move_task(
        SourceArn=arn(letters), DestinationArn=arn(other), MaxNumberOfMessagesPerSecond=2
    )["TaskHandle"]
    task = newest(sqs, letters)
    assert (task["Status"], task["TaskHandle"]) == ("RUNNING", handle)
    assert task["MaxNumberOfMessagesPerSecond"] == 2
    assert json.loads(b64decode(handle))["sourceArn"] == arn(letters)
    eventually(lambda: newest(sqs, letters)["ApproximateNumberOfMessagesMoved"] > 0)

    moved = sqs.cancel_message_move_task(TaskHandle=handle)["ApproximateNumberOfMessagesMoved"]
    assert 0 < moved < 20
    task = ended(sqs, letters)
    assert task["Status"] == "CANCELLED"
    assert "TaskHandle" not in task
    arrived = drain(sqs, other)
    assert len(arrived) == task["ApproximateNumberOfMessagesMoved"] < 20
    assert sorted(arrived + drain(sqs, letters)) == bodies
    with refused("ResourceNotFoundException", "Only active tasks can be cancelled.", 404):
        sqs.cancel_message_move_task(TaskHandle=handle)


def test_a_second_task_of_a_source_is_refused_while_one_runs(
    sqs: Any, new_queue: NewQueue, letters: str, orders: str
) -> None:
    other = new_queue()
    send(sqs, letters, 10)
    handle = sqs.start_message_move_task(
        SourceArn=arn(letters), DestinationArn=arn(other), MaxNumberOfMessagesPerSecond=1
    )["TaskHandle"]
    text = (
        "There is already a task running. Only one active task is allowed for a source queue arn at a given "
        "time."
    )
    with refused("InvalidParameterValue", text):
        sqs.start_message_move_task(SourceArn=arn(letters))
    sqs.cancel_message_move_task(TaskHandle=handle)
    ended(sqs, letters)

    sqs.start_message_move_task(SourceArn=arn(letters), DestinationArn=arn(other))
    assert ended(sqs, letters)["Status"] == "COMPLETED"
    assert len(sqs.list_message_move_tasks(SourceArn=arn(letters), MaxResults=10)["Results"]) == 2
    assert len(drain(sqs, other)) == 10


def test_a_task_fails_when_its_destination_is_deleted(
    sqs: Any, new_queue: NewQueue, letters: str, orders: str
) -> None:
    other = new_queue()
    send(sqs, letters, 10)
    sqs.start_message_move_task(
        SourceArn=arn(letters), DestinationArn=arn(other), MaxNumberOfMessagesPerSecond=1
    )
    sqs.delete_queue(QueueUrl=other)

    task = ended(sqs, letters)
    assert task["Status"] == "FAILED"
    assert task["FailureReason"] == "AWS.SimpleQueueService.NonExistentQueue"
    assert visible(sqs, letters) == 10 - task["ApproximateNumberOfMessagesMoved"]


def test_a_message_that_was_sent_to_a_dead_letter_queue_cannot_go_back(
    sqs: Any, letters: str, orders: str
) -> None:
    bodies = send(sqs, letters, 1)
    sqs.start_message_move_task(SourceArn=arn(letters))

    task = ended(sqs, letters)
    assert (task["Status"], task["FailureReason"]) == ("FAILED", "CouldNotDetermineMessageSource")
    assert drain(sqs, letters) == bodies


def test_messages_in_flight_and_delayed_ones_stay(
    sqs: Any, new_queue: NewQueue, letters: str, orders: str
) -> None:
    other = new_queue()
    sqs.send_message(QueueUrl=letters, MessageBody="in flight")
    assert len(receive(sqs, letters, VisibilityTimeout=600)) == 1
    sqs.send_message(QueueUrl=letters, MessageBody="delayed", DelaySeconds=900)
    sqs.send_message(QueueUrl=letters, MessageBody="visible")
    sqs.start_message_move_task(SourceArn=arn(letters), DestinationArn=arn(other))

    task = ended(sqs, letters)
    assert task["ApproximateNumberOfMessagesToMove"] == task["ApproximateNumberOfMessagesMoved"] == 1
    assert drain(sqs, other) == ["visible"]


def test_moved_messages_wake_those_who_wait_for_them(
    server: Server, sqs: Any, new_queue: NewQueue, letters: str, orders: str
) -> None:
    other = new_queue()
    send(sqs, letters, 1)
    sqs.start_message_move_task(SourceArn=arn(letters), DestinationArn=arn(other))

    assert len(receive(sqs, other, VisibilityTimeout=600, WaitTimeSeconds=20)) == 1


def test_queues_that_are_not_there_are_not_found(sqs: Any, letters: str, orders: str) -> None:
    nobody = arn("nobody")
    with refused("ResourceNotFoundException", NO_SUCH_QUEUE.format("SourceArn"), 404):
        sqs.start_message_move_task(SourceArn=nobody)
    with refused("ResourceNotFoundException", NO_SUCH_QUEUE.format("SourceArn"), 404):
        sqs.list_message_move_tasks(SourceArn=nobody)
    with refused("ResourceNotFoundException", NO_SUCH_QUEUE.format("DestinationArn"), 404):
        sqs.start_message_move_task(SourceArn=arn(letters), DestinationArn=nobody)


def test_what_cannot_be_is_refused(sqs: Any, letters: str, orders: str) -> None:
    text = "Source queue must be configured as a Dead Letter Queue."
    with refused("InvalidParameterValue", text):
        sqs.start_message_move_task(SourceArn=arn(orders))
    text = (
        "You must use this format to specify the SourceArn: "
        "arn:<partition>:<service>:<region>:<account-id>:<resource-id>"
    )
    with refused("InvalidParameterValue", text):
        sqs.start_message_move_task(SourceArn=letters)
    with refused("InvalidParameterValue"):
        sqs.start_message_move_task(SourceArn=arn(letters), DestinationArn=arn(letters))
    with refused("InvalidParameterValue"):
        sqs.start_message_move_task(SourceArn=arn(letters), MaxNumberOfMessagesPerSecond=501)
    with refused("InvalidParameterValue"):
        sqs.list_message_move_tasks(SourceArn=arn(letters), MaxResults=11)
    with refused("InvalidParameterValue", "Value for parameter TaskHandle is invalid."):
        sqs.cancel_message_move_task(TaskHandle="garbage")


@pytest.mark.parametrize(
    ("operation", "parameter"),
    [
        ("start_message_move_task", "SourceArn"),
        ("list_message_move_tasks", "SourceArn"),
        ("cancel_message_move_task", "TaskHandle"),
    ],
)
def test_what_is_mandatory_is_asked_for(sqs: Any, operation: str, parameter: str) -> None:
    with refused("MissingParameter", f"The request must contain the parameter {parameter}."):
        getattr(sqs, operation)()


def test_messages_of_a_fifo_queue_go_back_in_order_with_their_groups(
    sqs: Any, new_name: Callable[[], str]
) -> None:
    fifo = {"FifoQueue": "true", "ContentBasedDeduplication": "true", "VisibilityTimeout": "0"}
    letters = sqs.create_queue(QueueName=f"{new_name()}.fifo", Attributes=fifo)["QueueUrl"]
    policy = {"deadLetterTargetArn": arn(letters), "maxReceiveCount": 1}
    orders = sqs.create_queue(
        QueueName=f"{new_name()}.fifo", Attributes={**fifo, "RedrivePolicy": json.dumps(policy)}
    )["QueueUrl"]
    bodies = send(sqs, orders, 20, group="a")
    eventually(lambda: not receive(sqs, orders, VisibilityTimeout=0) and visible(sqs, letters) == 20)
    sqs.start_message_move_task(SourceArn=arn(letters), MaxNumberOfMessagesPerSecond=50)
    assert ended(sqs, letters)["Status"] == "COMPLETED"

    found: list[dict[str, Any]] = []
    while messages := receive(sqs, orders, VisibilityTimeout=600):
        found += messages
        entries = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
            for number, message in enumerate(messages)
        ]
        sqs.delete_message_batch(QueueUrl=orders, Entries=entries)
    assert [message["Body"] for message in found] == bodies
    assert {message["Attributes"]["MessageGroupId"] for message in found} == {"a"}
    assert all(message["Attributes"]["MessageDeduplicationId"] for message in found)
