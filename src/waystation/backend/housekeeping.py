"""Keeping a shard's log short: snapshots, truncation, and relocation of what pins it.

All of it is background work in small steps between appends, and all of it may
be cut off at any moment: a snapshot replaces the old one atomically, and only
what the saved snapshot no longer needs is truncated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from waystation.backend.reading import record_events
from waystation.backend.recovery import nothing_is_garbage
from waystation.backend.settings import BackendSettings
from waystation.log.interface import Log, Snapshot
from waystation.log.records import Record
from waystation.queues import events
from waystation.queues.contents import relocations
from waystation.queues.snapshots import to_snapshot
from waystation.queues.state import Queue

if TYPE_CHECKING:
    from waystation.backend.batches import Batch
    from waystation.backend.shard import Shard

_RELOCATE_RECORDS = 16
"""Read in one step: 16 MiB at most, or little more."""
_RELOCATE_BYTES = 4_194_304
"""Written again in one step. It counts as pending, and requests that come meanwhile wait for it."""

_DEAD_RECORDS = 256
"""Read in vain, before it is worth it to look through all messages for the next that is alive."""

_HELD_PER_EVENT = 4
"""Messages in memory that a snapshot may save for each change since the last one: some 0.1 us each."""

_RECORDS_PER_DEAD = 4
"""One record in so many at the log's beginning has to be dead for the truncation to be due."""

_LIVE_SHARE = 4
"""A log may be this many times as large as what is live in it."""

_CHANGES: dict[type, Callable[[Any], int]] = {
    events.MessagesSent: lambda event: len(event.entries),
    events.MessagesArrived: lambda event: len(event.arrivals),
    events.MessagesReceived: lambda event: len(event.sequences),
    events.MessagesDeleted: lambda event: len(event.sequences),
    events.MessagesSetAside: lambda event: len(event.sequences),
    events.MessagesReleased: lambda event: len(event.sequences),
    events.MessagesReturned: lambda event: len(event.sequences),
    events.VisibilityChanged: lambda event: len(event.changes),
}
"""How many changes an event counts as, where it is not one."""


class Housekeeper:
    """Snapshots one shard and shortens its log, whenever enough has happened."""

    def __init__(self, shard: Shard, log: Log, settings: BackendSettings) -> None:
        self._shard = shard
        self._log = log
        self._settings = settings
        self._events = 0
        self._bytes = 0
        self._saved_bytes = 0
        self._look_at = (settings.snapshot_events, settings.snapshot_bytes)
        self._due = asyncio.Event()

    def count(self, batch: Batch) -> None:
        """Note that a batch was appended."""
        self._bytes += batch.bytes
        for event in batch.events:
            changes = _CHANGES.get(type(event))
            self._events += changes(event) if changes is not None else 1
        if self._events >= self._look_at[0] or self._bytes >= self._look_at[1]:
            self._due.set()

    async def run(self) -> None:
        """Work until cancelled. Raises what the log raises."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.idle_snapshot_s):
                    await self._due.wait()
            self._due.clear()
            await self._sweep()
            if self._is_worth_it():
                await self.tidy()
            events_more, bytes_more = self._settings.snapshot_events, self._settings.snapshot_bytes
            self._look_at = (self._events + events_more, self._bytes + bytes_more)

    def _is_worth_it(self) -> bool:
        """Whether so much has changed that saving all that is in memory is little beside it."""
        return (
            self._bytes >= max(self._settings.snapshot_bytes, self._saved_bytes)
            or (self._events > 0 and self._events >= self._shard.state.held() // _HELD_PER_EVENT)
            or self._can_truncate()
        )

    async def tidy(self) -> None:
        """Snapshot, forget what nothing needs any more, and break up what pins the rest."""
        await self._snapshot_and_truncate()
        if self._is_pinned(self._log.size_bytes):
            await self._relocate()
            await self._snapshot_and_truncate()

    async def _sweep(self) -> None:
        """Drop what has expired, also from tails that no consumer comes near."""
        for queue in [each for each in self._shard.state.queues.values() if not each.at_rest]:
            queue.sweep(self._shard.now_ms())
            while await self._fill(queue) and queue.sweep(self._shard.now_ms()):
                pass  # What was loaded had expired, and so may what comes next.
            await asyncio.sleep(0)  # Requests come between.

    async def _fill(self, queue: Queue) -> bool:
        """Load what runs low now, not what consumers empty meanwhile; False when nothing does."""
        lines = len(queue.hungry)
        for _ in range(lines):
            if not (queue.needs_load() and await self._shard.fill(queue)):
                break
        return lines > 0

    def _can_truncate(self) -> bool:
        """Whether a good part of the log has died since the last snapshot, of deletes or of age.

        Not while the log is smaller than the snapshot, which is beside it: that would save nothing.
        """
        if self._log.size_bytes < 2 * self._saved_bytes:
            return False
        first, position = self._log.first, self._log.position
        oldest = self._shard.state.oldest_record()
        dead = (position if oldest is None else oldest) - first
        return dead * _RECORDS_PER_DEAD > position - first

    async def save(self) -> None:
        """Save all that has changed, so that the next owner need not replay it."""
        if self._events:
            await self._snapshot()

    async def _snapshot_and_truncate(self) -> None:
        # The last record stays: it tells where the log ends.
        await self._log.truncate(await self._snapshot())

    async def _snapshot(self) -> int:
        """Save the state; returns before which record nothing is needed any more."""
        state = self._shard.state
        self._events = self._bytes = 0
        # No await from here to `seal`: the state is what the log says up to that batch.
        with nothing_is_garbage():
            payload = to_snapshot(state)
        self._saved_bytes = len(payload)
        oldest = state.oldest_record()
        batch = self._shard.seal()
        checksum = await self._shard.commit_of(batch)
        await self._log.save_snapshot(Snapshot(batch.position, checksum, payload))
        return batch.position if oldest is None else min(oldest, batch.position)

    def _is_pinned(self, log_bytes: float) -> bool:
        live_bytes = self._shard.state.live_bytes()
        return log_bytes > self._settings.garbage_bytes_max + _LIVE_SHARE * live_bytes

    async def _relocate(self) -> None:
        """Write live messages at the log's beginning again, until enough of it can go."""
        last = self._log.position
        remaining = float(self._log.size_bytes)
        position = self._log.first
        record_bytes = remaining / max(last + 1 - position, 1)
        dead = 0
        while position <= last and self._is_pinned(2 * remaining):
            records = await self._log.read(range(position, min(position + _RELOCATE_RECORDS, last + 1)))
            written, is_alive = 0, False
            for record in records:
                if record is not None:
                    remaining -= len(record.payload)
                    written += self._write_again(record)
                    is_alive = is_alive or written > 0
                if written >= _RELOCATE_BYTES:
                    await self._shard.commit_of(self._shard.seal())
                    written = 0
            position += len(records)
            dead = 0 if is_alive else dead + len(records)
            if is_alive:
                await self._shard.commit_of(self._shard.seal())
            elif dead >= _DEAD_RECORDS:
                # Millions of dead records may lie between two that are alive.
                dead = 0
                oldest = self._shard.state.oldest_record() or last + 1
                remaining -= max(oldest - position, 0) * record_bytes
                position = max(oldest, position)

    def _write_again(self, record: Record) -> int:
        """Relocate what is alive in a record; returns the bytes of that."""
        now_ms = self._shard.now_ms()
        found = relocations(self._shard.state, record_events(record), record.position, now_ms)
        for event in found:
            self._shard.record(event)
        return sum(len(message.envelope) for event in found for message in event.messages)
