"""What lies in a data directory, under which names, and who may work on it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from waystation.cli.errors import CannotStart

METADATA_FILE = "metadata.db"
MANIFEST_FILE = "backup.json"
"""Makes a directory a backup: it says what the files were when they were copied."""

LOCK_FILE = "lock"


def shard_file(directory: Path, shard: int) -> Path:
    """The log of a shard."""
    return directory / f"shard-{shard:03}.db"


def shard_files(directory: Path) -> list[Path]:
    """The logs that are there, in the order of their shards."""
    return sorted(directory.glob("shard-*.db"), key=lambda path: (len(path.name), path.name))


def lock(directory: Path) -> int:
    """Lock a data directory for as long as the returned descriptor is open.

    Raises `CannotStart` when another process has it. A backup that is worked on is one
    no more: its manifest goes.
    """
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise CannotStart(f"the data directory {directory} is in use by another node") from None
    (directory / MANIFEST_FILE).unlink(missing_ok=True)
    return descriptor
