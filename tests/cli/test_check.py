"""`waystation check` says what is wrong, where, and what to do, and changes nothing."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from tests.cli.checking import Check
from tests.cli.directories import MESSAGES, change, create, fill, fingerprints, send, value, with_orders
from tests.queues.windows import small_windows
from tests.server import running
from waystation.backend.recovery import recover
from waystation.cli.backup import back_up
from waystation.cli.errors import ExitCode
from waystation.cli.main import main
from waystation.log.interface import Snapshot
from waystation.log.sqlite import SqliteLog
from waystation.queues.snapshots import to_snapshot


def flip(file: Path, what: bytes) -> None:
    """Flip a bit in the first byte of something in a file, wherever a copy of it is."""
    content = file.read_bytes()
    places = [found.start() for found in re.finditer(re.escape(what), content)]
    assert places
    with file.open("r+b") as stream:
        for place in places:
            stream.seek(place)
            stream.write(bytes([content[place] ^ 1]))


def snapshot(data_dir: Path) -> None:
    """Save one of the first shard, of all that is in its log."""

    async def save() -> None:
        log = SqliteLog(data_dir / "shard-000.db")
        state = await recover(log)
        await log.save_snapshot(Snapshot(log.position, log.checksum, to_snapshot(state)))
        await log.close()

    asyncio.run(save())


# Nothing is wrong


def test_a_directory_in_which_nothing_is_wrong_is_summed_up(check: Check, data_dir: Path) -> None:
    said = check(data_dir)

    assert said.problems == said.remarks == []
    assert (
        f"2 queues, 31 messages ({MESSAGES - 10} visible, 1 delayed, 10 in flight, 0 set aside)"
        in said.summary
    )
    size = sum(path.stat().st_size for path in data_dir.glob("*.db"))
    assert f"{size:,} bytes" in said.summary


def test_a_new_directory_is_right(check: Check, tmp_path: Path) -> None:
    fill(tmp_path / "data", [], auth=True)

    said = check(tmp_path / "data")

    assert said.problems == said.remarks == []
    assert "0 queues, 0 messages" in said.summary


def test_looking_at_a_stopped_directory_changes_nothing(check: Check, data_dir: Path) -> None:
    before = fingerprints(data_dir)

    check(data_dir)

    assert fingerprints(data_dir) == before


def test_looking_at_what_a_killed_node_has_left_changes_nothing(check: Check, tmp_path: Path) -> None:
    """Also its write-ahead log stays as it is."""
    with running(tmp_path / "data") as server:
        sqs = server.client()
        queue = sqs.create_queue(QueueName="orders")["QueueUrl"]
        sqs.send_message(QueueUrl=queue, MessageBody="hello")
        server.kill()
        before = fingerprints(tmp_path / "data")
        assert "shard-000.db-wal" in before

        said = check(tmp_path / "data")

        assert said.problems == []
        assert "1 queue, 1 message " in said.summary
        assert fingerprints(tmp_path / "data") == before


def test_a_directory_is_looked_at_while_its_node_runs(check: Check, tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        sqs = server.client()
        queue = sqs.create_queue(QueueName="orders")["QueueUrl"]
        sqs.send_message(QueueUrl=queue, MessageBody="hello")

        said = check(tmp_path / "data")

        assert said.problems == []
        assert "1 queue, 1 message " in said.summary
        assert sqs.receive_message(QueueUrl=queue)["Messages"][0]["Body"] == "hello"


def test_messages_of_tails_snapshots_and_relocations_are_found(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_windows(monkeypatch, 4)
    fill(tmp_path / "data", [create("orders"), *send("orders", *map(str, range(40)))])
    fill(tmp_path / "data", [("ReceiveMessage", {"QueueUrl": "orders", "MaxNumberOfMessages": 10})] * 3)

    said = check(tmp_path / "data")

    assert said.problems == []
    assert "40 messages" in said.summary


def test_a_backup_on_which_nothing_can_be_written_is_looked_at(check: Check, data_dir: Path) -> None:
    backup = data_dir.parent / "backup"
    back_up(data_dir, backup)
    names = {path.name for path in backup.iterdir()}

    assert check(backup).problems == []
    assert {path.name for path in backup.iterdir()} == names, "SQLite needs no file beside it"


# Damage to a log


def test_a_flipped_byte_in_a_record_is_named_with_the_messages_that_are_lost(
    check: Check, data_dir: Path
) -> None:
    flip(data_dir / "shard-000.db", b"<message 0012>")

    said = check(data_dir)

    assert re.search(r"shard-000\.db is damaged: record \d+ does not match its checksum\. ", said.problems[0])
    assert all("restore a backup" in problem for problem in said.problems)


def test_damage_before_the_snapshot_is_found_which_a_start_overlooks(check: Check, data_dir: Path) -> None:
    snapshot(data_dir)
    flip(data_dir / "shard-000.db", b"<message 0012>")
    fill(data_dir, [])

    said = check(data_dir)

    assert "does not match its checksum" in said.problems[0]
    assert "messages of queue orders are lost, 1 in all: " in said.problems[1]
    assert len(said.problems) == 2


def test_a_message_of_a_tail_that_is_gone_is_missed(
    check: Check, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_windows(monkeypatch, 4)
    snapshot(data_dir)
    position = value(data_dir / "shard-000.db", "SELECT max(position) FROM record") - 4
    change(data_dir / "shard-000.db", "DELETE FROM record WHERE position = ?", position)

    said = check(data_dir)

    assert f"records {position} to {position} are missing" in said.problems[0]
    assert re.search(
        rf"messages of queue orders are lost, 1 in all: .* record {position}\. ", said.problems[1]
    )


def test_live_messages_of_records_that_were_truncated_are_missed(check: Check, data_dir: Path) -> None:
    snapshot(data_dir)
    change(data_dir / "shard-000.db", "DELETE FROM record WHERE position < 10")

    [problem] = check(data_dir).problems

    assert "messages of queue orders are lost" in problem


def test_a_record_that_is_missing_in_the_middle_is_named(check: Check, data_dir: Path) -> None:
    change(data_dir / "shard-000.db", "DELETE FROM record WHERE position IN (7, 8)")

    assert any("records 7 to 8 are missing" in problem for problem in check(data_dir).problems)


def test_every_damaged_record_is_named_up_to_a_limit(check: Check, data_dir: Path) -> None:
    for number in (3, 9):
        flip(data_dir / "shard-000.db", f"<message {number:04}>".encode())
    assert sum("does not match its checksum" in problem for problem in check(data_dir).problems) == 2

    for number in set(range(MESSAGES)) - {3, 9}:
        flip(data_dir / "shard-000.db", f"<message {number:04}>".encode())
    problems = check(data_dir).problems
    assert len(problems) == 21
    assert "10 more problems are not listed" in problems[-1]


def test_a_record_of_another_log_is_noticed(check: Check, data_dir: Path) -> None:
    """Its own checksum is right, but it carries that of another record before it."""
    other = data_dir.parent / "other"
    with_orders(other)
    record = value(other / "shard-000.db", "SELECT bytes FROM record WHERE position = 9")
    change(data_dir / "shard-000.db", "UPDATE record SET bytes = ? WHERE position = 9", record)

    assert any("record 9 does not follow" in problem for problem in check(data_dir).problems)


def test_a_damaged_snapshot_is_named(check: Check, data_dir: Path) -> None:
    snapshot(data_dir)
    change(data_dir / "shard-000.db", "UPDATE snapshot SET digest = x'00'")

    [problem] = check(data_dir).problems

    assert "shard-000.db is damaged: the snapshot at record" in problem


@pytest.mark.parametrize("name", ["shard-000.db", "shard-001.db"])
def test_a_missing_shard_is_named(check: Check, data_dir: Path, name: str) -> None:
    (data_dir / name).unlink()

    [problem] = check(data_dir).problems

    assert problem.startswith(f"problem: {name} is missing")


@pytest.mark.parametrize("name", ["metadata.db", "shard-000.db"])
def test_a_file_that_is_no_database_is_named(check: Check, data_dir: Path, name: str) -> None:
    (data_dir / name).write_bytes(b"something else entirely" * 1_000)

    [problem] = check(data_dir).problems

    assert problem.startswith(f"problem: {name} cannot be read: file is not a database")


@pytest.mark.parametrize("name", ["metadata.db", "shard-000.db"])
def test_a_file_that_is_cut_short_is_named(check: Check, data_dir: Path, name: str) -> None:
    with (data_dir / name).open("r+b") as file:
        file.truncate((data_dir / name).stat().st_size // 2 // 4_096 * 4_096)

    assert any(problem.startswith(f"problem: {name} ") for problem in check(data_dir).problems)


@pytest.mark.parametrize("name", ["metadata.db", "shard-000.db"])
def test_a_file_of_a_later_version_is_named(check: Check, data_dir: Path, name: str) -> None:
    with closing(sqlite3.connect(data_dir / name)) as db:
        db.execute("PRAGMA user_version = 7")

    assert any("has format 7; this program reads 1" in problem for problem in check(data_dir).problems)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_damaged_a_check_comes_to_an_end_and_says_so_in_words(
    check: Check, data_dir: Path, seed: int
) -> None:
    """Maybe it finds nothing: what is in no use has no checksum."""
    random = Random(seed)
    file = data_dir / random.choice(["metadata.db", "shard-000.db"])
    content = bytearray(file.read_bytes())
    at = random.randrange(len(content))
    length = min(random.choice([1, 1, 100, 1_000]), len(content) - at)
    content[at : at + length] = random.choice([bytes(length), random.randbytes(length)])
    file.write_bytes(content)

    said = check(data_dir)

    assert all(re.match(r"problem: [a-z0-9-]+\.db ", problem) for problem in said.problems)


def test_a_key_file_that_cannot_be_read_is_named(check: Check, tmp_path: Path) -> None:
    fill(tmp_path / "data", [], auth=True)
    (tmp_path / "data" / "root-access-key.json").write_text("something else")

    [problem] = check(tmp_path / "data").problems

    assert "root-access-key.json cannot be used. " in problem
    assert "is not a key file" in problem


# Backups, and what is none of all that


def test_a_backup_that_was_changed_is_no_more_what_was_written(check: Check, data_dir: Path) -> None:
    backup = data_dir.parent / "backup"
    back_up(data_dir, backup)
    (backup / "metadata.db").unlink()
    flip(backup / "shard-000.db", b"<message 0012>")
    with (backup / "shard-001.db").open("ab") as file:
        file.write(b"more")

    problems = check(backup).problems

    assert "problem: metadata.db is missing" in problems[0]
    assert sum("is missing" in problem for problem in problems) == 1
    assert "problem: shard-000.db is not what was written: its checksum is another" in problems[1]
    assert re.match(r"problem: shard-001\.db has [0-9,]+ bytes instead of [0-9,]+", problems[2])
    assert all("use another backup" in problem.lower() for problem in problems)


def test_a_damaged_manifest_is_refused(check: Check, data_dir: Path) -> None:
    backup = data_dir.parent / "backup"
    back_up(data_dir, backup)
    (backup / "backup.json").write_text("{")

    assert "backup.json is damaged" in check.refuses(backup)


def test_what_is_no_data_directory_is_refused(check: Check, tmp_path: Path) -> None:
    assert "is not a data directory" in check.refuses(tmp_path)
    assert "is not a data directory" in check.refuses(tmp_path / "missing")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["check"], "the following arguments are required: --data-dir"),
        (["check", "--data-dir", "x", "--fix"], "unrecognized arguments: --fix"),
        (["check", "--data-dir"], "flag --data-dir: expected one argument"),
    ],
)
def test_a_mistake_is_told_and_ends_with_code_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == ExitCode.USAGE

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"waystation: {expected}\nwaystation: see waystation check --help\n"


@pytest.mark.parametrize("command", ["backup", "restore", "check"])
def test_each_command_explains_itself_without_loading_what_it_takes(command: str) -> None:
    code = f"""
import sys
from waystation.cli.main import main
assert main(["{command}", "--help"]) == 0
loaded = {{"sqlite3", "asyncio", "uvloop"}} & sys.modules.keys()
assert not loaded, loaded
"""
    finished = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    for expected in (f"usage: waystation {command} ", "--data-dir PATH", "example:", "exit codes:"):
        assert expected in finished.stdout
    assert max(map(len, finished.stdout.splitlines())) <= 100
