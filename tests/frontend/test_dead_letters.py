"""Dead letters as clients of the whole FrontEnd see them, over days, from queue to queue and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from tests.frontend.app_driver import ACCOUNT, START_MS, AppDriver
from waystation.backend import carrier

DAY_S = 86_400


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[AppDriver]:
    """Its carriers try again almost at once: they wait in real time."""
    monkeypatch.setattr(carrier, "_RETRY_S", 0.01)
    with AppDriver() as driver:
        yield driver


def arn(name: str) -> str:
    return f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}"


def policy(target: str, count: int = 1) -> str:
    return json.dumps({"deadLetterTargetArn": arn(target), "maxReceiveCount": count})


def change(app: AppDriver, queue: str, **values: str) -> None:
    app.call("SetQueueAttributes", QueueUrl=queue, Attributes=values)


def receive(app: AppDriver, queue: str, *, timeout_s: int = 0, wait_s: int = 0) -> list[dict[str, Any]]:
    answer = app.call(
        "ReceiveMessage",
        QueueUrl=queue,
        MaxNumberOfMessages=10,
        VisibilityTimeout=timeout_s,
        WaitTimeSeconds=wait_s,
        MessageSystemAttributeNames=["All"],
        MessageAttributeNames=["All"],
    )
    messages: list[dict[str, Any]] = answer.get("Messages", [])
    return messages


def arriving(app: AppDriver, queue: str, *, timeout_s: int = 0) -> list[dict[str, Any]]:
    """What comes to a queue by itself, as soon as it is there."""
    return receive(app, queue, timeout_s=timeout_s, wait_s=10)


def lose(app: AppDriver, queue: str, **members: Any) -> str:
    """Send a message and have it set aside, with a limit of one receive; returns its id."""
    message_id: str = app.call("SendMessage", QueueUrl=queue, MessageBody="poison", **members)["MessageId"]
    assert [message["MessageId"] for message in receive(app, queue)] == [message_id]
    assert receive(app, queue) == []
    return message_id


def in_flight(app: AppDriver, queue: str) -> int:
    name = "ApproximateNumberOfMessagesNotVisible"
    answer = app.call("GetQueueAttributes", QueueUrl=queue, AttributeNames=[name])
    return int(answer["Attributes"][name])


def test_a_dead_letter_is_the_message_that_it_was_and_says_where_it_comes_from(app: AppDriver) -> None:
    letters = app.create_queue("letters")
    orders = app.create_queue("orders", RedrivePolicy=policy("letters", 3))
    attribute = {"colour": {"DataType": "String", "StringValue": "red"}}
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe"}}
    sent = app.call(
        "SendMessage",
        QueueUrl=orders,
        MessageBody="poison",
        MessageAttributes=attribute,
        MessageSystemAttributes=trace,
    )
    for _ in range(3):
        app.advance(10)
        [before] = receive(app, orders)
    app.advance(10)
    assert receive(app, orders) == []
    [after] = arriving(app, letters)

    for name in ("MessageId", "Body", "MD5OfBody", "MessageAttributes", "MD5OfMessageAttributes"):
        assert after[name] == before[name]
    assert after["MessageId"] == sent["MessageId"]
    assert after["Attributes"] == before["Attributes"] | {
        "ApproximateReceiveCount": "4",
        "ApproximateFirstReceiveTimestamp": str(START_MS + 40_000),
        "DeadLetterQueueSourceArn": arn("orders"),
    }
    assert after["Attributes"]["SentTimestamp"] == str(START_MS)


def test_a_dead_letter_of_a_fifo_queue_is_as_old_as_its_stay_in_the_dead_letter_queue(
    app: AppDriver,
) -> None:
    """
    SQS Developer Guide, dead-letter queues, message retention: for standard queues the enqueue
    timestamp is unchanged by the move; for FIFO queues it resets.
    """
    app.create_queue("letters.fifo", FifoQueue="true", MessageRetentionPeriod="60")
    fifo = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    orders = app.create_queue("orders.fifo", **fifo, RedrivePolicy=policy("letters.fifo"))
    app.call("SendMessage", QueueUrl=orders, MessageBody="poison", MessageGroupId="g")
    [message] = receive(app, orders)
    app.advance(100)
    assert receive(app, orders) == []
    letters = app.call("GetQueueUrl", QueueName="letters.fifo")["QueueUrl"]
    [letter] = arriving(app, letters)

    assert letter["MessageId"] == message["MessageId"]
    assert message["Attributes"]["SentTimestamp"] == str(START_MS)
    assert letter["Attributes"]["SentTimestamp"] == str(START_MS + 100_000)

    app.advance(59)
    assert len(receive(app, letters)) == 1
    app.advance(1)
    assert receive(app, letters) == []


def test_a_dead_letter_keeps_its_id_through_a_second_queue_and_names_the_last_it_was_in(
    app: AppDriver,
) -> None:
    last = app.create_queue("last")
    app.create_queue("letters", RedrivePolicy=policy("last", 2))
    orders = app.create_queue("orders", RedrivePolicy=policy("letters"))
    message_id = lose(app, orders)
    url = app.call("GetQueueUrl", QueueName="letters")["QueueUrl"]
    [letter] = arriving(app, url)
    assert letter["MessageId"] == message_id
    assert receive(app, url) == []

    [letter] = arriving(app, last)
    assert letter["MessageId"] == message_id
    assert letter["Attributes"]["DeadLetterQueueSourceArn"] == arn("letters")
    assert letter["Attributes"]["ApproximateReceiveCount"] == "3"
    assert letter["Attributes"]["SentTimestamp"] == str(START_MS)


def test_a_dead_letter_expires_by_its_original_sending_and_the_retention_of_its_new_queue(
    app: AppDriver,
) -> None:
    letters = app.create_queue("letters", MessageRetentionPeriod=str(3 * DAY_S))
    orders = app.create_queue("orders", RedrivePolicy=policy("letters"), MessageRetentionPeriod="60")
    app.call("SendMessage", QueueUrl=orders, MessageBody="poison")
    app.advance(59)
    receive(app, orders)
    receive(app, orders)
    assert len(arriving(app, letters)) == 1

    app.advance(3 * DAY_S - 60)
    assert len(receive(app, letters)) == 1
    app.advance(1)
    assert receive(app, letters) == []


def test_a_dead_letter_is_deleted_and_hidden_by_its_new_handle(app: AppDriver) -> None:
    letters = app.create_queue("letters")
    lose(app, app.create_queue("orders", RedrivePolicy=policy("letters")))
    [letter] = arriving(app, letters, timeout_s=600)
    assert receive(app, letters) == []

    handle = letter["ReceiptHandle"]
    app.call("ChangeMessageVisibility", QueueUrl=letters, ReceiptHandle=handle, VisibilityTimeout=0)
    assert len(receive(app, letters)) == 1
    app.call("DeleteMessage", QueueUrl=letters, ReceiptHandle=handle)
    assert receive(app, letters) == []


@pytest.mark.parametrize("between", [[], ["other"]])
def test_a_dead_letter_queue_that_is_deleted_and_created_again_gets_what_waited(
    app: AppDriver, between: list[str]
) -> None:
    letters = app.create_queue("letters")
    orders = app.create_queue("orders", RedrivePolicy=policy("letters"))
    app.call("DeleteQueue", QueueUrl=letters)
    message_id = lose(app, orders)
    assert in_flight(app, orders) == 1
    for name in between:
        assert receive(app, app.create_queue(name), wait_s=1) == []

    letters = app.create_queue("letters")
    assert [letter["MessageId"] for letter in arriving(app, letters)] == [message_id]
    assert in_flight(app, orders) == 0


@pytest.mark.parametrize("removed", [True, False])
def test_what_was_set_aside_goes_where_it_should_have_whatever_becomes_of_the_policy(
    app: AppDriver, removed: bool
) -> None:
    letters, other = app.create_queue("letters"), app.create_queue("other")
    orders = app.create_queue("orders", RedrivePolicy=policy("letters"))
    app.call("DeleteQueue", QueueUrl=letters)
    lose(app, orders)
    letters = app.create_queue("letters")
    change(app, orders, RedrivePolicy="" if removed else policy("other"))

    assert len(arriving(app, letters)) == 1
    assert receive(app, other) == []


def test_what_waits_for_a_queue_that_is_gone_goes_to_the_one_that_takes_its_place(app: AppDriver) -> None:
    letters, other = app.create_queue("letters"), app.create_queue("other")
    orders = app.create_queue("orders", RedrivePolicy=policy("letters"))
    app.call("DeleteQueue", QueueUrl=letters)
    message_id = lose(app, orders)
    change(app, orders, RedrivePolicy=policy("other"))

    assert [letter["MessageId"] for letter in arriving(app, other)] == [message_id]


def test_a_policy_counts_the_receives_before_it_too(app: AppDriver) -> None:
    letters, orders = app.create_queue("letters"), app.create_queue("orders")
    app.call("SendMessage", QueueUrl=orders, MessageBody="poison")
    for _ in range(5):
        assert len(receive(app, orders)) == 1
    change(app, orders, RedrivePolicy=policy("letters", 5))

    assert receive(app, orders) == []
    assert len(arriving(app, letters)) == 1


def test_attributes_that_say_nothing_of_dead_letters_leave_the_policy_in_force(app: AppDriver) -> None:
    letters = app.create_queue("letters")
    orders = app.create_queue("orders", RedrivePolicy=policy("letters"))
    change(app, orders, VisibilityTimeout="5")
    change(app, letters, VisibilityTimeout="5")
    lose(app, orders)

    assert len(arriving(app, letters)) == 1


# Moved out of a dead-letter queue


def move(app: AppDriver, destination: str = "") -> None:
    """Move everything out of "letters", back or to a destination."""
    members = {"DestinationArn": arn(destination)} if destination else {}
    app.call("StartMessageMoveTask", SourceArn=arn("letters"), **members)


def test_a_message_that_is_moved_back_is_a_new_one_with_the_old_contents(app: AppDriver) -> None:
    app.create_queue("letters")
    orders = app.create_queue("orders", RedrivePolicy=policy("letters"))
    attribute = {"colour": {"DataType": "String", "StringValue": "red"}}
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe"}}
    sent = app.call(
        "SendMessage",
        QueueUrl=orders,
        MessageBody="poison",
        MessageAttributes=attribute,
        MessageSystemAttributes=trace,
    )
    [before] = receive(app, orders)
    receive(app, orders)
    app.advance(600)
    move(app)
    [after] = arriving(app, orders)

    for name in ("Body", "MD5OfBody", "MessageAttributes", "MD5OfMessageAttributes"):
        assert after[name] == before[name]
    assert after["MessageId"] != sent["MessageId"]
    assert UUID(after["MessageId"]).version == 4
    assert after["Attributes"] == before["Attributes"] | {
        "ApproximateReceiveCount": "1",
        "ApproximateFirstReceiveTimestamp": str(START_MS + 600_000),
        "SentTimestamp": str(START_MS + 600_000),
    }


def test_a_moved_message_expires_by_when_it_was_moved(app: AppDriver) -> None:
    app.create_queue("letters")
    other = app.create_queue("other", MessageRetentionPeriod="60")
    lose(app, app.create_queue("orders", RedrivePolicy=policy("letters")))
    app.advance(DAY_S)
    move(app, "other")
    assert len(arriving(app, other)) == 1

    app.advance(59)
    assert len(receive(app, other)) == 1
    app.advance(1)
    assert receive(app, other) == []


def test_a_message_that_is_lost_again_keeps_the_id_that_it_got_when_it_was_moved(app: AppDriver) -> None:
    letters = app.create_queue("letters")
    orders = app.create_queue("orders", RedrivePolicy=policy("letters"))
    first_id = lose(app, orders)
    move(app)
    [again] = arriving(app, orders)
    assert receive(app, orders) == []
    [letter] = arriving(app, letters)

    assert letter["MessageId"] == again["MessageId"] != first_id
    assert letter["Attributes"]["DeadLetterQueueSourceArn"] == arn("orders")


def test_a_message_that_is_moved_elsewhere_came_from_nowhere(app: AppDriver) -> None:
    app.create_queue("letters")
    other = app.create_queue("other")
    lose(app, app.create_queue("orders", RedrivePolicy=policy("letters")))
    move(app, "other")

    [message] = arriving(app, other)
    assert "DeadLetterQueueSourceArn" not in message["Attributes"]


def test_messages_of_several_queues_go_back_each_to_its_own(app: AppDriver) -> None:
    app.create_queue("letters")
    queues = [app.create_queue(name, RedrivePolicy=policy("letters")) for name in ("a", "b", "c")]
    for url in queues:
        app.call("SendMessage", QueueUrl=url, MessageBody=url)
        receive(app, url)
        receive(app, url)
    move(app)

    for url in queues:
        assert [message["Body"] for message in arriving(app, url, timeout_s=600)] == [url]
