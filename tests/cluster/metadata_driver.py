"""Metadata stores that are used over a link, for tests: both ends are in this process."""

from __future__ import annotations

from pathlib import Path

from waystation.cluster.metadata_calls import CHANGES_MAX, MetadataServer, RemoteMetadataStore
from waystation.cluster.transport_client import Link
from waystation.cluster.transport_server import TransportServer
from waystation.cluster.transport_settings import TransportSettings
from waystation.metadata.sqlite import SqliteMetadataStore
from waystation.metadata.store import MetadataStore


class Backend:
    """The side that has the store. Lifecycle: build it, `start`, `stop`."""

    def __init__(
        self, folder: Path, store: MetadataStore | None = None, changes_max: int = CHANGES_MAX
    ) -> None:
        self.store = store or SqliteMetadataStore(folder / "metadata.db")
        self.metadata = MetadataServer(self.store, changes_max)
        self._settings = TransportSettings(node="backend", listen=f"unix:{folder / 'sock'}")
        self.transport = TransportServer(lambda _, payload: self.metadata.handle(payload), self._settings)

    @property
    def address(self) -> str:
        return self._settings.listen

    async def start(self) -> None:
        await self.store.open()
        self.metadata.start()
        await self.transport.start()

    async def stop(self) -> None:
        await self.transport.stop()
        await self.metadata.stop()
        await self.store.close()


class LinkedStore(RemoteMetadataStore):
    """The side that uses it, with a link to itself."""

    def __init__(self, address: str) -> None:
        self.link = Link(address, TransportSettings(node="frontend"))
        super().__init__(self.link)

    async def close(self) -> None:
        await super().close()
        await self.link.close()


class RemoteStorage(LinkedStore):
    """A store, and a process of its own that has it, as far as its user can tell."""

    def __init__(self, folder: Path) -> None:
        self._backend = Backend(folder)
        super().__init__(self._backend.address)

    async def open(self) -> None:
        await self._backend.start()
        await super().open()

    async def close(self) -> None:
        await super().close()
        await self._backend.stop()
