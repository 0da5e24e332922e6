"""The metadata store in a SQLite file."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from tests.log.asynchrony import async_test
from waystation.metadata.sqlite import SqliteMetadataStore
from waystation.metadata.store import MetadataUnavailable


@async_test
async def test_a_file_of_another_format_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    store = SqliteMetadataStore(path)
    await store.open()
    await store.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()

    store = SqliteMetadataStore(path)
    with pytest.raises(MetadataUnavailable, match=r"metadata\.db has format 2; this program reads 1"):
        await store.open()
    await store.close()


@async_test
async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    path.write_bytes(b"not a database" * 1_000)
    store = SqliteMetadataStore(path)

    with pytest.raises(MetadataUnavailable, match=r"metadata\.db"):
        await store.open()
    await store.close()


@async_test
async def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    store = SqliteMetadataStore(tmp_path / "missing" / "metadata.db")

    with pytest.raises(MetadataUnavailable):
        await store.open()
    await store.close()


@async_test
async def test_a_closed_store_leaves_no_thread_behind(tmp_path: Path) -> None:
    store = SqliteMetadataStore(tmp_path / "metadata.db")
    await store.open()
    await store.put("a", b"1", 0)
    assert "metadata" in {thread.name for thread in threading.enumerate()}
    await store.close()

    assert "metadata" not in {thread.name for thread in threading.enumerate()}


@async_test
async def test_watches_that_are_over_are_forgotten(tmp_path: Path) -> None:
    store = SqliteMetadataStore(tmp_path / "metadata.db")
    await store.open()
    kept = store.watch("")
    for _ in range(10):
        store.watch("").close()
    await store.put("a", b"1", 0)

    assert store._watches == [kept]
    await store.close()
