"""The metadata store and the catalogue while their NATS server crashes, and while it hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.log.asynchrony import async_test, until
from tests.metadata.test_catalogue import ACCOUNT, record
from tests.nats_server import NatsServer, nats_servers
from waystation.log.nats import NatsConnection
from waystation.log.settings import NatsSettings
from waystation.metadata import catalogue as catalogue_module
from waystation.metadata import nats_feed
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.nats import NatsMetadataStore, create_metadata_bucket
from waystation.metadata.store import MetadataUnavailable


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notice everything sooner than in production."""
    monkeypatch.setattr(nats_feed, "_CONFIRM_S", 0.1)
    monkeypatch.setattr(nats_feed, "_SILENT_S_MAX", 1.0)
    monkeypatch.setattr(catalogue_module, "_RETRY_S", 0.1)
    monkeypatch.setattr(catalogue_module, "_LOOK_S", 0.05)


class FrontEnd:
    """A connection, a store and a catalogue, as each process of a cluster has them."""

    def __init__(self, settings: NatsSettings, outdated_s_max: float) -> None:
        self.settings = settings
        self.connection = NatsConnection(settings)
        self.store = NatsMetadataStore(self.connection, settings)
        self.catalogue = Catalogue(self.store, outdated_s_max)

    def knows(self, name: str) -> bool:
        return self.catalogue.is_fresh() and self.catalogue.find(ACCOUNT, name) is not None

    async def start(self) -> None:
        await self.connection.open()
        await create_metadata_bucket(self.connection, self.settings)
        await self.store.open()
        await self.catalogue.start()

    async def stop(self) -> None:
        await self.catalogue.stop()
        await self.store.close()
        await self.connection.close()


@asynccontextmanager
async def front_ends(
    folder: Path, outdated_s_max: float
) -> AsyncIterator[tuple[NatsServer, FrontEnd, FrontEnd]]:
    with nats_servers(folder) as [server]:
        both = [FrontEnd(NatsSettings(servers=server.url, replicas=1), outdated_s_max) for _ in range(2)]
        try:
            for each in both:
                await each.start()
            yield server, both[0], both[1]
        finally:
            for each in both:
                await each.stop()


@async_test
async def test_no_change_is_missed_when_the_server_crashes_and_comes_back(tmp_path: Path) -> None:
    async with front_ends(tmp_path, outdated_s_max=60) as (server, one, two):
        before = await one.catalogue.create(record("before", 1))
        await until(lambda: two.knows("before"))

        server.kill()
        creating = asyncio.create_task(one.catalogue.create(record("meanwhile", 2)))
        await asyncio.to_thread(server.start)
        created = await creating
        await until(lambda: two.knows("meanwhile"))

        assert created.revision > before.revision
        assert await one.catalogue.delete(before)
        await until(lambda: not two.knows("before"))
        await two.catalogue.create(record("after", 3))
        await until(lambda: one.knows("after"))


@async_test
async def test_a_catalogue_whose_server_hangs_is_out_of_date_after_a_while_and_fresh_again_later(
    tmp_path: Path,
) -> None:
    async with front_ends(tmp_path, outdated_s_max=2) as (server, one, two):
        created = await one.catalogue.create(record())
        await until(lambda: two.knows("orders"))

        server.pause()
        try:
            assert two.knows("orders"), "it is known for a while, and served"
            await until(lambda: not two.catalogue.is_fresh())
            with pytest.raises(MetadataUnavailable, match="may be out of date"):
                two.catalogue.find(ACCOUNT, "orders")
        finally:
            server.resume()
        await until(two.catalogue.is_fresh)
        assert two.knows("orders")

        assert await one.catalogue.delete(created)
        await until(lambda: two.catalogue.is_fresh() and not two.knows("orders"))
