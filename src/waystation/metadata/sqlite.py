"""The metadata store of one machine: one SQLite file, one process.

Every write is one durable transaction. Watches hear of it in this process,
which is the only one that has the file open.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from waystation.log.wal import write_again
from waystation.log.worker import Worker
from waystation.metadata.store import Conflict, MetadataUnavailable, Stored, Watch

FORMAT_VERSION = 1

_SCHEMA = """
BEGIN;
CREATE TABLE entry (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE revision (last INTEGER NOT NULL);
INSERT INTO revision VALUES (0);
PRAGMA user_version = 1;
COMMIT;
"""

Result = TypeVar("Result")


class SqliteMetadataStore:
    """Implements `MetadataStore` in the file at `path`, which is created when missing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._worker: Worker | None = None
        self._db: sqlite3.Connection | None = None
        self._watches: list[Watch] = []

    async def open(self) -> None:
        self._worker = Worker("metadata")
        await self._run(self._connect)

    def _connect(self) -> None:
        try:
            write_again(self._path)
        except OSError as error:
            raise MetadataUnavailable(f"{self._path}-wal: {error.strerror}") from error
        self._db = db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        [version] = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            db.executescript(_SCHEMA)
        elif version != FORMAT_VERSION:
            raise MetadataUnavailable(
                f"{self._path} has format {version}; this program reads {FORMAT_VERSION}"
            )

    async def close(self) -> None:
        for watch in self._watches:
            watch.close()
        self._watches.clear()
        if self._worker is not None:
            if self._db is not None:
                await self._worker.run(self._db.close)
            await self._worker.stop()
        self._worker = self._db = None

    def _run(self, call: Callable[[], Result]) -> asyncio.Future[Result]:
        if self._worker is None:
            raise MetadataUnavailable("The metadata store is not open.")
        return self._worker.run(lambda: self._guard(call))

    def _guard(self, call: Callable[[], Result]) -> Result:
        try:
            return call()
        except sqlite3.Error as error:
            raise MetadataUnavailable(f"{self._path}: {error}") from error

    def _rows(self, sql: str, *arguments: object) -> list[Stored]:
        assert self._db is not None, "reads come after open"
        return [Stored(*row) for row in self._db.execute(sql, arguments)]

    async def get(self, key: str) -> Stored | None:
        rows = await self._run(lambda: self._rows("SELECT * FROM entry WHERE key = ?", key))
        return rows[0] if rows else None

    async def list(self, prefix: str) -> list[Stored]:
        sql = "SELECT * FROM entry WHERE key >= ? AND key < ? ORDER BY key"
        return await self._run(lambda: self._rows(sql, prefix, prefix + "\U0010ffff"))

    async def put(self, key: str, value: bytes, expected: int) -> int:
        return await self._write(key, value, expected)

    async def delete(self, key: str, expected: int) -> int:
        return await self._write(key, None, expected)

    async def _write(self, key: str, value: bytes | None, expected: int) -> int:
        writing = self._run(lambda: self._compare_and_set(key, value, expected))
        writing.add_done_callback(lambda written: self._tell(key, value, written))
        # Shielded: the write happens also when its caller goes away, and has to be told of.
        return await asyncio.shield(writing)

    def _tell(self, key: str, value: bytes | None, written: asyncio.Future[int]) -> None:
        if written.cancelled() or written.exception() is not None:
            return
        self._watches = [watch for watch in self._watches if not watch.is_over]
        for watch in self._watches:
            watch.notify(Stored(key, value, written.result()))

    def _compare_and_set(self, key: str, value: bytes | None, expected: int) -> int:
        db = self._db
        assert db is not None, "writes come after open"
        with db:
            db.execute("BEGIN IMMEDIATE")
            row = db.execute("SELECT revision FROM entry WHERE key = ?", (key,)).fetchone()
            if (row[0] if row else 0) != expected:
                raise Conflict(key)
            [revision] = db.execute("UPDATE revision SET last = last + 1 RETURNING last").fetchone()
            if value is None:
                db.execute("DELETE FROM entry WHERE key = ?", (key,))
            else:
                db.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", (key, value, revision))
        return int(revision)

    def watch(self, prefix: str) -> Watch:
        watch = Watch(prefix)
        self._watches.append(watch)
        return watch
