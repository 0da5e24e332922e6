"""Queues as the metadata store has them now, read past the catalogue's cache.

A cache may not have heard yet of what others have done. Whoever is about to do something that
cannot be undone, because a queue seems to be gone or not to be known, asks here first.
"""

from __future__ import annotations

import msgspec

from waystation.metadata.catalogue import QUEUE_PREFIX
from waystation.metadata.queues import Queue, QueueRecord
from waystation.metadata.store import MetadataStore, Stored


class StoredQueues:
    """Every method raises `MetadataUnavailable` as the store does."""

    def __init__(self, store: MetadataStore) -> None:
        self._store = store

    async def find(self, account: str, name: str) -> Queue | None:
        """The queue of that owner and name, if there is one."""
        return _queue(await self._store.get(f"{QUEUE_PREFIX}{account}/{name}"))

    async def of_shard(self, shard: int) -> dict[int, Queue]:
        """The queues with a part in a shard, by number there. As much work as there are queues in all."""
        found = (_queue(stored) for stored in await self._store.list(QUEUE_PREFIX))
        return {
            place.number: queue
            for queue in found
            if queue is not None
            for place in queue.places
            if place.shard == shard
        }


def _queue(stored: Stored | None) -> Queue | None:
    if stored is None or stored.value is None:
        return None
    record = msgspec.msgpack.decode(stored.value, type=QueueRecord)
    return None if record.deleted_ms else Queue(record, stored.revision)
