"""All shards of a node, opened, run and stopped together, over real files."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from tests.backend.virtual_time import virtual_time
from tests.log.asynchrony import async_test, until
from waystation.backend.backend import Backend
from waystation.backend.settings import BackendSettings
from waystation.log.errors import LogDamaged
from waystation.log.memory import MemoryLog
from waystation.log.sqlite import SqliteLog
from waystation.queues.commands import (
    CreateQueue,
    DeleteMessages,
    Entry,
    QueueId,
    QueueSettings,
    Receipt,
    Received,
    ReceiveMessages,
    SendMessages,
)


def files(folder: Path, shards: int, **settings: float) -> Backend:
    """A backend over one SQLite file for each shard."""
    logs = [SqliteLog(folder / f"shard-{number}.log") for number in range(shards)]
    return Backend(logs.__getitem__, shards, BackendSettings(**settings))  # type: ignore[arg-type]


async def receive(backend: Backend, shard: int, max_messages: int = 10, wait_ms: int = 0) -> list[bytes]:
    received = await backend.submit(shard, ReceiveMessages(1, max_messages, 30_000, wait_ms))
    assert isinstance(received, Received)
    return [message.envelope for message in received.messages]


@async_test
async def test_messages_survive_a_restart_of_every_shard(tmp_path: Path) -> None:
    backend = files(tmp_path, shards=3)
    await backend.start()
    assert backend.is_serving()
    for shard in range(3):
        assert await backend.submit(shard, CreateQueue(QueueSettings("orders"))) == QueueId(1)
        await backend.submit(shard, SendMessages(1, [Entry(b"for shard %d" % shard)]))
    await backend.stop()
    assert not backend.is_serving()

    backend = files(tmp_path, shards=3)
    await backend.start()
    assert [await receive(backend, shard) for shard in range(3)] == [
        [b"for shard %d" % shard] for shard in range(3)
    ]
    await backend.stop()


@async_test
async def test_a_stopped_backend_leaves_no_task_and_no_thread_behind(tmp_path: Path) -> None:
    threads = {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio")}
    tasks = asyncio.all_tasks()
    backend = files(tmp_path, shards=2)
    await backend.start()
    await backend.submit(0, CreateQueue(QueueSettings("orders")))
    polling = backend.submit(0, ReceiveMessages(1, 1, 30_000, 20_000))
    sending = backend.submit(0, SendMessages(1, [Entry(b"x" * 100_000)] * 10))
    polling_too = backend.submit(0, ReceiveMessages(1, 1, 30_000, 20_000))
    backend.drain()
    await backend.stop()

    assert asyncio.all_tasks() == tasks
    assert {each for each in threading.enumerate() if not each.name.startswith("asyncio")} <= threads
    assert all(future.done() for future in (polling, sending, polling_too))


@virtual_time
async def test_a_backend_that_has_only_just_started_can_be_asked_and_stopped() -> None:
    log = MemoryLog()
    for _ in range(2):
        backend = Backend(lambda _: log, 1, BackendSettings())
        await backend.start()
        creating = backend.submit(0, CreateQueue(QueueSettings("orders")))
        await backend.stop()
        assert creating.done(), "it is answered or refused, and not left waiting"


@async_test
async def test_a_backend_over_a_damaged_log_says_which_and_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "shard-1.log").write_bytes(b"not a database" * 1_000)
    backend = files(tmp_path, shards=2)

    with pytest.raises(LogDamaged, match=r"shard-1\.log"):
        await backend.start()

    await backend.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("log-")]


def test_a_name_is_always_placed_on_the_same_shard_and_names_on_all() -> None:
    backend = Backend(lambda _: MemoryLog(), 4, BackendSettings())
    places = [backend.place(f"queue-{number}") for number in range(1_000)]

    assert backend.place("orders") == 2
    assert all(150 < places.count(shard) < 350 for shard in range(4))


@async_test
async def test_a_drain_answers_long_polls_on_every_shard(tmp_path: Path) -> None:
    backend = files(tmp_path, shards=2)
    await backend.start()
    for shard in range(2):
        await backend.submit(shard, CreateQueue(QueueSettings("orders")))
    polls = [backend.submit(shard, ReceiveMessages(1, 1, 30_000, 20_000)) for shard in range(2)]
    backend.drain()

    assert [await poll for poll in polls] == [Received(1, [])] * 2
    await backend.stop()


@async_test
async def test_a_long_poll_wakes_on_send_delay_and_timeout_in_real_time(tmp_path: Path) -> None:
    backend = files(tmp_path, shards=1)
    await backend.start()
    await backend.submit(0, CreateQueue(QueueSettings("orders")))
    polling = asyncio.create_task(receive(backend, 0, wait_ms=10_000))
    await backend.submit(0, SendMessages(1, [Entry(b"at once")]))
    assert await polling == [b"at once"]

    await backend.submit(0, SendMessages(1, [Entry(b"delayed", 50)]))
    assert await receive(backend, 0, wait_ms=10_000) == [b"delayed"]

    await backend.submit(0, SendMessages(1, [Entry(b"comes back")]))
    await backend.submit(0, ReceiveMessages(1, 1, 50))
    assert await receive(backend, 0, wait_ms=10_000) == [b"comes back"]
    await backend.stop()


@async_test
async def test_many_messages_through_a_queue_leave_a_small_file_and_a_quick_restart(tmp_path: Path) -> None:
    backend = files(tmp_path, shards=1, snapshot_events=2_000, idle_snapshot_s=0.05)
    await backend.start()
    await backend.submit(0, CreateQueue(QueueSettings("orders")))
    for _ in range(40):
        await asyncio.gather(
            *(backend.submit(0, SendMessages(1, [Entry(b"x" * 1_000)] * 10)) for _ in range(10))
        )
        for _ in range(10):
            received = await backend.submit(0, ReceiveMessages(1, 10, 30_000))
            assert isinstance(received, Received)
            receipts = [Receipt(message.sequence, message.receive_count) for message in received.messages]
            assert len(receipts) == 10
            await backend.submit(0, DeleteMessages(1, receipts))
    log = backend.shards[0]._log
    await until(lambda: log.position - log.first == 0)
    await backend.stop()

    assert log.position > 800
    assert log.size_bytes < 100_000
    backend = files(tmp_path, shards=1)
    await backend.start()
    assert await receive(backend, 0) == []
    await backend.stop()
