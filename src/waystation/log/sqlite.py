"""The embedded log: one SQLite file for each shard.

One row is one record, and one append is one transaction, made durable by
SQLite's write-ahead log with `synchronous=FULL` before it returns. Three
threads, each with a connection of its own, keep three kinds of work from
waiting for each other: appends and deletions, reads, and checkpoints.

The write-ahead log is checkpointed in two passes. The first, in its own thread
while appends go on, copies nearly all of it into the file; the second, between
two appends, copies the few pages that came meanwhile, after which SQLite starts
again at its beginning. So no append waits for megabytes to be written.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from waystation.log.errors import LogDamaged, LogUnavailable
from waystation.log.interface import Snapshot
from waystation.log.records import NO_CHECKSUM, Chain, Record, decode_record, digest, encode_record
from waystation.log.settings import LogSettings
from waystation.log.sqlite_reader import (
    FORMAT_VERSION,
    bounds,
    format_of,
    naming,
    read_snapshot,
    record_at,
    rows_after,
)
from waystation.log.wal import write_again
from waystation.log.worker import Worker

_PAGE_BYTES = 4_096
"""SQLite's default, and measured: larger pages write more for each small commit."""
_SNAPSHOT_CHUNK_BYTES = 262_144
"""Written in one transaction; an append in between waits some 2 ms for it."""
_TRUNCATE_ROWS = 256
"""Deleted in one transaction, for the same reason."""
_VACUUM_BYTES = 2_097_152
"""Given back to the file system in one transaction, for the same reason."""

_ROOM_LOOK_S = 0.1
"""Between two looks at the free space of the disk: at full speed, some megabytes."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS record (position INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS snapshot (
    position INTEGER PRIMARY KEY, checksum BLOB NOT NULL, digest BLOB NOT NULL, chunks INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS snapshot_chunk (
    position INTEGER, number INTEGER, bytes BLOB NOT NULL, PRIMARY KEY (position, number)
);
"""

_logger = logging.getLogger(__name__)
Result = TypeVar("Result")


class SqliteLog:
    """Implements `Log` in the file at `path`, which is created when missing."""

    def __init__(self, path: Path, settings: LogSettings | None = None) -> None:
        self._path = path
        self._settings = settings or LogSettings()
        self.first = 1
        self.position = 0
        self.size_bytes = 0
        self.checksum = NO_CHECKSUM
        self._connections: dict[str, _Connection] = {}
        self._since_checkpoint = 0
        self._checkpoint: asyncio.Task[None] | None = None
        self._room_until_s = 0.0

    def has_room(self) -> bool:
        # A system call for each send would be too many; a full disk is noticed soon enough.
        now_s = time.monotonic()
        if now_s >= self._room_until_s:
            try:
                disk = os.statvfs(self._path.parent)
            except OSError as error:
                raise LogUnavailable(f"{self._path.parent}: {error.strerror}") from error
            if disk.f_bavail * disk.f_frsize <= self._settings.reserve_bytes:
                return False
            self._room_until_s = now_s + _ROOM_LOOK_S
        return True

    # Opening and closing

    async def open(self) -> None:
        await self.close()
        connections = {role: _Connection(self._path, role) for role in ("append", "read", "checkpoint")}
        try:
            await connections["append"].before_it_connects(self._write_again)
            await connections["append"].run(self._prepare)
        except BaseException:
            await _close(connections)
            raise
        self._connections = connections

    def _write_again(self) -> None:
        try:
            write_again(self._path)
        except OSError as error:
            raise LogUnavailable(f"{self._path}-wal: {error.strerror}") from error

    def _prepare(self, db: sqlite3.Connection) -> None:
        if not format_of(db, self._path):
            db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only before the first table
            [mode] = db.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise LogUnavailable(f"{self._path}: this file system does not allow write-ahead logging")
            db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT_VERSION}; COMMIT;")
        # Checkpoints are ours to time. With this one, a new life begins with an empty write-ahead log.
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute(f"PRAGMA journal_size_limit = {self._settings.checkpoint_bytes}")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.first, self.position, self.checksum = bounds(db)
        self._since_checkpoint = 0
        self._measure(db)

    async def close(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.cancel()
            await asyncio.gather(self._checkpoint, return_exceptions=True)
            self._checkpoint = None
        connections, self._connections = self._connections, {}
        await _close(connections)

    def _run(self, role: str, call: Callable[[sqlite3.Connection], Result]) -> asyncio.Future[Result]:
        connection = self._connections.get(role)
        if connection is None:
            raise LogUnavailable("The log is not open.")
        return connection.run(call)

    def _measure(self, db: sqlite3.Connection) -> int:
        """Note the bytes in use; returns those that are free inside the file."""
        [pages], [free] = (
            db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count")
        )
        self.size_bytes = (pages - free) * _PAGE_BYTES
        return int(free * _PAGE_BYTES)

    # Appending

    async def append(self, payload: bytes) -> int:
        try:
            position = await self._run("append", lambda db: self._append(db, payload))
        except LogUnavailable:
            # Its outcome is unknown: nothing more is done until `open` finds out.
            await self.close()
            raise
        self._checkpoint_when_due()
        return position

    def _append(self, db: sqlite3.Connection, payload: bytes) -> int:
        position = self.position + 1
        data, checksum = encode_record(position, self.checksum, payload)
        # In autocommit mode one statement is one transaction, durable when it returns.
        db.execute("INSERT INTO record VALUES (?, ?)", (position, data))
        self.position, self.checksum = position, checksum
        self.size_bytes += len(data)
        self._since_checkpoint += len(data)
        return position

    def _checkpoint_when_due(self) -> None:
        if self._since_checkpoint >= self._settings.checkpoint_bytes and self._checkpoint is None:
            self._since_checkpoint = 0
            self._checkpoint = asyncio.create_task(self._run_checkpoint())

    async def _run_checkpoint(self) -> None:
        try:
            await self._run("checkpoint", _checkpoint)
            await self._run("append", _checkpoint)
        except (LogUnavailable, LogDamaged):
            # The write-ahead log stays and grows; the next checkpoint tries again.
            _logger.warning("checkpoint failed", extra={"file": str(self._path)}, exc_info=True)
        self._checkpoint = None

    # Reading

    async def replay(self, after: int, checksum: bytes | None) -> AsyncIterator[Record]:
        chain = Chain(after, checksum)
        while rows := await self._run("read", lambda db, after=after: rows_after(db, after)):  # type: ignore[misc]
            for position, data in rows:
                with naming(self._path):
                    record = chain.check(decode_record(position, data))
                yield record
            after = rows[-1][0]

    async def read(self, positions: Sequence[int]) -> list[Record | None]:
        # Verified in the thread as well: megabytes take milliseconds.
        return await self._run("read", lambda db: [record_at(db, position) for position in positions])

    # Forgetting

    async def truncate(self, before: int) -> None:
        before = min(before, self.position)
        while self.first < before:
            step = min(before, self.first + _TRUNCATE_ROWS)
            await self._run("append", lambda db, step=step: _delete_before(db, step))  # type: ignore[misc]
            self.first = step
            self._checkpoint_when_due()
        while await self._run("append", self._vacuum_some):
            self._since_checkpoint += _VACUUM_BYTES
            self._checkpoint_when_due()

    def _vacuum_some(self, db: sqlite3.Connection) -> bool:
        if self._measure(db) <= self._settings.vacuum_bytes:
            return False
        # As a script, because `execute` takes one step of it, which frees one page.
        db.executescript(f"PRAGMA incremental_vacuum({_VACUUM_BYTES // _PAGE_BYTES})")
        return True

    # Snapshots

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        position, payload = snapshot.position, snapshot.payload
        await self._run("append", _forget_chunks)
        starts = range(0, len(payload), _SNAPSHOT_CHUNK_BYTES)
        for number, start in enumerate(starts):
            chunk = (position, number, payload[start : start + _SNAPSHOT_CHUNK_BYTES])
            await self._run(
                "append",
                lambda db, chunk=chunk: db.execute("INSERT INTO snapshot_chunk VALUES (?, ?, ?)", chunk),  # type: ignore[misc]
            )
        # In the thread that is least waited for: tens of megabytes take as many milliseconds.
        checksum = await self._run("checkpoint", lambda _: digest(snapshot.checksum, payload))
        row = (position, snapshot.checksum, checksum, len(starts))
        await self._run("append", lambda db: _replace_snapshot(db, row))
        await self._run("append", _forget_chunks)

    async def load_snapshot(self) -> Snapshot | None:
        return await self._run("read", lambda db: read_snapshot(db, self._path))


def _checkpoint(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def _delete_before(db: sqlite3.Connection, position: int) -> None:
    db.execute("DELETE FROM record WHERE position < ?", (position,))


def _forget_chunks(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM snapshot_chunk WHERE position NOT IN (SELECT position FROM snapshot)")


def _replace_snapshot(db: sqlite3.Connection, row: tuple[int, bytes, bytes, int]) -> None:
    with db:
        db.execute("BEGIN")
        db.execute("DELETE FROM snapshot")
        db.execute("INSERT INTO snapshot VALUES (?, ?, ?, ?)", row)


class _Connection:
    """One connection to the file in one thread, whose errors are those of a `Log`."""

    def __init__(self, path: Path, role: str) -> None:
        self._path = path
        self._worker = Worker(f"log-{role}-{path.stem}")
        self._db: sqlite3.Connection | None = None

    def before_it_connects(self, call: Callable[[], Result]) -> asyncio.Future[Result]:
        """In its thread, so that `close` waits for it, whoever has gone away meanwhile."""
        return self._worker.run(call)

    def run(self, call: Callable[[sqlite3.Connection], Result]) -> asyncio.Future[Result]:
        return self._worker.run(lambda: self._guard(call))

    def _guard(self, call: Callable[[sqlite3.Connection], Result]) -> Result:
        with naming(self._path):
            if self._db is None:
                self._db = self._connect()
            return call(self._db)

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=5.0)
        db.execute("PRAGMA synchronous = FULL")
        # Some builds overwrite deleted rows with zeros, which writes each record twice.
        db.execute("PRAGMA secure_delete = OFF")
        return db

    async def close(self) -> None:
        with suppress(asyncio.CancelledError):
            await self._worker.run(self._disconnect)  # after calls that may still connect
        await self._worker.stop()

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


async def _close(connections: dict[str, _Connection]) -> None:
    for connection in connections.values():
        await connection.close()
