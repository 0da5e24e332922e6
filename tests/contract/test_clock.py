"""What takes minutes and hours, over both protocols, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.in_process import Call, caller
from tests.contract.wire import refused
from tests.frontend.app_driver import AppDriver

HOUR_S = 3_600


@pytest.fixture
def app() -> Iterator[AppDriver]:
    with AppDriver() as driver:
        yield driver


@pytest.fixture(params=["json", "query"])
def call(app: AppDriver, request: pytest.FixtureRequest) -> Call:
    """Each protocol in turn."""
    return caller(app, request.param)


def receive(call: Call, queue: str, timeout_s: int = 30, **how: int) -> list[Any]:
    answer = call("ReceiveMessage", QueueUrl=queue, VisibilityTimeout=timeout_s, **how)
    messages: list[Any] = answer.get("Messages", [])
    return messages


def count_of(call: Call, queue: str) -> int:
    """Messages in any state."""
    shown = call("GetQueueAttributes", QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    return sum(int(value) for name, value in shown.items() if name.startswith("ApproximateNumber"))


def test_a_message_expires_in_flight_too_and_deleting_it_then_is_no_error(app: AppDriver, call: Call) -> None:
    queue = app.create_queue(MessageRetentionPeriod="60")
    call("SendMessage", QueueUrl=queue, MessageBody="x")
    [message] = receive(call, queue, timeout_s=600)
    app.advance(seconds=59.999)
    assert count_of(call, queue) == 1

    app.advance(seconds=0.001)
    assert count_of(call, queue) == 0
    call("DeleteMessage", QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


def test_a_shorter_retention_period_drops_messages_that_are_there(app: AppDriver, call: Call) -> None:
    queue = app.create_queue()
    call("SendMessage", QueueUrl=queue, MessageBody="x")
    app.advance(seconds=120)
    call("SetQueueAttributes", QueueUrl=queue, Attributes={"MessageRetentionPeriod": "60"})

    assert receive(call, queue) == []


def test_a_message_is_hidden_for_12_hours_from_its_receive_at_most(app: AppDriver, call: Call) -> None:
    queue = app.create_queue()
    call("SendMessage", QueueUrl=queue, MessageBody="x")
    [message] = receive(call, queue)
    receipt = {"QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"]}
    call("ChangeMessageVisibility", **receipt, VisibilityTimeout=12 * HOUR_S)

    app.advance(seconds=HOUR_S)
    with refused(
        "InvalidParameterValue",
        f"Value {11 * HOUR_S + 1} for parameter VisibilityTimeout is invalid. Reason: Total "
        "VisibilityTimeout for the message is beyond the limit [43200 seconds]",
    ):
        call("ChangeMessageVisibility", **receipt, VisibilityTimeout=11 * HOUR_S + 1)
    call("ChangeMessageVisibility", **receipt, VisibilityTimeout=11 * HOUR_S)


def test_a_purge_is_allowed_again_after_60_seconds(app: AppDriver, call: Call) -> None:
    queue = app.create_queue("orders")
    call("PurgeQueue", QueueUrl=queue)
    app.advance(seconds=59.999)
    with refused(
        "PurgeQueueInProgress",
        "Only one PurgeQueue operation on orders is allowed every 60 seconds.",
        status=403,
    ):
        call("PurgeQueue", QueueUrl=queue)

    app.advance(seconds=0.001)
    call("PurgeQueue", QueueUrl=queue)


def test_a_short_poll_is_over_its_limit_when_120_000_messages_are_in_flight(app: AppDriver) -> None:
    """A long poll waits for room instead. Filling the queue takes seconds, so it is done once."""
    queue = app.create_queue()
    batch = [{"Id": str(number), "MessageBody": "x"} for number in range(10)]
    for _ in range(12_000):
        app.call("SendMessageBatch", QueueUrl=queue, Entries=batch)
        app.call("ReceiveMessage", QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=600)
    app.call("SendMessage", QueueUrl=queue, MessageBody="one more")

    for call in (caller(app, "json"), caller(app, "query")):
        with refused(
            "OverLimit", "The maximum number of in flight messages, 120000, is reached.", status=403
        ):
            receive(call, queue)
        assert receive(call, queue, WaitTimeSeconds=1) == []
