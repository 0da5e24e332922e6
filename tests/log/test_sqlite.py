"""The log in a SQLite file: its size, its format, and its behaviour on disks that fail."""

# ruff: noqa: ASYNC220, ASYNC240
# Nothing else runs in the event loop of a test, so that files may be looked at in between.

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from tests.log.asynchrony import async_test, until
from waystation.log.errors import LogDamaged, LogUnavailable
from waystation.log.interface import Snapshot
from waystation.log.records import NO_CHECKSUM, Record
from waystation.log.settings import LogSettings
from waystation.log.sqlite import SqliteLog

MIB = 1_048_576


@asynccontextmanager
async def opened(path: Path, settings: LogSettings | None = None) -> AsyncIterator[SqliteLog]:
    log = SqliteLog(path, settings)
    await log.open()
    try:
        yield log
    finally:
        await log.close()


async def replayed(log: SqliteLog, after: int = 0) -> list[Record]:
    return [record async for record in log.replay(after, NO_CHECKSUM if after == 0 else None)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shard.log"


# Size


@async_test
async def test_the_file_shrinks_when_most_of_the_log_is_truncated(path: Path) -> None:
    settings = LogSettings(checkpoint_bytes=MIB, vacuum_bytes=MIB)
    async with opened(path, settings) as log:
        for _ in range(160):
            await log.append(os.urandom(100_000))
        await log.truncate(160)
    assert path.stat().st_size <= 2 * MIB
    assert not path.with_name(path.name + "-wal").exists()

    async with opened(path, settings) as log:
        assert [record.position for record in await replayed(log, 159)] == [160]


@async_test
async def test_a_write_ahead_log_is_reused_while_appends_go_on(path: Path) -> None:
    """One without checkpoints would be 40 MB here. A checkpoint takes its time, so its size varies."""
    wal = path.with_name(path.name + "-wal")
    largest = 0
    async with opened(path, LogSettings(checkpoint_bytes=MIB)) as log:
        for _ in range(400):
            await log.append(os.urandom(100_000))
            largest = max(largest, wal.stat().st_size)

    assert MIB <= largest <= 10 * MIB


@async_test
async def test_space_that_is_free_inside_the_file_is_used_again(path: Path) -> None:
    async with opened(path, LogSettings(checkpoint_bytes=MIB, vacuum_bytes=64 * MIB)) as log:
        for round_ in range(1, 11):
            for _ in range(20):
                await log.append(os.urandom(100_000))
            await log.truncate(round_ * 20)

    assert path.stat().st_size <= 6 * MIB, "20 MB went through it"


# Threads


@async_test
async def test_a_closed_log_leaves_no_thread_behind(path: Path) -> None:
    before = {thread.name for thread in threading.enumerate() if thread.name.startswith("log-")}
    async with opened(path) as log:
        await log.append(b"one")
        await log.read([1])
        assert {thread.name for thread in threading.enumerate()} >= {"log-append-shard", "log-read-shard"}

    after = {thread.name for thread in threading.enumerate() if thread.name.startswith("log-")}
    assert after == before


@async_test
async def test_reads_and_appends_do_not_wait_for_each_other(path: Path) -> None:
    async with opened(path) as log:
        await log.append(b"one")
        replay = log.replay(0, NO_CHECKSUM)
        first = await anext(replay)
        for _ in range(10):
            await log.append(b"more")

        assert first.payload == b"one"
        assert len([record async for record in replay]) == 10


# Format and damage


@async_test
async def test_a_file_of_another_format_version_is_refused_and_left_as_it_is(path: Path) -> None:
    async with opened(path) as log:
        await log.append(b"one")
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    before = path.read_bytes()

    with pytest.raises(LogDamaged, match=r"shard\.log has format 2; this program reads 1"):
        await SqliteLog(path).open()
    assert path.read_bytes() == before


@async_test
async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database " * 1_000)

    with pytest.raises(LogDamaged, match=r"shard\.log"):
        await SqliteLog(path).open()


def flip(path: Path, marker: bytes) -> None:
    """Change one bit of the file, in the middle of the only place where `marker` stands."""
    data = bytearray(path.read_bytes())
    assert data.count(marker) == 1
    data[data.index(marker) + len(marker) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.fixture
def three_records(path: Path) -> Path:
    async def write() -> None:
        async with opened(path) as log:
            for name in (b"one", b"two", b"three"):
                await log.append(b"the payload of record " + name)
            await log.save_snapshot(Snapshot(2, log.checksum, b"the payload of the snapshot"))

    asyncio.run(write())
    return path


@async_test
async def test_a_flipped_bit_in_a_record_on_disk_is_noticed_and_named(three_records: Path) -> None:
    flip(three_records, b"the payload of record two")
    async with opened(three_records) as log:
        with pytest.raises(LogDamaged, match="record 2 does not match its checksum"):
            await log.read([1, 2])
        with pytest.raises(LogDamaged, match="record 2 does not match its checksum"):
            await replayed(log)
        assert [record and record.position for record in await log.read([1, 3])] == [1, 3]


@async_test
async def test_a_flipped_bit_in_the_last_record_is_noticed_at_opening(three_records: Path) -> None:
    flip(three_records, b"the payload of record three")

    with pytest.raises(LogDamaged, match="record 3 does not match its checksum"):
        await SqliteLog(three_records).open()


@async_test
async def test_a_flipped_bit_in_the_snapshot_is_noticed_and_named(three_records: Path) -> None:
    flip(three_records, b"the payload of the snapshot")
    async with opened(three_records) as log:
        with pytest.raises(LogDamaged, match=r"snapshot at record 2 in .*shard\.log does not match"):
            await log.load_snapshot()


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("DELETE FROM record WHERE position = 2", "records 2 to 2 are missing"),
        ("UPDATE record SET position = 9 WHERE position = 3", "record 9 says that it is record 3"),
        (
            "UPDATE record SET bytes = (SELECT max(bytes) FROM record) WHERE position = 2",
            "record 2 says that",
        ),
        ("UPDATE record SET bytes = 'text' WHERE position = 2", "record 2 is cut short"),
        ("UPDATE record SET bytes = 7 WHERE position = 3", "record 3 is cut short"),
    ],
)
@async_test
async def test_records_that_are_missing_or_exchanged_are_noticed(
    three_records: Path, statement: str, reason: str
) -> None:
    with sqlite3.connect(three_records) as db:
        db.execute(statement)
    db.close()
    with pytest.raises(LogDamaged, match=reason):
        async with opened(three_records) as log:
            await replayed(log)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE snapshot SET checksum = 'text'",
        "UPDATE snapshot SET digest = 7",
        "UPDATE snapshot SET position = 3",
        "UPDATE snapshot_chunk SET bytes = 'text'",
        "DELETE FROM snapshot_chunk",
    ],
)
@async_test
async def test_a_snapshot_of_which_a_part_is_not_what_was_saved_is_noticed(
    three_records: Path, statement: str
) -> None:
    with sqlite3.connect(three_records) as db:
        db.execute(statement)
    db.close()
    async with opened(three_records) as log:
        with pytest.raises(LogDamaged, match="does not match its checksum"):
            await log.load_snapshot()


@async_test
async def test_any_damaged_page_is_refused_or_changes_nothing(three_records: Path) -> None:
    """
    Bits flip anywhere, also where SQLite keeps its own books. What is served is
    what was written; a damaged count of rows can hide the last ones, which
    recovery notices when a snapshot knows of them.
    """
    whole = three_records.read_bytes()
    expected = [b"the payload of record " + name for name in (b"one", b"two", b"three")]
    refused = 0
    for at in range(0, len(whole), 61):
        data = bytearray(whole)
        data[at] ^= 0x10
        three_records.write_bytes(data)
        try:
            async with opened(three_records) as log:
                found = [record.payload for record in await replayed(log)]
        except (LogDamaged, LogUnavailable):
            refused += 1
        else:
            assert found == expected[: len(found)]
        for leftover in three_records.parent.glob("*-*"):
            leftover.unlink()

    assert refused


# Snapshots


@async_test
async def test_a_snapshot_whose_saving_was_cut_off_leaves_the_old_one(path: Path) -> None:
    old = Snapshot(1, NO_CHECKSUM, b"old" * 200_000)
    async with opened(path) as log:
        await log.save_snapshot(old)
        for turns in range(1, 12):
            saving = asyncio.create_task(log.save_snapshot(Snapshot(2, NO_CHECKSUM, b"new" * 500_000)))
            for _ in range(turns):
                await asyncio.sleep(0)
            saving.cancel()
            await asyncio.gather(saving, return_exceptions=True)
            assert await log.load_snapshot() == old

        await log.save_snapshot(Snapshot(2, NO_CHECKSUM, b"new"))
        assert await log.load_snapshot() == Snapshot(2, NO_CHECKSUM, b"new")
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM snapshot_chunk").fetchone() == (1,)
    db.close()


# Crashes


APPENDER = """
import asyncio, sys
from pathlib import Path
from waystation.log.settings import LogSettings
from waystation.log.sqlite import SqliteLog

async def append():
    log = SqliteLog(Path(sys.argv[1]), LogSettings(checkpoint_bytes=65_536))
    await log.open()
    while True:
        position = await log.append(b"payload %d " % (log.position + 1) * 20)
        print(position, flush=True)

asyncio.run(append())
"""


@async_test
async def test_every_acknowledged_append_survives_kill_9(path: Path) -> None:
    acknowledged = 0
    for lines in (1, 40, 160):
        process = subprocess.Popen(
            [sys.executable, "-c", APPENDER, str(path)], stdout=subprocess.PIPE, text=True, env=os.environ
        )
        assert process.stdout is not None
        for _ in range(lines):
            acknowledged = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        acknowledged = int((process.stdout.read().split() or [str(acknowledged)])[-1])
        process.stdout.close()
        process.wait()

    async with opened(path) as log:
        records = await replayed(log)
    assert acknowledged >= 201
    assert len(records) in {acknowledged, acknowledged + 1}, "one more may have been on its way"
    assert all(record.payload == b"payload %d " % position * 20 for position, record in enumerate(records, 1))


# Disks that are full


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow past `size` bytes: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def append_until_it_fails(log: SqliteLog) -> int:
    """Returns how many were acknowledged."""
    with pytest.raises(LogUnavailable):
        await append_for_ever(log)
    with pytest.raises(LogUnavailable, match="not open"):
        await log.append(b"nothing more before it is opened again")
    return log.position


async def append_for_ever(log: SqliteLog) -> None:
    while True:
        await log.append(b"x" * 50_000)


@async_test
async def test_a_failed_append_closes_the_log_until_it_is_opened_again(path: Path) -> None:
    async with opened(path) as log:
        with file_size_limit(MIB):
            acknowledged = await append_until_it_fails(log)
        await log.open()

        assert log.position in {acknowledged, acknowledged + 1}
        assert await log.append(b"again") == log.position
        assert len(await replayed(log)) == log.position


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB. Mounting one takes a privilege that not every machine gives."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@async_test
async def test_a_log_works_again_when_a_full_disk_has_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 * MIB))
    async with opened(small_disk / "shard.log", LogSettings(checkpoint_bytes=65_536)) as log:
        acknowledged = await append_until_it_fails(log)
        ballast.unlink()
        await log.open()

        assert log.position in {acknowledged, acknowledged + 1}
        assert await log.append(b"there is room again") == log.position
        assert len(await replayed(log)) == log.position


@async_test
async def test_a_checkpoint_that_fails_is_made_up_for_by_the_next(path: Path) -> None:
    async with opened(path, LogSettings(checkpoint_bytes=MIB)) as log:
        with file_size_limit(1_200_000), pytest.raises(LogUnavailable):
            await append_for_ever(log)
        await log.open()
        for _ in range(100):
            await log.append(b"x" * 50_000)
        await until(lambda: path.stat().st_size > 3 * MIB)
        assert len(await replayed(log)) == log.position


@async_test
async def test_a_disk_with_less_room_than_the_reserve_has_none_for_new_messages(path: Path) -> None:
    assert SqliteLog(path, LogSettings(reserve_bytes=0)).has_room()
    assert not SqliteLog(path, LogSettings(reserve_bytes=2**62)).has_room()


@async_test
async def test_a_disk_that_does_not_answer_is_unavailable(path: Path) -> None:
    with pytest.raises(LogUnavailable, match="No such file"):
        SqliteLog(path / "gone" / "shard.db").has_room()
