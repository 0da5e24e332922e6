"""A log is as short as what lives in it allows, and a restart reads only what it has to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.backend.shard_driver import ShardDriver, running, texts_of
from tests.backend.virtual_time import settle, virtual_time
from tests.log.faulty import FaultyLog
from tests.queues.windows import small_windows, windowed
from waystation.backend import housekeeping
from waystation.backend.batches import Batch
from waystation.queues import events
from waystation.queues.commands import Counts, DeleteQueue
from waystation.queues.contents import relocations
from waystation.queues.events import MessagesRelocated
from waystation.queues.standard import StandardQueue
from waystation.queues.state import Queue

NEVER_S = 10_000_000.0


def log_records(driver: ShardDriver) -> int:
    return len(driver.log.records)


async def work_through(driver: ShardDriver, messages: int) -> None:
    """Send, receive and delete, one after another."""
    for number in range(messages):
        await driver.send(f"m{number}")
        await driver.deleting(*await driver.receive())


def relocated(driver: ShardDriver) -> int:
    """Messages that were written again."""
    events = [event for record in driver.records() for event in record]
    return sum(len(event.messages) for event in events if isinstance(event, MessagesRelocated))


@virtual_time
async def test_a_drained_queue_leaves_a_short_log() -> None:
    async with running(snapshot_events=30) as driver:
        await work_through(driver, 200)
        await settle()

        assert driver.log.position > 600
        assert log_records(driver) <= 35


@virtual_time
async def test_an_idle_shard_saves_a_snapshot_and_leaves_one_record() -> None:
    async with running(idle_snapshot_s=10) as driver:
        await work_through(driver, 20)
        await asyncio.sleep(11)

        assert log_records(driver) == 1
        assert driver.log.snapshot is not None
        assert driver.log.snapshot.position == driver.log.position


@virtual_time
async def test_an_idle_shard_with_nothing_new_writes_nothing() -> None:
    async with running(idle_snapshot_s=10) as driver:
        await driver.send("hello")
        await asyncio.sleep(11)
        position = driver.log.position
        await asyncio.sleep(3_600)

        assert driver.log.position == position


@virtual_time
async def test_queues_at_rest_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a hundred thousand of them, a look at each every ten seconds would keep a processor busy."""
    swept: list[int] = []
    monkeypatch.setattr(StandardQueue, "sweep", lambda queue, now_ms: swept.append(queue.number))
    async with running(idle_snapshot_s=10) as driver:
        for _ in range(20):
            await driver.create()
        await driver.send("hello")
        await asyncio.sleep(11)

        assert swept == [driver.queue]


@virtual_time
async def test_few_changes_are_no_reason_to_save_many_queues() -> None:
    async with running(idle_snapshot_s=10) as driver:
        for _ in range(399):
            await driver.create()
        await asyncio.sleep(11)
        assert driver.log.snapshot is not None
        position = driver.log.snapshot.position
        await work_through(driver, 33)
        await asyncio.sleep(60)
        assert driver.log.snapshot.position == position

        await driver.send("the hundredth change")
        await asyncio.sleep(11)
        assert driver.log.snapshot.position > position


@virtual_time
async def test_many_bytes_are_a_reason_for_a_snapshot_too() -> None:
    async with running(snapshot_bytes=10_000, idle_snapshot_s=NEVER_S) as driver:
        await driver.send("x" * 6_000)
        await settle()
        assert driver.log.snapshot is None

        await driver.send("x" * 6_000)
        await settle()

        assert driver.log.snapshot is not None


@virtual_time
async def test_a_restart_replays_only_what_came_after_the_snapshot() -> None:
    log = FaultyLog()
    async with running(log, snapshot_events=30, idle_snapshot_s=NEVER_S) as driver:
        await work_through(driver, 500)
        await driver.send("still there")
        await settle()
        position = log.position
    async with running(log) as driver:
        assert len(log.replayed) <= 40
        assert position > 1_500
        assert await driver.texts() == ["still there"]


@virtual_time
async def test_a_restart_while_a_snapshot_is_saved_uses_the_old_one() -> None:
    log = FaultyLog()
    async with running(log, snapshot_events=10, idle_snapshot_s=NEVER_S) as driver:
        await work_through(driver, 5)
        await settle()
        saved = log.snapshot
        assert saved is not None
        log.snapshots.shut()
        await work_through(driver, 20)
        await driver.send("hello")
        await settle()
        assert log.snapshots.waiting == 1
    assert log.snapshot == saved
    log.snapshots.release()
    async with running(log) as driver:
        assert await driver.texts() == ["hello"]


@virtual_time
async def test_commands_go_on_while_a_snapshot_is_saved_and_are_not_in_it() -> None:
    log = FaultyLog()
    async with running(log, snapshot_events=3, idle_snapshot_s=NEVER_S) as driver:
        log.snapshots.shut()
        await driver.send("a", "b", "c")
        await settle()
        assert await driver.texts() == ["a", "b", "c"]
        log.snapshots.release()
        await settle()
    async with running(log) as driver:
        assert await driver.counts() == Counts(0, 3, 0)


@virtual_time
async def test_a_few_old_messages_do_not_pin_a_long_log() -> None:
    async with running(garbage_bytes_max=2_000, snapshot_events=100, idle_snapshot_s=10) as driver:
        await driver.send("old")
        await driver.receive(timeout_ms=43_200_000)
        await driver.send("delayed", delay_ms=900_000)
        await work_through(driver, 300)
        await asyncio.sleep(11)

        assert log_records(driver) < 150
        assert relocated(driver) >= 1
        assert driver.shard.state.live_bytes() == len("old") + len("delayed")
        await asyncio.sleep(900)
        assert await driver.texts() == ["delayed"]
        await asyncio.sleep(43_200)
        assert set(await driver.texts()) == {"old", "delayed"}


@virtual_time
async def test_a_relocation_passes_over_what_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a few old messages may lie millions of dead records: reading all of them takes minutes."""
    monkeypatch.setattr(housekeeping, "_DEAD_RECORDS", 16)
    async with running(garbage_bytes_max=0, idle_snapshot_s=NEVER_S) as driver:
        await driver.send("old")
        await driver.receive(timeout_ms=43_200_000)
        await work_through(driver, 300)
        await driver.send("late", delay_ms=900_000)
        await work_through(driver, 10)
        read: list[int] = []
        inner = driver.log.read

        async def watched(positions: Any) -> Any:
            read.extend(positions)
            return await inner(positions)

        monkeypatch.setattr(driver.log, "read", watched)
        await driver.shard._housekeeper.tidy()

        assert relocated(driver) >= 1
        assert len(read) < 100
        assert log_records(driver) < 100


@virtual_time
async def test_a_log_in_which_most_is_alive_is_not_written_again() -> None:
    async with running(garbage_bytes_max=2_000, snapshot_events=100, idle_snapshot_s=10) as driver:
        for _ in range(200):
            await driver.send("x" * 1_000)
        await asyncio.sleep(60)

        assert relocated(driver) == 0
        assert log_records(driver) >= 200


@virtual_time
async def test_a_backlog_survives_its_relocation_and_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, 8)
    log = FaultyLog()
    texts = [f"backlog {number}" for number in range(40)]
    async with running(log, garbage_bytes_max=0, snapshot_events=50, idle_snapshot_s=10) as driver:
        await driver.send(*texts)
        await driver.create()
        await work_through(driver, 400)
        await asyncio.sleep(11)
        driver.queue = 1
        assert relocated(driver) >= len(texts)
        assert log_records(driver) < 200
        received = await driver.texts(5, timeout_ms=0)
    async with running(log) as driver:
        driver.queue = 1
        assert received == texts[:5]
        received = []
        while got := await driver.texts():
            received += got
        assert received == texts


@virtual_time
async def test_a_relocation_does_not_make_the_shard_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written again is read and written in steps that leave room for requests."""
    monkeypatch.setattr(housekeeping, "_RELOCATE_BYTES", 40_000)
    limits: dict[str, Any] = {"garbage_bytes_max": 0, "snapshot_bytes": 300_000, "pending_bytes_max": 80_000}
    async with running(idle_snapshot_s=NEVER_S, **limits) as driver:
        for _ in range(30):
            await driver.send("x" * 10_000)
        await driver.create()
        while relocated(driver) < 30:
            await driver.send("y" * 10_000)  # never refused as `ShardBusy`
            await driver.deleting(*await driver.receive())
            await driver.counts()

        driver.queue = 1
        assert await driver.counts() == Counts(30, 0, 0)


@virtual_time
async def test_messages_that_nobody_receives_expire_and_free_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that has lost its consumers must not hold the disk for ever."""
    small_windows(monkeypatch, 8)
    async with running(idle_snapshot_s=10) as driver:
        await driver.configure(retention_ms=60_000)
        for _ in range(50):
            await driver.send("abandoned", "abandoned too")
        await asyncio.sleep(75)

        assert driver.shard.state.live_bytes() == 0
        assert await driver.counts() == Counts(0, 0, 0)
        assert log_records(driver) == 1


@virtual_time
async def test_messages_that_expire_under_a_polling_consumer_free_the_log_too() -> None:
    async with running(idle_snapshot_s=10) as driver:
        await driver.configure(retention_ms=60_000)
        for _ in range(50):
            await driver.send("delayed", delay_ms=900_000)
        for _ in range(9):
            assert await driver.texts(wait_ms=10_000) == []

        assert log_records(driver) == 1


@virtual_time
async def test_a_sweep_leaves_what_has_not_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, 8)
    async with running(idle_snapshot_s=10) as driver:
        await driver.configure(retention_ms=60_000)
        await driver.send(*(f"old {number}" for number in range(20)))
        await asyncio.sleep(40)
        await driver.send(*(f"young {number}" for number in range(20)))
        await asyncio.sleep(35)

        assert driver.shard.state.live_bytes() == sum(len(f"young {number}") for number in range(20))
        assert windowed(driver.shard.state.queues[1]) <= 8 + 1
        received: list[str] = []
        while texts := await driver.texts():
            received += texts
        assert received == [f"young {number}" for number in range(20)]


@virtual_time
async def test_a_sweep_ends_though_consumers_empty_windows_as_fast_as_they_are_filled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing expires, and every look at all messages would find so: one is enough."""
    small_windows(monkeypatch, 8)
    async with running() as driver:
        await driver.send(*(f"m{number}" for number in range(40)))
        queue = driver.shard.state.queues[1]
        assert isinstance(queue, StandardQueue)
        queue.hungry[""] = queue.lines[""]
        filled: list[int] = []

        async def fill_what_is_emptied_at_once(queue: Queue) -> bool:
            await asyncio.sleep(0.01)
            filled.append(queue.number)
            return True

        monkeypatch.setattr(driver.shard, "fill", fill_what_is_emptied_at_once)
        async with asyncio.timeout(10):
            await driver.shard._housekeeper._sweep()

        assert filled == [1]


@virtual_time
async def test_a_queue_that_is_deleted_while_its_tail_is_loaded_frees_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_windows(monkeypatch, 8)
    async with running() as driver:
        await driver.send(*(f"m{number}" for number in range(20)))
        driver.log.reads.shut()
        await driver.receive(8)
        await settle()
        assert driver.log.reads.waiting == 1
        await driver.shard.submit(DeleteQueue(1))
        await driver.shard._housekeeper.tidy()
        driver.log.reads.release()
        await settle()

        assert driver.shard.is_serving
        assert log_records(driver) == 1


@virtual_time
async def test_a_message_that_is_relocated_while_it_is_read_is_handed_out() -> None:
    """Its record is gone when the read comes to it, and it is read where it lies now."""
    async with running(cache_bytes=0) as driver:
        await driver.send("hello")
        record = driver.log.position
        driver.log.reads.shut()
        receiving = driver.receiving()
        await settle()
        assert driver.log.reads.waiting == 1
        for event in relocations(driver.shard.state, driver.records(record - 1)[0], record, 1_000_000_000):
            driver.shard.record(event)
        await driver.shard._housekeeper._snapshot_and_truncate()
        assert record not in driver.log.records
        driver.log.reads.release()

        assert texts_of((await receiving).messages) == ["hello"]


@virtual_time
async def test_a_consumer_that_goes_away_while_its_message_is_read_gives_it_back() -> None:
    async with running(cache_bytes=0) as driver:
        await driver.send("hello")
        driver.log.reads.shut()
        receiving = driver.receiving()
        await settle()
        receiving.cancel()
        driver.log.reads.release()
        await settle()

        assert await driver.texts() == ["hello"]


@pytest.mark.parametrize(
    "event",
    [
        events.MessagesReceived(1, 1, 2, [1, 2, 3]),
        events.MessagesDeleted(1, 1, [1, 2, 3]),
        events.MessagesSetAside(1, 1, [1, 2, 3], "letters"),
        events.MessagesReleased(1, 1, [1, 2, 3]),
        events.VisibilityChanged(1, 1, [(1, 2), (2, 2), (3, 2)]),
    ],
)
@virtual_time
async def test_an_event_of_several_messages_counts_as_several_changes(event: events.Event) -> None:
    """Replay takes as long for one event of a thousand messages as for a thousand events of one."""
    async with running(snapshot_events=1_000) as driver:
        housekeeper = driver.shard._housekeeper
        before = housekeeper._events
        batch = Batch(1)
        batch.events.append(event)
        housekeeper.count(batch)

        assert housekeeper._events - before == 3
