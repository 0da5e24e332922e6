"""A server that is asked to stop answers first what it has been asked."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.server import Server, eventually, running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "data", "--no-auth") as server:
        yield server


@pytest.fixture
def queue(server: Server) -> str:
    url: str = server.client().create_queue(QueueName="orders")["QueueUrl"]
    return url


class Connection:
    """One whose every byte the test decides on. The server knows it: it has answered a request."""

    def __init__(self, server: Server) -> None:
        parts = urlsplit(server.url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=20)
        self.send("ListQueues", {})
        assert self.answer()[0] == 200

    def send(self, operation: str, members: dict[str, Any], *, hold_back: int = 0) -> bytes:
        """Send a request but for its last bytes; returns those."""
        body = json.dumps(members).encode()
        head = (
            f"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AmazonSQS.{operation}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        request = head.encode() + body
        cut = len(request) - hold_back
        self.socket.sendall(request[:cut])
        return request[cut:]

    def answer(self) -> tuple[int, Any, str | None]:
        """Status, body and the `Connection` header."""
        with HTTPResponse(self.socket) as response:
            response.begin()
            body = response.read()
            return response.status, json.loads(body or b"{}"), response.getheader("Connection")


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[[], Connection]]:
    """Opens connections, which are closed after the test."""
    with ExitStack() as stack:

        def open_one() -> Connection:
            connection = Connection(server)
            stack.enter_context(connection.socket)
            return connection

        yield open_one


def listens(server: Server) -> bool:
    parts = urlsplit(server.url)
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname, parts.port)) == 0


def test_waiting_long_polls_are_answered_at_once_with_nothing(
    server: Server, queue: str, connect: Callable[[], Connection]
) -> None:
    polls = [connect() for _ in range(5)]
    for poll in polls:
        poll.send("ReceiveMessage", {"QueueUrl": queue, "WaitTimeSeconds": 20})
    server.client().list_queues()  # came after the polls, so they have been read

    began = time.monotonic()
    server.ask_to_stop()
    answers = [poll.answer() for poll in polls]
    assert answers == [(200, {}, "close")] * 5
    assert server.exit_code() == 0
    assert time.monotonic() - began < 5


def test_a_send_that_has_begun_is_answered_and_kept(
    server: Server, queue: str, connect: Callable[[], Connection]
) -> None:
    connection = connect()
    rest = connection.send("SendMessage", {"QueueUrl": queue, "MessageBody": "kept"}, hold_back=10)
    server.client().list_queues()

    server.ask_to_stop()
    eventually(lambda: not listens(server))
    connection.socket.sendall(rest)
    status, _, persistence = connection.answer()
    assert (status, persistence) == (200, "close")
    assert server.exit_code() == 0

    server.start()
    [message] = server.client().receive_message(QueueUrl=queue)["Messages"]
    assert message["Body"] == "kept"


def test_every_send_that_was_answered_during_a_stop_is_kept(server: Server, queue: str) -> None:
    sqs = server.client()

    def send_until_it_stops(sender: int) -> set[str]:
        sent: set[str] = set()
        try:
            while True:
                body = f"{sender}-{len(sent)}"
                sqs.send_message(QueueUrl=queue, MessageBody=body)
                sent.add(body)
        except (BotoCoreError, ClientError):
            return sent

    with ThreadPoolExecutor() as pool:
        senders = [pool.submit(send_until_it_stops, number) for number in range(4)]
        stopper = pool.submit(stop_once_busy, server, queue)
        sent = set.union(*(sender.result() for sender in senders))
        stopper.result()

    server.start()
    received: set[str] = set()
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        received.update(message["Body"] for message in messages)
    assert len(sent) >= 100
    # One send of each may have been done and not answered.
    assert sent <= received
    assert len(received - sent) <= 4


def stop_once_busy(server: Server, queue: str) -> None:
    sqs = server.client()
    names = ["ApproximateNumberOfMessages"]
    while int(sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"][names[0]]) < 100:
        pass
    server.stop()


def test_a_server_that_nobody_talks_to_stops_at_once(
    server: Server, connect: Callable[[], Connection]
) -> None:
    idle = connect()

    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 5
    assert idle.socket.recv(1) == b""
