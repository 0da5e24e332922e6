"""What every metadata store promises, whatever is behind it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import TypeAlias

import pytest

from tests.cluster.metadata_driver import RemoteStorage
from tests.log.asynchrony import async_test, until
from tests.simulation.store import SimulatedStore, StoreDisk
from waystation.log.nats import NatsConnection
from waystation.log.settings import NatsSettings
from waystation.metadata.nats import NatsMetadataStore, create_metadata_bucket
from waystation.metadata.sqlite import SqliteMetadataStore
from waystation.metadata.store import Conflict, MetadataStore, MetadataUnavailable, Stored, Watch

Storage: TypeAlias = Callable[[], MetadataStore]
"""Gives a store, not open yet, over the same storage each time."""


class ConnectedStore(NatsMetadataStore):
    """Has its connection, and its bucket, to itself."""

    def __init__(self, settings: NatsSettings) -> None:
        self._settings = settings
        self._connection = NatsConnection(settings)
        super().__init__(self._connection, settings)

    async def open(self) -> None:
        await self._connection.open()
        await create_metadata_bucket(self._connection, self._settings)
        await super().open()

    async def close(self) -> None:
        await super().close()
        await self._connection.close()


def sqlite_storage(request: pytest.FixtureRequest) -> Storage:
    folder: Path = request.getfixturevalue("tmp_path")
    return lambda: SqliteMetadataStore(folder / "metadata.db")


def nats_storage(request: pytest.FixtureRequest) -> Storage:
    prefix = f"test-{secrets.token_hex(6)}"
    settings = NatsSettings(servers=request.getfixturevalue("nats_url"), prefix=prefix, replicas=1)
    return lambda: ConnectedStore(settings)


def simulated_storage(_: pytest.FixtureRequest) -> Storage:
    """What the simulation takes for a store has to be one, or what it finds means nothing."""
    disk = StoreDisk(Random(1))
    return lambda: SimulatedStore(disk)


def remote_storage(request: pytest.FixtureRequest) -> Storage:
    """Of a process that has it, for others."""
    folder: Path = request.getfixturevalue("tmp_path")
    return lambda: RemoteStorage(folder)


@pytest.fixture(
    params=[sqlite_storage, nats_storage, simulated_storage, remote_storage],
    ids=["sqlite", "nats", "simulated", "remote"],
)
def storage(request: pytest.FixtureRequest) -> Storage:
    made: Storage = request.param(request)
    return made


@asynccontextmanager
async def opened(storage: Storage) -> AsyncIterator[MetadataStore]:
    store = storage()
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def next_changes(watch: Watch, count: int) -> list[Stored]:
    changes: list[Stored] = []
    async for change in watch:
        changes.append(change)
        if len(changes) == count:
            break
    return changes


def told(watch: Watch) -> int:
    """Changes that wait to be read. A store may tell of a change a moment after its writer returns."""
    return watch._changes.qsize()


@async_test
async def test_a_value_is_read_back_with_the_revision_of_its_write(storage: Storage) -> None:
    async with opened(storage) as store:
        revision = await store.put("queue/a", b"\0binary\xff", 0)

        assert await store.get("queue/a") == Stored("queue/a", b"\0binary\xff", revision)
        assert await store.get("queue/b") is None


@async_test
async def test_every_change_raises_the_revision(storage: Storage) -> None:
    async with opened(storage) as store:
        first = await store.put("a", b"1", 0)
        second = await store.put("b", b"1", 0)
        third = await store.put("a", b"2", first)
        fourth = await store.delete("b", second)
        fifth = await store.put("b", b"again", 0)

        assert 0 < first < second < third < fourth < fifth


@async_test
async def test_a_write_that_expects_another_revision_is_refused_and_changes_nothing(storage: Storage) -> None:
    async with opened(storage) as store:
        revision = await store.put("a", b"1", 0)
        for expected in (0, revision + 1, revision - 1 or 99):
            with pytest.raises(Conflict):
                await store.put("a", b"2", expected)
            with pytest.raises(Conflict):
                await store.delete("a", expected)
        with pytest.raises(Conflict):
            await store.put("never-there", b"2", 7)

        assert await store.get("a") == Stored("a", b"1", revision)
        assert await store.put("b", b"1", 0) == revision + 1, "refused writes raise no revision"


@async_test
async def test_of_two_writers_who_saw_the_same_value_only_one_succeeds(storage: Storage) -> None:
    async with opened(storage) as store:
        seen = await store.put("counter", b"0", 0)
        writes = [store.put("counter", b"%d" % number, seen) for number in range(10)]
        results = await asyncio.gather(*writes, return_exceptions=True)

        assert sum(isinstance(result, Conflict) for result in results) == 9


@async_test
async def test_a_deleted_value_is_gone_and_its_key_free(storage: Storage) -> None:
    async with opened(storage) as store:
        revision = await store.put("a", b"1", 0)
        await store.delete("a", revision)

        assert await store.get("a") is None
        with pytest.raises(Conflict):
            await store.delete("a", revision)
        assert await store.put("a", b"2", 0) > revision


@async_test
async def test_a_prefix_lists_its_values_by_key(storage: Storage) -> None:
    async with opened(storage) as store:
        keys = ["queue/1/b", "queue/1/a", "queue/10/a", "queue/2/a", "queues", "quail", "queue/1/z"]
        for key in keys:
            await store.put(key, key.encode(), 0)

        assert [stored.key for stored in await store.list("queue/1/")] == [
            "queue/1/a",
            "queue/1/b",
            "queue/1/z",
        ]
        assert [stored.key for stored in await store.list("queue/")] == [
            *("queue/1/a", "queue/1/b", "queue/1/z", "queue/10/a", "queue/2/a")
        ]
        assert len(await store.list("")) == len(keys)
        assert await store.list("nothing") == []


@async_test
async def test_values_survive_and_revisions_go_on_when_the_store_is_opened_again(storage: Storage) -> None:
    async with opened(storage) as store:
        kept = await store.put("a", b"1", 0)
        deleted = await store.put("b", b"1", 0)
        last = await store.delete("b", deleted)
    async with opened(storage) as store:
        assert await store.get("a") == Stored("a", b"1", kept)
        assert await store.get("b") is None
        assert await store.put("c", b"1", 0) > last


@async_test
async def test_a_watch_tells_of_changes_from_now_on_in_their_order(storage: Storage) -> None:
    async with opened(storage) as store:
        await store.put("queue/before", b"1", 0)
        watch = store.watch("queue/")
        first = await store.put("queue/a", b"1", 0)
        await store.put("other/a", b"1", 0)
        assert await next_changes(watch, 1) == [Stored("queue/a", b"1", first)]

        second = await store.put("queue/a", b"2", first)
        assert await next_changes(watch, 1) == [Stored("queue/a", b"2", second)]

        third = await store.delete("queue/a", second)
        assert await next_changes(watch, 1) == [Stored("queue/a", None, third)]


@async_test
async def test_a_watch_ends_with_the_newest_change_of_each_key_however_fast_they_follow(
    storage: Storage,
) -> None:
    async with opened(storage) as store:
        watch = store.watch("")
        revision = 0
        for number in range(20):
            revision = await store.put("a", b"%d" % number, revision)
        last = await store.put("b", b"", 0)

        changes: list[Stored] = []
        while not changes or changes[-1].revision < last:
            changes += await next_changes(watch, 1)
        assert changes[-2:] == [Stored("a", b"19", revision), Stored("b", b"", last)]
        assert [change.revision for change in changes] == sorted({change.revision for change in changes})


@async_test
async def test_what_a_list_after_a_watch_misses_the_watch_tells_of(storage: Storage) -> None:
    async with opened(storage) as writer:
        writes = [asyncio.create_task(writer.put(f"key-{number}", b"", 0)) for number in range(50)]
        await writes[0]
        watch = writer.watch("")
        known = {stored.key for stored in await writer.list("")}
        await asyncio.gather(*writes)

        while len(known) < 50:
            known |= {change.key for change in await next_changes(watch, 1)}


@async_test
async def test_changes_that_are_made_at_once_are_told_in_the_order_of_their_revisions(
    storage: Storage,
) -> None:
    async with opened(storage) as store:
        watch = store.watch("")
        await asyncio.gather(*(store.put(f"key-{number}", b"", 0) for number in range(100)))
        revisions = [change.revision for change in await next_changes(watch, 100)]

        assert revisions == sorted(revisions)


@async_test
async def test_a_write_whose_caller_went_away_is_told_of_all_the_same(storage: Storage) -> None:
    async with opened(storage) as store:
        watch = store.watch("")
        writing = asyncio.create_task(store.put("a", b"1", 0))
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)

        [change] = await next_changes(watch, 1)
        assert change == await store.get("a")


@async_test
async def test_a_watch_that_is_closed_ends_after_what_was_told(storage: Storage) -> None:
    async with opened(storage) as store:
        watch = store.watch("")
        await store.put("a", b"1", 0)
        await until(lambda: told(watch) == 1)
        watch.close()
        await store.put("b", b"1", 0)

        assert [change.key async for change in watch] == ["a"]


@async_test
async def test_all_watches_end_when_the_store_is_closed(storage: Storage) -> None:
    async with opened(storage) as store:
        watch = store.watch("")
        await store.put("a", b"1", 0)
        await until(lambda: told(watch) == 1)

    assert [change.key async for change in watch] == ["a"]


@async_test
async def test_a_watch_that_falls_too_far_behind_is_cut_off_and_says_so(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "_CHANGES_MAX", 3)
    async with opened(storage) as store:
        watch = store.watch("")
        for number in range(5):
            await store.put(f"key-{number}", b"", 0)
        await until(lambda: watch.is_over)

        assert [change.key for change in await next_changes(watch, 3)] == ["key-0", "key-1", "key-2"]
        with pytest.raises(MetadataUnavailable, match="too far behind"):
            await next_changes(watch, 1)


@pytest.mark.parametrize("was_open", [False, True])
@async_test
async def test_a_store_that_is_not_open_is_unavailable(storage: Storage, was_open: bool) -> None:
    store = storage()
    if was_open:
        await store.open()
        await store.close()
        await store.close()

    with pytest.raises(MetadataUnavailable):
        await store.get("a")
    with pytest.raises(MetadataUnavailable):
        await store.list("")
    with pytest.raises(MetadataUnavailable):
        await store.put("a", b"1", 0)
    with pytest.raises(MetadataUnavailable):
        await store.delete("a", 1)
