"""A closed loop for clients that pipeline: each connection keeps a window of messages on their way.

What is measured is the same for every peer: the window begins when all connections are open, and ends
with the last message asked for; CPU of the servers is read at both ends, as is the client's own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import urandom
from time import perf_counter, process_time
from typing import Protocol

import uvloop

from bench.processes import cpu_s

TIMEOUT_S = 120


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a peer's client is to do, by `--flag`s of the same names."""

    mode: str
    """`send`, or `receive`, which deletes as well."""
    queue: str
    addresses: list[str]
    """Of the servers, over which connections are spread."""
    pids: list[int]
    """Of the servers."""
    window: int
    connections: int
    messages: int
    body_bytes: int


@dataclass(frozen=True, kw_only=True)
class Done:
    """What was seen. Latency of a send is that of its window: until all of it was acknowledged."""

    messages: int
    seconds: float
    server_cpu_s: dict[int, float]
    """By process."""
    client_cpu_s: float
    p50_ms: float
    p99_ms: float


class Connection(Protocol):
    """One connection of a client. It is opened before it is given here."""

    async def send(self, bodies: Sequence[bytes]) -> None:
        """Return when all of them are acknowledged."""

    async def receive(self, most: int) -> int:
        """Wait for messages, delete them, return how many there were."""


async def measure(connections: Sequence[Connection], job: Job) -> Done:
    """Run the job on open connections. Raises `TimeoutError`, or what a connection raised."""
    done, number, windows = 0, 0, []
    filler = urandom(job.body_bytes // 2).hex().encode()

    async def work(connection: Connection) -> None:
        nonlocal done, number
        while done < job.messages:
            began = perf_counter()
            if job.mode == "send":
                # No two bodies are the same.
                bodies = [b"%012d%b" % (number + i, filler[12:]) for i in range(job.window)]
                number += job.window
                await connection.send(bodies)
                done += job.window
            else:
                received = await connection.receive(job.window)
                done += received  # in a line of its own: others have added to it meanwhile
            windows.append(perf_counter() - began)

    before, client_before, began = [cpu_s(pid) for pid in job.pids], process_time(), perf_counter()
    working = {asyncio.create_task(work(each)) for each in connections}
    async with asyncio.timeout(TIMEOUT_S):
        # Receivers whose messages others have got would wait for ever; the first to end tells of the end.
        ended, others = await asyncio.wait(
            working,
            return_when=asyncio.ALL_COMPLETED if job.mode == "send" else asyncio.FIRST_COMPLETED,
        )
    seconds, client_s = perf_counter() - began, process_time() - client_before
    used = {pid: cpu_s(pid) - then for pid, then in zip(job.pids, before, strict=True)}
    counted = done
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for task in ended:
        task.result()
    windows.sort()
    return Done(
        messages=counted,
        seconds=seconds,
        server_cpu_s=used,
        client_cpu_s=client_s,
        p50_ms=windows[len(windows) // 2] * 1e3,
        p99_ms=windows[len(windows) * 99 // 100] * 1e3,
    )


def job_of_arguments(description: str | None) -> Job:
    """The job that the command line names."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--mode", choices=["send", "receive"], required=True)
    parser.add_argument("--queue", required=True)
    parser.add_argument("--addresses", required=True, help="comma-separated")
    parser.add_argument("--pids", required=True, help="comma-separated")
    for name in ("window", "connections", "messages", "body-bytes"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = vars(parser.parse_args())
    given["addresses"] = given["addresses"].split(",")
    given["pids"] = [int(pid) for pid in given["pids"].split(",")]
    return Job(**given)


class Client(Protocol):
    """Opens the connections of a peer, runs the job, and closes them again."""

    async def __call__(self, job: Job) -> Done: ...


def main(client: Client, description: str | None) -> None:
    """Run the job of the command line and print what was seen as JSON."""
    job = job_of_arguments(description)

    async def run() -> Done:
        return await client(job)

    print(json.dumps(asdict(uvloop.run(run()))))
