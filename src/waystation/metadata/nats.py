"""The metadata store of a cluster: a bucket on its NATS servers.

A write is asked for again until it is known what has become of it, and told from the writes
of others by a nonce. A read is as new as what the leader of the bucket's stream knew when it
was asked for, and as what this store has itself written or been told of.

No answer, a lagging replica, an election: all are asked again, up to a deadline.

A leader that was cut off from the others takes a while to notice. Until then those who are cut off with
it read what was there before, and find that fresh; they cannot write, so nothing is lost by it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from waystation.log.nats import CONFLICTS, ApiFailure, NatsConnection, NatsFailure, NoAnswer
from waystation.log.settings import NatsSettings
from waystation.metadata.nats_bucket import FORMAT_KEY, Bucket, Entry
from waystation.metadata.nats_feed import Feed
from waystation.metadata.store import Conflict, MetadataUnavailable, Stored, Watch

_DEADLINE_S = 10.0
"""For every call: the servers elect a new leader in 4.4 to 8.9 s (measured)."""
_PAUSE_S = 0.05
_BEHIND_MAX = 5
"""Answers from replicas that lag behind, before it is looked whether there is anything to wait for."""

Answer = TypeVar("Answer")


async def create_metadata_bucket(connection: NatsConnection, settings: NatsSettings) -> None:
    """Create the bucket of a cluster, unless it is there. Raises `MetadataUnavailable`."""
    await _patiently(Bucket(connection, settings).create, _deadline())


class NatsMetadataStore:
    """Implements `MetadataStore` in the bucket that `create_metadata_bucket` has created.

    The connection belongs to whoever opened it, and has to be open until this is closed.
    """

    def __init__(self, connection: NatsConnection, settings: NatsSettings) -> None:
        self._bucket = Bucket(connection, settings)
        self._is_open = False
        self._seen = 0
        """The newest sequence that this store has written or read."""
        self._writes: set[asyncio.Task[int]] = set()
        self._feed: Feed | None = None
        self._feeding: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        await _patiently(self._bucket.check, _deadline())
        self._is_open = True

    async def close(self) -> None:
        self._is_open = False
        if self._feed is not None:
            self._feed.close_watches()
        for feeding in self._feeding:
            feeding.cancel()
        # Writes have a deadline of their own; nobody is left waiting.
        await asyncio.gather(*self._writes, *self._feeding, return_exceptions=True)

    def _require_open(self) -> None:
        if not self._is_open:
            raise MetadataUnavailable("The metadata store is not open.")

    # Watching

    def watch(self, prefix: str) -> Watch:
        watch = Watch(prefix)
        if not self._is_open:
            watch.cut_off("The metadata store is not open.")
            return watch
        if self._feed is None or self._feed.is_over:
            self._feed = Feed(self._bucket)
            feeding = asyncio.create_task(self._feed.run(), name="metadata-feed")
            self._feeding.add(feeding)
            feeding.add_done_callback(self._feeding.discard)
        self._feed.add(watch, self._seen)
        return watch

    async def _ready(self) -> None:
        """Wait for watches that are being set up: what comes after them must not be missed by them."""
        self._require_open()
        if self._feed is not None:
            await self._feed.is_set_up.wait()
            self._require_open()

    # Reading

    # In tasks of their own: handlers of requests are run without one, and deadlines need one.

    async def get(self, key: str) -> Stored | None:
        return await asyncio.create_task(self._get(key))

    async def _get(self, key: str) -> Stored | None:
        deadline_s = _deadline()
        await self._ready()
        entry = await _patiently(lambda: self._read(key), deadline_s)
        return entry.stored if entry is not None and entry.value is not None else None

    async def _read(self, key: str) -> Entry | None:
        """As new as the leader says. Raises `NatsFailure`."""
        last = await self._last_sequence()
        return await self._bucket.read(key, last)

    async def _last_sequence(self) -> int:
        # A leader that comes back from a pause may not know yet what others have written since.
        self._seen = max(self._seen, await self._bucket.last_sequence())
        return self._seen

    async def _list(self, prefix: str) -> list[Stored]:
        deadline_s = _deadline()
        await self._ready()
        last = await _patiently(self._last_sequence, deadline_s)
        found: dict[str, Stored] = {}
        position = 0
        while position < last:
            # One batch may be from a replica that is ahead of the next one's: what comes later is newer.
            for entry in await _patiently(self._batches_after(position, last), deadline_s):
                position = max(position, entry.sequence)
                if entry.key.startswith(prefix) and entry.key != FORMAT_KEY:
                    found[entry.key] = entry.stored
        return [found[key] for key in sorted(found) if found[key].value is not None]

    async def list(self, prefix: str) -> list[Stored]:
        return await asyncio.create_task(self._list(prefix))

    def _batches_after(self, position: int, last: int) -> Callable[[], Awaitable[Sequence[Entry]]]:
        answers = 0

        async def batch() -> Sequence[Entry]:
            nonlocal answers
            answers += 1
            if answers % _BEHIND_MAX == 0:
                await self._bucket.fill_end(last)
            return await self._bucket.read_after(position, last)

        return batch

    # Writing

    async def put(self, key: str, value: bytes, expected: int) -> int:
        return await self._write(key, value, expected)

    async def delete(self, key: str, expected: int) -> int:
        return await self._write(key, None, expected)

    async def _write(self, key: str, value: bytes | None, expected: int) -> int:
        self._require_open()
        writing = asyncio.create_task(self._compare_and_set(key, value, expected))
        self._writes.add(writing)
        writing.add_done_callback(self._note_written)
        # Shielded: what has been sent may happen also when its caller goes away.
        return await asyncio.shield(writing)

    def _note_written(self, writing: asyncio.Task[int]) -> None:
        self._writes.discard(writing)
        if not writing.cancelled() and writing.exception() is None:
            self._seen = max(self._seen, writing.result())

    async def _compare_and_set(self, key: str, value: bytes | None, expected: int) -> int:
        deadline_s = _deadline()
        await self._ready()
        write = _Write(self._bucket, self._read, key, value, expected, self._seen)
        return await _patiently(write.attempt, deadline_s)


class _Write:
    """One write, from the first attempt until it is known whether it happened."""

    def __init__(
        self,
        bucket: Bucket,
        read: Callable[[str], Awaitable[Entry | None]],
        key: str,
        value: bytes | None,
        expected: int,
        begun: int,
    ) -> None:
        self._begun = begun  # a sequence that is older than anything this write can have done
        self._bucket = bucket
        self._read = read
        self._key = key
        self._value = value
        self._is_new = expected == 0
        self._follows = expected
        self._nonce = secrets.token_hex(12)
        self._may_have_happened = False

    async def attempt(self) -> int:
        """Write, or find out what an earlier attempt has done; returns the revision.

        Raises:
            Conflict: another value is there, and this one never was.
            MetadataUnavailable: it may have happened, and been written over since.
            NatsFailure: unknown; to be asked again.
        """
        while True:
            try:
                return await self._bucket.write(self._key, self._value, self._follows, self._nonce)
            except NoAnswer:
                self._may_have_happened = True
                raise
            except ApiFailure as failure:
                if failure.code not in CONFLICTS:
                    raise
                found = await self._read(self._key)
                if found is not None and found.nonce == self._nonce:
                    return found.sequence
                if (0 if found is None else found.sequence) == self._follows:
                    raise  # another change of the key is on its way to the disks of a majority
                self._follow(found)

    def _follow(self, found: Entry | None) -> None:
        """Go on from a message that is neither ours nor the one expected, if that can be.

        A bucket keeps the newest message alone. One that is older than this write tells that it has
        not happened; one that follows what ours would have followed has taken its place. Of any
        other, ours may have been what it followed.
        """
        is_old = found is not None and found.sequence <= self._begun
        took_its_place = found is not None and found.follows == self._follows
        if self._may_have_happened and not (is_old or took_its_place):
            raise MetadataUnavailable("The write may have happened, and was written over if it did.")
        if found is None or found.value is not None or not self._is_new:
            raise Conflict(self._key)
        # The key was deleted, and a new value follows the message that says so. No attempt that is
        # still under way can happen any more.
        self._follows, self._may_have_happened = found.sequence, False


def _deadline() -> float:
    return asyncio.get_running_loop().time() + _DEADLINE_S


async def _patiently(call: Callable[[], Awaitable[Answer]], deadline_s: float) -> Answer:
    """Ask again after every failure until the deadline, then raise `MetadataUnavailable`."""
    while True:
        try:
            return await call()
        except NatsFailure as failure:
            if asyncio.get_running_loop().time() >= deadline_s:
                raise MetadataUnavailable(
                    f"The metadata store has not answered in time: {failure}"
                ) from failure
            await asyncio.sleep(_PAUSE_S)
