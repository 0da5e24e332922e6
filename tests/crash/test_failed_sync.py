"""A sync that failed is not made good by the next one: Linux takes the pages for written all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.crash.faults import DIE, Call, FaultyServer, Storage
from tests.server import eventually, running

SEEDS = 4
PROLOGUE = """
import asyncio, sys
from pathlib import Path
from waystation.log.errors import LogDamaged, LogUnavailable
from waystation.log.sqlite import SqliteLog

async def main():
    log = SqliteLog(Path(sys.argv[1]))
    await log.open()
"""
EPILOGUE = """
asyncio.run(main())
"""
FILL = """
    for number in range(300):
        await log.append(b"%05d" % number * 200)
    await log.close()
"""
FORGET_AND_FAIL = """
    await log.append(b"last")
    print("now", flush=True)
    sys.stdin.readline()
    for action in (lambda: log.truncate(150), log.open):
        try:
            await action()
        except LogUnavailable:
            print("failed", flush=True)
    sys.stdin.readline()
    await log.open()
"""
LOOK = """
    print(log.position, len([record async for record in log.replay(log.first - 1, None)]), log.first)
    await log.close()
"""


def program(*lines: str) -> list[str]:
    return [sys.executable, "-c", "".join([PROLOGUE, *lines, EPILOGUE])]


def test_a_log_whose_sync_failed_outlives_a_loss_of_power_while_it_is_opened_again(
    library: Path, tmp_path: Path
) -> None:
    """
    Records are deleted, and the sync of that fails. When the log is opened again, SQLite finds the whole
    transaction in its write-ahead log and copies it into the file; the power goes in the midst of that.
    """
    for syncs_before in (0, 1, 2, 3):
        (tmp_path / str(syncs_before) / "data").mkdir(parents=True)
        storage = Storage(library, tmp_path / str(syncs_before) / "data", "failed sync")
        fail_and_die(storage, syncs_before)
        for seed in range(SEEDS):
            position, records, first = after_power_loss(storage, tmp_path / f"{syncs_before}-{seed}", seed)
            assert position == 301
            assert records == position - first + 1


def fail_and_die(storage: Storage, syncs_before: int) -> None:
    """Leave a log whose sync has failed, and that was being opened again."""
    file = str(storage.data_dir / "x.db")
    surroundings = os.environ | storage.environment
    subprocess.run([*program(FILL), file], env=surroundings, check=True)
    with subprocess.Popen(
        [*program(FORGET_AND_FAIL), file],
        env=surroundings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        storage.fail(Call.SYNC)
        print(file=process.stdin, flush=True)
        assert [process.stdout.readline(), process.stdout.readline()] == ["failed\n", "failed\n"]
        storage.fail(Call.SYNC, action=DIE, skip=syncs_before, count=1)
        print(file=process.stdin, flush=True)
        eventually(lambda: process.poll() is not None)


def after_power_loss(storage: Storage, folder: Path, seed: int) -> tuple[int, ...]:
    """Position, number of records and first record of one of the logs that may be left."""
    left = storage.copy_after_power_loss(folder, seed)
    command = [*program(LOOK), str(left / "x.db")]
    looked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert looked.returncode == 0, looked.stderr
    return tuple(map(int, looked.stdout.split()))


def test_a_queue_that_was_created_after_a_failed_sync_and_a_kill_outlives_a_loss_of_power(
    library: Path, tmp_path: Path
) -> None:
    """
    The catalogue adds to its write-ahead log behind a transaction that only looks as if it were on disk:
    without that one, SQLite does not see those after it.
    """
    storage = Storage(library, tmp_path / "data", "catalogue")
    server = FaultyServer(storage.data_dir, environment=storage.environment)
    try:
        server.start()
        sqs = server.client()
        url = sqs.create_queue(QueueName="before")["QueueUrl"]
        storage.fail(Call.SYNC)
        with pytest.raises(ClientError, match="ServiceUnavailable"):
            sqs.tag_queue(QueueUrl=url, Tags={"a": "b"})
        server.kill()
        storage.be_well()
        server.start()
        sqs.create_queue(QueueName="after")
    finally:
        server.kill()
    for seed in range(SEEDS):
        with running(storage.copy_after_power_loss(tmp_path / str(seed), seed)) as left:
            assert left.client().get_queue_url(QueueName="after")
