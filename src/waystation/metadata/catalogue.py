"""The catalogue of queues: every one in a cache that a watch keeps fresh.

Looking a queue up costs a dictionary access and never waits. Changes go to the
store by compare-and-set, are in this cache when the call returns, and reach the
caches of other processes through their watches.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from contextlib import suppress

import msgspec

from waystation.metadata.queues import Queue, QueueRecord
from waystation.metadata.store import Conflict, MetadataStore, MetadataUnavailable, Stored, Watch

_PREFIX = "queue/"
_SECRET_KEY = "secret/handles"  # noqa: S105 (the name of a key, not a secret)
_SECRET_BYTES = 32
_RETRY_S = 1.0

_logger = logging.getLogger(__name__)


class Catalogue:
    """All queues of all accounts.

    Lifecycle: build it (no I/O), `start`, use, `stop`.
    """

    def __init__(self, store: MetadataStore) -> None:
        self._store = store
        self._queues: dict[tuple[str, str], Queue] = {}
        self._names: dict[str, list[str]] = {}
        self._deleted: dict[tuple[str, str], int] = {}
        self._watching: asyncio.Task[None] | None = None
        self.secret = b""
        """The key of this installation's receipt handles and message ids: 32 bytes."""

    async def start(self) -> None:
        """Fill the cache. Raises `MetadataUnavailable`."""
        watch = self._store.watch(_PREFIX)
        await self._fill()
        self.secret = await self._load_secret()
        self._watching = asyncio.create_task(self._watch(watch), name="catalogue-watch")

    async def stop(self) -> None:
        """Stop watching; the cache stays as it is."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def _load_secret(self) -> bytes:
        stored = await self._store.get(_SECRET_KEY)
        if stored is None or stored.value is None:
            with suppress(Conflict):  # somebody else has just made one: theirs it is
                await self._store.put(_SECRET_KEY, secrets.token_bytes(_SECRET_BYTES), 0)
            return await self._load_secret()
        return stored.value

    # The cache

    async def _fill(self) -> None:
        found = await self._store.list(_PREFIX)
        keys = {_split(stored.key) for stored in found}
        for key in [key for key in self._queues if key not in keys]:
            self._forget(key)
        for stored in found:
            self._note(stored)

    async def _watch(self, watch: Watch) -> None:
        while True:
            try:
                async for change in watch:
                    self._note(change)
                    if change.value is None and self._deleted.get(_split(change.key)) == change.revision:
                        # The watch is in order: nothing older about this queue can come any more.
                        del self._deleted[_split(change.key)]
                return
            except MetadataUnavailable:
                _logger.warning("the watch on the catalogue was lost", exc_info=True)
            await asyncio.sleep(_RETRY_S)
            watch = self._store.watch(_PREFIX)
            await self._fill()

    def _note(self, stored: Stored) -> None:
        """Take a change over, unless a newer one is known: a writer hears of its own change twice."""
        key = _split(stored.key)
        cached = self._queues.get(key)
        known = cached.revision if cached is not None else self._deleted.get(key, 0)
        if stored.revision <= known:
            return
        if stored.value is None:
            self._forget(key)
            self._deleted[key] = stored.revision
            return
        self._deleted.pop(key, None)
        if cached is None:
            insort(self._names.setdefault(key[0], []), key[1])
        record = msgspec.msgpack.decode(stored.value, type=QueueRecord)
        self._queues[key] = Queue(record, stored.revision)

    def _forget(self, key: tuple[str, str]) -> None:
        if self._queues.pop(key, None) is not None:
            names = self._names[key[0]]
            del names[bisect_left(names, key[1])]

    # Looking

    def find(self, account: str, name: str) -> Queue | None:
        """The queue of that owner and name, if there is one."""
        return self._queues.get((account, name))

    def queues(self) -> Iterator[Queue]:
        """Every queue, in no order."""
        return iter(self._queues.values())

    def names(self, account: str, prefix: str, after: str, limit: int) -> list[str]:
        """At most `limit` names of an account's queues that begin with `prefix`, sorted, past `after`."""
        names = self._names.get(account, [])
        first = bisect_left(names, max(prefix, after + "\0" if after else ""))
        found: list[str] = []
        for index in range(first, len(names)):
            if len(found) == limit or not names[index].startswith(prefix):
                break
            found.append(names[index])
        return found

    # Changing

    async def create(self, record: QueueRecord) -> Queue:
        """Add a queue. Raises `Conflict` when its owner has one of that name."""
        revision = await self._put(record, 0)
        # Not read back from the cache: it may have heard of a later change already.
        return Queue(record, revision)

    async def update(self, queue: Queue, change: Callable[[QueueRecord], QueueRecord]) -> Queue | None:
        """Change a queue's record, whoever else changes it meanwhile.

        Args:
            queue: which one; a queue that has been deleted and created again is another.
            change: called again on the newest record after each conflict.

        Returns:
            The queue as written, or None when it is gone.
        """
        record = queue.record
        current: Queue | None = queue
        while current is not None and current.number == record.number and current.shard == record.shard:
            try:
                await self._put(change(current.record), current.revision)
            except Conflict:
                await self._refresh(record)
                current = self.find(record.account, record.name)
            else:
                return self.find(record.account, record.name)
        return None

    async def delete(self, queue: Queue) -> bool:
        """Remove a queue. False when it is gone already."""
        record = queue.record
        current: Queue | None = queue
        while current is not None and current.number == record.number and current.shard == record.shard:
            key = _key(record.account, record.name)
            try:
                self._note(Stored(key, None, await self._store.delete(key, current.revision)))
            except Conflict:
                await self._refresh(record)
                current = self.find(record.account, record.name)
            else:
                return True
        return False

    async def _put(self, record: QueueRecord, expected: int) -> int:
        key, value = _key(record.account, record.name), msgspec.msgpack.encode(record)
        revision = await self._store.put(key, value, expected)
        self._note(Stored(key, value, revision))
        return revision

    async def _refresh(self, record: QueueRecord) -> None:
        """Read one queue past the cache, which the watch may not have reached yet."""
        stored = await self._store.get(_key(record.account, record.name))
        if stored is not None:
            self._note(stored)
        else:
            self._forget((record.account, record.name))


def _key(account: str, name: str) -> str:
    return f"{_PREFIX}{account}/{name}"


def _split(key: str) -> tuple[str, str]:
    _, account, name = key.split("/")
    return account, name
