"""The catalogue of queues: every one in a cache that a watch keeps fresh.

Looking a queue up costs a dictionary access and never waits. Changes go to the
store by compare-and-set, are in this cache when the call returns, and reach the
caches of other processes through their watches. A cache that may have missed changes
for longer than it is allowed to refuses look-ups until it has caught up.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

import msgspec

from waystation.metadata.queues import Queue, QueueRecord
from waystation.metadata.store import Conflict, MetadataStore, MetadataUnavailable, Stored, Watch

QUEUE_PREFIX = "queue/"
SECRET_KEY = "secret/handles"  # noqa: S105 (the name of a key, not a secret)
SECRET_BYTES = 32
OUTDATED_S_MAX = 10.0
"""Longer than a short loss of the store, and shorter than anyone expects a change of settings to take."""
_RETRY_S = 1.0
_LOOK_S = 0.5
"""How often it is looked whether the cache is out of date."""
_OUTDATED = "The catalogue may be out of date."
_SWEPT_MAX = 2
"""Tombstones removed at once. More than one for each that comes, so that they cannot pile up."""

_logger = logging.getLogger(__name__)


class _Gone(NamedTuple):
    """What is known of a queue that is not there: the newest change, and when it was deleted.

    Without a tombstone `deleted_ms` is 0: only older news are then to be told from newer.
    """

    revision: int
    deleted_ms: int


class Catalogue:
    """All queues of all accounts.

    Lifecycle: build it (no I/O), `start`, use, `stop`.
    """

    def __init__(self, store: MetadataStore, outdated_s_max: float = OUTDATED_S_MAX) -> None:
        """`outdated_s_max`: seconds for which look-ups are answered from a cache that may be out of date."""
        self._store = store
        self._outdated_s_max = outdated_s_max
        self._is_outdated = False
        self._looking: asyncio.TimerHandle | None = None
        self._queues: dict[tuple[str, str], Queue] = {}
        self._names: dict[str, list[str]] = {}
        self._gone: dict[tuple[str, str], _Gone] = {}
        self._watched = 0  # the revision of the newest change that the watch has told of
        self._watch: Watch | None = None
        self._kept_by: Watch | None = None  # the newest watch since which the cache was filled
        self._watching: asyncio.Task[None] | None = None
        self.secret = b""
        """The key of this installation's receipt handles and message ids: 32 bytes."""

    async def start(self) -> None:
        """Fill the cache. Raises `MetadataUnavailable`."""
        watch = await self._watch_and_fill()
        self.secret = await self._load_secret()
        self._watching = asyncio.create_task(self._follow(watch), name="catalogue-watch")

    async def stop(self) -> None:
        """Stop watching; the cache stays as it is."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._watch is not None:
            self._watch.close()
        if self._looking is not None:
            self._looking.cancel()

    async def _load_secret(self) -> bytes:
        stored = await self._store.get(SECRET_KEY)
        if stored is None or stored.value is None:
            with suppress(Conflict):  # somebody else has just made one: theirs it is
                await self._store.put(SECRET_KEY, secrets.token_bytes(SECRET_BYTES), 0)
            return await self._load_secret()
        return stored.value

    # The cache

    async def _watch_and_fill(self) -> Watch:
        if self._watch is not None:
            self._watch.close()
        watch = self._watch = self._store.watch(QUEUE_PREFIX)
        await self._fill()
        self._kept_by = watch
        self._look_at_age()
        return watch

    async def _fill(self) -> None:
        before = dict(self._queues)
        found = await self._store.list(QUEUE_PREFIX)
        keys = {_split(stored.key) for stored in found}
        for key, queue in before.items():
            # What was created meanwhile may be newer than the list.
            if key not in keys and self._queues.get(key) is queue:
                self._forget(key)
        self._gone = {key: gone for key, gone in self._gone.items() if key in keys or not gone.deleted_ms}
        for stored in found:
            self._note(stored)

    async def _follow(self, watch: Watch) -> None:
        while True:
            try:
                async for change in watch:
                    self._note(change)
                    self._watched = change.revision
                    gone = self._gone.get(_split(change.key))
                    if change.value is None and gone is not None and gone.revision == change.revision:
                        # The watch is in order: nothing older about this queue can come any more.
                        del self._gone[_split(change.key)]
                return
            except MetadataUnavailable as error:
                _logger.warning("the watch on the catalogue was lost", extra={"reason": str(error)})
            # Of a store that tells its watches of everything at once, it was fresh until now.
            watch.confirmed_s = min(watch.confirmed_s, asyncio.get_running_loop().time())
            self._look_at_age()
            watch = await self._watch_again()

    async def _watch_again(self) -> Watch:
        while True:
            await asyncio.sleep(_RETRY_S)
            # That the watch was lost has been said; `is_fresh` says what it means for look-ups.
            with suppress(MetadataUnavailable):
                return await self._watch_and_fill()

    def _look_at_age(self) -> None:
        """Notice that the cache has got too old, or is no longer; look again while it can."""
        assert self._kept_by is not None, "it is filled before"
        loop = asyncio.get_running_loop()
        is_outdated = loop.time() - self._kept_by.confirmed_s > self._outdated_s_max
        if is_outdated != self._is_outdated:
            self._is_outdated = is_outdated
            _logger.warning(
                "the catalogue may be out of date: look-ups are refused"
                if is_outdated
                else "the catalogue is up to date again"
            )
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if self._kept_by.confirmed_s < math.inf:
            self._looking = loop.call_later(_LOOK_S, self._look_at_age)

    def _note(self, stored: Stored) -> None:
        """Take a change over, unless a newer one is known: a writer hears of its own change twice."""
        key = _split(stored.key)
        cached = self._queues.get(key)
        known = cached if cached is not None else self._gone.get(key)
        if known is not None and stored.revision <= known.revision:
            return
        record = None if stored.value is None else msgspec.msgpack.decode(stored.value, type=QueueRecord)
        self._gone.pop(key, None)
        if record is None or record.deleted_ms:
            self._forget(key)
            # A writer may hear of its own deletion only after the watch has told of it.
            if record is not None or stored.revision > self._watched:
                self._gone[key] = _Gone(stored.revision, record.deleted_ms if record is not None else 0)
            return
        if cached is None:
            insort(self._names.setdefault(key[0], []), key[1])
        self._queues[key] = Queue(record, stored.revision)

    def _forget(self, key: tuple[str, str]) -> None:
        if self._queues.pop(key, None) is not None:
            names = self._names[key[0]]
            del names[bisect_left(names, key[1])]

    # Looking

    def find(self, account: str, name: str) -> Queue | None:
        """The queue of that owner and name, if there is one.

        Raises `MetadataUnavailable` while the cache is not fresh.
        """
        if self._is_outdated:
            raise MetadataUnavailable(_OUTDATED)
        return self._queues.get((account, name))

    def is_fresh(self) -> bool:
        """Whether look-ups are answered: the cache has missed no change for longer than it may."""
        return not self._is_outdated

    def queues(self) -> Iterator[Queue]:
        """Every queue, in no order."""
        return iter(self._queues.values())

    def names(self, account: str, prefix: str, after: str, limit: int) -> list[str]:
        """At most `limit` names of an account's queues that begin with `prefix`, sorted, past `after`.

        Raises `MetadataUnavailable` while the cache is not fresh.
        """
        if self._is_outdated:
            raise MetadataUnavailable(_OUTDATED)
        names = self._names.get(account, [])
        first = bisect_left(names, max(prefix, after + "\0" if after else ""))
        found: list[str] = []
        for index in range(first, len(names)):
            if len(found) == limit or not names[index].startswith(prefix):
                break
            found.append(names[index])
        return found

    def deleted_ms(self, account: str, name: str) -> int:
        """Unix time at which the last queue of that owner and name was deleted.

        0 if there is one, if there never was, or if nothing is left of it: not even a tombstone.
        """
        gone = self._gone.get((account, name))
        return gone.deleted_ms if gone is not None else 0

    # Changing

    async def create(self, record: QueueRecord) -> Queue:
        """Add a queue, in the place of a tombstone if there is one.

        Raises `Conflict` when its owner has one of that name, or has just deleted one.
        """
        key = (record.account, record.name)
        seen = self._gone.get(key)
        try:
            revision = await self._put(record, seen.revision if seen is not None and seen.deleted_ms else 0)
        except Conflict:
            await self._refresh(record)
            if key in self._queues or self.deleted_ms(*key):
                raise
            revision = await self._put(record, 0)  # the tombstone was swept away meanwhile
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
                current = self._queues.get((record.account, record.name))
            else:
                return self._queues.get((record.account, record.name))
        return None

    async def delete(self, queue: Queue, tombstone_ms: int | None = None) -> bool:
        """Remove a queue. False when it is gone already.

        Args:
            queue: which one; a queue that has been deleted and created again is another.
            tombstone_ms: the time, for `deleted_ms` to tell from now on; None leaves nothing behind.
        """
        record = queue.record
        current: Queue | None = queue
        while current is not None and current.number == record.number and current.shard == record.shard:
            try:
                if tombstone_ms is None:
                    await self._remove(record.account, record.name, current.revision)
                else:
                    await self._put(_tombstone(current.record, tombstone_ms), current.revision)
            except Conflict:
                await self._refresh(record)
                current = self._queues.get((record.account, record.name))
            else:
                return True
        return False

    async def sweep(self, before_ms: int) -> None:
        """Remove a few tombstones from before a time. Call it for each new one, and they stay few."""
        tombstones = ((key, gone) for key, gone in self._gone.items() if gone.deleted_ms)
        for (account, name), gone in list(islice(tombstones, _SWEPT_MAX)):
            if gone.deleted_ms <= before_ms:
                # Who fails here, or comes late, has lost nothing: the next sweep is soon.
                with suppress(Conflict, MetadataUnavailable):
                    await self._remove(account, name, gone.revision)

    async def _remove(self, account: str, name: str, expected: int) -> None:
        key = _key(account, name)
        self._note(Stored(key, None, await self._store.delete(key, expected)))

    async def _put(self, record: QueueRecord, expected: int) -> int:
        key, value = _key(record.account, record.name), msgspec.msgpack.encode(record)
        revision = await self._store.put(key, value, expected)
        self._note(Stored(key, value, revision))
        return revision

    async def _refresh(self, record: QueueRecord) -> None:
        """Read one queue past the cache, which the watch may not have reached yet."""
        key = (record.account, record.name)
        before, gone_before = self._queues.get(key), self._gone.get(key)
        stored = await self._store.get(_key(*key))
        if stored is not None:
            self._note(stored)
        elif self._queues.get(key) is before and self._gone.get(key) is gone_before:
            # Nothing newer was heard of meanwhile.
            self._forget(key)
            if self.deleted_ms(*key):
                del self._gone[key]


def _tombstone(record: QueueRecord, deleted_ms: int) -> QueueRecord:
    return msgspec.structs.replace(record, attributes={}, tags={}, deleted_ms=deleted_ms)


def _key(account: str, name: str) -> str:
    return f"{QUEUE_PREFIX}{account}/{name}"


def _split(key: str) -> tuple[str, str]:
    _, account, name = key.split("/")
    return account, name
