"""A metadata store over a link misses nothing unnoticed, and what one was told of, all have heard of.

What every store promises is tested in `tests/metadata/test_store_contract.py`, with this one among them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.cluster.metadata_driver import Backend, LinkedStore
from tests.log.asynchrony import async_test, until
from waystation.cluster import metadata_calls
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.queues import QueueRecord
from waystation.metadata.sqlite import SqliteMetadataStore
from waystation.metadata.store import Conflict, MetadataUnavailable, Stored, Watch

ACCOUNT = "000000000000"


@asynccontextmanager
async def backend_in(folder: Path, changes_max: int = 100) -> AsyncIterator[Backend]:
    backend = Backend(folder, changes_max=changes_max)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.stop()


@asynccontextmanager
async def stores_of(backend: Backend, count: int = 1) -> AsyncIterator[list[LinkedStore]]:
    stores = [LinkedStore(backend.address) for _ in range(count)]
    try:
        for store in stores:
            await store.open()
        yield stores
    finally:
        for store in stores:
            await store.close()


async def keys_of(watch: Watch, count: int) -> list[str]:
    keys: list[str] = []
    async for change in watch:
        keys.append(change.key)
        if len(keys) == count:
            break
    return keys


def record(name: str, **attributes: str) -> QueueRecord:
    return QueueRecord(name, ACCOUNT, 0, 0, 0, 1, attributes, {})


def revision_of(catalogue: Catalogue, name: str) -> int | None:
    queue = catalogue.find(ACCOUNT, name)
    return None if queue is None else queue.revision


def break_links(backend: Backend) -> None:
    for connection in list(backend.transport.connections):
        connection.fail(ConnectionResetError("as the test wants"))


@async_test
async def test_what_one_process_has_written_all_others_know_when_it_is_told_so(tmp_path: Path) -> None:
    """Each time, and not just mostly: a client may ask any FrontEnd next."""
    async with backend_in(tmp_path) as backend, stores_of(backend, 4) as stores:
        catalogues = [Catalogue(store) for store in stores]
        for catalogue in catalogues:
            await catalogue.start()
        try:
            for number in range(50):
                writer, name = catalogues[number % 4], f"queue-{number}"
                queue = await writer.create(record(name))
                assert {revision_of(each, name) for each in catalogues} == {queue.revision}

                changed = await writer.update(queue, lambda _, name=name: record(name, DelaySeconds="7"))  # type: ignore[misc]
                assert changed is not None
                assert {revision_of(each, name) for each in catalogues} == {changed.revision}

                await writer.delete(changed)
                assert {revision_of(each, name) for each in catalogues} == {None}
        finally:
            for catalogue in catalogues:
                await catalogue.stop()


@async_test
async def test_a_process_that_stands_still_holds_a_write_up_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata_calls, "_HEARD_S", 0.2)
    async with backend_in(tmp_path) as backend, stores_of(backend, 2) as [writer, idle]:
        await until(lambda: backend.transport.calls == 2)  # both wait for news
        before = backend.metadata._followers[idle._number]
        loop = asyncio.get_running_loop()
        # It is told of the change, and then does nothing more, with its link as good as ever.
        stands_still = asyncio.Event()
        idle._take_news = stands_still.wait  # type: ignore[method-assign, assignment]
        began_s = loop.time()
        await writer.put("a", b"", 0)
        assert loop.time() - began_s >= 0.2
        assert before not in backend.metadata._followers.values()

        began_s = loop.time()
        await writer.put("b", b"", 0)
        assert loop.time() - began_s < 0.2


@async_test
async def test_a_process_that_has_gone_holds_no_write_up(tmp_path: Path) -> None:
    async with backend_in(tmp_path) as backend, stores_of(backend) as [writer]:
        async with stores_of(backend):
            await until(lambda: backend.transport.calls == 2)  # both wait for news
        await until(lambda: len(backend.metadata._followers) == 1)

        assert await writer.put("a", b"", 0) > 0


@async_test
async def test_a_link_that_breaks_costs_no_change(tmp_path: Path) -> None:
    async with backend_in(tmp_path) as backend, stores_of(backend) as [store]:
        watch = store.watch("")
        await backend.store.put("before", b"", 0)
        break_links(backend)
        await backend.store.put("meanwhile", b"", 0)
        await until(store.link.is_alive)
        await backend.store.put("after", b"", 0)

        assert await keys_of(watch, 3) == ["before", "meanwhile", "after"]
        assert not watch.is_over


@async_test
async def test_who_comes_back_too_late_for_some_changes_is_told_so(tmp_path: Path) -> None:
    async with backend_in(tmp_path, changes_max=3) as backend, stores_of(backend) as [store]:
        watch = store.watch("")
        break_links(backend)
        for number in range(5):
            await backend.store.put(f"key-{number}", b"", 0)

        with pytest.raises(MetadataUnavailable, match="were missed"):
            await keys_of(watch, 5)

        again = store.watch("")
        assert len(await store.list("")) == 5
        await store.put("new", b"", 0)
        assert await keys_of(again, 1) == ["new"]


@async_test
async def test_when_the_backend_itself_may_have_missed_something_all_are_told_so(tmp_path: Path) -> None:
    async with backend_in(tmp_path) as backend, stores_of(backend) as [store]:
        watch = store.watch("")
        assert isinstance(backend.store, SqliteMetadataStore)
        [own] = backend.store._watches
        own.cut_off("as the test wants")

        with pytest.raises(MetadataUnavailable, match="were missed"):
            await keys_of(watch, 1)

        again = store.watch("")
        await store.put("new", b"", 0)
        assert await keys_of(again, 1) == ["new"]


@async_test
async def test_a_watch_is_known_to_be_fresh_though_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata_calls, "_NEWS_S", 0.01)
    async with backend_in(tmp_path) as backend, stores_of(backend) as [store]:
        watch = store.watch("")
        began_s = asyncio.get_running_loop().time()
        await until(lambda: watch.confirmed_s > began_s)

        await backend.transport.stop()
        await until(lambda: not store.link.is_alive())
        confirmed_s = watch.confirmed_s
        with pytest.raises(MetadataUnavailable):
            await store.get("a")
        await asyncio.sleep(0)
        assert watch.confirmed_s == confirmed_s


@async_test
async def test_a_list_of_any_length_comes_page_by_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata_calls, "_PAGE_BYTES", 250)
    async with backend_in(tmp_path) as backend, stores_of(backend) as [store]:
        keys = [f"key-{number:02}" for number in range(20)]
        for key in keys:
            await backend.store.put(key, bytes(100), 0)

        assert [each.key for each in await store.list("key-")] == keys


@async_test
async def test_news_of_any_length_come_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_calls, "_PAGE_BYTES", 250)
    async with backend_in(tmp_path) as backend, stores_of(backend) as [store]:
        watch = store.watch("")
        break_links(backend)
        keys = [f"key-{number:02}" for number in range(20)]
        for key in keys:
            await backend.store.put(key, bytes(100), 0)

        assert await keys_of(watch, 20) == keys


@async_test
async def test_errors_are_the_same_over_a_link(tmp_path: Path) -> None:
    async with backend_in(tmp_path) as backend, stores_of(backend) as [store]:
        with pytest.raises(Conflict, match="key"):
            await store.put("key", b"", 7)

        await backend.store.close()
        with pytest.raises(MetadataUnavailable, match="not open"):
            await store.get("key")


@async_test
async def test_without_a_backend_a_store_is_unavailable(tmp_path: Path) -> None:
    async with backend_in(tmp_path) as backend:
        store = LinkedStore(backend.address)
        await store.open()
        await backend.transport.stop()
        try:
            for work in (store.get("a"), store.list(""), store.put("a", b"", 0), store.delete("a", 1)):
                with pytest.raises(MetadataUnavailable):
                    await work
        finally:
            await store.close()


@async_test
async def test_what_was_seen_before_is_not_told_as_new(tmp_path: Path) -> None:
    async with backend_in(tmp_path) as backend, stores_of(backend) as [store]:
        break_links(backend)  # so that the news of the change come late
        revision = await backend.store.put("old", b"", 0)
        await until(store.link.is_alive)
        assert await store.get("old") == Stored("old", b"", revision)
        watch = store.watch("")
        await store.put("new", b"", 0)

        assert await keys_of(watch, 1) == ["new"]
