"""Keeping a shard's log short: snapshots, truncation, and relocation of what pins it.

All of it is background work in small steps between appends, and all of it may
be cut off at any moment: a snapshot replaces the old one atomically, and only
what the saved snapshot no longer needs is truncated.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from waystation.backend.recovery import record_events
from waystation.backend.settings import BackendSettings
from waystation.log.interface import Log, Snapshot
from waystation.queues import events
from waystation.queues.contents import relocations

if TYPE_CHECKING:
    from waystation.backend.batches import Batch
    from waystation.backend.shard import Shard

_RELOCATE_RECORDS = 64
"""Read and written again in one step."""

_LIVE_SHARE = 4
"""A log may be this many times as large as what is live in it."""


class Housekeeper:
    """Snapshots one shard and shortens its log, whenever enough has happened."""

    def __init__(self, shard: Shard, log: Log, settings: BackendSettings) -> None:
        self._shard = shard
        self._log = log
        self._settings = settings
        self._events = 0
        self._bytes = 0
        self._due = asyncio.Event()

    def count(self, batch: Batch) -> None:
        """Note that a batch was appended."""
        self._bytes += batch.bytes
        for event in batch.events:
            match event:
                case events.MessagesReceived() | events.MessagesDeleted():
                    self._events += len(event.sequences)
                case events.MessagesSent():
                    self._events += len(event.entries)
                case _:
                    self._events += 1
        if self._events >= self._settings.snapshot_events or self._bytes >= self._settings.snapshot_bytes:
            self._due.set()

    async def run(self) -> None:
        """Work until cancelled. Raises what the log raises."""
        while True:
            try:
                async with asyncio.timeout(self._settings.idle_snapshot_s):
                    await self._due.wait()
            except TimeoutError:
                self._sweep()
            self._due.clear()
            if self._events or self._bytes:
                await self.tidy()

    async def tidy(self) -> None:
        """Snapshot, forget what nothing needs any more, and break up what pins the rest."""
        await self._snapshot_and_truncate()
        if self._is_pinned(self._log.size_bytes):
            await self._relocate()
            await self._snapshot_and_truncate()

    def _sweep(self) -> None:
        now_ms = self._shard.now_ms()
        for queue in self._shard.state.queues.values():
            queue.sweep(now_ms)

    async def _snapshot_and_truncate(self) -> None:
        state = self._shard.state
        self._events = self._bytes = 0
        # No await from here to `seal`: the state is what the log says up to that batch.
        payload = state.to_snapshot()
        oldest = state.oldest_record()
        batch = self._shard.seal()
        checksum = await self._shard.commit_of(batch)
        await self._log.save_snapshot(Snapshot(batch.position, checksum, payload))
        # The last record stays: it tells where the log ends.
        await self._log.truncate(batch.position if oldest is None else min(oldest, batch.position))

    def _is_pinned(self, log_bytes: int) -> bool:
        live_bytes = self._shard.state.live_bytes()
        return log_bytes > self._settings.garbage_bytes_max + _LIVE_SHARE * live_bytes

    async def _relocate(self) -> None:
        """Write live messages at the log's beginning again, until enough of it can go."""
        last = self._log.position
        remaining = self._log.size_bytes
        position = self._log.first
        while position <= last and self._is_pinned(2 * remaining):
            records = await self._log.read(range(position, min(position + _RELOCATE_RECORDS, last + 1)))
            for record in records:
                if record is not None:
                    remaining -= len(record.payload)
                    now_ms = self._shard.now_ms()
                    found = relocations(self._shard.state, record_events(record), record.position, now_ms)
                    for event in found:
                        self._shard.record(event)
            position += len(records)
            await self._shard.commit_of(self._shard.seal())
