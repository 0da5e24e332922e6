"""A log that several owners can write to, of whom only one may go on, as replicated storage has it."""

from __future__ import annotations

from tests.log.faulty import FaultyLog
from waystation.log.errors import Fenced
from waystation.log.interface import Snapshot
from waystation.log.records import NO_CHECKSUM, decode_record


class SharedDisk:
    """What is stored, whoever has written it."""

    def __init__(self) -> None:
        self.records: dict[int, bytes] = {}
        self.snapshot: Snapshot | None = None


class SharedLog(FaultyLog):
    """One owner's way to a shared disk: it appends right after what it has seen, or is fenced."""

    def __init__(self, disk: SharedDisk) -> None:
        super().__init__()
        self.disk = disk
        self.records = disk.records
        self.is_snapshot_fenced = False

    async def open(self) -> None:
        await super().open()
        self.position = max(self.records, default=0)
        self.checksum = NO_CHECKSUM
        if self.position:
            self.checksum = decode_record(self.position, self.records[self.position]).checksum

    async def append(self, payload: bytes) -> int:
        await self.appends.passing()
        if max(self.records, default=0) != self.position:
            raise Fenced("another owner has appended")
        return await super().append(payload)

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        await self.snapshots.passing()
        if self.is_snapshot_fenced:
            raise Fenced("another owner has saved a snapshot")
        await super().save_snapshot(snapshot)
        self.disk.snapshot = snapshot

    async def load_snapshot(self) -> Snapshot | None:
        self.snapshot = self.disk.snapshot
        return await super().load_snapshot()
