"""Reading a SQLite log: for its owner, and for whoever looks at it without changing it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from waystation.log.errors import LogDamaged, LogUnavailable
from waystation.log.interface import Snapshot
from waystation.log.records import NO_CHECKSUM, Chain, Record, decode_record, digest

FORMAT_VERSION = 1
"""Of the tables, in `PRAGMA user_version`. Records have a version of their own."""

_ROWS = 256
_ROWS_BYTES = 8_388_608
"""Read at once on replay, whichever is reached first."""


class SqliteLogReader:
    """Implements `LogReader` over a connection that somebody else opens and closes.

    With a read transaction open on it, the log stays as it was when that began.
    """

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self._path = path
        self._db = db
        self.first = 1
        self.position = 0
        self.checksum = NO_CHECKSUM

    async def open(self) -> None:
        with naming(self._path):
            if format_of(self._db, self._path):  # or it is the file of a log that nobody has appended to yet
                self.first, self.position, self.checksum = bounds(self._db)

    def rows(self) -> Iterator[tuple[int, bytes]]:
        """Position and bytes of every record, unverified."""
        with naming(self._path):
            after = -1
            while format_of(self._db, self._path) and (rows := rows_after(self._db, after)):
                for position, data in rows:
                    if position <= after:  # a damaged table may lead round in a circle
                        raise LogDamaged(f"record {position} stands behind record {after}")
                    after = position
                    yield position, data

    async def replay(self, after: int, checksum: bytes | None) -> AsyncIterator[Record]:
        chain = Chain(after, checksum)
        with naming(self._path):
            while self.position and (rows := rows_after(self._db, after)):
                for position, data in rows:
                    yield chain.check(decode_record(position, data))
                after = rows[-1][0]

    async def read(self, positions: Sequence[int]) -> list[Record | None]:
        with naming(self._path):
            return [record_at(self._db, position) for position in positions]

    async def load_snapshot(self) -> Snapshot | None:
        with naming(self._path):
            return read_snapshot(self._db, self._path) if format_of(self._db, self._path) else None


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of SQLite are those of a `Log`, and all of them name the file."""
    try:
        yield
    except LogDamaged as damage:
        if str(path) in str(damage):
            raise
        raise LogDamaged(f"{path}: {damage}") from damage
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "") or ""
        text = f"{path}: {error} {name}".rstrip()
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise LogDamaged(text) from error
        raise LogUnavailable(text) from error


def format_of(db: sqlite3.Connection, path: Path) -> int:
    """The format of the tables, 0 before there are any. Raises `LogDamaged` for one that is not known."""
    [version] = db.execute("PRAGMA user_version").fetchone()
    if version not in (0, FORMAT_VERSION):
        raise LogDamaged(f"{path} has format {version}; this program reads {FORMAT_VERSION}")
    return int(version)


def bounds(db: sqlite3.Connection) -> tuple[int, int, bytes]:
    """The first position that is kept, the last, and its checksum: as `LogReader` has them."""
    position, checksum = 0, NO_CHECKSUM
    row = db.execute("SELECT position, bytes FROM record ORDER BY position DESC LIMIT 1").fetchone()
    if row is not None:
        position, checksum = row[0], decode_record(row[0], _blob(row[1])).checksum
    [first] = db.execute("SELECT min(position) FROM record").fetchone()
    return position + 1 if first is None else first, position, checksum


def rows_after(db: sqlite3.Connection, after: int) -> list[tuple[int, bytes]]:
    """The next records after a position, unverified; none at the end."""
    rows: list[tuple[int, bytes]] = []
    size = 0
    cursor = db.execute(
        "SELECT position, bytes FROM record WHERE position > ? ORDER BY position LIMIT ?", (after, _ROWS)
    )
    for position, value in cursor:
        data = _blob(value)
        rows.append((position, data))
        size += len(data)
        if size >= _ROWS_BYTES:
            break
    cursor.close()
    return rows


def record_at(db: sqlite3.Connection, position: int) -> Record | None:
    """The verified record at a position, if it is there."""
    row = db.execute("SELECT bytes FROM record WHERE position = ?", (position,)).fetchone()
    return None if row is None else decode_record(position, _blob(row[0]))


def read_snapshot(db: sqlite3.Connection, path: Path) -> Snapshot | None:
    """The verified snapshot, if there is one."""
    row = db.execute("SELECT position, checksum, digest FROM snapshot").fetchone()
    if row is None:
        return None
    position, checksum, expected = row
    chunks = db.execute("SELECT bytes FROM snapshot_chunk WHERE position = ? ORDER BY number", (position,))
    payload = b"".join(_blob(chunk) for (chunk,) in chunks)
    if digest(_blob(checksum), payload) != expected:
        raise LogDamaged(f"the snapshot at record {position} in {path} does not match its checksum")
    return Snapshot(position, checksum, payload)


def _blob(value: object) -> bytes:
    """What damage has made a value of another type is read as nothing, which matches no checksum."""
    return value if isinstance(value, bytes) else b""
