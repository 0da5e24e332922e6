"""`waystation restore` makes a data directory of a backup that is whole, and otherwise nothing."""

from __future__ import annotations

import errno
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.directories import change, fill, fingerprints, send, with_orders
from tests.server import running
from waystation.cli import restore as restore_module
from waystation.cli.backup import back_up
from waystation.cli.check import check
from waystation.cli.errors import ExitCode
from waystation.cli.main import main
from waystation.cli.manifest import FileEntry, copy_file
from waystation.log.errors import LogUnavailable
from waystation.log.sqlite import SqliteLog


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    with_orders(tmp_path / "original")
    fill(tmp_path / "original", [], auth=True)
    back_up(tmp_path / "original", tmp_path / "backup")
    return tmp_path / "backup"


@pytest.fixture
def restore(capsys: pytest.CaptureFixture[str]) -> Callable[[Path, Path], str]:
    """Runs the command, which has to go well; returns the one line that it printed."""

    def run(backup: Path, data_dir: Path) -> str:
        code = main(["restore", "--from", str(backup), "--data-dir", str(data_dir)])
        said = capsys.readouterr()
        assert (code, said.err) == (ExitCode.STOPPED, "")
        [line] = said.out.splitlines()
        return line

    return run


@pytest.fixture
def fail(capsys: pytest.CaptureFixture[str]) -> Callable[[Path, Path], str]:
    """Runs the command, which has to fail; returns the one line that it printed."""

    def run(backup: Path, data_dir: Path) -> str:
        code = main(["restore", "--from", str(backup), "--data-dir", str(data_dir)])
        said = capsys.readouterr()
        assert (code, said.out) == (ExitCode.FAILED, "")
        [line] = said.err.splitlines()
        return line

    return run


def test_what_was_backed_up_is_served_again(
    restore: Callable[[Path, Path], str], backup: Path, tmp_path: Path
) -> None:
    line = restore(backup, tmp_path / "data")

    assert "restored the backup of " in line
    assert "2 queues, 31 messages (20 visible, 1 delayed, 10 in flight, 0 set aside)" in line
    with running(tmp_path / "data") as server:
        sqs = server.client()
        queue = sqs.get_queue_url(QueueName="orders")["QueueUrl"]
        received = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        bodies = {message["Body"] for message in received["Messages"]}
    assert bodies <= {f"<message {number:04}>" for number in range(30)}
    assert len(bodies) == 10


@pytest.mark.parametrize("name", ["orders", "orders.fifo"])
def test_what_was_given_out_since_the_backup_is_of_no_message_sent_after_the_restore(
    restore: Callable[[Path, Path], str], tmp_path: Path, name: str
) -> None:
    """Ids, sequence numbers and receipt handles follow from numbers: those are never used again."""
    fifo = {"FifoQueue": "true", "ContentBasedDeduplication": "true"} if name.endswith(".fifo") else {}
    group = {"MessageGroupId": "all"} if fifo else {}
    with running(tmp_path / "first") as server:
        sqs = server.client()
        queue = sqs.create_queue(QueueName=name, Attributes=fifo)["QueueUrl"]
        back_up(tmp_path / "first", tmp_path / "backup")
        lost = sqs.send_message(QueueUrl=queue, MessageBody="sent since", **group)
        [received] = sqs.receive_message(QueueUrl=queue)["Messages"]
    restore(tmp_path / "backup", tmp_path / "data")

    with running(tmp_path / "data") as server:
        sqs = server.client()
        queue = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        other = sqs.create_queue(QueueName=f"other-{name}", Attributes=fifo)["QueueUrl"]
        sent = [sqs.send_message(QueueUrl=each, MessageBody="sent after", **group) for each in (queue, other)]
        [again] = sqs.receive_message(QueueUrl=queue)["Messages"]
        if not fifo:  # a FIFO queue says of such a handle that it has expired
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=received["ReceiptHandle"])
        counts = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]

    assert len({lost["MessageId"], again["MessageId"], sent[1]["MessageId"]}) == 3
    assert again["MessageId"] == sent[0]["MessageId"]
    assert sent[0].get("SequenceNumber", "1") > lost.get("SequenceNumber", "0")
    assert counts["ApproximateNumberOfMessagesNotVisible"] == "1"


def test_a_receipt_handle_from_before_the_backup_is_good_after_it(
    restore: Callable[[Path, Path], str], tmp_path: Path
) -> None:
    with running(tmp_path / "first") as server:
        sqs = server.client()
        queue = sqs.create_queue(QueueName="orders")["QueueUrl"]
        sent = sqs.send_message(QueueUrl=queue, MessageBody="hello")
        [message] = sqs.receive_message(QueueUrl=queue)["Messages"]
        back_up(tmp_path / "first", tmp_path / "handles")
    restore(tmp_path / "handles", tmp_path / "data")

    with running(tmp_path / "data") as server:
        sqs = server.client()
        queue = sqs.get_queue_url(QueueName="orders")["QueueUrl"]
        assert message["MessageId"] == sent["MessageId"]
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        server.stop()
    assert check(tmp_path / "data").contents().startswith("1 queue, 0 messages")


def test_a_restored_directory_is_for_its_owner_alone_and_holds_what_the_backup_held(
    restore: Callable[[Path, Path], str], backup: Path, tmp_path: Path
) -> None:
    """Each shard has a record more, which says what numbers are skipped."""
    before = fingerprints(backup)
    restore(backup, tmp_path / "data")

    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()} == {0o600}
    restored = fingerprints(tmp_path / "data")
    assert restored.keys() == before.keys() - {"backup.json"}
    for name in restored:
        assert (restored[name] == before[name]) != name.startswith("shard-")
    assert check(tmp_path / "data").contents().startswith("2 queues, 31 messages (20 visible")


def test_a_backup_can_be_restored_twice(
    restore: Callable[[Path, Path], str], backup: Path, tmp_path: Path
) -> None:
    restore(backup, tmp_path / "first")
    fill(tmp_path / "first", send("orders", "only here"))
    restore(backup, tmp_path / "second")

    assert check(tmp_path / "first").visible == 21
    assert check(tmp_path / "second").visible == 20


def test_a_directory_that_is_in_use_stays_as_it_is(
    fail: Callable[[Path, Path], str], backup: Path, tmp_path: Path
) -> None:
    before = fingerprints(tmp_path / "original")

    line = fail(backup, tmp_path / "original")

    assert "original is not empty; give --data-dir a new or empty directory" in line
    assert fingerprints(tmp_path / "original") == before


def test_what_is_no_backup_is_not_restored(fail: Callable[[Path, Path], str], tmp_path: Path) -> None:
    with_orders(tmp_path / "original")

    for directory in (tmp_path / "original", tmp_path / "nothing"):
        assert f"{directory} is not a backup" in fail(directory, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_backup_in_which_a_byte_has_changed_is_not_restored(
    fail: Callable[[Path, Path], str], backup: Path, tmp_path: Path
) -> None:
    file = backup / "shard-000.db"
    content = bytearray(file.read_bytes())
    content[5_000] ^= 1
    file.write_bytes(content)

    line = fail(backup, tmp_path / "data")

    assert "backup fails waystation check: shard-000.db is not what was written" in line
    assert not (tmp_path / "data").exists()


def test_a_backup_of_a_damaged_log_is_not_restored(
    fail: Callable[[Path, Path], str], backup: Path, tmp_path: Path
) -> None:
    """Its files are what was written, and what was written was wrong."""
    change(tmp_path / "original" / "shard-000.db", "DELETE FROM record WHERE position = 7")
    back_up(tmp_path / "original", tmp_path / "wrong")

    assert "shard-000.db is damaged: records 7 to 7 are missing" in fail(
        tmp_path / "wrong", tmp_path / "data"
    )
    assert not (tmp_path / "data").exists()


def test_a_manifest_that_names_files_elsewhere_is_refused(
    fail: Callable[[Path, Path], str], backup: Path, tmp_path: Path
) -> None:
    manifest = json.loads((backup / "backup.json").read_text())
    manifest["files"]["../outside.db"] = manifest["files"]["metadata.db"]
    (backup / "backup.json").write_text(json.dumps(manifest))

    assert "names a file that no backup has: '../outside.db'" in fail(backup, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("exists", [False, True])
def test_a_restore_that_fails_half_way_leaves_nothing(
    fail: Callable[[Path, Path], str],
    backup: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exists: bool,
) -> None:
    copied: list[str] = []

    def copy(source: Path, target: Path) -> FileEntry:
        copied.append(source.name)
        if source.name == "metadata.db":
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return copy_file(source, target)

    monkeypatch.setattr(restore_module, "copy_file", copy)
    target = tmp_path / "data"
    if exists:
        target.mkdir()

    assert fail(backup, target).endswith("metadata.db: No space left on device")
    assert copied[-1] == "metadata.db", "without it, no node starts on what a crash leaves"
    assert len(copied) == 4
    assert target.exists() == exists
    assert not exists or list(target.iterdir()) == []


def test_a_file_that_changes_while_it_is_copied_is_noticed(
    fail: Callable[[Path, Path], str], backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore_module, "copy_file", lambda source, target: FileEntry(0, ""))

    assert "has changed while it was copied" in fail(backup, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_restore_onto_a_disk_that_gets_full_leaves_nothing_and_says_why(
    fail: Callable[[Path, Path], str], backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shards are whole by then, and have yet to note that numbers are skipped."""

    async def full(self: SqliteLog, payload: bytes) -> int:
        raise LogUnavailable("database or disk is full")

    monkeypatch.setattr(SqliteLog, "append", full)

    assert "shard-000.db cannot be made: database or disk is full" in fail(backup, tmp_path / "data")
    assert not (tmp_path / "data").exists()
