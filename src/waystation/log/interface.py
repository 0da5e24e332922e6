"""What a shard needs of a storage engine: an append-only log with one writer.

Positions start at 1 and have no holes. A record is durable once `append` has
returned, and then every later reader gets the same bytes for that position.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from waystation.log.records import Record


class Snapshot(NamedTuple):
    """A state saved at a position, with the checksum of the record there, to chain on."""

    position: int
    checksum: bytes
    payload: bytes


class LogReader(Protocol):
    """What can be read of the log of one shard.

    Every method raises `LogUnavailable` when the engine cannot answer now and
    `LogDamaged` when it answers with something that cannot be verified.
    """

    @property
    def first(self) -> int:
        """Position of the oldest record that is kept; 1 when there never was one."""

    @property
    def position(self) -> int:
        """Of the last record; 0 when there is none."""

    @property
    def checksum(self) -> bytes:
        """Of the last record; `NO_CHECKSUM` when there is none."""

    async def open(self) -> None:
        """Find the end of the log. May be called again after a failure."""

    def replay(self, after: int, checksum: bytes | None) -> AsyncIterator[Record]:
        """All records after a position, verified, in order and without holes.

        Args:
            after: 0 for the beginning of a log that was never truncated.
            checksum: of the record at `after`; None trusts the first link.
        """

    async def read(self, positions: Sequence[int]) -> list[Record | None]:
        """The records at some positions, verified; None for one that is truncated or not there."""

    async def load_snapshot(self) -> Snapshot | None:
        """The snapshot saved last, verified; None if there never was one."""


class Log(LogReader, Protocol):
    """The log of one shard, used by one owner at a time.

    Lifecycle: build it (no I/O), `open`, use, `close`. After `LogUnavailable`
    from `append`, `open` it again and replay before the next append.
    """

    @property
    def size_bytes(self) -> int:
        """Of what is stored, about; space that is free for reuse does not count."""

    def has_room(self) -> bool:
        """Whether new messages should be appended. Deletes may be, as long as `append` takes them."""

    async def append(self, payload: bytes) -> int:
        """Make one record durable; returns its position. One append at a time.

        If cancelled, the record may be in the log.

        Raises:
            LogUnavailable: the record may be in the log, now or later.
            Fenced: it is not, and never will be, because another owner has appended.
        """

    async def truncate(self, before: int) -> None:
        """Forget the records before a position, in small steps. If cancelled, some are left.

        The last record always stays: it tells where the log ends.
        """

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Replace the saved snapshot, atomically, by a later one. If cancelled, the old one stays."""

    async def close(self) -> None:
        """Release files and threads. What was appended stays."""
