"""Messages are found again in the records where they lie, also when they were written more than once."""

from __future__ import annotations

import pytest

from tests.queues.driver import QueueDriver
from tests.queues.oracle import check_invariants
from tests.queues.windows import small_windows
from waystation.queues.commands import Entry, SendMessages
from waystation.queues.contents import Stored, relocations, run_messages, stored_messages, waiting_messages
from waystation.queues.events import (
    EpochStarted,
    Event,
    MessagesDeleted,
    MessagesRelocated,
    MessagesSent,
    Relocated,
)
from waystation.queues.runs import Run

HOUR_S = 3_600


@pytest.fixture(autouse=True)
def with_small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, 4)


def test_every_message_of_a_record_is_found_in_the_order_written() -> None:
    record: list[Event] = [
        EpochStarted(1, 1),
        MessagesSent(5, 1, 7, [Entry(b"a"), Entry(b"b", 10)]),
        MessagesDeleted(6, 1, [7]),
        MessagesRelocated(7, 2, [Relocated(3, 2, True, b"c"), Relocated(4, 2, False, b"d")]),
    ]

    assert list(stored_messages(record)) == [
        Stored(1, "", 7, 5, False, b"a"),
        Stored(1, "", 8, 5, True, b"b"),
        Stored(2, "", 3, 2, True, b"c"),
        Stored(2, "", 4, 2, False, b"d"),
    ]


def test_a_run_leaves_out_other_queues_and_delayed_and_older_messages() -> None:
    queue = QueueDriver()
    queue.send("a", "b", "c", "d", at_s=1)
    record = queue.shard.position
    send = SendMessages(queue.number, [Entry(b"e"), Entry(b"delayed", 1_000), Entry(b"f")])
    queue.shard.do(send, 2_000)
    queue.shard.commit()
    [run] = queue.queue.lines[""].tail
    others: list[Event] = [
        MessagesSent(1, queue.number + 1, 6, [Entry(b"another queue's")]),
        MessagesRelocated(1, queue.number, [Relocated(4, 1, False, b"of the window")]),
    ]

    waiting = waiting_messages([*others, *queue.shard.events(record)], queue.number)
    found = run_messages(waiting, queue.queue.lines[""], run)

    assert run == Run(record, 5, 2)
    assert [(message.sequence, envelope) for message, envelope in found] == [(5, b"e"), (7, b"f")]
    assert [(message.record, message.size, message.sent_at_ms) for message, _ in found] == [
        (record, 1, 2_000),
        (record, 1, 2_000),
    ]


def test_messages_that_were_relocated_in_another_order_are_still_received_once_and_in_order() -> None:
    """
    A first relocation moves the older of two messages behind the newer one. The
    next meets the newer one first, and writes them into one record the wrong way round.
    """
    queue = QueueDriver()
    queue.send("a", "b", "c", "d", at_s=1)
    older, newer = queue.send("older", at_s=1) + queue.send("newer", at_s=1)
    queue.shard.relocate(3, now_ms=2_000)  # the creation, the window, `older`
    queue.shard.snapshot()
    queue.shard.truncate()
    queue.shard.relocate(2, now_ms=3_000)  # `newer`, then all the rest
    queue.shard.commit()
    written = [stored.sequence for stored in stored_messages(queue.shard.events(queue.shard.log.position))]

    assert written.index(newer) < written.index(older)
    assert queue.texts(at_s=4) == ["a", "b", "c", "d"]
    assert queue.texts(at_s=4) == ["older", "newer"]
    assert queue.texts(at_s=4) == []


def test_a_run_of_which_only_a_part_was_relocated_does_not_take_from_the_next() -> None:
    """
    The owner had loaded a run and seen one of its messages expire before it
    relocated the rest; the next owner, which starts from an older snapshot, has
    the whole run in its tail.
    """
    queue = QueueDriver(retention_s=60)
    queue.send("a", "b", "c", "d", at_s=10)
    for text, at_s in (("expires", 10), ("stays", 20), ("stays too", 20), ("and this", 20)):
        queue.shard.do(SendMessages(queue.number, [Entry(text.encode())]), at_s * 1_000)
    queue.shard.commit()
    queue.send("the next run", at_s=20)
    queue.shard.snapshot()
    queue.delete(*queue.receive(at_s=20, max_messages=10), at_s=20)
    queue.shard.load(queue.queue)
    assert queue.counts(at_s=72) == (4, 0, 0)
    queue.shard.relocate(100, now_ms=72_000)

    queue.shard.state = queue.shard.recovered()

    received: list[str] = []
    while texts := queue.texts(at_s=73, max_messages=2):
        check_invariants(queue.queue)
        received += texts
    assert received == ["stays", "stays too", "and this", "the next run"]


def test_only_what_is_alive_and_lies_there_is_relocated() -> None:
    queue = QueueDriver()
    queue.send("gone", "received", "waiting", at_s=1)
    queue.send("delayed", at_s=1, delay_s=60)
    first, second = queue.receive(at_s=2, max_messages=2)
    queue.delete(first, at_s=2)
    state, shard = queue.shard.state, queue.shard

    [sent] = relocations(state, shard.events(2), 2, 3_000)
    [delayed] = relocations(state, shard.events(3), 3, 3_000)

    assert sent.messages == [
        Relocated(second.receipt.sequence, 1_000, True, b"received"),
        Relocated(3, 1_000, False, b"waiting"),
    ]
    assert [(message.envelope, message.held) for message in delayed.messages] == [(b"delayed", True)]
    assert relocations(state, shard.events(2), 9, 3_000) == [], "they do not lie in record 9"


def test_relocation_changes_nothing_that_clients_see() -> None:
    queue = QueueDriver()
    queue.send(*"abcdefgh", at_s=1)
    queue.send("delayed", at_s=1, delay_s=60)
    [got] = queue.receive(at_s=2)
    before = queue.counts(at_s=3)
    live_bytes = queue.queue.live_bytes
    queue.shard.relocate(100, now_ms=3_000)
    queue.shard.snapshot()
    queue.shard.truncate()

    assert queue.shard.log.first == queue.shard.log.position, "nothing before it is needed"
    assert (queue.counts(at_s=3), queue.queue.live_bytes) == (before, live_bytes)
    assert queue.texts(at_s=3) + queue.texts(at_s=3) == list("bcdefgh")
    assert set(queue.texts(at_s=61)) == {*"abcdefgh", "delayed"}
    assert queue.delete(got, at_s=62) == [0]
