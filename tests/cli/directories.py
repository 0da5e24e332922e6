"""Data directories with something in them, and damage to it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.server import arn
from waystation.backend.settings import BackendSettings
from waystation.cli.node import Node
from waystation.cli.settings import Settings
from waystation.frontend.settings import AuthSettings, HttpSettings, ServiceSettings

Call = tuple[str, dict[str, Any]]
"""An operation and its members."""

ORDERS_SHARD, LETTERS_SHARD = 0, 1
"""Of two."""
MESSAGES = 30


def fill(data_dir: Path, calls: Iterable[Call], *, auth: bool = False) -> None:
    """Run a node of two shards on a directory, make the calls one after another, and stop it."""
    settings = Settings(
        data_dir=data_dir,
        http=HttpSettings(port=0),
        auth=AuthSettings(enabled=auth),
        service=ServiceSettings(name_reuse_s=0),
        backend=BackendSettings(shards=2),
    )

    async def scenario() -> None:
        node = Node(settings)
        try:
            await node.start()
            for operation, members in calls:
                await _call(node, operation, members)
        finally:
            await node.stop()

    asyncio.run(scenario())


async def _call(node: Node, operation: str, members: dict[str, Any]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    body = json.dumps(members)
    writer.write(
        f"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AmazonSQS.{operation}\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    answer = (await reader.read()).decode()
    writer.close()
    assert answer.startswith("HTTP/1.1 200 "), answer


def send(queue: str, *bodies: str) -> list[Call]:
    """One record for each message."""
    return [("SendMessage", {"QueueUrl": queue, "MessageBody": body}) for body in bodies]


def create(queue: str, **attributes: str) -> Call:
    """The call that creates a queue."""
    return "CreateQueue", {"QueueName": queue, "Attributes": attributes}


def with_orders(data_dir: Path) -> None:
    """A queue in the first shard, with messages visible, in flight and delayed; its letters in the other."""
    policy = json.dumps({"deadLetterTargetArn": arn("letters"), "maxReceiveCount": 5})
    calls: list[Call] = [create("letters"), create("orders", RedrivePolicy=policy)]
    calls += send("orders", *(f"<message {number:04}>" for number in range(MESSAGES)))
    calls.append(("ReceiveMessage", {"QueueUrl": "orders", "MaxNumberOfMessages": 10}))
    calls.append(("SendMessage", {"QueueUrl": "orders", "MessageBody": "later", "DelaySeconds": 900}))
    fill(data_dir, calls)


def change(file: Path, sql: str, *values: object) -> None:
    """Change a database by hand."""
    with closing(sqlite3.connect(file)) as db, db:
        assert db.execute(sql, values).rowcount > 0


def value(file: Path, sql: str) -> Any:
    """The first column of the first row."""
    with closing(sqlite3.connect(file)) as db:
        return db.execute(sql).fetchone()[0]


def fingerprints(directory: Path) -> dict[str, str]:
    """A digest of each file, but for those that SQLite makes to read another."""
    files = [path for path in directory.iterdir() if not path.name.endswith("-shm")]
    contents = {path.name: path.read_bytes() for path in files}
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items() if content}
