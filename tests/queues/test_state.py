"""The state of a whole shard: its queues, its time, its snapshots."""

from __future__ import annotations

import msgspec
import pytest

from tests.queues.driver import QueueDriver
from tests.queues.pure_shard import PureShard
from waystation.protocol.errors import QueueDoesNotExist
from waystation.queues.commands import (
    Aside,
    ChangeVisibility,
    Command,
    ConfigureQueue,
    CountAside,
    CountMessages,
    CreateQueue,
    DeleteMessages,
    DeleteQueue,
    Done,
    Entry,
    ListQueues,
    MoveMessages,
    PurgeQueue,
    QueueId,
    Queues,
    QueueSettings,
    ReceiveMessages,
    ReleaseMessages,
    ReturnMessages,
    SendMessages,
)
from waystation.queues.events import MessagesSent, NumbersSkipped, decode_events
from waystation.queues.snapshots import SNAPSHOT_VERSION, from_snapshot, to_snapshot
from waystation.queues.state import ShardState

SETTINGS = QueueSettings("orders")


@pytest.mark.parametrize(
    "command",
    [
        ConfigureQueue(7, SETTINGS),
        PurgeQueue(7, 60_000),
        SendMessages(7, [Entry(b"hello")]),
        ReceiveMessages(7, 1, 30_000),
        DeleteMessages(7, []),
        ChangeVisibility(7, []),
        CountMessages(7),
        CountAside(7, "letters"),
    ],
    ids=lambda command: type(command).__name__,
)
def test_a_command_to_a_queue_that_does_not_exist_is_refused(command: Command) -> None:
    with pytest.raises(QueueDoesNotExist):
        ShardState().decide(command)


def test_deleting_a_queue_that_does_not_exist_is_no_error() -> None:
    assert ShardState().decide(DeleteQueue(7)) == ((), Done())


def test_a_shard_says_which_queues_it_has_and_with_which_settings() -> None:
    shard = PureShard()
    assert shard.do(ListQueues(), 1) == Queues({})
    for name in ("orders", "bills", "letters"):
        shard.do(CreateQueue(QueueSettings(name)), 1)
    shard.do(DeleteQueue(2), 1)
    shard.do(ConfigureQueue(3, QueueSettings("letters", revision=7)), 1)

    assert shard.do(ListQueues(), 1) == Queues({1: SETTINGS, 3: QueueSettings("letters", revision=7)})


def test_what_is_set_aside_is_counted_by_target() -> None:
    queue = QueueDriver()
    queue.send(*"abcde", at_s=1)
    queue.shard.do(MoveMessages(1, "near", 1), 2_000)
    queue.shard.do(MoveMessages(1, "far", 3), 2_000)
    counts = {target: queue.shard.do(CountAside(1, target), 2_000) for target in ("near", "far", "nowhere")}
    assert counts == {"near": Aside(1), "far": Aside(3), "nowhere": Aside(0)}

    queue.shard.do(ReleaseMessages(1, [2, 3]), 3_000)
    queue.shard.do(ReturnMessages(1, [1]), 3_000)
    assert queue.shard.do(CountAside(1, "near"), 3_000) == Aside(0)
    assert queue.shard.do(CountAside(1, "far"), 3_000) == Aside(1)


def test_the_number_of_a_deleted_queue_is_never_used_again() -> None:
    shard = PureShard()
    for expected in (1, 2, 3):
        assert shard.do(CreateQueue(SETTINGS), 1) == QueueId(expected)
        shard.do(DeleteQueue(expected), 1)
        shard.snapshot()
        shard.state = shard.recovered()

    assert shard.state.queues == {}


def test_skipped_numbers_are_of_no_message_and_no_queue() -> None:
    """Those of before are still known, to deduplication as well; and the log says so to every later owner."""
    queue = QueueDriver(fifo=True)
    queue.send("before", at_s=1)
    shard = queue.shard
    shard.record(NumbersSkipped(2_000, 1_000, 10))
    queue.send("after", at_s=3)
    shard.state = shard.recovered()

    assert sorted(shard.state.queues[queue.number].messages) == [1, 1_002]
    assert shard.do(CreateQueue(SETTINGS), 4) == QueueId(queue.number + 11)


def test_deciding_changes_nothing() -> None:
    queue = QueueDriver()
    queue.send("hello", at_s=1)
    state = queue.shard.state
    before = to_snapshot(state)
    state.decide(SendMessages(queue.number, [Entry(b"more")]))
    state.decide(ReceiveMessages(queue.number, 10, 30_000))
    state.decide(PurgeQueue(queue.number, 0))

    assert to_snapshot(state) == before


def test_time_never_goes_back() -> None:
    queue = QueueDriver(visibility_timeout_s=30)
    queue.send("hello", at_s=100)
    queue.receive(at_s=100)

    assert queue.shard.state.advance(50_000) == 100_000
    assert queue.receive(at_s=50) == []
    assert queue.counts(at_s=50) == (0, 1, 0)


def test_a_recovered_state_knows_the_time_of_its_last_event() -> None:
    queue = QueueDriver()
    queue.send("hello", at_s=100)

    assert queue.shard.recovered().now_ms == 100_000


def test_a_snapshot_of_another_version_is_refused() -> None:
    fields = msgspec.msgpack.decode(to_snapshot(ShardState()))
    assert fields[0] == SNAPSHOT_VERSION
    fields[0] += 1

    with pytest.raises(ValueError, match="version 4 is unknown"):
        from_snapshot(msgspec.msgpack.encode(fields))


def test_a_snapshot_holds_no_envelope() -> None:
    queue = QueueDriver()
    queue.send("a secret", at_s=1)

    assert b"a secret" not in to_snapshot(queue.shard.state)


def test_a_record_of_events_that_this_program_does_not_know_is_refused() -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_events(msgspec.msgpack.encode([[99, 1, 2]]))


def test_an_event_may_have_more_fields_than_this_program_knows() -> None:
    """A newer version may have added some at the end; a log that it wrote can still be read."""
    newer = msgspec.msgpack.encode([[6, 5, 1, 7, [[b"hello", 0, "", b"", "new"]], "new"]])

    assert decode_events(newer) == [MessagesSent(5, 1, 7, [Entry(b"hello")])]
