"""Databases are seen as they were at one moment, and nobody who writes to them is kept waiting for long."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from waystation.cli import views
from waystation.cli.errors import CommandFailed
from waystation.cli.views import views_of_one_moment


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Two databases with a row each."""
    paths = [tmp_path / "a.db", tmp_path / "b.db"]
    for path in paths:
        with closing(connect(path)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("CREATE TABLE item (number INTEGER)")
            db.execute("INSERT INTO item VALUES (0)")
    return paths


@pytest.fixture
def writers(paths: list[Path]) -> Iterator[list[sqlite3.Connection]]:
    with ExitStack() as stack:
        yield [stack.enter_context(closing(connect(path))) for path in paths]


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)


def last(db: sqlite3.Connection) -> int:
    number: int = db.execute("SELECT max(number) FROM item").fetchone()[0]
    return number


def test_what_is_written_later_is_not_seen(paths: list[Path], writers: list[sqlite3.Connection]) -> None:
    with views_of_one_moment(paths) as seen:
        for writer in writers:
            writer.execute("INSERT INTO item VALUES (1)")
            writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

        assert [last(db) for db in seen.open.values()] == [0, 0]
    with views_of_one_moment(paths) as seen:
        assert [last(db) for db in seen.open.values()] == [1, 1]


def test_no_moment_is_seen_that_never_was(paths: list[Path], writers: list[sqlite3.Connection]) -> None:
    """Each number is in the first file before it is in the second, and is never more than one ahead."""
    over = False

    def write() -> None:
        number = 0
        while not over:
            number += 1
            for writer in writers:
                writer.execute("INSERT INTO item VALUES (?)", (number,))

    thread = Thread(target=write)
    thread.start()
    ahead: set[int] = set()
    try:
        for _ in range(200):
            with views_of_one_moment(paths) as seen:
                first, second = map(last, seen.open.values())
                ahead.add(first - second)
    finally:
        over = True
        thread.join()

    assert ahead <= {0, 1}


def test_locks_are_let_go_when_one_cannot_be_had(
    paths: list[Path], writers: list[sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "_LOCKS_S_MAX", 0.01)
    monkeypatch.setattr(views, "_ATTEMPTS", 2)
    writers[1].execute("BEGIN IMMEDIATE")

    with (
        pytest.raises(CommandFailed, match="cannot be locked for a moment: it is written to without a pause"),
        views_of_one_moment(paths),
    ):
        pass

    writers[0].execute("PRAGMA busy_timeout = 0")
    writers[0].execute("INSERT INTO item VALUES (1)")


def test_locks_that_cannot_be_had_at_once_are_tried_again(
    paths: list[Path], writers: list[sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "_LOCKS_S_MAX", 0.01)
    monkeypatch.setattr(time, "sleep", lambda _: writers[1].rollback())
    writers[1].execute("BEGIN IMMEDIATE")
    writers[1].execute("INSERT INTO item VALUES (1)")

    with views_of_one_moment(paths) as seen:
        assert [last(db) for db in seen.open.values()] == [0, 0]


def test_a_file_that_cannot_be_opened_is_named(paths: list[Path], tmp_path: Path) -> None:
    missing = tmp_path / "missing.db"

    with (
        pytest.raises(CommandFailed, match=rf"{missing} cannot be opened: unable to open"),
        views_of_one_moment([*paths, missing]),
    ):
        pass

    assert not missing.exists()


def test_a_file_that_is_no_database_does_not_hide_the_others(paths: list[Path]) -> None:
    paths[0].write_bytes(b"something else entirely" * 1_000)

    with views_of_one_moment(paths) as seen:
        assert seen.unreadable == {paths[0]: "file is not a database"}
        assert [last(db) for db in seen.open.values()] == [0]


def test_a_file_that_cannot_be_written_cannot_be_locked_and_that_is_said(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a read-only mount SQLite begins a transaction without a word, and locks nothing."""
    connected = sqlite3.connect

    def read_only(database: str, **options: Any) -> sqlite3.Connection:
        db: sqlite3.Connection = connected(database.replace("mode=rw", "mode=ro"), **options)
        return db

    monkeypatch.setattr(sqlite3, "connect", read_only)

    with pytest.raises(CommandFailed, match="cannot be written"), views_of_one_moment(paths):
        raise AssertionError("nothing was locked")
