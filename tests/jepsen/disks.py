"""Disks that can be full, and disks that forget what was never synced when the power goes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tests.deploy import parts
from tests.jepsen.network import run

_FILLER = "filler"
_IMAGE_MIB = 192


class SmallDisk:
    """A file system in memory that can be filled up."""

    def __init__(self, folder: Path, tag: str, name: str, size_mib: int = 64) -> None:
        self.path = folder / f"{tag}-{name}"
        self._size_mib = size_mib

    def mount(self) -> None:
        self.path.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={self._size_mib}m", "none", str(self.path))

    def fill(self) -> None:
        """Leave no byte."""
        with (self.path / _FILLER).open("ab", buffering=0) as file, suppress(OSError):
            while file.write(bytes(65_536)):
                pass

    def make_room(self) -> None:
        (self.path / _FILLER).unlink(missing_ok=True)


class ForgetfulDisk:
    """An ext4 file system in an image, which holds what was written out: what was synced, and little else.

    It writes by itself only each ten minutes. The kernel's own flusher may write out a page that nobody
    synced; a real disk may get it, too.
    """

    def __init__(self, folder: Path, tag: str, name: str) -> None:
        self.path = folder / f"{tag}-{name}"
        self._image = folder / f"{name}.ext4"

    def mount(self) -> None:
        mkfs = parts.program("mkfs.ext4", "e2fsprogs")
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(_IMAGE_MIB * 1024 * 1024)
        run(mkfs, "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(self._image))
        self._mount()

    def _mount(self) -> None:
        run("mount", "-o", "loop,commit=600", str(self._image), str(self.path))

    def lose_power(self) -> None:
        """Forget what was not written out. Whoever used the disk has to be dead."""
        as_it_is = self._image.with_suffix(".kept")
        # Until nothing is written out while it is copied: a copy of two moments is no state of any disk.
        while True:
            before = self._blocks_written()
            run("cp", "--sparse=always", str(self._image), str(as_it_is))
            if self._blocks_written() == before:
                break
        run("umount", str(self.path))
        os.replace(as_it_is, self._image)
        self._mount()

    def _blocks_written(self) -> str:
        device = run("findmnt", "-n", "-o", "SOURCE", str(self.path)).strip()
        return Path(f"/sys/block/{Path(device).name}/stat").read_text(encoding="utf-8").split()[6]
