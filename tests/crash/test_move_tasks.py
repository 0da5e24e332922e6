"""A server that is killed while a task moves messages goes on with it, and each is in one place, once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.server import Server, arn, eventually, running

KILLS = 8
MESSAGES = 600
GROUPS = 7
RATE = 150
FLAGS = ("--backend.shards", "2", "--backend.snapshot-events", "100")


@pytest.mark.parametrize("suffix", ["", ".fifo"])
def test_a_move_goes_on_through_kills_and_each_message_is_in_one_place(tmp_path: Path, suffix: str) -> None:
    random = Random(11)
    with running(tmp_path / "data", *FLAGS) as server:
        sqs = server.client()
        letters, other = set_up(sqs, suffix)
        sent = send(sqs, letters, suffix)
        start(sqs, letters, other)
        for _ in range(KILLS):
            kill_when_some_have_moved(server, sqs, other, random.randint(1, 60))
            assert newest(sqs, letters)["Status"] == "RUNNING"
        eventually(lambda: newest(sqs, letters)["Status"] == "COMPLETED")

        assert total(sqs, letters) == 0
        found = drain(sqs, other)
        assert sorted(found) == sorted(sent)
        if suffix:
            assert by_group(found) == by_group(sent), "the order was lost on the way"
        server.stop()


def test_a_task_that_was_cancelled_before_a_kill_leaves_each_message_in_one_place(tmp_path: Path) -> None:
    with running(tmp_path / "data", *FLAGS) as server:
        sqs = server.client()
        letters, other = set_up(sqs)
        sent = send(sqs, letters)
        handle = start(sqs, letters, other)
        eventually(lambda: total(sqs, other) > 50, every_s=0.001)
        sqs.cancel_message_move_task(TaskHandle=handle)
        server.kill()
        server.start()
        eventually(lambda: newest(sqs, letters)["Status"] == "CANCELLED")

        left = drain(sqs, letters)
        assert left
        assert Counter(drain(sqs, other) + left) == Counter(sent)
        server.stop()


def set_up(sqs: Any, suffix: str = "") -> tuple[str, str]:
    """A dead-letter queue, and another in the other shard; returns their URLs."""
    fifo = {"FifoQueue": "true", "ContentBasedDeduplication": "true"} if suffix else {}
    letters = sqs.create_queue(QueueName=f"letters{suffix}", Attributes=fifo)["QueueUrl"]
    policy = json.dumps({"deadLetterTargetArn": arn(letters), "maxReceiveCount": 1})
    sqs.create_queue(QueueName=f"orders{suffix}", Attributes={**fifo, "RedrivePolicy": policy})
    other: str = sqs.create_queue(QueueName=f"others{suffix}", Attributes=fifo)["QueueUrl"]
    return letters, other


def send(sqs: Any, queue: str, suffix: str = "") -> list[str]:
    """Send some hundred messages; returns their bodies."""
    bodies = [f"{number % GROUPS} {number:04}" for number in range(MESSAGES)]
    for first in range(0, MESSAGES, 10):
        entries = [
            {"Id": body[2:], "MessageBody": body, **({"MessageGroupId": body[0]} if suffix else {})}
            for body in bodies[first : first + 10]
        ]
        assert len(sqs.send_message_batch(QueueUrl=queue, Entries=entries)["Successful"]) == 10
    return bodies


def by_group(bodies: list[str]) -> dict[str, list[str]]:
    return {str(group): [body for body in bodies if body[0] == str(group)] for group in range(GROUPS)}


def start(sqs: Any, source: str, destination: str) -> str:
    handle: str = sqs.start_message_move_task(
        SourceArn=arn(source), DestinationArn=arn(destination), MaxNumberOfMessagesPerSecond=RATE
    )["TaskHandle"]
    return handle


def kill_when_some_have_moved(server: Server, sqs: Any, queue: str, more: int) -> None:
    goal = total(sqs, queue) + more
    eventually(lambda: total(sqs, queue) >= goal, every_s=0.001)
    server.kill()
    server.start()


def newest(sqs: Any, source: str) -> dict[str, Any]:
    [task] = sqs.list_message_move_tasks(SourceArn=arn(source))["Results"]
    found: dict[str, Any] = task
    return found


def total(sqs: Any, queue: str) -> int:
    """Messages in a queue, visible or not."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    shown = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return sum(map(int, shown.values()))


def drain(sqs: Any, queue: str) -> list[str]:
    """The bodies of all messages as they are received, once for each time that they are there."""
    found: list[str] = []
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1).get(
        "Messages"
    ):
        found += [message["Body"] for message in messages]
        entries = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
            for number, message in enumerate(messages)
        ]
        assert len(sqs.delete_message_batch(QueueUrl=queue, Entries=entries)["Successful"]) == len(messages)
    return found
