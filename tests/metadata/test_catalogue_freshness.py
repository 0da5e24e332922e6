"""A catalogue whose watch may have missed something says so, and refuses look-ups past a bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.log.asynchrony import async_test, until
from tests.metadata.test_catalogue import ACCOUNT, catalogues, cut_off, record
from waystation.metadata import catalogue as catalogue_module
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.sqlite import SqliteMetadataStore
from waystation.metadata.store import MetadataUnavailable, Stored, Watch


class DistantStore(SqliteMetadataStore):
    """Confirms its watches only when a test says so, as a store on other machines does."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.age_s = 0.0

    def watch(self, prefix: str) -> Watch:
        watch = super().watch(prefix)
        self.confirm(watch)
        return watch

    def confirm(self, watch: Watch | None) -> None:
        assert watch is not None
        watch.confirmed_s = asyncio.get_running_loop().time() - self.age_s


@asynccontextmanager
async def distant_catalogue(folder: Path) -> AsyncIterator[tuple[Catalogue, DistantStore]]:
    store = DistantStore(folder / "metadata.db")
    await store.open()
    catalogue = Catalogue(store, outdated_s_max=10)
    try:
        await catalogue.start()
        await catalogue.create(record())
        yield catalogue, store
    finally:
        await catalogue.stop()
        await store.close()


@async_test
async def test_a_catalogue_that_may_be_out_of_date_refuses_to_look_until_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(catalogue_module, "_LOOK_S", 0.001)
    async with distant_catalogue(tmp_path) as (catalogue, store):
        store.age_s = 8
        store.confirm(catalogue._watch)
        await asyncio.sleep(0.01)  # time for several looks, which find nothing
        assert catalogue.is_fresh()
        assert catalogue.find(ACCOUNT, "orders") is not None

        store.age_s = 11
        store.confirm(catalogue._watch)
        await until(lambda: not catalogue.is_fresh())
        with pytest.raises(MetadataUnavailable, match="may be out of date"):
            catalogue.find(ACCOUNT, "orders")
        with pytest.raises(MetadataUnavailable, match="may be out of date"):
            catalogue.names(ACCOUNT, "", "", 10)

        store.age_s = 0
        store.confirm(catalogue._watch)
        await until(catalogue.is_fresh)
        assert catalogue.find(ACCOUNT, "orders") is not None
        assert catalogue.names(ACCOUNT, "", "", 10) == ["orders"]

    assert [logged.getMessage() for logged in caplog.records if "date" in logged.getMessage()] == [
        "the catalogue may be out of date: look-ups are refused",
        "the catalogue is up to date again",
    ]


@async_test
async def test_a_new_watch_makes_a_catalogue_fresh_only_once_everything_was_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_module, "_RETRY_S", 0.001)
    monkeypatch.setattr(catalogue_module, "_LOOK_S", 0.001)
    async with distant_catalogue(tmp_path) as (catalogue, store):
        is_reachable = asyncio.Event()
        lists = store.list

        async def list_or_fail(prefix: str) -> list[Stored]:
            if not is_reachable.is_set():
                raise MetadataUnavailable("refused by the test")
            return await lists(prefix)

        monkeypatch.setattr(store, "list", list_or_fail)
        lost = catalogue._watch
        assert lost is not None
        store.age_s = 11
        store.confirm(lost)
        lost.cut_off("lost by the test")
        store.age_s = 0
        await until(lambda: catalogue._watch is not lost and not catalogue.is_fresh())

        is_reachable.set()
        await until(catalogue.is_fresh)


@async_test
async def test_a_catalogue_whose_watch_was_lost_gets_out_of_date_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a store that has always told its watches of everything at once."""
    monkeypatch.setattr(catalogue_module, "_RETRY_S", 60)
    monkeypatch.setattr(catalogue_module, "_LOOK_S", 0.001)
    async with catalogues(tmp_path) as [catalogue]:
        catalogue._outdated_s_max = 0.01
        await catalogue.create(record())
        assert catalogue._looking is None, "it has no need to look"
        cut_off(catalogue)
        await until(lambda: not catalogue.is_fresh())
