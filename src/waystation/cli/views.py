"""The databases of a data directory as they were at one moment, whether a node writes to them or not.

Messages move between shards: set aside in one, accepted in another, then released in
the first. Files that are looked at one after the other could show a message twice or not
at all. So all write locks are taken at once, which makes writers wait for some
milliseconds; under them a read transaction begins on each file; then the locks are let go.

Nothing is changed. Beside a file whose `-wal` is gone, SQLite makes an empty one.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from waystation.cli.errors import CommandFailed

_LOCKS_S_MAX = 2.0
"""To get all locks. A node that waits longer than 5 s for one gives the append up, and recovers."""
_ATTEMPTS = 10
_BETWEEN_S = 0.1
"""Between two attempts, for those who have waited."""

_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_TOUCH = "SELECT count(*) FROM sqlite_schema"


class Views(NamedTuple):
    """A connection to each file that can be read, and what is wrong with each that cannot."""

    open: dict[Path, sqlite3.Connection]
    unreadable: dict[Path, str]


@contextmanager
def views_of_one_moment(paths: Iterable[Path]) -> Iterator[Views]:
    """See all files as they are now, for as long as this lasts.

    Raises `CommandFailed` when that is not possible, such as for want of permissions.
    """
    views = Views({}, {})
    lockers = Views({}, views.unreadable)
    try:
        try:
            for path in paths:
                _open(lockers, path, "mode=rw")
                if path in lockers.open:
                    _open(views, path, "mode=ro")
            _begin_at_once(lockers.open.values(), views.open.values())
        finally:
            # Before the others, so that it is never the last: that one, if it may write,
            # copies the write-ahead log into the file and removes it.
            _close(lockers)
        yield views
    finally:
        _close(views)


@contextmanager
def views_of_backup(paths: Iterable[Path]) -> Iterator[Views]:
    """See files that nobody writes to. Works where nothing can be written, too."""
    views = Views({}, {})
    try:
        for path in paths:
            _open(views, path, "mode=ro&immutable=1")
        yield views
    finally:
        _close(views)


def _open(views: Views, path: Path, mode: str) -> None:
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None)
        views.open[path] = db
        # All that can be done before the locks are taken is done before.
        db.execute(_TOUCH).fetchone()
    except sqlite3.Error as error:
        if path in views.open:
            views.open.pop(path).close()
        if not getattr(error, "sqlite_errorname", "").startswith(_DAMAGE):
            raise CommandFailed(f"{path} cannot be opened: {error}") from error
        views.unreadable[path] = str(error)


def _begin_at_once(lockers: Collection[sqlite3.Connection], readers: Collection[sqlite3.Connection]) -> None:
    for _ in range(_ATTEMPTS):
        deadline_s = time.monotonic() + _LOCKS_S_MAX
        try:
            for db in lockers:
                left_ms = max(0, round((deadline_s - time.monotonic()) * 1_000))
                db.execute(f"PRAGMA busy_timeout = {left_ms}")
                db.execute("BEGIN IMMEDIATE")
                # Of a file that cannot be written SQLite begins to read only, and locks nothing.
                [version] = db.execute("PRAGMA user_version").fetchone()
                db.execute(f"PRAGMA user_version = {version}")
            for db in readers:
                db.execute("BEGIN")
                db.execute(_TOUCH).fetchone()  # only now it has begun
            return
        except sqlite3.Error as error:
            for db in readers:
                db.rollback()
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith("SQLITE_READONLY"):
                raise CommandFailed("the data directory cannot be written, and so not be locked") from error
            if not name.startswith("SQLITE_BUSY"):
                raise CommandFailed(f"the data directory cannot be locked for a moment: {error}") from error
        finally:
            for db in lockers:
                db.rollback()
        time.sleep(_BETWEEN_S)
    raise CommandFailed("the data directory cannot be locked for a moment: it is written to without a pause")


def _close(views: Views) -> None:
    for db in views.open.values():
        with suppress(sqlite3.Error):
            db.close()
