"""The shards of one process: taken, run, handed over and dropped, each by itself or all together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from secrets import token_hex
from zlib import crc32

from waystation.backend.carrier import Deliver, Delivered, Parcel, deliver_nowhere
from waystation.backend.clock import wall_clock_ms
from waystation.backend.errors import NotOwner
from waystation.backend.settings import BackendSettings
from waystation.backend.shard import Shard
from waystation.log.interface import Log
from waystation.queues.commands import Answer, Command

_OWNER_BYTES = 8


class Backend:
    """Those of all shards that live in this process, by number. Implements `Shards` once it has them all.

    Lifecycle: build it (no I/O); `start`, or `take` what is to be here; `submit`, `drain`
    before the FrontEnd stops, `stop`. Of one shard, its owner does one thing at a time.

    Args:
        log_of: gives the log of a shard, closed; asked whenever the shard is taken.
        shards: how many there are in all, also those that are elsewhere.
    """

    def __init__(
        self,
        log_of: Callable[[int], Log],
        shards: int,
        settings: BackendSettings,
        clock: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._log_of = log_of
        self._number = shards
        self._settings = settings
        self._clock = clock
        self._deliver: Deliver = deliver_nowhere
        self._shards: dict[int, Shard] = {}
        self._logs: dict[int, Log] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def carry_with(self, deliver: Deliver) -> None:
        """Say how messages get from queue to queue; before the first shard is taken, or they wait."""
        self._deliver = deliver

    async def _carry(self, parcel: Parcel) -> Delivered:
        return await self._deliver(parcel)

    # All shards

    async def start(self) -> None:
        """Take all shards. Raises what `Shard.open` does, and the one that failed is here until `stop`."""
        for number in range(self._number):
            await self._take(number)

    @property
    def shards(self) -> list[Shard]:
        """Those that are here, in order; not all of them may serve."""
        return [shard for _, shard in sorted(self._shards.items())]

    @property
    def count(self) -> int:
        """How many there are in all."""
        return self._number

    def place(self, name: str) -> int:
        """The shard for a new queue of that name."""
        return crc32(name.encode()) % self._number

    def serves(self, shard: int) -> bool:
        """Whether a shard is here and takes commands."""
        here = self._shards.get(shard)
        return here is not None and here.is_serving

    def submit(self, shard: int, command: Command) -> asyncio.Future[Answer]:
        """Give a command to a shard: see `Shard.submit`. Raises `NotOwner` if it is not here."""
        try:
            here = self._shards[shard]
        except KeyError:
            raise NotOwner(f"Shard {shard} is not on this node.") from None
        return here.submit(command)

    def is_serving(self) -> bool:
        """Whether every shard is here and takes commands."""
        return len(self._shards) == self._number and all(shard.is_serving for shard in self._shards.values())

    def drain(self) -> None:
        """Answer all long polls now, and let none wait any more."""
        for shard in self._shards.values():
            shard.drain()

    async def stop(self) -> None:
        """Stop all shards and close their logs. Commands that wait are refused."""
        await asyncio.gather(*(self.drop(number) for number in list(self._shards)))

    # One shard

    async def take(self, number: int) -> int:
        """Recover a shard that is not here, and serve it; returns its epoch.

        Raises `Fenced` when another owner takes it at the same time, or what else `Shard.open`
        raises. After that, or if cancelled, it is dropped.
        """
        assert number not in self._shards, "it is dropped before it is taken again"
        try:
            return await self._take(number)
        except BaseException:
            await self.drop(number)
            raise

    async def _take(self, number: int) -> int:
        log = self._log_of(number)
        shard = Shard(number, log, self._settings, self._clock, self._carry, token_hex(_OWNER_BYTES))
        self._shards[number], self._logs[number] = shard, log
        await shard.open()
        epoch = shard.state.epoch
        task = asyncio.create_task(shard.run(), name=f"shard-{number}")
        self._tasks[number] = task
        # Whoever asks is told how it ended, and the shard itself has logged it.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        # One turn of the loop, so that it runs: a task that is cancelled before
        # its first step could not even refuse the commands that wait.
        await asyncio.sleep(0)
        return epoch

    async def ended(self, number: int) -> None:
        """Wait until a shard that is here serves no more; returns when it was released or dropped.

        Raises:
            Fenced: another owner has it.
            Exception: anything else that it cannot recover from, such as `LogDamaged`.
        """
        task = self._tasks.get(number)
        if task is not None:
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

    async def release(self, number: int) -> None:
        """Hand a shard over: see `Shard.hand_over`; then it is not here any more.

        If cancelled, it is dropped.
        """
        shard = self._shards.get(number)
        try:
            if shard is not None:
                await shard.hand_over()
        finally:
            await self.drop(number)

    async def drop(self, number: int) -> None:
        """Stop a shard at once, if it is here, and close its log. Commands that wait are refused."""
        shard = self._shards.pop(number, None)
        if shard is None:
            return
        shard.end()
        log, task = self._logs.pop(number), self._tasks.pop(number, None)
        try:
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        finally:
            await log.close()
