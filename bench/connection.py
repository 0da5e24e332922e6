"""One keep-alive HTTP/1.1 connection of the load generator, which runs one task at a time."""

from __future__ import annotations

import asyncio
from array import array
from collections import defaultdict
from collections.abc import Callable
from time import perf_counter
from typing import cast

from bench.signing import Signer
from bench.workload import Call, Task

Latencies = defaultdict[str, "array[float]"]
"""Seconds that each call of an operation took, in no order."""


def no_latencies() -> Latencies:
    return defaultdict(lambda: array("d"))


class Meter:
    """Where all connections leave the latencies of their calls."""

    def __init__(self) -> None:
        self.latencies = no_latencies()


class Connection(asyncio.Protocol):
    """Sends the calls of a task, each when the one before it is answered.

    `on_idle` is called when a task is over, `on_error` once, with what went wrong: any
    answer but 200, or a connection that closes. Both are called from the event loop.
    Only answers with Content-Length are understood, which is all that our server gives.
    """

    def __init__(
        self,
        signer: Signer,
        meter: Meter,
        on_idle: Callable[[Connection], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._signer = signer
        self._meter = meter
        self._on_idle = on_idle
        self._on_error = on_error
        self._transport: asyncio.Transport | None = None
        self._task: Task | None = None
        self._operation = ""
        self._due = 0.0
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._task is not None:
            self._on_error(exc or ConnectionResetError(f"closed while {self._operation} was waiting"))

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def close(self) -> None:
        self._task = None
        if self._transport is not None:
            self._transport.close()

    def run(self, task: Task, due: float) -> None:
        """Begin a task whose first call's latency counts from `due`, by `perf_counter`."""
        self._task = task
        self._call(next(task), due)

    def _call(self, call: Call, due: float) -> None:
        assert self._transport is not None, "not connected"
        self._operation = call.operation
        self._due = due
        self._transport.write(self._signer.request(call.operation, call.body))

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        body = complete_body(data)
        if body is None:
            self._received = data
            return
        self._received = b""
        now = perf_counter()
        self._meter.latencies[self._operation].append(now - self._due)
        try:
            self._answered(data, body, now)
        except Exception as error:
            self._on_error(error)

    def _answered(self, data: bytes, body: bytes, now: float) -> None:
        if not data.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"{self._operation} was answered with {data.decode(errors='replace')}")
        assert self._task is not None, "an answer that nothing waits for"
        try:
            call = self._task.send(body)
        except StopIteration:
            self._task = None
            self._on_idle(self)
        else:
            self._call(call, now)


def complete_body(data: bytes) -> bytes | None:
    """The body of an answer, or None while some of it is missing."""
    end_of_head = data.find(b"\r\n\r\n")
    if end_of_head < 0:
        return None
    at = data.find(b"Content-Length: ", 0, end_of_head)
    if at < 0:
        raise RuntimeError(f"an answer without Content-Length: {data[:end_of_head]!r}")
    body_bytes = int(data[at + 16 : data.index(b"\r", at)])
    body = data[end_of_head + 4 :]
    return body if len(body) >= body_bytes else None
