"""Keeps connections at work in a closed or an open loop, and measures one window of it.

The window begins when the warm-up is done and ends when its messages are; calls under way then
are waited for, not counted, so that no message is left in flight. Server CPU is read at both ends.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import deque
from dataclasses import dataclass, replace
from math import ceil
from time import perf_counter
from typing import NamedTuple

from bench.connection import Connection, Latencies, Meter, no_latencies
from bench.processes import cpu_s
from bench.workload import Mode, Task, Workload

TIMEOUT_S = 900
ARRIVAL_GRAIN_S = 0.001
"""How often an open loop looks for tasks that are due, which adds half of it to latencies. The event
loop's timer is no finer, and looking without pause would take the CPU that the server needs."""
EMPTY_RECEIVES_MAX = 5_000
"""Past this many for nothing, the queue has run dry, and there is nothing left to measure."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What to do to the queue, and for how long."""

    mode: Mode
    batch: int = 1
    body_bytes: int = 256
    connections: int = 32
    warmup_messages: int = 2_000
    messages: int = 20_000
    preload_messages: int = 0
    """Sent before the warm-up, and at least so many for `receive` to have enough."""
    groups: int = 0
    """Message groups that messages are sent to in turn, on a FIFO queue; 0 for a standard queue."""
    first_group: int = 0
    rate: float | None = None
    """Messages a second of an open loop; None for a closed one."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was measured. Latencies in milliseconds, by operation and over all (`""`)."""

    messages: int
    """In the window."""
    total_messages: int
    """With the warm-up, and with what was under way when the window ended."""
    seconds: float
    messages_per_s: float
    cpu_us_per_message: float
    """Of the server, user and system, all threads."""
    client_cpu_share: float
    """Of one core. Near 1, the client is the limit and not the server."""
    p50_ms: dict[str, float]
    p99_ms: dict[str, float]
    max_ms: dict[str, float]
    empty_receives: int


class _Moment(NamedTuple):
    at_s: float
    server_cpu_s: float
    client_cpu_s: float
    messages: int
    empty_receives: int


class Driver:
    """One run of one load.

    Lifecycle: build it in a running event loop, hand `idle` and `failed` to the connections,
    `await run()` once.
    """

    def __init__(self, load: Load, workload: Workload, server_pid: int, meter: Meter) -> None:
        self._load = load
        self._workload = workload
        self._server_pid = server_pid
        self._meter = meter
        self._next_task = workload.tasks(load.mode)
        self._done_before = self._done
        self._start_at = self._done_before + load.warmup_messages
        self._stop_at = self._start_at + load.messages
        self._began: _Moment | None = None
        self._seen: Seen | None = None
        self._finished: asyncio.Future[Seen] = asyncio.get_running_loop().create_future()
        self._busy = 0
        self._idle: list[Connection] = []
        self._overdue: deque[tuple[Task, float]] = deque()

    @property
    def _done(self) -> int:
        return self._workload.done(self._load.mode)

    async def run(self, connections: list[Connection]) -> Seen:
        """Run the load. Raises what `failed` was told, or `TimeoutError`."""
        self._idle = list(connections)
        arrivals: asyncio.Task[None] | None = None
        if self._load.messages == 0:
            raise ValueError("a load of no messages")
        if self._load.rate is not None:
            arrivals = asyncio.create_task(self._arrive(self._load.rate))
        else:
            for connection in connections:
                self._begin_task(connection, self._next_task(), perf_counter())
        try:
            return await asyncio.wait_for(self._finished, TIMEOUT_S)
        finally:
            if arrivals is not None:
                arrivals.cancel()

    def failed(self, error: BaseException) -> None:
        """End the run with this error."""
        if not self._finished.done():
            self._finished.set_exception(error)

    def idle(self, connection: Connection) -> None:
        """Give a connection its next task, and note when the window begins or ends."""
        self._busy -= 1
        self._note_the_window()
        if self._seen is not None:
            if self._busy == 0 and not self._finished.done():
                total = self._done - self._done_before
                self._finished.set_result(replace(self._seen, total_messages=total))
        elif self._load.rate is None:
            self._begin_task(connection, self._next_task(), perf_counter())
        elif self._overdue:
            self._begin_task(connection, *self._overdue.popleft())
        else:
            self._idle.append(connection)

    def _begin_task(self, connection: Connection, task: Task, due: float) -> None:
        self._busy += 1
        connection.run(task, due)

    def _note_the_window(self) -> None:
        if self._began is None:
            if self._done >= self._start_at:
                self._meter.latencies = no_latencies()
                self._began = self._now()
        elif self._seen is None and self._done >= self._stop_at:
            self._seen = self._since(self._began)
        if self._workload.empty_receives > EMPTY_RECEIVES_MAX:
            self.failed(
                RuntimeError("the queue ran dry: there were fewer messages in it than to be received")
            )

    async def _arrive(self, rate: float) -> None:
        """Start tasks when they are due, by a Poisson process with a fixed seed."""
        chance = random.Random(20_061)
        # With `both`, a message through the queue is two tasks.
        tasks_per_s = rate / self._load.batch * (2 if self._load.mode == "both" else 1)
        due = perf_counter()
        while self._seen is None:
            now = perf_counter()
            while due <= now:
                if self._idle:
                    self._begin_task(self._idle.pop(), self._next_task(), due)
                else:
                    self._overdue.append((self._next_task(), due))
                due += chance.expovariate(tasks_per_s)
            await asyncio.sleep(max(due - now, ARRIVAL_GRAIN_S))

    def _now(self) -> _Moment:
        return _Moment(
            perf_counter(),
            cpu_s(self._server_pid),
            cpu_s(os.getpid()),
            self._done,
            self._workload.empty_receives,
        )

    def _since(self, began: _Moment) -> Seen:
        now, latencies = self._now(), self._meter.latencies
        messages, seconds = now.messages - began.messages, now.at_s - began.at_s
        return Seen(
            messages=messages,
            total_messages=0,  # known once the last task is over
            seconds=seconds,
            messages_per_s=messages / seconds,
            cpu_us_per_message=(now.server_cpu_s - began.server_cpu_s) / messages * 1e6,
            client_cpu_share=(now.client_cpu_s - began.client_cpu_s) / seconds,
            p50_ms=percentile_ms(latencies, 0.50),
            p99_ms=percentile_ms(latencies, 0.99),
            max_ms=percentile_ms(latencies, 1.0),
            empty_receives=now.empty_receives - began.empty_receives,
        )


def percentile_ms(latencies: Latencies, share: float) -> dict[str, float]:
    """Milliseconds that this share of the calls stayed within, by operation and, as `""`, of all."""
    values = {operation: sorted(seconds) for operation, seconds in latencies.items()}
    values[""] = sorted(second for seconds in latencies.values() for second in seconds)
    return {
        operation: seconds[max(ceil(len(seconds) * share) - 1, 0)] * 1e3
        for operation, seconds in values.items()
        if seconds
    }
