"""A whole node in one process: everything built, started and stopped in the right order."""

from __future__ import annotations

import os
from pathlib import Path

from waystation.cli.data_directory import METADATA_FILE, lock, shard_file, shard_files
from waystation.cli.errors import CannotStart
from waystation.cli.settings import Settings
from waystation.frontend.access_keys import RootKeyError, load_or_create_root_key
from waystation.frontend.auth import AccessKey, Authenticator, Caller
from waystation.frontend.data_plane import DataPlane
from waystation.frontend.http import HttpServer
from waystation.frontend.settings import HttpSettings
from waystation.log.errors import LogDamaged
from waystation.log.interface import Log
from waystation.log.sqlite import SqliteLog
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.sqlite import SqliteMetadataStore
from waystation.protocol.errors import Unavailable


class Node:
    """FrontEnd, catalogue and backend over one data directory.

    Lifecycle: build it (no I/O), `start`, and `stop`, also after a start that
    failed or was cancelled half-way.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.root_key: AccessKey | None = None
        self.root_key_created = False
        self.port = 0
        self.failure: str | None = None
        self._lock: int | None = None
        self._store: SqliteMetadataStore | None = None
        self._plane: DataPlane | None = None
        self._server: HttpServer | None = None

    @property
    def url(self) -> str:
        """Where clients on this machine reach it."""
        return url_of(self._settings.http, self.port)

    async def start(self) -> None:
        """Recover and serve.

        Raises:
            CannotStart: with one sentence on what is wrong.
            OSError: the address cannot be listened on, or the directory not be written.
        """
        try:
            await self._start()
        except (RootKeyError, LogDamaged, Unavailable) as error:
            raise CannotStart(str(error)) from error

    async def _start(self) -> None:
        settings = self._settings
        directory = settings.data_dir
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = lock(directory)
        if settings.auth.enabled:
            self.root_key, self.root_key_created = load_or_create_root_key(
                directory,
                settings.service.account,
                settings.root.access_key_id,
                settings.root.secret_access_key,
            )
        metadata = directory / METADATA_FILE
        if not metadata.exists() and shard_files(directory):
            # A new, empty catalogue would have every queue dropped as one that nobody knows.
            raise LogDamaged(f"{metadata} is missing; restore it, or all queues and messages are lost")
        self._store = SqliteMetadataStore(metadata)
        self._plane = DataPlane(
            settings.service,
            settings.backend,
            self._store,
            lambda catalogue: self._logs(directory, catalogue),
        )
        await self._start_plane(self._plane, directory)
        self.port = await self._let_clients_in(self._plane)

    async def _let_clients_in(self, plane: DataPlane) -> int:
        """Listen; returns the port."""
        self._server = HttpServer(self._settings.http, plane.handle)
        await self._server.start()
        return self._server.port

    async def _see_clients_out(self) -> None:
        """Return when all have been answered."""
        if self._server is not None:
            await self._server.stop()

    async def _start_plane(self, plane: DataPlane, directory: Path) -> None:
        try:
            await plane.start(authenticator(self._settings, self.root_key))
        except LogDamaged as error:
            if plane.backend is None:
                raise
            # Shards are opened in turn, so the first that does not serve is the damaged one.
            damaged = next(shard.number for shard in plane.backend.shards if not shard.is_serving)
            path = str(shard_file(directory, damaged))
            if path in str(error):
                raise
            raise LogDamaged(f"{path}: {error}") from error

    def _logs(self, directory: Path, catalogue: Catalogue) -> list[Log]:
        existing = len(shard_files(directory))
        places = (place for queue in catalogue.queues() for place in queue.places)
        in_use = 1 + max((place.shard for place in places), default=-1)
        known = max(existing, in_use)
        number = known or self._settings.backend.shards
        paths = [shard_file(directory, shard) for shard in range(number)]
        for path in paths:
            if known and not path.exists():
                raise LogDamaged(f"{path} is missing; restore it, or the messages in it are lost")
        return [SqliteLog(path, self._settings.log) for path in paths]

    async def stop(self) -> None:
        """Answer what can be answered, then stop. What was acknowledged is on disk."""
        if self._plane is not None:
            self._plane.drain()
        await self._see_clients_out()
        if self._plane is not None:
            await self._plane.stop()
        if self._lock is not None:
            os.close(self._lock)
        self._server = self._plane = self._lock = None


def url_of(http: HttpSettings, port: int) -> str:
    """Where clients on this machine reach a server with these settings."""
    scheme = "https" if http.tls_certificate else "http"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(http.host, http.host)  # noqa: S104
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def authenticator(settings: Settings, key: AccessKey | None) -> Authenticator:
    """Knows one key; without it, believes everybody."""
    anonymous = None if key is not None else Caller(settings.service.account, "anonymous")
    keys = {key.id: key} if key is not None else {}
    return Authenticator(settings.auth, keys.get, anonymous=anonymous)
