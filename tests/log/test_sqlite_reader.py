"""What is read beside the owner of a log is what the owner has written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.log.asynchrony import async_test
from waystation.log import sqlite_reader
from waystation.log.errors import LogDamaged
from waystation.log.interface import Snapshot
from waystation.log.records import NO_CHECKSUM, decode_record
from waystation.log.sqlite import SqliteLog
from waystation.log.sqlite_reader import SqliteLogReader


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shard.log"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        yield db


@async_test
async def test_it_reads_what_the_owner_has_written(path: Path, db: sqlite3.Connection) -> None:
    log, reader = SqliteLog(path), SqliteLogReader(path, db)
    await log.open()
    for number in range(600):
        await log.append(b"%d" % number)
    await log.save_snapshot(Snapshot(600, log.checksum, b"a state"))
    await log.truncate(10)

    await reader.open()

    assert (reader.first, reader.position, reader.checksum) == (10, 600, log.checksum)
    assert await reader.read([9, 10, 601]) == await log.read([9, 10, 601])
    assert await reader.load_snapshot() == await log.load_snapshot()
    replayed = [record async for record in log.replay(9, None)]
    assert [record async for record in reader.replay(9, None)] == replayed
    assert [decode_record(*row) for row in reader.rows()] == replayed
    await log.close()


@async_test
async def test_a_read_transaction_keeps_what_it_reads_as_it_was(path: Path, db: sqlite3.Connection) -> None:
    log, reader = SqliteLog(path), SqliteLogReader(path, db)
    await log.open()
    await log.append(b"one")
    db.execute("BEGIN")
    await reader.open()

    await log.append(b"two")
    await reader.open()

    assert reader.position == 1
    assert len(list(reader.rows())) == 1
    await log.close()


@async_test
async def test_the_file_of_a_log_that_was_never_opened_is_an_empty_log(
    path: Path, db: sqlite3.Connection
) -> None:
    reader = SqliteLogReader(path, db)

    await reader.open()

    assert (reader.first, reader.position, reader.checksum) == (1, 0, NO_CHECKSUM)
    assert list(reader.rows()) == []
    assert [record async for record in reader.replay(0, NO_CHECKSUM)] == []
    assert await reader.load_snapshot() is None


@async_test
async def test_a_table_that_leads_round_in_a_circle_is_damaged(
    path: Path, db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SqliteLog(path)
    await log.open()
    await log.close()
    monkeypatch.setattr(sqlite_reader, "rows_after", lambda db, after: [(1, b""), (2, b"")])
    rows = SqliteLogReader(path, db).rows()

    assert [next(rows), next(rows)] == [(1, b""), (2, b"")]
    with pytest.raises(LogDamaged, match=r"shard\.log: record 1 stands behind record 2"):
        next(rows)
