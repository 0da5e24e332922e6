"""What the operations on messages do over hours and days, and at the limits of a queue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.frontend.app_driver import START_MS, AppDriver, Refused
from waystation.queues import commands

HOUR_S = 3_600


@pytest.fixture
def app() -> Iterator[AppDriver]:
    with AppDriver() as driver:
        yield driver


@pytest.fixture
def queue(app: AppDriver) -> str:
    return app.create_queue("orders", MessageRetentionPeriod="60")


def send(app: AppDriver, queue: str, **members: Any) -> None:
    app.call("SendMessage", QueueUrl=queue, MessageBody="x", **members)


def receive(app: AppDriver, queue: str, timeout_s: int = 30) -> list[dict[str, Any]]:
    """Every visible message, as consumers see it."""
    answer = app.call(
        "ReceiveMessage",
        QueueUrl=queue,
        MaxNumberOfMessages=10,
        VisibilityTimeout=timeout_s,
        MessageSystemAttributeNames=["All"],
    )
    messages: list[dict[str, Any]] = answer.get("Messages", [])
    return messages


def change(app: AppDriver, queue: str, message: dict[str, Any], timeout_s: int) -> None:
    app.call(
        "ChangeMessageVisibility",
        QueueUrl=queue,
        ReceiptHandle=message["ReceiptHandle"],
        VisibilityTimeout=timeout_s,
    )


def test_a_message_is_hidden_for_exactly_its_visibility_timeout(app: AppDriver, queue: str) -> None:
    send(app, queue)
    [first] = receive(app, queue, timeout_s=30)

    app.advance(seconds=29.999)
    assert receive(app, queue) == []

    app.advance(seconds=0.001)
    [second] = receive(app, queue)
    assert second["MessageId"] == first["MessageId"]
    assert second["Attributes"]["ApproximateReceiveCount"] == "2"
    assert second["Attributes"]["ApproximateFirstReceiveTimestamp"] == str(START_MS)


def test_a_delayed_message_shows_exactly_when_its_delay_is_over(app: AppDriver) -> None:
    queue = app.create_queue()
    send(app, queue, DelaySeconds=900)

    app.advance(seconds=899.999)
    assert receive(app, queue) == []
    app.advance(seconds=0.001)
    assert len(receive(app, queue)) == 1


def test_a_message_is_dropped_when_its_retention_period_is_over(app: AppDriver, queue: str) -> None:
    send(app, queue)
    app.advance(seconds=59.999)
    assert len(receive(app, queue, timeout_s=0)) == 1

    app.advance(seconds=0.001)
    assert receive(app, queue) == []


def test_a_message_expires_in_flight_too_and_deleting_it_then_is_no_error(app: AppDriver, queue: str) -> None:
    send(app, queue)
    [message] = receive(app, queue, timeout_s=600)
    app.advance(seconds=60)

    counts = app.call("GetQueueAttributes", QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessagesNotVisible"] == "0"
    app.call("DeleteMessage", QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    with pytest.raises(Refused, match="Message does not exist or is not available"):
        change(app, queue, message, 0)


def test_a_shorter_retention_period_drops_messages_that_are_there(app: AppDriver) -> None:
    queue = app.create_queue()
    send(app, queue)
    app.advance(seconds=120)
    app.call("SetQueueAttributes", QueueUrl=queue, Attributes={"MessageRetentionPeriod": "60"})

    assert receive(app, queue) == []


def test_a_message_is_hidden_for_12_hours_from_its_receive_at_most(app: AppDriver) -> None:
    queue = app.create_queue()
    send(app, queue)
    [message] = receive(app, queue)
    change(app, queue, message, 12 * HOUR_S)

    app.advance(seconds=HOUR_S)
    with pytest.raises(Refused) as refused:
        change(app, queue, message, 11 * HOUR_S + 1)
    assert refused.value.type == "InvalidParameterValueException"
    assert refused.value.message == (
        f"Value {11 * HOUR_S + 1} for parameter VisibilityTimeout is invalid. Reason: Total "
        "VisibilityTimeout for the message is beyond the limit [43200 seconds]"
    )
    change(app, queue, message, 11 * HOUR_S)

    app.advance(seconds=11 * HOUR_S - 0.001)
    assert receive(app, queue) == []
    app.advance(seconds=0.001)
    assert len(receive(app, queue)) == 1


def test_a_new_receive_begins_another_12_hours(app: AppDriver) -> None:
    queue = app.create_queue()
    send(app, queue)
    receive(app, queue, timeout_s=12 * HOUR_S)
    app.advance(seconds=12 * HOUR_S)

    [message] = receive(app, queue)
    change(app, queue, message, 12 * HOUR_S)


def test_an_expired_handle_still_extends_its_message(app: AppDriver) -> None:
    queue = app.create_queue()
    send(app, queue)
    [message] = receive(app, queue, timeout_s=30)
    app.advance(seconds=31)

    change(app, queue, message, 60)
    assert receive(app, queue) == []


def test_a_short_poll_of_a_queue_with_too_many_in_flight_is_over_its_limit(app: AppDriver) -> None:
    """A long poll waits for room instead, and gets nothing when there is none."""
    queue = app.create_queue("orders")
    [found] = app.catalogue.queues()
    settings = commands.QueueSettings("orders", in_flight_max=2)

    async def limit() -> None:
        await app.backend.submit(found.shard, commands.ConfigureQueue(found.number, settings))

    app.run(limit())
    for _ in range(3):
        send(app, queue)
    assert len(receive(app, queue)) == 2

    with pytest.raises(Refused, match="403 OverLimit"):
        receive(app, queue)
    assert app.call("ReceiveMessage", QueueUrl=queue, WaitTimeSeconds=1) == {}


def test_a_refused_batch_sends_nothing(app: AppDriver, queue: str) -> None:
    before = app.picture()
    entries = [{"Id": "a", "MessageBody": "x"}, {"Id": "a", "MessageBody": "y"}]

    with pytest.raises(Refused, match="BatchEntryIdsNotDistinct"):
        app.call("SendMessageBatch", QueueUrl=queue, Entries=entries)
    assert app.picture() == before


def test_a_batch_of_changes_judges_each_entry_on_its_own(app: AppDriver) -> None:
    queue = app.create_queue()
    for _ in range(2):
        send(app, queue)
    first, second = receive(app, queue)
    app.advance(seconds=1)
    answer = app.call(
        "ChangeMessageVisibilityBatch",
        QueueUrl=queue,
        Entries=[
            {"Id": "beyond", "ReceiptHandle": first["ReceiptHandle"], "VisibilityTimeout": 43_200},
            {"Id": "fine", "ReceiptHandle": second["ReceiptHandle"], "VisibilityTimeout": 0},
        ],
    )

    assert [each["Id"] for each in answer["Successful"]] == ["fine"]
    assert [(each["Id"], each["Code"]) for each in answer["Failed"]] == [("beyond", "InvalidParameterValue")]
    assert [each["MessageId"] for each in receive(app, queue)] == [second["MessageId"]]


def test_a_trace_header_of_a_message_goes_before_that_of_its_request(app: AppDriver, queue: str) -> None:
    own = {"AWSTraceHeader": {"DataType": "String", "StringValue": "of the message"}}
    entries = [
        {"Id": "a", "MessageBody": "x", "MessageSystemAttributes": own},
        {"Id": "b", "MessageBody": "y"},
    ]
    body = json.dumps({"QueueUrl": queue, "Entries": entries}).encode()
    app.post("SendMessageBatch", body, x_amzn_trace_id="of the request")

    shown = [message["Attributes"]["AWSTraceHeader"] for message in receive(app, queue)]
    assert shown == ["of the message", "of the request"]
