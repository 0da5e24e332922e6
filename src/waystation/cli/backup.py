"""`waystation backup`: a copy of a data directory as it is at one moment, also while a node runs on it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from waystation.cli.data_directory import MANIFEST_FILE, METADATA_FILE, shard_file, shard_files
from waystation.cli.errors import CommandFailed
from waystation.cli.manifest import (
    Manifest,
    copy_file,
    entry_of,
    new_manifest,
    sync_directory,
    write_manifest,
)
from waystation.cli.targets import filled
from waystation.cli.views import views_of_one_moment
from waystation.frontend.access_keys import FILE_NAME

_PARTIAL = ".partial"
_PAGES_AT_ONCE = 256
"""Copied and synced before the next are, 1 MiB: a disk that has a gigabyte to write keeps
the node's own syncs waiting for seconds."""


def back_up(data_dir: Path, target: Path) -> str:
    """Copy a data directory into a new or empty one; returns what to tell the operator.

    Raises:
        CommandFailed: with one sentence on why not. Nothing is left of what was begun.
        OSError: a file or directory cannot be read or written; as before.
    """
    began_s = time.monotonic()
    databases = _databases(data_dir)
    with filled(target, flag="--to") as new:
        manifest = _copy_all(data_dir, databases, new)
        sync_directory(target)
        write_manifest(target, manifest)
    size = sum(entry.bytes for entry in manifest.files.values())
    seconds = time.monotonic() - began_s
    files = len(manifest.files)
    return f"{target}: backup of {manifest.created}, {files} files, {size:,} bytes, {seconds:.1f} s"


def _databases(data_dir: Path) -> list[Path]:
    if (data_dir / MANIFEST_FILE).exists():
        raise CommandFailed(f"{data_dir} is a backup already; copy it as it is")
    metadata = data_dir / METADATA_FILE
    if not metadata.exists():
        raise CommandFailed(f"{data_dir} is not a data directory: {METADATA_FILE} is missing")
    shards = shard_files(data_dir)
    for number in range(len(shards)):
        if not shard_file(data_dir, number).exists():
            raise CommandFailed(f"{shard_file(data_dir, number)} is missing, so nothing can be backed up")
    return [metadata, *shards]


def _copy_all(data_dir: Path, databases: list[Path], new: Callable[[str], Path]) -> Manifest:
    with views_of_one_moment(databases) as views:
        manifest = new_manifest()
        for path, error in views.unreadable.items():
            raise CommandFailed(f"{path} is damaged: {error}")
        for path, db in views.open.items():
            partial = new(path.name + _PARTIAL)
            _copy_database(db, partial)
            manifest.files[path.name] = entry_of(partial)
    key = data_dir / FILE_NAME
    if key.exists():
        manifest.files[FILE_NAME] = copy_file(key, new(FILE_NAME + _PARTIAL))
    # Until here, what a crash leaves behind looks like neither a backup nor a data directory.
    for name in manifest.files:
        new(name + _PARTIAL).rename(new(name))
    return manifest


def _copy_database(db: sqlite3.Connection, target: Path) -> None:
    """Copy what a connection sees into a new file, durably."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    copy = sqlite3.connect(target, isolation_level=None)
    try:
        # What is cut short is removed; and syncs are ours.
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        db.backup(copy, pages=_PAGES_AT_ONCE, progress=lambda *_: os.fsync(descriptor))
        copy.close()
        os.fsync(descriptor)
    except sqlite3.Error as error:
        raise CommandFailed(f"{target} cannot be made: {error}") from error
    finally:
        copy.close()
        os.close(descriptor)
