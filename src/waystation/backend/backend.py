"""All shards of one node: opened, run and stopped together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from zlib import crc32

from waystation.backend.carrier import Deliver, Delivered, Parcel, deliver_nowhere
from waystation.backend.clock import wall_clock_ms
from waystation.backend.settings import BackendSettings
from waystation.backend.shard import Shard
from waystation.log.interface import Log
from waystation.queues.commands import Answer, Command


class Backend:
    """The shards that live in this process, by number.

    Lifecycle: build it (no I/O), `start`, `submit`, `drain` before the FrontEnd
    stops, `stop`.
    """

    def __init__(
        self, logs: list[Log], settings: BackendSettings, clock: Callable[[], int] = wall_clock_ms
    ) -> None:
        self._logs = logs
        self._deliver: Deliver = deliver_nowhere
        self.shards = [Shard(number, log, settings, clock, self._carry) for number, log in enumerate(logs)]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Recover all shards and serve. Raises `LogDamaged` or `LogUnavailable`; then call `stop`."""
        for shard in self.shards:
            await shard.open()
            self._tasks.append(asyncio.create_task(shard.run(), name=f"shard-{shard.number}"))
        # One turn of the loop, so that all are running: a task that is cancelled
        # before its first step could not even refuse the commands that wait.
        await asyncio.sleep(0)

    def carry_with(self, deliver: Deliver) -> None:
        """Say how messages get from queue to queue; before `start`, or they wait."""
        self._deliver = deliver

    async def _carry(self, parcel: Parcel) -> Delivered:
        return await self._deliver(parcel)

    def place(self, name: str) -> int:
        """The shard for a new queue of that name."""
        return crc32(name.encode()) % len(self.shards)

    def submit(self, shard: int, command: Command) -> asyncio.Future[Answer]:
        """Give a command to a shard: see `Shard.submit`."""
        return self.shards[shard].submit(command)

    def is_serving(self) -> bool:
        """Whether every shard takes commands."""
        return all(shard.is_serving for shard in self.shards)

    def drain(self) -> None:
        """Answer all long polls now, and let none wait any more."""
        for shard in self.shards:
            shard.drain()

    async def stop(self) -> None:
        """Stop all shards and close their logs. Commands that wait are refused."""
        for shard in self.shards:
            shard.end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for log in self._logs:
            await log.close()
