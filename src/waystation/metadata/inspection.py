"""Looks at a catalogue from the outside: what is in it, and what in it cannot be read."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

import msgspec

from waystation.metadata.catalogue import QUEUE_PREFIX, SECRET_BYTES, SECRET_KEY
from waystation.metadata.move_tasks import TASKS_PREFIX, MoveTask
from waystation.metadata.queues import Queue, QueueRecord
from waystation.metadata.sqlite import FORMAT_VERSION


@dataclass
class Inspected:
    """What a metadata store holds. `problems` has a phrase for each entry that is wrong."""

    queues: list[QueueRecord] = field(default_factory=list)
    tombstones: list[QueueRecord] = field(default_factory=list)
    tasks: list[MoveTask] = field(default_factory=list)
    entries: int = 0
    problems: list[str] = field(default_factory=list)


def inspect_store(db: sqlite3.Connection) -> Inspected:
    """Read every entry of a metadata store, and change nothing. Raises `sqlite3.Error`."""
    found = Inspected()
    [version] = db.execute("PRAGMA user_version").fetchone()
    if version == 0:
        return found  # a store that nobody has written to yet
    if version != FORMAT_VERSION:
        found.problems.append(f"has format {version}; this program reads {FORMAT_VERSION}")
        return found
    newest = 0
    for key, value, revision in db.execute("SELECT key, value, revision FROM entry ORDER BY key"):
        found.entries += 1
        try:
            newest = max(newest, revision)
            _take(found, key, value, revision)
        except (msgspec.MsgspecError, AttributeError, TypeError, ValueError) as error:
            found.problems.append(f"entry {key} cannot be read: {error}")
    if found.queues and not db.execute("SELECT 1 FROM entry WHERE key = ?", (SECRET_KEY,)).fetchone():
        found.problems.append("the secret of message ids and receipt handles is missing")
    [last] = db.execute("SELECT max(last) FROM revision").fetchone()
    if not isinstance(last, int) or last < newest:
        found.problems.append(f"the last revision is said to be {last}, and an entry has {newest}")
    return found


def _take(found: Inspected, key: str, value: bytes, revision: int) -> None:
    if key == SECRET_KEY:
        if len(value) != SECRET_BYTES:
            raise ValueError(f"a secret has {SECRET_BYTES} bytes, and this one {len(value)}")
    elif key.startswith(QUEUE_PREFIX):
        record = msgspec.msgpack.decode(value, type=QueueRecord)
        _check_name(key, f"{QUEUE_PREFIX}{record.account}/{record.name}")
        if record.deleted_ms:
            found.tombstones.append(record)
        else:
            Queue(record, revision).settings()  # whether they can be made of what it says
            found.queues.append(record)
    elif key.startswith(TASKS_PREFIX):
        for task in msgspec.msgpack.decode(value, type=list[MoveTask]):
            _check_name(key, f"{TASKS_PREFIX}{task.account}/{task.source}")
            found.tasks.append(task)
    else:
        raise ValueError("it is none that this program knows")


def _check_name(key: str, expected: str) -> None:
    if key != expected:
        raise ValueError(f"it is that of {expected}")
