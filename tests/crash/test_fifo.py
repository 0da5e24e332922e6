"""A FIFO queue whose server is killed under load: each group in order, each message there once."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from random import Random
from threading import Event, Lock, Thread
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tests.server import Server, eventually, running

KILLS = 6
GROUPS = 4
CONSUMERS = 2
TIMEOUT_S = 3
"""Of visibility: as long as a kill may keep a group from being received."""
FLAGS = ("--backend.snapshot-events", "100")


class Story:
    """What clients were told, in the order in which they were told it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.sent: dict[str, list[str]] = defaultdict(list)
        """Ids of the accepted messages of each group."""
        self.first_received: dict[str, list[str]] = defaultdict(list)
        self.deleted: set[str] = set()
        self.wrong: list[str] = []

    def receive(self, message: dict[str, Any]) -> None:
        group, message_id = message["Attributes"]["MessageGroupId"], message["MessageId"]
        with self.lock:
            if message_id in self.deleted:
                self.wrong.append(f"{message['Body']} came back after it was deleted")
            elif message_id not in self.first_received[group]:
                self.first_received[group].append(message_id)

    @property
    def work_done(self) -> int:
        return len(self.deleted)


def produce(sqs: Any, queue: str, group: str, story: Story, over: Event) -> None:
    """Send one message after the other, each again and again until there is an answer."""
    number = 0
    while not over.is_set():
        with suppress(BotoCoreError, ClientError):
            sent = sqs.send_message(
                QueueUrl=queue,
                MessageBody=f"{group} {number}",
                MessageGroupId=group,
                MessageDeduplicationId=f"{group}-{number}",
            )
            story.sent[group].append(sent["MessageId"])
            number += 1


def consume(sqs: Any, queue: str, story: Story, over: Event) -> None:
    """Receive and delete; what fails is left to the visibility timeout."""
    while not over.is_set():
        with suppress(BotoCoreError, ClientError):
            step(sqs, queue, story)


def step(sqs: Any, queue: str, story: Story) -> bool:
    """One receive, and the deletes of what it got; whether that was anything."""
    answer = sqs.receive_message(
        QueueUrl=queue,
        MaxNumberOfMessages=10,
        VisibilityTimeout=TIMEOUT_S,
        WaitTimeSeconds=1,
        MessageSystemAttributeNames=["MessageGroupId"],
    )
    for message in answer.get("Messages", []):
        story.receive(message)
    for message in answer.get("Messages", []):
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        with story.lock:
            story.deleted.add(message["MessageId"])
    return bool(answer.get("Messages"))


def kill_and_restart(server: Server, story: Story, random: Random) -> None:
    goal = story.work_done + random.randint(20, 60)
    eventually(lambda: story.work_done >= goal, within_s=30, every_s=0.001)
    server.kill()
    server.start()


def test_each_group_is_received_in_order_and_each_message_once_through_six_kills(tmp_path: Path) -> None:
    """Producers that get no answer send again: the deduplication id, too, survives the kill."""
    story, random = Story(), Random(5)
    with running(tmp_path / "data", *FLAGS) as server:
        sqs = server.client(retries={"max_attempts": 0})
        queue = sqs.create_queue(QueueName="orders.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
        no_more, over = Event(), Event()
        producers = [
            Thread(target=produce, args=(sqs, queue, f"group-{number}", story, no_more))
            for number in range(GROUPS)
        ]
        consumers = [Thread(target=consume, args=(sqs, queue, story, over)) for _ in range(CONSUMERS)]
        for thread in (*producers, *consumers):
            thread.start()
        try:
            for _ in range(KILLS):
                kill_and_restart(server, story, random)
        finally:
            no_more.set()
            for thread in producers:
                thread.join(timeout=30)
            over.set()
            for thread in consumers:
                thread.join(timeout=30)
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

        def is_drained() -> bool:
            step(sqs, queue, story)
            counts = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
            return set(counts.values()) == {"0"}

        eventually(is_drained, within_s=60, every_s=0)
        assert story.wrong == []
        assert story.first_received == story.sent
        assert sum(map(len, story.sent.values())) > 20 * KILLS
        server.stop()
