"""`waystation restore`: a new data directory from a backup, once that has proved to be whole."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from waystation.backend.clock import wall_clock_ms
from waystation.cli.check import check
from waystation.cli.data_directory import LOCK_FILE, METADATA_FILE, lock, shard_files
from waystation.cli.errors import CommandFailed
from waystation.cli.manifest import copy_file, read_manifest, sync_directory
from waystation.cli.targets import filled
from waystation.log.errors import LogDamaged, LogUnavailable
from waystation.log.sqlite import SqliteLog
from waystation.queues.events import NumbersSkipped, encode_events

_SEQUENCES = 2**40
_QUEUES = 2**16
"""Skipped in each shard: far more than can have been given out since the backup, and few enough to
restore again and again."""


def restore(backup: Path, data_dir: Path) -> str:
    """Fill a new or empty data directory; returns what to tell the operator.

    Raises:
        CommandFailed: with one sentence on why not. Nothing is left of what was begun.
        OSError: a file or directory cannot be read or written; as before.
    """
    began_s = time.monotonic()
    manifest = read_manifest(backup)
    if manifest is None:
        raise CommandFailed(f"{backup} is not a backup, or one that was cut short: it has no manifest")
    report = check(backup)
    if report.problems:
        first, more = report.problems[0], len(report.problems) - 1
        others = f", and {more} more" if more else ""
        raise CommandFailed(f"{backup} fails waystation check: {first.where} {first.what}{others}")
    with filled(data_dir, flag="--data-dir") as new:
        locked = lock(data_dir)
        try:
            new(LOCK_FILE)
            # The catalogue comes last: a node refuses to start on shards without one.
            for name in sorted(manifest.files, key=lambda name: name == METADATA_FILE):
                sync_directory(data_dir)
                if copy_file(backup / name, new(name)) != manifest.files[name]:
                    raise CommandFailed(f"{backup / name} has changed while it was copied")
                if name != METADATA_FILE and (data_dir / name) in shard_files(data_dir):
                    for beside in ("-wal", "-shm"):
                        new(name + beside)
                    _skip_numbers(data_dir / name)
            sync_directory(data_dir)
        finally:
            os.close(locked)
    seconds = time.monotonic() - began_s
    return f"{data_dir}: restored the backup of {manifest.created}, {seconds:.1f} s; {report.contents()}"


def _skip_numbers(path: Path) -> None:
    """Let nothing made from now on have an id or a receipt handle that was given out since the backup."""
    try:
        asyncio.run(_append_skip(path))
    except (LogDamaged, LogUnavailable) as error:
        raise CommandFailed(f"{path} cannot be made: {error}") from error


async def _append_skip(path: Path) -> None:
    log = SqliteLog(path)
    try:
        await log.open()
        event = NumbersSkipped(wall_clock_ms(), _SEQUENCES, _QUEUES)
        await log.append(encode_events([event]))
    finally:
        await log.close()
