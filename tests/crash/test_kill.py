"""A server that is killed at any moment keeps every promise that it has made."""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random, SystemRandom
from threading import Event
from typing import Any

from tests.crash.clients import Client, Receiver, Sender
from tests.crash.history import History
from tests.server import Server, eventually, running

KILLS = 20
SENDERS = 3
RECEIVERS = 4
HOUSEKEEPING = (
    # Often enough that many kills come in the middle of it.
    ("--backend.snapshot-events", "300"),
    ("--backend.idle-snapshot-s", "0.2"),
    ("--backend.garbage-bytes-max", "100000"),
    ("--log.checkpoint-bytes", "200000"),
    ("--log.vacuum-bytes", "100000"),
)


def test_acknowledged_is_durable_and_one_consumer_at_a_time_through_twenty_kills(tmp_path: Path) -> None:
    """The seed decides what clients ask and when the kills come; CRASH_SEED=… sets it."""
    seed = os.environ.get("CRASH_SEED") or str(SystemRandom().randrange(10**6))
    print(f"CRASH_SEED={seed}")
    history = History()
    with running(tmp_path / "data", *(word for flag in HOUSEKEEPING for word in flag)) as server:
        sqs = server.client()
        queue = sqs.create_queue(QueueName="orders")["QueueUrl"]
        up, over = Event(), Event()
        clients: list[Client] = [
            Sender(sqs, queue, history, f"{seed}/sender-{number}", up, over) for number in range(SENDERS)
        ] + [
            Receiver(sqs, queue, history, f"{seed}/receiver-{number}", up, over)
            for number in range(RECEIVERS)
        ]
        up.set()
        for client in clients:
            client.start()
        try:
            random = Random(seed)
            for _ in range(KILLS):
                kill_and_restart(server, history, random, up)
        finally:
            over.set()
            for client in clients:
                client.join(timeout=30)
        assert not any(client.is_alive() for client in clients)
        drain(sqs, queue, history, seed)

        print(history)
        assert [error for client in clients for error in client.errors] == []
        assert history.violations() == []
        # The kills have met a server at work.
        assert len(history.sent) > 10 * KILLS
        assert sum(delete.known for delete in history.deletes) > 10 * KILLS
        server.stop()


def kill_and_restart(server: Server, history: History, random: Random, up: Event) -> None:
    """Let clients do some work, kill the server at a random moment, and start it again."""
    goal = history.work_done + 20
    eventually(lambda: history.work_done >= goal)
    time.sleep(random.uniform(0, 0.6))  # the random moment
    up.clear()
    server.kill()
    server.start()
    up.set()


def drain(sqs: Any, queue: str, history: History, seed: str) -> None:
    """Receive and delete everything that is left, once what is hidden has shown itself."""
    up, over = Event(), Event()
    last = Receiver(sqs, queue, history, f"{seed}/last", up, over)
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

    def step() -> bool:
        received = last.receive(timeout_s=60, wait_s=1)
        history.drained.update(receive.message_id for receive, _ in received)
        last.delete(received)
        counts = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        return set(counts.values()) == {"0"}

    eventually(step, within_s=60, every_s=0)
    assert last.errors == []
