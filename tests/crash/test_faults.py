"""The storage that fails on request does what the kernel and a disk could do, and nothing else."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.crash.faults import DIE, SHORT, Call, NoCompiler, Storage, compile_faults
from tests.crash.power_loss import Loss, after_power_loss, read_journal

FILE = "x.db"
SEEDS = 200
BLOCK = 4096
PROLOGUE = f"""
import os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
def write(letter, at=0, blocks=1):
    return os.pwrite(file, letter.encode() * blocks * {BLOCK}, at * {BLOCK})
def sync(descriptor=file):
    try:
        os.fsync(descriptor)
    except OSError as error:
        print(error.errno)
def read(at=0):
    print(os.pread(file, 1, at * {BLOCK}).decode())
"""


class Disk:
    """Runs programs on a storage, and says what may be left of their file."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.file = storage.data_dir / FILE

    def run(self, *lines: str) -> list[str]:
        """A new process; returns what it printed."""
        command = [sys.executable, "-c", "\n".join([PROLOGUE, *lines]), str(self.file)]
        environment = os.environ | self.storage.environment
        ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert ran.returncode in (0, -9), ran.stderr
        return ran.stdout.split()

    def content(self) -> str:
        return letters(self.file.read_bytes())

    def after_power_loss(self) -> set[str]:
        """Everything that was found in many tries: a letter for each block, `?` for a mixed one."""
        journal = self.storage.journals / FILE
        records, content = read_journal(journal.read_bytes()), self.file.read_bytes()
        return {letters(after_power_loss(content, records, Random(seed), Loss())) for seed in range(SEEDS)}


def letters(content: bytes) -> str:
    blocks = [content[start : start + BLOCK] for start in range(0, len(content), BLOCK)]
    return "".join(chr(block[0] or ord("0")) if len(set(block)) == 1 else "?" for block in blocks)


@pytest.fixture
def disk(library: Path, tmp_path: Path) -> Disk:
    (tmp_path / "data").mkdir()
    return Disk(Storage(library, tmp_path / "data", "disk"))


def test_what_was_synced_is_there_after_a_loss_of_power(disk: Disk) -> None:
    disk.run("write('a', blocks=3); sync()")

    assert disk.after_power_loss() == {"aaa"}


def test_what_was_not_synced_is_there_or_not_block_by_block(disk: Disk) -> None:
    disk.run("write('a', blocks=2); sync(); write('b', 0); write('b', 1)")

    found = disk.after_power_loss()
    assert {"aa", "ab", "ba", "bb"} <= found
    assert all(set(each) <= set("ab?") for each in found)


def test_of_a_file_that_grew_any_part_may_be_there(disk: Disk) -> None:
    disk.run("write('a'); sync(); write('b', 1); write('c', 2)")

    found = disk.after_power_loss()
    assert {"a", "ab", "abc", "a0c", "a00"} <= found
    assert all(each[0] == "a" for each in found)


def test_a_cut_that_was_not_synced_may_be_undone_and_never_shows_what_was_cut_off(disk: Disk) -> None:
    disk.run(f"write('a', blocks=3); sync(); os.ftruncate(file, {BLOCK}); write('b', 2)")

    found = disk.after_power_loss()
    assert {"aaa", "a", "a0b", "a00"} <= found
    assert "aab" not in found
    assert "a0a" not in found


def test_a_sync_covers_what_was_written_before_it_began_and_a_kill_takes_nothing(disk: Disk) -> None:
    disk.run("write('a'); sync(); write('b'); os.kill(os.getpid(), 9)")
    assert disk.content() == "b"

    disk.run("sync()")  # by another process
    assert disk.after_power_loss() == {"b"}


def test_a_failed_sync_is_not_made_good_by_the_next_one(disk: Disk) -> None:
    disk.run("write('a'); sync()")
    disk.storage.fail(Call.SYNC, errno.EIO, count=1)

    assert disk.run("write('b'); sync(); sync(); read()") == [str(errno.EIO), "b"]
    assert {"a", "b"} <= disk.after_power_loss()

    disk.run("write('b'); sync()")
    assert disk.after_power_loss() == {"b"}


def test_every_open_descriptor_hears_of_a_failed_sync_once(disk: Disk) -> None:
    disk.storage.fail(Call.SYNC, errno.EIO, count=1)
    other = "other = os.open(sys.argv[1], os.O_RDWR)"

    assert disk.run(other, "write('a'); sync(); sync()", "print('other'); sync(other); sync(other)") == [
        *(str(errno.EIO), "other", str(errno.EIO))
    ]


def test_after_a_failed_sync_reads_may_give_what_is_on_disk(disk: Disk) -> None:
    disk.run("write('a', blocks=2); sync()")
    disk.storage.fail(Call.SYNC, errno.EIO, count=1, forgetting=True)

    assert disk.run("write('b'); write('c'); write('d', 1); sync(); read(); read(1)") == [
        *(str(errno.EIO), "a", "a")
    ]
    assert "aa" in disk.after_power_loss()


def test_a_process_dies_in_a_write_of_which_a_part_is_done(disk: Disk) -> None:
    disk.run("write('a', blocks=4); sync()")
    disk.storage.fail(Call.WRITE, action=DIE, count=1, skip=1)

    assert disk.run("write('b'); write('c', blocks=4); print('alive')") == []
    assert disk.content() in {"baaa", "?aaa", "caaa", "c?aa", "ccaa", "cc?a", "ccca", "ccc?"}


def test_a_write_may_be_short_or_refused(disk: Disk) -> None:
    disk.storage.fail(Call.WRITE, action=SHORT, count=1)
    [written] = disk.run("print(write('a'))")
    assert 0 < int(written) < BLOCK

    disk.storage.fail(Call.WRITE | Call.TRUNCATE, errno.ENOSPC, count=2)
    refused = "try: {}\nexcept OSError as error: print(error.errno)"
    assert disk.run(refused.format("write('b')"), refused.format("os.ftruncate(file, 0)")) == [
        *(str(errno.ENOSPC), str(errno.ENOSPC))
    ]


def test_a_lie_about_syncs_loses_what_was_synced(disk: Disk) -> None:
    disk.run("write('a'); sync()")
    disk.storage.lie()
    disk.run("write('b'); sync()")

    assert {"a", "b"} <= disk.after_power_loss()


def test_without_a_c_compiler_it_is_said_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")

    with pytest.raises(NoCompiler, match="only where there is a C compiler"):
        compile_faults(tmp_path)
