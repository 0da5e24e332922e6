"""What makes a directory a backup: a file that says what the others were when they were written.

It is written last and all at once, so a backup that was cut short has none.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from waystation import __version__
from waystation.cli.data_directory import MANIFEST_FILE, METADATA_FILE
from waystation.cli.errors import CommandFailed
from waystation.frontend.access_keys import FILE_NAME

FORMAT_VERSION = 1

_CHUNK_BYTES = 1_048_576
_NAME = re.compile(rf"{re.escape(METADATA_FILE)}|{re.escape(FILE_NAME)}|shard-[0-9]{{3,}}\.db")


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a backup."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """`created` is the moment that the backup is of, in UTC; `version` that of the program."""

    format: int
    version: str
    created: str
    files: dict[str, FileEntry]


def new_manifest() -> Manifest:
    """That of a backup of now, without any file yet."""
    return Manifest(FORMAT_VERSION, __version__, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), {})


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Make the directory a backup, durably."""
    partial = directory / f"{MANIFEST_FILE}.partial"
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    partial.rename(directory / MANIFEST_FILE)
    sync_directory(directory)


def read_manifest(directory: Path) -> Manifest | None:
    """The manifest of a backup; None in a directory that is none. Raises `CommandFailed`, `OSError`."""
    path = directory / MANIFEST_FILE
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{path} is damaged: use another backup") from error
    if manifest.format != FORMAT_VERSION:
        raise CommandFailed(f"{path} has format {manifest.format}; this program reads {FORMAT_VERSION}")
    if strange := [name for name in manifest.files if not _NAME.fullmatch(name)]:
        raise CommandFailed(f"{path} names a file that no backup has: {strange[0]!r}")
    return manifest


def differences(directory: Path, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Files that are not what they were, and how. Raises `OSError`."""
    for name, expected in manifest.files.items():
        path = directory / name
        if not path.exists():
            yield name, "is missing"
        elif (size := path.stat().st_size) != expected.bytes:
            yield name, f"has {size:,} bytes instead of {expected.bytes:,}"
        elif entry_of(path) != expected:
            yield name, "is not what was written: its checksum is another"


def entry_of(path: Path) -> FileEntry:
    """Size and checksum of a file."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(file.tell(), sha256)


def copy_file(source: Path, target: Path) -> FileEntry:
    """Copy durably to a new file, for the owner alone; returns what was copied."""
    digest = hashlib.sha256()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with source.open("rb") as reader, os.fdopen(descriptor, "wb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
        return FileEntry(writer.tell(), digest.hexdigest())


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
