"""What a queue holds in memory is bounded by what is active, not by its backlog."""

from __future__ import annotations

import pytest

from tests.queues.driver import QueueDriver
from tests.queues.oracle import check_invariants
from tests.queues.windows import small_windows, tail_messages, windowed
from waystation.queues import queue_state

WINDOW = 8


@pytest.fixture(autouse=True)
def with_small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, WINDOW)


def numbered(first: int, last: int) -> list[str]:
    return [f"m{number}" for number in range(first, last + 1)]


def test_only_a_window_of_a_backlog_is_held_as_objects() -> None:
    queue = QueueDriver()
    for number in range(1, 101):
        queue.send(f"m{number}", at_s=1)

    check_invariants(queue.queue)
    assert len(queue.queue.messages) == WINDOW
    assert tail_messages(queue.queue) == 100 - WINDOW
    assert queue.counts(at_s=1) == (100, 0, 0)


def test_a_window_is_full_at_so_many_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, WINDOW, 1_000)
    queue = QueueDriver()
    for _ in range(5):
        queue.send("x" * 400, at_s=1)

    assert len(queue.queue.messages) == 3, "the third has filled it"
    assert queue.texts(at_s=2, max_messages=3) == ["x" * 400] * 3
    assert queue.queue.needs_load()
    queue.shard.load(queue.queue)
    assert windowed(queue.queue) == 2


def test_a_backlog_is_received_whole_and_in_order() -> None:
    queue = QueueDriver(visibility_timeout_s=1_000)
    for first in range(1, 101, 5):
        queue.send(*numbered(first, first + 4), at_s=1)
    received: list[str] = []
    while texts := queue.texts(at_s=2, max_messages=7):
        received += texts
        check_invariants(queue.queue)
        assert windowed(queue.queue) <= WINDOW + 4, "a window, and what is left of its last run"

    assert received == numbered(1, 100)
    assert queue.counts(at_s=2) == (0, 100, 0)


def test_a_new_message_does_not_overtake_the_tail() -> None:
    queue = QueueDriver(visibility_timeout_s=1_000)
    queue.send(*numbered(1, 10), at_s=1)
    queue.texts(at_s=2, max_messages=8)  # the window is empty now, and the tail is not
    queue.send("m11", at_s=3)

    assert queue.texts(at_s=4) + queue.texts(at_s=4) == numbered(9, 11)


def test_delayed_and_returned_messages_are_held_beside_a_full_window() -> None:
    queue = QueueDriver(visibility_timeout_s=10)
    queue.send(*numbered(1, 20), at_s=1)
    queue.send("delayed", at_s=1, delay_s=10)
    queue.texts(at_s=2, max_messages=3)

    assert queue.counts(at_s=3) == (17, 3, 1)
    assert queue.counts(at_s=12) == (21, 0, 0)
    check_invariants(queue.queue)
    assert windowed(queue.queue) + tail_messages(queue.queue) == 21


def test_the_tail_is_asked_for_before_the_window_is_empty() -> None:
    queue = QueueDriver(visibility_timeout_s=1_000)
    queue.send(*numbered(1, 20), at_s=1)
    queue.texts(at_s=2, max_messages=4)
    assert not queue.queue.needs_load()

    queue.texts(at_s=2, max_messages=1)

    assert queue.queue.needs_load()


def test_a_purge_empties_the_tail() -> None:
    queue = QueueDriver()
    queue.send(*numbered(1, 20), at_s=1)
    queue.purge(at_s=2)

    assert queue.counts(at_s=2) == (0, 0, 0)
    assert not queue.queue.needs_load()
    assert queue.queue.oldest_record() is None


def test_messages_that_expire_in_the_tail_are_dropped_when_their_turn_comes() -> None:
    queue = QueueDriver(retention_s=60)
    queue.send(*numbered(1, 20), at_s=1)
    queue.send("young", at_s=50)

    assert queue.texts(at_s=61) == ["young"]
    assert queue.counts(at_s=61) == (0, 1, 0)
    assert queue.queue.live_bytes == len("young")


def test_a_consumer_that_keeps_up_leaves_nothing_behind() -> None:
    """Every receive puts an entry on the heap that its delete makes stale."""
    queue = QueueDriver(visibility_timeout_s=43_200)
    for number in range(1_000):
        queue.send(f"m{number}", at_s=1 + number)
        queue.delete(*queue.receive(at_s=1 + number), at_s=1 + number)

    assert queue.queue.messages == {}
    assert len(queue.queue.hidden) <= queue_state._STALE_SLACK + 1


def test_a_consumer_that_keeps_extending_its_timeout_leaves_nothing_behind() -> None:
    queue = QueueDriver()
    queue.send("hello", at_s=1)
    [got] = queue.receive(at_s=2)
    for second in range(1_000):
        queue.change_visibility(got, timeout_s=10_000 + second, at_s=3)

    assert len(queue.queue.hidden) <= queue_state._STALE_SLACK + 2
    assert queue.queue.next_due_ms() == 3_000 + 10_999_000


def test_a_message_that_nobody_can_process_leaves_nothing_behind() -> None:
    queue = QueueDriver(visibility_timeout_s=1)
    queue.send("poison", at_s=1)
    for second in range(2, 500):
        assert queue.texts(at_s=second) == ["poison"]

    assert len(queue.queue.hidden) == 1


def test_the_next_due_time_is_that_of_the_first_hidden_message() -> None:
    queue = QueueDriver(visibility_timeout_s=30)
    assert queue.queue.next_due_ms() is None
    queue.send("delayed", at_s=1, delay_s=20)
    queue.send("hello", at_s=1)
    [got] = queue.receive(at_s=2)

    assert queue.queue.next_due_ms() == 21_000
    queue.change_visibility(got, timeout_s=5, at_s=3)
    assert queue.queue.next_due_ms() == 8_000
    queue.delete(got, at_s=4)
    assert queue.queue.next_due_ms() == 21_000
