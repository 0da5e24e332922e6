"""Orders to faults.c: the server's storage fails, is slow, or loses power, when a test wants it to."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Mapping
from enum import IntFlag
from pathlib import Path
from random import Random
from unittest.mock import patch
from zlib import crc32

from tests.crash.power_loss import Loss, lose_power
from tests.server import Server

SOURCE = Path(__file__).with_name("faults.c")
SYNC_US = 1_000
"""What a sync takes when the disk is well: as on a good one, so that clients share syncs."""

_FIELDS = (
    *("attached", "calls", "action", "error", "skip", "count", "per_mille", "forgetting", "lie"),
    *("sync_us", "write_us", "seed", "writes", "syncs", "truncates", "faults"),
)
"""Of `struct control` in faults.c, each of four bytes."""
_CONTROL_BYTES = 4 * len(_FIELDS)


class Call(IntFlag):
    """What SQLite asks of the kernel."""

    SYNC = 1
    WRITE = 2
    TRUNCATE = 4


FAIL, SHORT, DIE = range(3)
ALL = -1


class NoCompiler(Exception):
    """There is none, or it cannot make what is needed; says why."""


def compile_faults(folder: Path) -> Path:
    """Make the library. Raises `NoCompiler`."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise NoCompiler("storage can fail on request only where there is a C compiler, cc")
    library = folder / "faults.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-pthread", "-o", str(library), str(SOURCE)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise NoCompiler(f"the C compiler here cannot make faults.c: {made.stderr.strip()[:200]}")
    return library


class Storage:
    """The storage of one data directory."""

    def __init__(self, library: Path, data_dir: Path, seed: str, sync_us: int = SYNC_US) -> None:
        self._library = library
        self._sync_us = sync_us
        self.data_dir = data_dir.resolve()
        self.journals = data_dir.with_name(f"{data_dir.name}.journals")
        self.journals.mkdir()
        self._path = data_dir.with_name(f"{data_dir.name}.control")
        self._path.write_bytes(bytes(_CONTROL_BYTES))
        with self._path.open("r+b") as file:
            self._control = mmap.mmap(file.fileno(), _CONTROL_BYTES)
        self._set(seed=crc32(seed.encode()) & 0x7FFF_FFFF, sync_us=sync_us)

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that uses it."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAULTS_CONTROL": str(self._path),
            "FAULTS_DIRECTORY": str(self.data_dir),
            "FAULTS_JOURNALS": str(self.journals),
        }

    def __getitem__(self, field: str) -> int:
        [value] = struct.unpack_from("=i", self._control, 4 * _FIELDS.index(field))
        return int(value)

    def _set(self, **fields: int) -> None:
        for field, value in fields.items():
            struct.pack_into("=i", self._control, 4 * _FIELDS.index(field), value)

    def fail(
        self,
        calls: Call,
        error: int = errno.EIO,
        *,
        action: int = FAIL,
        count: int = ALL,
        skip: int = 0,
        per_mille: int = 1_000,
        forgetting: bool = False,
    ) -> None:
        """Let calls go wrong from now on, after the next `skip`, `count` times, each with this chance."""
        self._set(count=0)  # while the rest is being said
        self._set(calls=calls, error=error, action=action, skip=skip, per_mille=per_mille)
        self._set(forgetting=forgetting)
        self._set(count=count)

    def slow_down(self, sync_us: int, write_us: int) -> None:
        self._set(sync_us=sync_us, write_us=write_us)

    def lie(self) -> None:
        """Say from now on that what is to be synced is, and sync nothing."""
        self._set(lie=1)

    def be_well(self) -> None:
        """End every fault but a lie."""
        self._set(count=0, sync_us=self._sync_us, write_us=0)

    def lose_power(self, random: Random) -> Loss:
        """Do to the files what a machine without power might do. No process may use them."""
        return lose_power(self.data_dir, self.journals, random)

    def copy_after_power_loss(self, folder: Path, seed: int) -> Path:
        """One of the data directories that may be left; this one stays as it is."""
        shutil.copytree(self.data_dir, folder / "data")
        shutil.copytree(self.journals, folder / "journals")
        lose_power(folder / "data", folder / "journals", Random(seed))
        return folder / "data"

    def settle(self) -> None:
        """Take everything that was written to be on disk by now. No process may use it."""
        for journal in self.journals.iterdir():
            journal.unlink()


class FaultyServer(Server):
    """A server with more in its environment, that can be sent any signal."""

    def __init__(self, data_dir: Path, *flags: str, environment: Mapping[str, str]) -> None:
        super().__init__(data_dir, *flags)
        self._environment = environment

    def _spawn(self) -> subprocess.Popen[str]:
        with patch.dict(os.environ, self._environment):
            return super()._spawn()

    def send_signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)
