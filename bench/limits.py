"""What the parts can do by themselves: the limits that the whole is compared with.

    python -m bench.limits http                  serves a constant over our HTTP class until stopped
    python -m bench.limits log DIRECTORY SECONDS prints, as JSON, the speed of group commits alone
    python -m bench.limits disk DIRECTORY SECONDS prints, as JSON, the speed of the disk alone

Each runs in a process of its own, as the server does, so that CPU is read in the same way.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time

import uvloop

from waystation.frontend.http import HttpServer, Request, Response
from waystation.frontend.settings import HttpSettings
from waystation.log.sqlite import SqliteLog

MESSAGE_BYTES = 300
"""Of one message in the log: a body of 256 bytes and what is kept with it."""

MESSAGES_PER_RECORD = (1, 16, 64)
"""A lone client; about half of 32 connections in one commit; batches."""

_ANSWER = json.dumps(
    {
        "MessageId": "8f2c3a04-9d9e-4a46-8d0a-3a0f6c1ff2bb",
        "MD5OfMessageBody": "7bc8563a7ac1d1f1b4c6d2a3e2d0f9ab",
    }
).encode()


@dataclass(frozen=True, kw_only=True)
class CommitSpeed:
    """Of one commit after the other, by one writer."""

    messages: int
    """In one commit; 0 for the disk alone."""
    commits_per_s: float
    cpu_us_per_commit: float
    """User and system time of all threads."""


async def serve_constant() -> None:
    """Answer everything with what SendMessage answers, without looking at it."""
    answer = Response(200, _ANSWER, "application/x-amz-json-1.0")

    async def handle(request: Request) -> Response:
        return answer

    server = HttpServer(HttpSettings(port=0), handle)
    await server.start()
    print(f"listening on http://127.0.0.1:{server.port}", flush=True)
    await asyncio.Event().wait()


async def log_speeds(directory: Path, seconds: float) -> list[CommitSpeed]:
    """Append records of several sizes, each size to a new log."""
    speeds = []
    for messages in MESSAGES_PER_RECORD:
        log = SqliteLog(directory / f"records-of-{messages}.db")
        await log.open()
        payload = os.urandom(messages * MESSAGE_BYTES)
        began, cpu_began, commits = perf_counter(), process_time(), 0
        while perf_counter() - began < seconds:
            await log.append(payload)
            commits += 1
        speeds.append(_speed(messages, commits, perf_counter() - began, process_time() - cpu_began))
        await log.close()
    return speeds


def disk_speed(directory: Path, seconds: float) -> CommitSpeed:
    """Append a page to a file and `fdatasync` it: no durable commit can be faster."""
    page = os.urandom(4_096)
    with (directory / "pages").open("wb", buffering=0) as file:
        began, cpu_began, commits = perf_counter(), process_time(), 0
        while perf_counter() - began < seconds:
            file.write(page)
            os.fdatasync(file.fileno())
            commits += 1
        return _speed(0, commits, perf_counter() - began, process_time() - cpu_began)


def _speed(messages: int, commits: int, seconds: float, cpu: float) -> CommitSpeed:
    return CommitSpeed(
        messages=messages, commits_per_s=commits / seconds, cpu_us_per_commit=cpu / commits * 1e6
    )


def main() -> None:
    match sys.argv[1:]:
        case ["http"]:
            uvloop.run(serve_constant())
        case ["log", directory, seconds]:
            speeds = uvloop.run(log_speeds(Path(directory), float(seconds)))
            print(json.dumps([asdict(speed) for speed in speeds]))
        case ["disk", directory, seconds]:
            print(json.dumps([asdict(disk_speed(Path(directory), float(seconds)))]))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
