"""A server that is killed while dead letters move loses none of them, and has none twice."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tests.server import Server, arn, eventually, running

ROUNDS = 10
BATCHES = 20
FLAGS = ("--backend.shards", "2", "--backend.snapshot-events", "100")


def test_each_dead_letter_is_in_one_place_through_ten_kills(tmp_path: Path) -> None:
    random = Random(7)
    with running(tmp_path / "data", *FLAGS) as server:
        sqs = server.client()
        letters = sqs.create_queue(QueueName="letters")["QueueUrl"]
        document = {"deadLetterTargetArn": arn("letters"), "maxReceiveCount": 1}
        attributes = {"RedrivePolicy": json.dumps(document)}
        orders = sqs.create_queue(QueueName="orders", Attributes=attributes)["QueueUrl"]
        sent: set[str] = set()
        interrupted = 0
        for _ in range(ROUNDS):
            sent |= send(sqs, orders)
            before = total(sqs, letters)
            goal = before + random.randint(1, 100)
            kill_while_they_move(server, sqs, orders, letters, goal)
            interrupted += total(sqs, orders) > 0
            assert total(sqs, letters) >= goal
        eventually(lambda: is_empty_after_a_poll(sqs, orders))
        found = drain(sqs, letters)

        assert set(found) == sent
        assert set(found.values()) == {1}
        assert interrupted > 2, "the kills have not met letters on their way"
        server.stop()


def send(sqs: Any, queue: str) -> set[str]:
    """Send some hundred messages; returns their ids."""
    entries = [{"Id": str(each), "MessageBody": "poison"} for each in range(10)]
    answers = [sqs.send_message_batch(QueueUrl=queue, Entries=entries) for _ in range(BATCHES)]
    return {sent["MessageId"] for answer in answers for sent in answer["Successful"]}


def poll(sqs: Any, queue: str) -> None:
    sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=0)


def kill_while_they_move(server: Server, sqs: Any, queue: str, letters: str, goal: int) -> None:
    """Each receive sets those aside that the last one got; the kill comes when so many have arrived."""
    over = Event()

    def consume() -> None:
        with suppress(ClientError, BotoCoreError):
            while not over.is_set():
                poll(sqs, queue)

    consumers = [Thread(target=consume, daemon=True) for _ in range(2)]
    for consumer in consumers:
        consumer.start()
    eventually(lambda: total(sqs, letters) >= goal, every_s=0.001)
    server.kill()
    over.set()
    for consumer in consumers:
        consumer.join(timeout=30)
    server.start()


def is_empty_after_a_poll(sqs: Any, queue: str) -> bool:
    poll(sqs, queue)
    return total(sqs, queue) == 0


def total(sqs: Any, queue: str) -> int:
    """Messages in a queue, visible or not."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    shown = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return sum(map(int, shown.values()))


def drain(sqs: Any, queue: str) -> Counter[str]:
    """How often each message is there, by its id."""
    found: Counter[str] = Counter()
    while messages := sqs.receive_message(
        QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=600, WaitTimeSeconds=1
    ).get("Messages"):
        found.update(message["MessageId"] for message in messages)
    return found
