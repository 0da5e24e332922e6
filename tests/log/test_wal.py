"""What a crash left of a write-ahead log is written again, once and by nobody else at the same time."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from threading import Event

import pytest

from tests.log.asynchrony import async_test
from waystation.log import sqlite, wal
from waystation.log.sqlite import SqliteLog


@async_test
async def crashed(path: Path) -> None:
    """Leave a log of ten records at a path, all in its write-ahead log, as a killed process does."""
    log = SqliteLog(path.with_name("alive.db"))
    await log.open()
    for number in range(10):
        await log.append(b"%d" % number)
    for suffix in ("", "-wal"):
        shutil.copy(f"{path.with_name('alive.db')}{suffix}", f"{path}{suffix}")
    await log.close()


def test_writing_it_again_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "_CHUNK_BYTES", 1_000)
    crashed(path=tmp_path / "log.db")
    before = (tmp_path / "log.db-wal").read_bytes()

    wal.write_again(tmp_path / "log.db")

    assert len(before) > 10_000
    assert (tmp_path / "log.db-wal").read_bytes() == before


def test_there_may_be_none(tmp_path: Path) -> None:
    wal.write_again(tmp_path / "log.db")

    assert list(tmp_path.iterdir()) == []


def test_who_closes_a_log_that_was_being_opened_waits_until_nothing_is_written_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise old bytes would come over what the next owner appends."""
    crashed(path=tmp_path / "log.db")
    begun, may_end, ended = Event(), Event(), Event()

    def slow(path: Path) -> None:
        begun.set()
        may_end.wait(10)
        wal.write_again(path)
        ended.set()

    monkeypatch.setattr(sqlite, "write_again", slow)

    @async_test
    async def cancel_and_close() -> None:
        log = SqliteLog(tmp_path / "log.db")
        opening = asyncio.create_task(log.open())
        await asyncio.to_thread(begun.wait, 10)
        opening.cancel()
        asyncio.get_running_loop().call_later(0.05, may_end.set)
        with pytest.raises(asyncio.CancelledError):
            await opening
        await log.close()
        assert ended.is_set()

    cancel_and_close()
