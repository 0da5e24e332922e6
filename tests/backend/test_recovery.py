"""Recovery gives the state that wrote the log, or says what is wrong with it."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import msgspec
import pytest

from tests.backend.shard_driver import running
from tests.backend.virtual_time import virtual_time
from tests.queues.driver import QueueDriver
from tests.queues.pure_shard import run_now
from tests.queues.windows import small_windows
from waystation.backend.recovery import recover
from waystation.log.errors import LogDamaged, LogUnavailable
from waystation.log.interface import Snapshot
from waystation.log.memory import MemoryLog
from waystation.log.records import Record
from waystation.queues.snapshots import to_snapshot
from waystation.queues.state import ShardState


def some_history() -> QueueDriver:
    """Messages in every state, a snapshot in the middle."""
    queue = QueueDriver()
    queue.send("deleted", "in flight", "visible", at_s=1)
    queue.send("delayed", at_s=1, delay_s=900)
    deleted, _ = queue.receive(at_s=2, max_messages=2)
    queue.shard.snapshot()
    queue.delete(deleted, at_s=3)
    queue.send("after the snapshot", at_s=4)
    return queue


def test_the_state_after_the_last_record_is_that_which_wrote_it() -> None:
    queue = some_history()
    state = queue.shard.state

    assert to_snapshot(queue.shard.recovered()) == to_snapshot(state)
    queue.shard.log.snapshot = None
    assert to_snapshot(queue.shard.recovered()) == to_snapshot(state)


def test_the_garbage_collector_is_on_again_after_a_recovery_however_it_ended() -> None:
    """While it lasts it is off, as looking through millions of new objects finds no garbage."""
    seen: list[bool] = []

    class Watched(MemoryLog):
        async def load_snapshot(self) -> Snapshot | None:
            seen.append(gc.isenabled())
            if len(seen) > 1:
                raise LogUnavailable("not now")
            return await super().load_snapshot()

    run_now(recover(Watched()))
    assert gc.isenabled()
    with pytest.raises(LogUnavailable):
        run_now(recover(Watched()))
    assert gc.isenabled()
    assert seen == [False, False]


def test_an_empty_log_gives_an_empty_state() -> None:
    state = run_now(recover(MemoryLog()))

    assert to_snapshot(state) == to_snapshot(ShardState())


def test_messages_that_were_received_after_a_snapshot_are_loaded_from_its_tail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_windows(monkeypatch, 4)
    queue = QueueDriver()
    for number in range(20):
        queue.send(f"m{number}", at_s=1)
    queue.shard.snapshot()
    for _ in range(3):
        queue.delete(*queue.receive(at_s=2, max_messages=4), at_s=2)

    queue.shard.state = queue.shard.recovered()

    assert queue.texts(at_s=3) + queue.texts(at_s=3) == [f"m{number}" for number in range(12, 20)]


def test_runs_that_a_replay_needs_are_read_a_window_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, 5)
    queue = QueueDriver()
    for number in range(45):
        queue.send(f"m{number}", at_s=1)
    queue.shard.snapshot()
    for _ in range(9):
        queue.delete(*queue.receive(at_s=2, max_messages=5), at_s=2)
    log = queue.shard.log
    reads: list[list[int]] = []
    read = log.read

    async def noting(positions: Sequence[int]) -> list[Record | None]:
        reads.append(list(positions))
        return await read(positions)

    monkeypatch.setattr(log, "read", noting)
    queue.shard.state = queue.shard.recovered()

    assert [len(positions) for positions in reads] == [5] * 8
    assert queue.counts(at_s=3) == (0, 0, 0)


def test_a_damaged_record_is_named() -> None:
    log = some_history().shard.log
    log.records[5] = log.records[5][:-1] + bytes([log.records[5][-1] ^ 1])

    with pytest.raises(LogDamaged, match="record 5 does not match its checksum"):
        run_now(recover(log))


def test_a_missing_record_is_named() -> None:
    log = some_history().shard.log
    del log.records[5]

    with pytest.raises(LogDamaged, match="records 5 to 5 are missing"):
        run_now(recover(log))


def test_a_missing_record_of_the_tail_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, 2)
    queue = QueueDriver()
    queue.send("a", "b", at_s=1)
    queue.send("c", at_s=1)
    queue.shard.snapshot()
    for text in "abc":
        assert queue.texts(at_s=2, max_messages=1) == [text]
    del queue.shard.log.records[3]

    with pytest.raises(LogDamaged, match="record 3 is missing, and messages of orders are in it"):
        run_now(recover(queue.shard.log))


def test_a_record_of_unknown_events_is_named() -> None:
    log = some_history().shard.log
    run_now(log.append(msgspec.msgpack.encode([[99, 1]])))

    with pytest.raises(LogDamaged, match=f"record {log.position} holds an event that cannot be read"):
        run_now(recover(log))


@pytest.mark.parametrize("payload", [b"", b"garbage", msgspec.msgpack.encode([99, 0, 0, 0, []])])
def test_a_snapshot_that_cannot_be_read_is_named(payload: bytes) -> None:
    log = some_history().shard.log
    assert log.snapshot is not None
    log.snapshot = log.snapshot._replace(payload=payload)

    with pytest.raises(LogDamaged, match=f"the snapshot at record {log.snapshot.position} cannot be read"):
        run_now(recover(log))


def test_a_log_that_ends_before_its_snapshot_is_refused() -> None:
    """Its end was lost: whatever was acknowledged after it would silently be gone."""
    log = some_history().shard.log
    snapshot = Snapshot(log.position + 1, b"x" * 16, to_snapshot(ShardState()))
    log.snapshot = snapshot

    with pytest.raises(LogDamaged, match=f"the log ends at record {log.position}, before its snapshot"):
        run_now(recover(log))


def test_a_snapshot_of_another_log_is_refused() -> None:
    log = some_history().shard.log
    log.snapshot = Snapshot(log.position, b"x" * 16, to_snapshot(ShardState()))

    with pytest.raises(LogDamaged, match=f"record {log.position} is not the one that its snapshot was saved"):
        run_now(recover(log))
    log.snapshot = Snapshot(log.position - 1, b"x" * 16, to_snapshot(ShardState()))
    with pytest.raises(LogDamaged, match=f"record {log.position} does not follow"):
        run_now(recover(log))


def test_a_log_that_cannot_be_read_now_is_unavailable() -> None:
    class Offline(MemoryLog):
        async def open(self) -> None:
            raise LogUnavailable("offline")

    with pytest.raises(LogUnavailable):
        run_now(recover(Offline()))


@virtual_time
async def test_a_shard_with_a_damaged_log_does_not_start() -> None:
    async with running() as driver:
        await driver.send("hello")
    log = driver.log
    log.records[2] = log.records[2][:40] + b"?" + log.records[2][41:]

    with pytest.raises(LogDamaged, match="record 2"):
        async with running(log):
            pass
