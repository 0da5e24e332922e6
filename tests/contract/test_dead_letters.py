"""Messages that are received too often, as clients of both protocols meet them again."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.contract.receiving import receive
from tests.server import Server, arn, eventually

NewQueue = Callable[..., str]

look = partial(receive, VisibilityTimeout=0)
"""Receives, and leaves what it gets for the next."""


def policy(target: str, count: int = 1) -> str:
    return json.dumps({"deadLetterTargetArn": arn(target), "maxReceiveCount": count})


def counts(sqs: Any, queue: str) -> tuple[str, str]:
    """Visible, and in flight."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    shown = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return shown[names[0]], shown[names[1]]


@pytest.fixture
def letters(new_queue: NewQueue) -> str:
    """The URL of a dead-letter queue."""
    return new_queue()


@pytest.fixture
def orders(new_queue: NewQueue, letters: str) -> str:
    """The URL of a queue whose messages are received once."""
    return new_queue(RedrivePolicy=policy(letters))


def test_a_message_moves_on_the_receive_that_would_exceed_its_limit_and_not_before(
    sqs: Any, new_queue: NewQueue, letters: str
) -> None:
    orders = new_queue(RedrivePolicy=policy(letters, 2))
    sqs.send_message(QueueUrl=orders, MessageBody="poison")
    for count in ("1", "2"):
        [message] = look(sqs, orders)
        assert message["Attributes"]["ApproximateReceiveCount"] == count
    assert look(sqs, letters) == []

    assert look(sqs, orders) == []
    assert len(look(sqs, letters, WaitTimeSeconds=10)) == 1
    eventually(lambda: counts(sqs, orders) == ("0", "0"))


def test_a_dead_letter_keeps_its_id_contents_age_and_receive_count_and_gains_its_source(
    sqs: Any, orders: str, letters: str
) -> None:
    sent = sqs.send_message(
        QueueUrl=orders,
        MessageBody="poison ☠",
        MessageAttributes={
            "colour": {"DataType": "String", "StringValue": "red"},
            "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        },
        MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988"}},
    )
    [before] = look(sqs, orders)
    assert "DeadLetterQueueSourceArn" not in before["Attributes"]
    assert look(sqs, orders) == []
    [after] = look(sqs, letters, WaitTimeSeconds=10)

    assert after["MessageId"] == sent["MessageId"]
    for name in ("Body", "MD5OfBody", "MessageAttributes", "MD5OfMessageAttributes"):
        assert after[name] == before[name]
    known, shown = before["Attributes"], after["Attributes"]
    for name in ("SentTimestamp", "SenderId", "AWSTraceHeader"):
        assert shown[name] == known[name]
    assert shown["ApproximateReceiveCount"] == "2"
    assert shown["DeadLetterQueueSourceArn"] == arn(orders)


def test_the_source_of_a_dead_letter_is_shown_when_it_is_asked_for_by_name(
    sqs: Any, orders: str, letters: str
) -> None:
    sqs.send_message(QueueUrl=orders, MessageBody="poison")
    look(sqs, orders)
    look(sqs, orders)

    answer = sqs.receive_message(
        QueueUrl=letters, WaitTimeSeconds=10, AttributeNames=["DeadLetterQueueSourceArn"]
    )
    [message] = answer["Messages"]
    assert message["Attributes"] == {"DeadLetterQueueSourceArn": arn(orders)}


def test_a_receive_gets_what_lives_and_leaves_out_what_is_dead(sqs: Any, orders: str, letters: str) -> None:
    sqs.send_message(QueueUrl=orders, MessageBody="dead")
    look(sqs, orders)
    sqs.send_message(QueueUrl=orders, MessageBody="alive")

    assert [message["Body"] for message in look(sqs, orders)] == ["alive"]
    assert [message["Body"] for message in look(sqs, letters, WaitTimeSeconds=10)] == ["dead"]


def test_a_long_poll_that_meets_only_dead_messages_waits_on_for_one_that_lives(
    server: Server, sqs: Any, orders: str, letters: str
) -> None:
    sqs.send_message(QueueUrl=orders, MessageBody="dead")
    look(sqs, orders)
    with ThreadPoolExecutor(1) as thread:
        polling = thread.submit(look, sqs, orders, WaitTimeSeconds=20)
        assert [message["Body"] for message in look(server.client(), letters, WaitTimeSeconds=10)] == ["dead"]
        assert not polling.done()

        sqs.send_message(QueueUrl=orders, MessageBody="alive")
        assert [message["Body"] for message in polling.result()] == ["alive"]


def test_a_long_poll_on_a_dead_letter_queue_is_answered_when_a_message_comes(
    sqs: Any, orders: str, letters: str
) -> None:
    sqs.send_message(QueueUrl=orders, MessageBody="dead")
    look(sqs, orders)
    with ThreadPoolExecutor(1) as thread:
        polling = thread.submit(look, sqs, letters, WaitTimeSeconds=20)
        assert look(sqs, orders) == []

        assert [message["Body"] for message in polling.result()] == ["dead"]


def test_an_old_handle_neither_deletes_nor_changes_a_message_that_has_moved(
    sqs: Any, orders: str, letters: str
) -> None:
    sqs.send_message(QueueUrl=orders, MessageBody="poison")
    [message] = look(sqs, orders)
    look(sqs, orders)
    assert len(look(sqs, letters, WaitTimeSeconds=10)) == 1

    sqs.delete_message(QueueUrl=orders, ReceiptHandle=message["ReceiptHandle"])
    with pytest.raises(sqs.exceptions.ClientError, match="InvalidParameterValue"):
        sqs.change_message_visibility(
            QueueUrl=orders, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        )
    assert len(look(sqs, letters)) == 1


def test_without_its_policy_a_queue_keeps_its_messages(sqs: Any, orders: str, letters: str) -> None:
    sqs.send_message(QueueUrl=orders, MessageBody="poison")
    look(sqs, orders)
    sqs.set_queue_attributes(QueueUrl=orders, Attributes={"RedrivePolicy": ""})

    assert len(look(sqs, orders)) == 1
    assert counts(sqs, letters) == ("0", "0")


def test_a_message_keeps_its_id_through_two_dead_letter_queues(
    sqs: Any, new_queue: NewQueue, letters: str
) -> None:
    middle = new_queue(RedrivePolicy=policy(letters, 2))
    orders = new_queue(RedrivePolicy=policy(middle))
    message_id = sqs.send_message(QueueUrl=orders, MessageBody="poison")["MessageId"]
    look(sqs, orders)
    look(sqs, orders)
    assert [message["MessageId"] for message in look(sqs, middle, WaitTimeSeconds=10)] == [message_id]
    look(sqs, middle)

    [message] = look(sqs, letters, WaitTimeSeconds=10)
    assert message["MessageId"] == message_id
    assert message["Attributes"]["DeadLetterQueueSourceArn"] == arn(middle)


def test_many_dead_letters_all_arrive_once(sqs: Any, orders: str, letters: str) -> None:
    ids = set()
    for batch in range(20):
        entries = [{"Id": str(each), "MessageBody": f"poison {batch} {each}"} for each in range(10)]
        answer = sqs.send_message_batch(QueueUrl=orders, Entries=entries)
        ids |= {sent["MessageId"] for sent in answer["Successful"]}
    while look(sqs, orders):
        pass
    found: list[str] = []
    while messages := receive(sqs, letters, VisibilityTimeout=600, WaitTimeSeconds=1):
        found += [message["MessageId"] for message in messages]

    assert sorted(found) == sorted(ids)
    assert len(found) == 200
