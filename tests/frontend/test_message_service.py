"""What the operations on messages do over hours and days, and at the limits of a queue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import md5
from typing import Any

import msgspec
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


def limit_in_flight(app: AppDriver, in_flight_max: int) -> None:
    """Let the only queue have so few messages in flight that a test can reach its limit."""
    [queue] = app.catalogue.queues()
    settings = msgspec.structs.replace(queue.settings(), in_flight_max=in_flight_max)

    async def configure() -> None:
        await app.backend.submit(queue.shard, commands.ConfigureQueue(queue.number, settings))

    app.run(configure())


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
    limit_in_flight(app, 2)
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


# FIFO queues


@pytest.fixture
def fifo(app: AppDriver) -> str:
    return app.create_queue("orders.fifo", FifoQueue="true", ContentBasedDeduplication="true")


def send_fifo(app: AppDriver, queue: str, body: str, **members: Any) -> dict[str, Any]:
    given = {"MessageGroupId": "g", **members}
    return app.call("SendMessage", QueueUrl=queue, MessageBody=body, **given)


def bodies(messages: list[dict[str, Any]]) -> list[str]:
    return [message["Body"] for message in messages]


def test_a_duplicate_is_one_for_exactly_5_minutes(app: AppDriver, fifo: str) -> None:
    first = send_fifo(app, fifo, "x")
    app.advance(seconds=299.999)
    duplicate = send_fifo(app, fifo, "x")
    assert (duplicate["MessageId"], duplicate["SequenceNumber"]) == (
        first["MessageId"],
        first["SequenceNumber"],
    )

    app.advance(seconds=0.001)
    assert send_fifo(app, fifo, "x")["SequenceNumber"] > first["SequenceNumber"]
    assert bodies(receive(app, fifo)) == ["x", "x"]


def test_a_duplicate_is_answered_with_the_digests_of_what_was_sent_now(app: AppDriver, fifo: str) -> None:
    """SDKs compare them with what they have sent, and would find those of the original wrong."""
    send_fifo(app, fifo, "one", MessageDeduplicationId="d")
    duplicate = send_fifo(app, fifo, "two", MessageDeduplicationId="d")

    assert duplicate["MD5OfMessageBody"] == md5(b"two").hexdigest()
    assert bodies(receive(app, fifo)) == ["one"]


def test_in_a_batch_duplicates_have_the_ids_of_their_originals_in_its_order(
    app: AppDriver, fifo: str
) -> None:
    known = send_fifo(app, fifo, "known")
    entries = [
        {"Id": str(number), "MessageBody": body, "MessageGroupId": "g"}
        for number, body in enumerate(["new", "known", "newer", "new"])
    ]
    sent = app.call("SendMessageBatch", QueueUrl=fifo, Entries=entries)["Successful"]

    assert [each["Id"] for each in sent] == ["0", "1", "2", "3"]
    assert sent[1]["MessageId"] == known["MessageId"]
    assert sent[3]["MessageId"] == sent[0]["MessageId"]
    numbers = [each["SequenceNumber"] for each in sent]
    assert known["SequenceNumber"] == numbers[1] < numbers[0] == numbers[3] < numbers[2]
    shown = {message["MessageId"]: message["Attributes"]["SequenceNumber"] for message in receive(app, fifo)}
    assert shown == {each["MessageId"]: each["SequenceNumber"] for each in sent}


def test_an_entry_that_cannot_be_fails_alone_and_the_others_keep_their_order(
    app: AppDriver, fifo: str
) -> None:
    ids = {"MessageGroupId": "g"}
    entries = [
        {"Id": "a", "MessageBody": "first", **ids},
        {"Id": "b", "MessageBody": "delayed", "DelaySeconds": 2, **ids},
        {"Id": "c", "MessageBody": "in no group", "MessageGroupId": "a b"},
        {"Id": "d", "MessageBody": "of no id", "MessageDeduplicationId": "", **ids},
        {"Id": "e", "MessageBody": "last", "DelaySeconds": 0, **ids},
    ]
    answer = app.call("SendMessageBatch", QueueUrl=fifo, Entries=entries)

    assert [each["Id"] for each in answer["Successful"]] == ["a", "e"]
    assert [(each["Id"], each["Code"]) for each in answer["Failed"]] == [
        (failed, "InvalidParameterValue") for failed in "bcd"
    ]
    assert bodies(receive(app, fifo)) == ["first", "last"]


def test_the_delay_of_a_fifo_queue_holds_for_every_message_that_nobody_has_received(
    app: AppDriver, fifo: str
) -> None:
    send_fifo(app, fifo, "sent before it was set")
    app.call("SetQueueAttributes", QueueUrl=fifo, Attributes={"DelaySeconds": "10"})
    send_fifo(app, fifo, "that asks for none", DelaySeconds=0, MessageGroupId="h")
    app.advance(seconds=9.999)
    assert receive(app, fifo) == []

    app.advance(seconds=0.001)
    assert bodies(receive(app, fifo)) == ["sent before it was set", "that asks for none"]


def test_a_repeated_attempt_gets_its_messages_again_hidden_for_the_new_timeout(
    app: AppDriver, fifo: str
) -> None:
    send_fifo(app, fifo, "x")
    ask = {"QueueUrl": fifo, "ReceiveRequestAttemptId": "try", "VisibilityTimeout": 30}
    [first] = app.call("ReceiveMessage", **ask)["Messages"]
    app.advance(seconds=20)
    assert app.call("ReceiveMessage", **ask)["Messages"] == [first]

    app.advance(seconds=29.999)
    assert receive(app, fifo) == []
    app.call("DeleteMessage", QueueUrl=fifo, ReceiptHandle=first["ReceiptHandle"])


def test_an_attempt_can_be_repeated_for_5_minutes(app: AppDriver, fifo: str) -> None:
    send_fifo(app, fifo, "x")
    ask = {"QueueUrl": fifo, "ReceiveRequestAttemptId": "try", "VisibilityTimeout": 600}
    first = app.call("ReceiveMessage", **ask)
    app.advance(seconds=299.999)
    assert app.call("ReceiveMessage", **ask) == first

    app.advance(seconds=0.001)
    assert app.call("ReceiveMessage", **ask) == {}


EXPIRED = "Value {} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."


def test_a_fifo_receipt_deletes_until_its_timeout_is_over(app: AppDriver, fifo: str) -> None:
    send_fifo(app, fifo, "x")
    [held] = receive(app, fifo, timeout_s=30)
    handle = held["ReceiptHandle"]
    app.advance(seconds=30)
    with pytest.raises(Refused) as refused:
        app.call("DeleteMessage", QueueUrl=fifo, ReceiptHandle=handle)
    assert (refused.value.status, refused.value.type) == (400, "InvalidParameterValueException")
    assert refused.value.message == EXPIRED.format(handle)

    [held] = receive(app, fifo, timeout_s=30)
    app.advance(seconds=29.999)
    for _ in range(2):  # gone already is no error
        app.call("DeleteMessage", QueueUrl=fifo, ReceiptHandle=held["ReceiptHandle"])


def test_a_batch_of_deletions_names_the_receipts_that_have_expired(app: AppDriver, fifo: str) -> None:
    for body in ("a", "b"):
        send_fifo(app, fifo, body, MessageGroupId=body)
    expired, held = receive(app, fifo, timeout_s=30)
    change(app, fifo, held, 60)
    app.advance(seconds=30)
    handles = {"1": expired["ReceiptHandle"], "2": "garbage", "3": held["ReceiptHandle"]}
    answer = app.call(
        "DeleteMessageBatch",
        QueueUrl=fifo,
        Entries=[{"Id": each, "ReceiptHandle": handle} for each, handle in handles.items()],
    )

    assert [each["Id"] for each in answer["Successful"]] == ["3"]
    failed = {each["Id"]: (each["Code"], each["Message"]) for each in answer["Failed"]}
    assert failed["1"] == ("InvalidParameterValue", EXPIRED.format(handles["1"]))
    assert failed["2"][0] == "ReceiptHandleIsInvalid"
    assert bodies(receive(app, fifo)) == ["a"]


def test_a_fifo_receipt_changes_its_timeout_while_it_runs_and_not_after(app: AppDriver, fifo: str) -> None:
    send_fifo(app, fifo, "x")
    [first] = receive(app, fifo, timeout_s=30)
    app.advance(seconds=30)
    with pytest.raises(Refused, match="400 MessageNotInflight"):
        change(app, fifo, first, 60)

    [second] = receive(app, fifo, timeout_s=30)
    with pytest.raises(Refused) as refused:
        change(app, fifo, first, 60)
    assert refused.value.message == EXPIRED.format(first["ReceiptHandle"])
    change(app, fifo, second, 60)
    app.advance(seconds=59.999)
    assert receive(app, fifo) == []


def test_a_batch_of_changes_names_the_receipts_that_have_expired(app: AppDriver, fifo: str) -> None:
    for body in ("a", "b"):
        send_fifo(app, fifo, body, MessageGroupId=body)
    [first] = receive(app, fifo, timeout_s=30)[:1]
    app.advance(seconds=30)
    again, visible = receive(app, fifo, timeout_s=30)
    change(app, fifo, visible, 0)
    answer = app.call(
        "ChangeMessageVisibilityBatch",
        QueueUrl=fifo,
        Entries=[
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 60}
            for number, message in enumerate([first, visible, again])
        ],
    )

    assert [each["Id"] for each in answer["Successful"]] == ["2"]
    assert {each["Id"]: (each["Code"], each["Message"]) for each in answer["Failed"]} == {
        "0": ("InvalidParameterValue", EXPIRED.format(first["ReceiptHandle"])),
        "1": ("AWS.SimpleQueueService.MessageNotInflight", "The specified message isn't in flight."),
    }


def test_a_fifo_queue_with_too_many_in_flight_gives_nothing_and_no_error(app: AppDriver, fifo: str) -> None:
    limit_in_flight(app, 2)
    for body in ("a", "b", "c"):
        send_fifo(app, fifo, body, MessageGroupId=body)

    assert bodies(receive(app, fifo)) == ["a", "b"]
    assert receive(app, fifo) == []
