"""Damaged storage is noticed, named and refused, and never served."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError

from tests.server import Server, eventually, running

MESSAGES = 40
BODY_BYTES = 20_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Without a cache, so that every message is read from the log when it is received."""
    with running(tmp_path / "data", "--backend.cache-bytes", "1") as server:
        yield server


def body_of(number: int) -> str:
    return f"<message {number:04}>" + "x" * BODY_BYTES


def fill(server: Server) -> str:
    """Send the messages; returns the queue's URL."""
    sqs = server.client()
    queue: str = sqs.create_queue(QueueName="orders")["QueueUrl"]
    for number in range(MESSAGES):
        sqs.send_message(QueueUrl=queue, MessageBody=body_of(number))
    return queue


def flip_a_byte(file: Path, number: int) -> None:
    """Damage a message's body, as a bad disk would; also where the file has a stale copy of it."""
    content = file.read_bytes()
    places = [found.start() for found in re.finditer(f"<message {number:04}>".encode(), content)]
    assert places
    with file.open("r+b") as stream:
        for place in places:
            stream.seek(place + 1)
            stream.write(b"M")


def test_a_damaged_record_is_named_by_the_next_start_which_refuses(server: Server) -> None:
    fill(server)
    server.stop()
    file = server.data_dir / "shard-000.db"
    flip_a_byte(file, number=25)

    code, said = server.fail_to_start()
    assert code == 1
    [line] = said.splitlines()
    assert line.startswith("waystation: cannot start: ")
    assert "does not match its checksum" in line
    assert str(file) in line
    assert "record " in line


def test_a_repaired_file_is_served_again(server: Server) -> None:
    """Refusing changes nothing, so a restored copy of the file is all it takes."""
    queue = fill(server)
    server.stop()
    file = server.data_dir / "shard-000.db"
    copy = file.read_bytes()
    flip_a_byte(file, number=25)
    assert server.fail_to_start()[0] == 1

    file.write_bytes(copy)
    server.start()
    assert len(receive_all(server, queue)) == MESSAGES


def test_a_record_damaged_while_the_server_runs_is_refused_and_the_node_says_so(server: Server) -> None:
    queue = fill(server)
    server.stop()
    server.start()  # nothing of the messages is in memory now
    flip_a_byte(server.data_dir / "shard-000.db", MESSAGES // 2)

    bodies = receive_all(server, queue)

    assert len(bodies) < MESSAGES
    assert set(bodies) <= {body_of(number) for number in range(MESSAGES) if number != MESSAGES // 2}
    eventually(lambda: health(server) == 503)  # once the shard has put down what it was doing
    assert re.search(r"record \d+ does not match its checksum", server.log.read_text())


def health(server: Server) -> int:
    try:
        with urlopen(f"{server.url}/health") as answer:
            status: int = answer.status
            return status
    except HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize("number", [0, MESSAGES - 1])
def test_whatever_is_damaged_a_body_is_served_as_it_was_sent_or_not_at_all(
    server: Server, number: int
) -> None:
    """Not at all, or from a copy that SQLite has in memory, such as that of the last record."""
    queue = fill(server)
    server.stop()
    server.start()
    flip_a_byte(server.data_dir / "shard-000.db", number)

    assert set(receive_all(server, queue)) <= {body_of(number) for number in range(MESSAGES)}


def receive_all(server: Server, queue: str) -> list[str]:
    """Every body that can be received, until there is none or the server refuses."""
    sqs: Any = server.client()
    bodies: list[str] = []
    refusals: list[int] = []

    def step() -> bool:
        try:
            messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=3).get("Messages", [])
        except ClientError as error:
            refusals.append(error.response["ResponseMetadata"]["HTTPStatusCode"])
            return True
        bodies.extend(message["Body"] for message in messages)
        return not messages

    eventually(step, every_s=0)
    assert refusals in ([], [503])
    return bodies
