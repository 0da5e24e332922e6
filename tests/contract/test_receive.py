"""Receiving: how many, for how long hidden, and how a receive waits."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.contract.wire import refused


def send(sqs: Any, queue: str, count: int) -> None:
    for number in range(count):
        sqs.send_message(QueueUrl=queue, MessageBody=str(number))


def bodies(answer: Any) -> list[str]:
    return [message["Body"] for message in answer.get("Messages", [])]


def test_an_empty_queue_answers_a_short_poll_at_once_without_any_member(sqs: Any, queue: str) -> None:
    assert set(sqs.receive_message(QueueUrl=queue)) == {"ResponseMetadata"}


def test_a_receive_gives_one_message_unless_more_are_asked_for(sqs: Any, queue: str) -> None:
    send(sqs, queue, 12)

    assert bodies(sqs.receive_message(QueueUrl=queue)) == ["0"]
    assert bodies(sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)) == [*"123456789", "10"]
    assert bodies(sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)) == ["11"]


@pytest.mark.parametrize("number", [0, 11, -1, 2**31])
def test_1_to_10_messages_can_be_asked_for(sqs: Any, queue: str, number: int) -> None:
    with refused(
        "InvalidParameterValue",
        f"Value {number} for parameter MaxNumberOfMessages is invalid. "
        "Reason: Must be between 1 and 10, if provided.",
    ):
        sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=number)


@pytest.mark.parametrize("wait_s", [-1, 21])
def test_a_receive_waits_0_to_20_seconds(sqs: Any, queue: str, wait_s: int) -> None:
    with refused(
        "InvalidParameterValue",
        f"Value {wait_s} for parameter WaitTimeSeconds is invalid. "
        "Reason: Must be >= 0 and <= 20, if provided.",
    ):
        sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=wait_s)


@pytest.mark.parametrize("timeout_s", [-1, 43_201])
def test_a_receive_hides_for_0_to_43200_seconds(sqs: Any, queue: str, timeout_s: int) -> None:
    with refused("InvalidParameterValue"):
        sqs.receive_message(QueueUrl=queue, VisibilityTimeout=timeout_s)


def test_a_received_message_is_hidden_and_comes_back_after_its_timeout(sqs: Any, queue: str) -> None:
    send(sqs, queue, 1)
    how = {"QueueUrl": queue, "MessageSystemAttributeNames": ["All"]}
    [first] = sqs.receive_message(**how, VisibilityTimeout=1)["Messages"]
    assert "Messages" not in sqs.receive_message(**how)

    [second] = sqs.receive_message(**how, WaitTimeSeconds=20)["Messages"]

    assert second["MessageId"] == first["MessageId"]
    assert second["ReceiptHandle"] != first["ReceiptHandle"]
    counts = [each["Attributes"]["ApproximateReceiveCount"] for each in (first, second)]
    assert counts == ["1", "2"]
    for constant in ("SentTimestamp", "ApproximateFirstReceiveTimestamp"):
        assert first["Attributes"][constant] == second["Attributes"][constant]


def test_a_timeout_of_0_leaves_a_message_visible(sqs: Any, queue: str) -> None:
    send(sqs, queue, 1)

    for _ in range(3):
        assert bodies(sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0)) == ["0"]


def test_a_long_poll_is_answered_at_once_when_a_message_is_there(sqs: Any, queue: str) -> None:
    send(sqs, queue, 1)
    began = time.monotonic()

    assert bodies(sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=20)) == ["0"]
    assert time.monotonic() - began < 10


def test_a_long_poll_waits_its_time_and_then_answers_with_nothing(sqs: Any, queue: str) -> None:
    began = time.monotonic()

    assert "Messages" not in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1)
    assert 1.0 <= time.monotonic() - began < 10


def test_a_long_poll_wakes_when_a_message_is_sent(sqs: Any, queue: str) -> None:
    with ThreadPoolExecutor() as pool:
        began = time.monotonic()
        waiting = pool.submit(sqs.receive_message, QueueUrl=queue, WaitTimeSeconds=20)
        # Whichever comes first, the poll or the message: the poll must not wait for long.
        send(sqs, queue, 1)

        assert bodies(waiting.result()) == ["0"]
        assert time.monotonic() - began < 10


def test_a_long_poll_wakes_when_a_message_is_made_visible(sqs: Any, queue: str) -> None:
    send(sqs, queue, 1)
    [message] = sqs.receive_message(QueueUrl=queue, VisibilityTimeout=600)["Messages"]
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(sqs.receive_message, QueueUrl=queue, WaitTimeSeconds=20)
        sqs.change_message_visibility(
            QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        )

        assert bodies(waiting.result()) == ["0"]


def test_a_long_poll_ends_when_its_queue_is_deleted(sqs: Any, queue: str) -> None:
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(sqs.receive_message, QueueUrl=queue, WaitTimeSeconds=20)
        sqs.delete_queue(QueueUrl=queue)

        with refused("NonExistentQueue"):
            waiting.result(timeout=10)


def test_twenty_long_polls_share_twenty_messages(sqs: Any, queue: str) -> None:
    with ThreadPoolExecutor(20) as pool:
        polls = [pool.submit(sqs.receive_message, QueueUrl=queue, WaitTimeSeconds=20) for _ in range(20)]
        send(sqs, queue, 20)
        received = [body for poll in polls for body in bodies(poll.result())]

    assert sorted(received, key=int) == [str(number) for number in range(20)]
