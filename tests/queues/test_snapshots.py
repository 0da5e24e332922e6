"""What a snapshot keeps, and that those of older versions can be read."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import msgspec
import pytest

from tests.queues.driver import QueueDriver
from tests.queues.windows import small_windows, tail_messages
from waystation.queues.fifo import FifoQueue
from waystation.queues.runs import Run
from waystation.queues.snapshots import SNAPSHOT_VERSION, from_snapshot, to_snapshot

VERSION_2 = {
    False: (
        "lQLNC7gAApGeAZimb3JkZXJzzhSZcADOAAHUwAAAoMIACQAACJSbAwIBzQPoAAAAAAAAoJsEAgHNA+gAAAAAAACgmwECAc0D6ALN"
        "gOgBzQu4zQu4AKCbAgIBzQPoAs2A6AHNC7jNC7gAoMQAxACQgACRk6DEEAUAAAAAAAAABwAAAAAAAADEEAIAAgAAAAAAAgADAAAA"
        "AADA"
    ),
    True: (
        "lQLNC7gAApGeAZimb3JkZXJzzhSZcADOAAHUwAAAoMMACQAACJSbAwIBzQPoAAAAAAAAoWGbBAIBzQPoAAAAAAAAoWGbAQIBzQPo"
        "As2A6AHNC7jNC7gAoWGbAgIBzQPoAs2A6AHNC7jNC7gAoWHEAMQAkIAAkZOhYcQQBQAAAAAAAAAHAAAAAAAAAMQQAgACAAAAAAAC"
        "AAMAAAAAAJXEEOgDAAAAAAAA0AcAAAAAAADEEAEAAAAAAAAABwAAAAAAAADEAMQAkA=="
    ),
}
"""By whether the queue is a FIFO queue: what the program wrote before runs were packed."""


def as_version_1(payload: bytes) -> bytes:
    """A snapshot as it was written before there were groups: one tail, and fewer fields."""
    version, now_ms, epoch, next_queue, queues, _owner = msgspec.msgpack.decode(payload)
    assert version == SNAPSHOT_VERSION
    return msgspec.msgpack.encode([1, now_ms, epoch, next_queue, [_old_queue(queue) for queue in queues]])


def _old_queue(queue: list[Any]) -> list[Any]:
    *rest, _, _, arrived, aside_targets, expired_before_sequence, _, _, tails, _ = queue
    rest[1] = rest[1][:6]  # the settings
    rest[6] = [message[:10] for message in rest[6]]
    groups, _, firsts, locations, blocks = tails
    assert (groups, blocks) == ([""], {})
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


@pytest.mark.parametrize("fifo", [False, True])
def test_a_snapshot_of_version_2_can_be_read(fifo: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Of six messages in one log record and two in the next, the first two are in flight, four
    wait as objects, and the others are runs, which were in no blocks.
    """
    small_windows(monkeypatch, 4)
    payload = b64decode(VERSION_2[fifo])
    assert msgspec.msgpack.decode(payload)[0] == 2
    queue = QueueDriver(fifo=fifo)
    for texts in ("abcdef", "gh"):
        queue.send(*texts, at_s=1, group="a" if fifo else "")

    queue.shard.state = from_snapshot(payload)

    [line] = queue.queue.lines.values()
    assert list(line.tail) == [Run(2, 5, 2), Run(3, 7, 2)]
    assert queue.counts(at_s=3) == (6, 2, 0)
    got: list[str] = []
    while more := queue.receive(at_s=100, max_messages=10):
        got += [each.text for each in more]
        queue.delete(*more, at_s=100)
    assert sorted(got) == [*"abcdefgh"]


def test_a_queue_at_rest_comes_back_as_it_is() -> None:
    """What it was: its next sequence, so that no receipt handle ever names another message."""
    queue = QueueDriver()
    queue.send(*"abc", at_s=1)
    queue.delete(*queue.receive(at_s=2, max_messages=3), at_s=3)
    queue.queue.sweep(4_000)
    assert queue.queue.at_rest

    queue.shard.state = from_snapshot(to_snapshot(queue.shard.state))

    assert queue.queue.at_rest
    assert queue.queue.settings.name == "orders"
    assert queue.send("d", at_s=5) == [4]
    assert [each.text for each in queue.receive(at_s=6)] == ["d"]


def test_blocks_of_runs_come_back_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, 4)
    queue = QueueDriver()
    for number in range(20):
        queue.send(f"{number}", at_s=1)
    [line] = queue.queue.lines.values()

    queue.shard.state = from_snapshot(to_snapshot(queue.shard.state))

    [found] = queue.queue.lines.values()
    assert len(found.tail._blocks) == len(line.tail._blocks) > 2
    assert list(found.tail) == list(line.tail)


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
