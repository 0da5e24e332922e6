"""A log in memory whose failures and delays a test chooses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from waystation.log.errors import LogUnavailable
from waystation.log.interface import Snapshot
from waystation.log.memory import MemoryLog
from waystation.log.records import Record


class Gate:
    """Lets through what passes it, until it is shut; then it waits for `release`."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self.waiting = 0

    def shut(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def passing(self) -> None:
        self.waiting += 1
        try:
            await self._open.wait()
        finally:
            self.waiting -= 1


class FaultyLog(MemoryLog):
    """A `MemoryLog` that can be slow, refuse, or do what it is told and then say that it failed."""

    def __init__(self) -> None:
        super().__init__()
        self.appends = Gate()
        self.reads = Gate()
        self.snapshots = Gate()
        self.refused_appends = 0
        """So many of the next appends fail, and nothing is in the log."""
        self.lost_answers = 0
        """So many of the next appends are in the log, and fail all the same."""
        self.refused_opens = 0
        self.refused_reads = 0
        self.refused_snapshots = 0
        self.opens = 0
        self.replayed: list[int] = []
        """Positions that the last replay has given."""

    async def open(self) -> None:
        if self.refused_opens:
            self.refused_opens -= 1
            raise LogUnavailable("refused by the test")
        await super().open()
        self.opens += 1

    async def append(self, payload: bytes) -> int:
        await self.appends.passing()
        if self.refused_appends:
            self.refused_appends -= 1
            await self._fail()
        position = await super().append(payload)
        if self.lost_answers:
            self.lost_answers -= 1
            await self._fail()
        return position

    async def _fail(self) -> None:
        await self.close()
        raise LogUnavailable("refused by the test")

    async def replay(self, after: int, checksum: bytes | None) -> AsyncIterator[Record]:
        self.replayed = []
        async for record in super().replay(after, checksum):
            self.replayed.append(record.position)
            yield record

    async def read(self, positions: Sequence[int]) -> list[Record | None]:
        await self.reads.passing()
        if self.refused_reads:
            self.refused_reads -= 1
            raise LogUnavailable("refused by the test")
        return await super().read(positions)

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        await self.snapshots.passing()
        if self.refused_snapshots:
            self.refused_snapshots -= 1
            raise LogUnavailable("refused by the test")
        await super().save_snapshot(snapshot)
