"""The log of a shard on a disk that can fail, and that outlives the process which uses it.

Durable is only what was synced: an append that has not returned when its process dies may be on the disk, or
not. (What is there in part is the affair of SQLite, which drops it; `tests/crash` tears real files.) Every
delay and fault comes from the simulation's one source of chance.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from random import Random

from waystation.log.errors import LogUnavailable
from waystation.log.interface import Snapshot
from waystation.log.records import NO_CHECKSUM, Chain, Record, decode_record, encode_record

_TRUNCATED_AT_ONCE = 8
"""Records. Between two steps a crash may come."""


@dataclass(kw_only=True)
class DiskWeather:
    """How a disk behaves now."""

    append_s: float = 0.001
    """An append takes up to twice as long; so do other writes."""
    read_s: float = 0.0005
    refused: float = 0.0
    """Share of appends and openings that fail, and have done nothing."""
    unknown: float = 0.0
    """Share of appends that fail, and may be on the disk."""
    unreadable: float = 0.0
    """Share of reads and snapshots that fail."""
    is_full: bool = False
    """No room for what makes the log longer by more than a few bytes."""


class LogDisk:
    """What a disk holds of one log: survives crashes."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.weather = DiskWeather()
        self.records: dict[int, bytes] = {}
        self.first = 1
        self.position = 0
        self.checksum = NO_CHECKSUM
        self.size_bytes = 0
        self.snapshot: Snapshot | None = None
        self.unsynced: tuple[bytes, bytes] | None = None
        """The record that is being written, and its checksum."""

    def put(self, data: bytes, checksum: bytes) -> None:
        """A record is on the disk from now on."""
        self.position += 1
        self.records[self.position] = data
        self.checksum = checksum
        self.size_bytes += len(data)

    def settle(self) -> None:
        """What was being written is on the disk now, or is not."""
        if self.unsynced is None:
            return
        (data, checksum), self.unsynced = self.unsynced, None
        if self.random.random() < 0.5:
            self.put(data, checksum)

    def forget(self, position: int) -> None:
        self.size_bytes -= len(self.records.pop(position))
        self.first = position + 1


@dataclass
class SimulatedLog:
    """Implements `Log` for one process. When that dies, so does this."""

    disk: LogDisk
    is_dead: bool = False
    _is_open: bool = field(default=False, init=False)

    @property
    def first(self) -> int:
        return self.disk.first

    @property
    def position(self) -> int:
        return self.disk.position

    @property
    def checksum(self) -> bytes:
        return self.disk.checksum

    @property
    def size_bytes(self) -> int:
        return self.disk.size_bytes

    def has_room(self) -> bool:
        return not self.disk.weather.is_full

    def die(self) -> None:
        """The process is gone: what it was writing is left to chance."""
        if not self.is_dead:
            self.is_dead = True
            self.disk.settle()

    def _require_open(self) -> None:
        if self.is_dead:
            raise LogUnavailable("the process is dead")
        if not self._is_open:
            raise LogUnavailable("the log is not open")

    async def _take_time(self, about_s: float) -> None:
        await asyncio.sleep(about_s * 2 * self.disk.random.random())
        if self.is_dead:
            raise LogUnavailable("the process is dead")

    def _chance(self, share: float) -> bool:
        return share > 0 and self.disk.random.random() < share

    async def open(self) -> None:
        if self.is_dead:
            raise LogUnavailable("the process is dead")
        self._is_open = False
        await self._take_time(self.disk.weather.append_s)
        if self._chance(self.disk.weather.refused):
            raise LogUnavailable("the disk cannot be read")
        self.disk.settle()
        self._is_open = True

    async def append(self, payload: bytes) -> int:
        self._require_open()
        disk = self.disk
        position = disk.position + 1
        data, checksum = encode_record(position, disk.checksum, payload)
        if self._chance(disk.weather.refused) or (disk.weather.is_full and self._chance(len(data) / 1_000)):
            self._is_open = False
            raise LogUnavailable("the disk has refused it")
        disk.unsynced = (data, checksum)
        try:
            await self._take_time(disk.weather.append_s)
        except asyncio.CancelledError:
            self._is_open = False
            disk.settle()
            raise
        if self._chance(disk.weather.unknown):
            self._is_open = False
            disk.settle()
            raise LogUnavailable("nobody knows")
        disk.unsynced = None
        disk.put(data, checksum)
        return position

    async def replay(self, after: int, checksum: bytes | None) -> AsyncIterator[Record]:
        self._require_open()
        chain = Chain(after, checksum)
        for position in range(after + 1, self.disk.position + 1):
            if position in self.disk.records:
                yield chain.check(decode_record(position, self.disk.records[position]))

    async def read(self, positions: Sequence[int]) -> list[Record | None]:
        self._require_open()
        await self._take_time(self.disk.weather.read_s)
        if self._chance(self.disk.weather.unreadable):
            raise LogUnavailable("the disk cannot be read")
        records = self.disk.records
        return [decode_record(at, records[at]) if at in records else None for at in positions]

    async def truncate(self, before: int) -> None:
        self._require_open()
        disk = self.disk
        while disk.first < min(before, disk.position):
            if self._chance(disk.weather.unreadable):
                raise LogUnavailable("the disk has refused it")
            for position in range(disk.first, min(disk.first + _TRUNCATED_AT_ONCE, before, disk.position)):
                disk.forget(position)
            await self._take_time(disk.weather.append_s)
            self._require_open()

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        self._require_open()
        await self._take_time(self.disk.weather.append_s)
        fails = self._chance(self.disk.weather.unreadable)
        if not fails or self._chance(0.5):
            self.disk.snapshot = snapshot
        if fails:
            raise LogUnavailable("nobody knows")

    async def load_snapshot(self) -> Snapshot | None:
        self._require_open()
        return self.disk.snapshot

    async def close(self) -> None:
        self._is_open = False
