"""A log in memory, for tests and simulation: the contract without a disk.

It outlives `close`, as a disk would, so that a crash and a restart can be
played by opening it again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from waystation.log.errors import LogUnavailable
from waystation.log.interface import Snapshot
from waystation.log.records import NO_CHECKSUM, Chain, Record, decode_record, encode_record


class MemoryLog:
    """Implements `Log`. `records` and `snapshot` are what a disk would hold."""

    def __init__(self) -> None:
        self.records: dict[int, bytes] = {}
        self.snapshot: Snapshot | None = None
        self.position = 0
        self.checksum = NO_CHECKSUM
        self.is_nearly_full = False
        self._is_open = False

    def has_room(self) -> bool:
        return not self.is_nearly_full

    @property
    def first(self) -> int:
        return min(self.records, default=self.position + 1)

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.records.values()))

    async def open(self) -> None:
        self._is_open = True

    async def append(self, payload: bytes) -> int:
        self._require_open()
        self.position += 1
        self.records[self.position], self.checksum = encode_record(self.position, self.checksum, payload)
        return self.position

    async def replay(self, after: int, checksum: bytes | None) -> AsyncIterator[Record]:
        self._require_open()
        chain = Chain(after, checksum)
        for position in range(after + 1, self.position + 1):
            if position in self.records:
                yield chain.check(decode_record(position, self.records[position]))

    async def read(self, positions: Sequence[int]) -> list[Record | None]:
        self._require_open()
        return [decode_record(at, self.records[at]) if at in self.records else None for at in positions]

    async def truncate(self, before: int) -> None:
        self._require_open()
        for position in [each for each in self.records if each < min(before, self.position)]:
            del self.records[position]

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        self._require_open()
        self.snapshot = snapshot

    async def load_snapshot(self) -> Snapshot | None:
        self._require_open()
        return self.snapshot

    async def close(self) -> None:
        self._is_open = False

    def _require_open(self) -> None:
        if not self._is_open:
            raise LogUnavailable("The log is not open.")
