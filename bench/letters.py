"""What it costs to move messages to another queue: dead letters, and a message move task."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.phases import empty_directory
from bench.processes import Server, cpu_s, waystation
from bench.stock_client import stock_client
from bench.tables import table

MESSAGES = 10_000
_WORKERS = 8
_LIMIT_S = 120.0


@dataclass(kw_only=True)
class Letters:
    """Messages a second, and the server's CPU for each, with that of watching what has arrived."""

    dead_per_s: float
    dead_cpu_us: float
    moved_per_s: float
    moved_cpu_us: float


def measure(data_dir: Path, messages: int = MESSAGES) -> Letters:
    """Fill a queue, let all of it die, and move all of it back; a task moves no more than 500 a second."""
    with empty_directory(data_dir / "letters") as directory, Server.run(*waystation(directory)) as server:
        return asyncio.run(_measure(server, messages))


async def _measure(server: Server, messages: int) -> Letters:
    async with stock_client(server.url) as client:
        letters = (await client.create_queue(QueueName="letters"))["QueueUrl"]
        name = "QueueArn"
        shown = await client.get_queue_attributes(QueueUrl=letters, AttributeNames=[name])
        arn = shown["Attributes"][name]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
        queue = (await client.create_queue(QueueName="orders", Attributes={"RedrivePolicy": policy}))[
            "QueueUrl"
        ]
        entries = [{"Id": str(at), "MessageBody": "x" * 256} for at in range(10)]
        for _ in range(messages // 10):
            await client.send_message_batch(QueueUrl=queue, Entries=entries)

        async def receive_until_dead() -> None:
            while await _count(client, letters) < messages:
                await client.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=0)

        dead_s, dead_cpu = await _timed(
            server, lambda: asyncio.gather(*(receive_until_dead() for _ in range(_WORKERS)))
        )

        async def move() -> None:
            await client.start_message_move_task(SourceArn=arn)
            while await _count(client, letters):  # noqa: ASYNC110
                await asyncio.sleep(0.1)

        moved_s, moved_cpu = await _timed(server, move)
    return Letters(
        dead_per_s=messages / dead_s,
        dead_cpu_us=dead_cpu / messages * 1e6,
        moved_per_s=messages / moved_s,
        moved_cpu_us=moved_cpu / messages * 1e6,
    )


async def _timed(server: Server, work: Callable[[], Awaitable[Any]]) -> tuple[float, float]:
    """Seconds, and seconds of the server's CPU."""
    began, cpu = time.monotonic(), cpu_s(server.pid)
    async with asyncio.timeout(_LIMIT_S):
        await work()
    return time.monotonic() - began, cpu_s(server.pid) - cpu


async def _count(client: Any, queue: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    shown = await client.get_queue_attributes(QueueUrl=queue, AttributeNames=names)
    return sum(int(shown["Attributes"][name]) for name in names)


def letters_table(letters: Letters) -> str:
    """What moving a message to another queue costs."""
    rows = [
        [
            "received once and then set aside, in tens",
            f"{letters.dead_per_s:,.0f}",
            f"{letters.dead_cpu_us:.0f}",
        ],
        ["moved by a task", f"{letters.moved_per_s:,.0f}", f"{letters.moved_cpu_us:.0f}"],
    ]
    return table(["dead letters", "messages/s", "server CPU µs/message"], rows)
