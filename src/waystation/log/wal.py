"""SQLite's write-ahead log after a sync that failed.

After a failed sync, Linux takes pages for written that are not, and no later sync writes them. Who opens
the file reads them from memory, and SQLite builds on them: it copies half of a transaction into the
database, or adds transactions behind it, and a loss of power then takes what was acknowledged, or leaves a
file that cannot be read.

Source: Rebello et al., Can Applications Recover from fsync Failures?, USENIX ATC 2020.
"""

from __future__ import annotations

import os
from pathlib import Path

_CHUNK_BYTES = 1_048_576


def write_again(path: Path) -> None:
    """Make all that can be read of a database's write-ahead log durable. Before SQLite opens it.

    Raises:
        OSError: it cannot be written, or not be synced.
    """
    try:
        with open(f"{path}-wal", "r+b") as wal:
            position = 0
            while chunk := wal.read(_CHUNK_BYTES):
                wal.seek(position)
                wal.write(chunk)
                position += len(chunk)
                wal.seek(position)
            wal.flush()
            os.fsync(wal)
    except FileNotFoundError:
        return
