"""The first key: made once, kept private, or given."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import pytest

from waystation.frontend.access_keys import FILE_NAME, RootKeyError, load_or_create_root_key
from waystation.frontend.auth import AccessKey

ACCOUNT = "0" * 12


def key_file(data_dir: Path, content: bytes, mode: int = 0o600) -> Path:
    path = data_dir / FILE_NAME
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_the_first_start_makes_a_key_and_later_starts_find_it(tmp_path: Path) -> None:
    first, created = load_or_create_root_key(tmp_path, ACCOUNT, None, None)
    assert created

    assert load_or_create_root_key(tmp_path, ACCOUNT, None, None) == (first, False)


def test_a_new_key_looks_like_one_of_awss_and_is_like_no_other(tmp_path: Path) -> None:
    keys = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        keys.append(load_or_create_root_key(tmp_path / name, ACCOUNT, None, None)[0])

    for key in keys:
        assert re.fullmatch(r"AKIA[A-Z2-7]{16}", key.id)
        assert re.fullmatch(r"[A-Za-z0-9]{40}", key.secret)
        assert key.account == ACCOUNT
    assert keys[0].id != keys[1].id
    assert keys[0].secret != keys[1].secret


def test_the_key_file_is_private_and_alone(tmp_path: Path) -> None:
    # What a start that was cut short may have left, open to others.
    leftover = (tmp_path / FILE_NAME).with_suffix(".tmp")
    leftover.write_text("half a k")
    leftover.chmod(0o666)
    old_umask = os.umask(0)
    try:
        key, _ = load_or_create_root_key(tmp_path, ACCOUNT, None, None)
    finally:
        os.umask(old_umask)

    [path] = tmp_path.iterdir()

    assert path.name == FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {"access_key_id": key.id, "secret_access_key": key.secret}


def test_a_key_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced, then renamed, then its directory is synced: a crash leaves a whole key or none."""
    steps: list[str] = []
    rename = Path.rename

    def noted_fsync(fd: int) -> None:
        steps.append("directory synced" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file synced")

    def noted_rename(path: Path, to: Path) -> Path:
        steps.append("renamed")
        return rename(path, to)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)

    load_or_create_root_key(tmp_path, ACCOUNT, None, None)

    assert steps == ["file synced", "renamed", "directory synced"]


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o644, 0o601])
def test_a_key_file_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, b'{"access_key_id":"AKIAX","secret_access_key":"hush"}', mode)

    with pytest.raises(RootKeyError) as refused:
        load_or_create_root_key(tmp_path, ACCOUNT, None, None)

    assert f"{path} is open to other users (mode {mode:04o})" in str(refused.value)
    assert f"chmod 600 {path}" in str(refused.value)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hush",
        b"\xff",
        b"[]",
        b'{"access_key_id":"AKIAX"}',
        b'{"access_key_id":"AKIAX","secret_access_key":["hush"]}',
        b'{"access_key_id":"AKIAX","secret_access_key":""}',
        b'{"access_key_id":"a/b","secret_access_key":"hush"}',
    ],
)
def test_a_damaged_key_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = key_file(tmp_path, content)

    with pytest.raises(RootKeyError) as refused:
        load_or_create_root_key(tmp_path, ACCOUNT, None, None)

    assert str(path) in str(refused.value)
    assert "hush" not in str(refused.value)
    assert path.read_bytes() == content


def test_a_given_key_is_used_and_the_file_neither_read_nor_written(tmp_path: Path) -> None:
    key_file(tmp_path, b"not read", mode=0o644)

    found = load_or_create_root_key(tmp_path, ACCOUNT, "admin", "s3cret")
    elsewhere = load_or_create_root_key(tmp_path / "not-there", ACCOUNT, "admin", "s3cret")

    assert found == elsewhere == (AccessKey("admin", "s3cret", ACCOUNT), False)
    assert not (tmp_path / "not-there").exists()


@pytest.mark.parametrize(
    ("given_id", "given_secret", "message"),
    [
        ("admin", None, "A root key needs both an id and a secret: the secret access key is missing."),
        (None, "hush", "A root key needs both an id and a secret: the access key id is missing."),
        (
            "",
            "hush",
            "The id of the root key that is given must be 1 to 128 letters, digits, '_', '.' or '-'.",
        ),
        (
            "a/b",
            "hush",
            "The id of the root key that is given must be 1 to 128 letters, digits, '_', '.' or '-'.",
        ),
        ("admin", "", "The secret of the root key that is given is empty."),
    ],
)
def test_half_a_key_is_refused(
    tmp_path: Path, given_id: str | None, given_secret: str | None, message: str
) -> None:
    with pytest.raises(RootKeyError) as refused:
        load_or_create_root_key(tmp_path, ACCOUNT, given_id, given_secret)

    assert str(refused.value) == message
    assert list(tmp_path.iterdir()) == []
