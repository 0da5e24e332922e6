"""Senders and receivers that outlive the server, and write down what it told them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from threading import Event, Thread
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from tests.crash.history import Change, Delete, History, Receive

WAITING_MAX = 1_500
"""Senders pause while this many messages are in the queue, or the end would take long."""


class Client(Thread, ABC):
    """Repeats `act` until `over`. Calls are never repeated by themselves: what is unknown is written down.

    `up` says when the server runs; `errors` gets what no server may ever answer.
    """

    def __init__(self, sqs: Any, queue: str, history: History, seed: str, up: Event, over: Event) -> None:
        super().__init__(name=seed, daemon=True)
        self.sqs = sqs
        self.queue = queue
        self.history = history
        self.random = Random(seed)
        self.up = up
        self.over = over
        self.errors: list[str] = []

    def run(self) -> None:
        try:
            while not self.over.is_set():
                self.act()
        except BaseException as error:
            self.errors.append(f"{self.name}: {error!r}")
            raise

    @abstractmethod
    def act(self) -> None:
        """One step of its work."""

    @contextmanager
    def attempt(self) -> Iterator[Attempt]:
        """One request: says afterwards whether it has succeeded, failed, or nobody knows."""
        attempt = Attempt()
        try:
            yield attempt
            attempt.succeeded = True
        except EndpointConnectionError:
            self._wait()  # nobody was there to hear it
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            attempt.unknown = status >= 500
            is_race = "available for visibility timeout change" in str(error)
            if status < 500 and not is_race:
                self.errors.append(f"{self.name}: {error}")
        except BotoCoreError:
            attempt.unknown = True
            self._wait()
        attempt.ended_s = time.monotonic()

    def _wait(self) -> None:
        while not self.over.is_set() and not self.up.wait(0.1):
            pass


class Attempt:
    """How one request went. Neither succeeded nor unknown: it has not happened."""

    def __init__(self) -> None:
        self.began_s = self.ended_s = time.monotonic()
        self.succeeded = False
        self.unknown = False


class Sender(Client):
    """Sends messages with bodies of its own, singly and in batches."""

    number = 0

    def act(self) -> None:
        history = self.history
        if len(history.sent) - len(history.deletes) > WAITING_MAX:
            self.over.wait(0.01)
        elif self.random.random() < 0.5:
            self.send_one()
        else:
            self.send_batch(self.random.randint(1, 10))

    def new_body(self) -> str:
        self.number += 1
        return f"{self.name}/{self.number}/" + "x" * self.random.choice([0, 200, 5_000])

    def send_one(self) -> None:
        body = self.new_body()
        with self.attempt() as attempt:
            sent = self.sqs.send_message(QueueUrl=self.queue, MessageBody=body)
            self.history.sent[body] = sent["MessageId"]
        if attempt.unknown:
            self.history.maybe_sent.add(body)

    def send_batch(self, size: int) -> None:
        bodies = {str(index): self.new_body() for index in range(size)}
        entries = [{"Id": index, "MessageBody": body} for index, body in bodies.items()]
        with self.attempt() as attempt:
            answer = self.sqs.send_message_batch(QueueUrl=self.queue, Entries=entries)
            for sent in answer["Successful"]:
                self.history.sent[bodies[sent["Id"]]] = sent["MessageId"]
        if attempt.unknown:
            self.history.maybe_sent.update(bodies.values())


class Receiver(Client):
    """Receives; then deletes, delays, gives back or forgets what it got."""

    def act(self) -> None:
        timeout_s = self.random.choice([1, 2, 3])
        received = self.receive(timeout_s, wait_s=self.random.choice([0, 1]))
        to_delete = []
        for receive, handle in received:
            what = self.random.random()
            if what < 0.65:
                to_delete.append((receive, handle))
            elif what < 0.85:
                self.change(receive, handle)
        self.delete(to_delete)

    def receive(self, timeout_s: int, wait_s: int) -> list[tuple[Receive, str]]:
        received: list[tuple[Receive, str]] = []
        with self.attempt() as attempt:
            answer = self.sqs.receive_message(
                QueueUrl=self.queue,
                MaxNumberOfMessages=self.random.choice([1, 10, 10]),
                VisibilityTimeout=timeout_s,
                WaitTimeSeconds=wait_s,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
            ended_s = time.monotonic()
            for message in answer.get("Messages", []):
                count = int(message["Attributes"]["ApproximateReceiveCount"])
                receive = Receive(
                    message["MessageId"], message["Body"], count, attempt.began_s, ended_s, timeout_s
                )
                self.history.receives.append(receive)
                received.append((receive, message["ReceiptHandle"]))
        return received

    def change(self, receive: Receive, handle: str) -> None:
        timeout_s = self.random.choice([0, 1, 4])
        with self.attempt() as attempt:
            self.sqs.change_message_visibility(
                QueueUrl=self.queue, ReceiptHandle=handle, VisibilityTimeout=timeout_s
            )
        if attempt.succeeded or attempt.unknown:
            change = Change(attempt.began_s, attempt.ended_s, timeout_s, attempt.succeeded)
            receive.changes.append(change)

    def delete(self, received: list[tuple[Receive, str]]) -> None:
        if len(received) == 1 or self.random.random() < 0.2:
            for receive, handle in received:
                with self.attempt() as attempt:
                    self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=handle)
                self.note(attempt, [receive.message_id])
        elif received:
            entries = [
                {"Id": str(index), "ReceiptHandle": handle} for index, (_, handle) in enumerate(received)
            ]
            with self.attempt() as attempt:
                answer = self.sqs.delete_message_batch(QueueUrl=self.queue, Entries=entries)
                assert len(answer["Successful"]) == len(entries), answer
            self.note(attempt, [receive.message_id for receive, _ in received])

    def note(self, attempt: Attempt, message_ids: list[str]) -> None:
        if attempt.succeeded or attempt.unknown:
            for message_id in message_ids:
                self.history.deletes.append(Delete(message_id, attempt.ended_s, attempt.succeeded))
