"""What a snapshot keeps, and that those of older versions can be read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.queues.driver import QueueDriver
from tests.queues.windows import small_windows, tail_messages
from waystation.queues.fifo import FifoQueue
from waystation.queues.snapshots import SNAPSHOT_VERSION, from_snapshot, to_snapshot


def as_version_1(payload: bytes) -> bytes:
    """A snapshot as it was written before there were groups: one tail, and fewer fields."""
    version, now_ms, epoch, next_queue, queues = msgspec.msgpack.decode(payload)
    assert version == SNAPSHOT_VERSION
    return msgspec.msgpack.encode([1, now_ms, epoch, next_queue, [_old_queue(queue) for queue in queues]])


def _old_queue(queue: list[Any]) -> list[Any]:
    *rest, _, _, arrived, aside_targets, expired_before_sequence, tails, _ = queue
    rest[1] = rest[1][:6]  # the settings
    rest[6] = [message[:10] for message in rest[6]]
    [(group, firsts, locations)] = tails
    assert group == ""
    return [*rest, firsts, locations, arrived, aside_targets, expired_before_sequence]


def test_a_snapshot_of_version_1_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, 4)
    queue = QueueDriver()
    queue.send(*"abcdefgh", at_s=1)
    queue.receive(at_s=2, max_messages=2)
    queue.send("later", at_s=3, delay_s=60)
    assert tail_messages(queue.queue) == 4

    queue.shard.state = from_snapshot(as_version_1(to_snapshot(queue.shard.state)))

    assert tail_messages(queue.queue) == 4
    assert queue.counts(at_s=3) == (6, 2, 1)
    got: list[str] = []
    while more := queue.receive(at_s=100, max_messages=10):
        got += [each.text for each in more]
    assert sorted(got) == [*"abcdefgh", "later"]


def test_a_snapshot_of_an_unknown_version_is_refused() -> None:
    payload = msgspec.msgpack.decode(to_snapshot(QueueDriver().shard.state))
    payload[0] = SNAPSHOT_VERSION + 1

    with pytest.raises(ValueError, match="unknown to this program"):
        from_snapshot(msgspec.msgpack.encode(payload))


def test_a_fifo_queue_comes_back_with_its_lines_and_all_that_it_remembers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_windows(monkeypatch, 4)
    queue = QueueDriver(fifo=True, delay_s=5)
    for group in "ab":
        queue.send(*(f"{group}{number}" for number in range(8)), at_s=1, group=group)
    queue.send("c0", at_s=2, group="c", deduplication="once")
    queue.receive(at_s=6, max_messages=3, attempt="again")
    payload = to_snapshot(queue.shard.state)

    state = from_snapshot(payload)

    found, known = state.queues[queue.number], queue.queue
    assert isinstance(found, FifoQueue)
    assert isinstance(known, FifoQueue)
    assert {
        group: (list(line.window), list(line.tail), line.flying) for group, line in found.lines.items()
    } == {group: (list(line.window), list(line.tail), line.flying) for group, line in known.lines.items()}
    assert found.next_due_ms() == known.next_due_ms()
    assert found.counts(6_000) == known.counts(6_000)
    assert found.deduplication.to_bytes() == known.deduplication.to_bytes()
    assert found.send_times.to_bytes() == known.send_times.to_bytes()
    assert found.attempts.saved() == known.attempts.saved() != []
    queue.shard.state = state
    assert queue.send("c1", at_s=6, group="c", deduplication="once") == [17]
