"""`waystation backup` copies everything as it is at one moment, for its owner alone, or leaves nothing."""

from __future__ import annotations

import errno
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.directories import create, fill, fingerprints, send, with_orders
from tests.server import running
from waystation import __version__
from waystation.cli import backup as backup_module
from waystation.cli.check import check
from waystation.cli.errors import ExitCode
from waystation.cli.main import main

Backup = Callable[[Path, Path], list[str]]


@pytest.fixture
def back_up(capsys: pytest.CaptureFixture[str]) -> Backup:
    """Runs the command, which has to go well; returns what it printed."""

    def run(data_dir: Path, target: Path) -> list[str]:
        code = main(["backup", "--data-dir", str(data_dir), "--to", str(target)])
        said = capsys.readouterr()
        assert (code, said.err) == (ExitCode.STOPPED, "")
        return said.out.splitlines()

    return run


@pytest.fixture
def fail(capsys: pytest.CaptureFixture[str]) -> Callable[[Path, Path], str]:
    """Runs the command, which has to fail; returns the one line that it printed."""

    def run(data_dir: Path, target: Path) -> str:
        code = main(["backup", "--data-dir", str(data_dir), "--to", str(target)])
        said = capsys.readouterr()
        assert (code, said.out) == (ExitCode.FAILED, "")
        [line] = said.err.splitlines()
        return line

    return run


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    with_orders(tmp_path / "data")
    return tmp_path / "data"


def test_a_backup_has_every_file_and_says_what_they_are(
    back_up: Backup, data_dir: Path, tmp_path: Path
) -> None:
    fill(data_dir, [], auth=True)

    [line] = back_up(data_dir, tmp_path / "backup")

    manifest = json.loads((tmp_path / "backup" / "backup.json").read_text())
    files = {"metadata.db", "shard-000.db", "shard-001.db", "root-access-key.json"}
    assert set(manifest["files"]) == files
    assert manifest["version"] == __version__
    assert {path.name for path in (tmp_path / "backup").iterdir()} == {*files, "backup.json"}
    assert f"backup of {manifest['created']}, 4 files, " in line
    report = check(tmp_path / "backup")
    assert report.findings == []
    assert (report.queues, report.visible, report.delayed, report.in_flight) == (2, 20, 1, 10)


def test_only_its_owner_can_read_a_backup(back_up: Backup, data_dir: Path, tmp_path: Path) -> None:
    fill(data_dir, [], auth=True)
    back_up(data_dir, tmp_path / "backup")

    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "backup").iterdir()} == {0o600}


def test_a_backup_changes_nothing_in_what_it_copies(back_up: Backup, data_dir: Path, tmp_path: Path) -> None:
    before = fingerprints(data_dir)

    back_up(data_dir, tmp_path / "backup")

    assert fingerprints(data_dir) == before


def test_what_only_the_write_ahead_log_of_a_killed_node_has_is_in_the_backup(
    back_up: Backup, tmp_path: Path
) -> None:
    with running(tmp_path / "data") as server:
        sqs = server.client()
        queue = sqs.create_queue(QueueName="orders")["QueueUrl"]
        sqs.send_message(QueueUrl=queue, MessageBody="hello")
        server.kill()
        before = fingerprints(tmp_path / "data")
        assert "shard-000.db-wal" in before

        back_up(tmp_path / "data", tmp_path / "backup")

        assert check(tmp_path / "backup").visible == 1
        assert fingerprints(tmp_path / "data") == before


def test_a_node_that_runs_goes_on_and_what_it_answered_is_in_the_backup(
    back_up: Backup, tmp_path: Path
) -> None:
    with running(tmp_path / "data") as server:
        sqs = server.client()
        queue = sqs.create_queue(QueueName="orders")["QueueUrl"]
        for number in range(3):
            sqs.send_message(QueueUrl=queue, MessageBody="hello")
            back_up(tmp_path / "data", tmp_path / f"backup-{number}")

        assert [check(tmp_path / f"backup-{number}").visible for number in range(3)] == [1, 2, 3]
        assert len(sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]) == 3


def test_a_node_starts_on_a_backup_which_is_one_no_more(
    back_up: Backup, data_dir: Path, tmp_path: Path
) -> None:
    back_up(data_dir, tmp_path / "backup")

    fill(tmp_path / "backup", send("orders", "one more"))

    assert not (tmp_path / "backup" / "backup.json").exists()
    report = check(tmp_path / "backup")
    assert report.findings == []
    assert report.visible == 21


def test_an_empty_directory_is_filled(back_up: Backup, data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()

    back_up(data_dir, tmp_path / "backup")

    assert check(tmp_path / "backup").findings == []


def test_what_is_in_the_way_stays_as_it_is(
    fail: Callable[[Path, Path], str], data_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "mine").write_text("keep me")

    assert "backup is not empty; give --to a new or empty directory" in fail(data_dir, tmp_path / "backup")
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["mine"]
    assert "is not empty" in fail(data_dir, data_dir)


@pytest.mark.parametrize("exists", [False, True])
def test_a_backup_that_fails_half_way_leaves_nothing(
    fail: Callable[[Path, Path], str],
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exists: bool,
) -> None:
    def full(path: Path) -> None:
        if "shard-001" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    target = tmp_path / "backup"
    if exists:
        target.mkdir()
    monkeypatch.setattr(backup_module, "entry_of", full)

    assert fail(data_dir, target).endswith("shard-001.db.partial: No space left on device")
    assert target.exists() == exists
    assert not exists or list(target.iterdir()) == []


def test_a_backup_that_is_interrupted_leaves_nothing_and_has_failed(
    fail: Callable[[Path, Path], str], data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(backup_module, "entry_of", interrupt)

    assert fail(data_dir, tmp_path / "backup") == "waystation: backup was interrupted"
    assert not (tmp_path / "backup").exists()


def test_what_is_no_whole_data_directory_is_not_backed_up(
    fail: Callable[[Path, Path], str], tmp_path: Path
) -> None:
    target = tmp_path / "backup"
    assert "is not a data directory: metadata.db is missing" in fail(tmp_path / "nothing", target)

    fill(tmp_path / "data", [create("orders")])
    (tmp_path / "data" / "shard-000.db").rename(tmp_path / "kept")
    assert "shard-000.db is missing" in fail(tmp_path / "data", target)

    (tmp_path / "data" / "shard-000.db").write_bytes(b"something else entirely" * 1_000)
    assert "shard-000.db is damaged: file is not a database" in fail(tmp_path / "data", target)

    assert not target.exists()


def test_a_backup_is_not_backed_up(
    back_up: Backup, fail: Callable[[Path, Path], str], data_dir: Path, tmp_path: Path
) -> None:
    back_up(data_dir, tmp_path / "backup")

    assert "backup is a backup already; copy it as it is" in fail(tmp_path / "backup", tmp_path / "second")
