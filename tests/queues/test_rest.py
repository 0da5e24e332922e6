"""A queue of which nothing is left gives back what was for messages, as a process may have 100,000 queues."""

from __future__ import annotations

from tests.queues.driver import QueueDriver, fifo_queue
from waystation.queues.fifo import FifoQueue
from waystation.queues.standard import StandardQueue


def use(queue: QueueDriver, *, at_s: float, group: str = "") -> None:
    """Send, receive and delete a hundred messages."""
    queue.send(*(f"{number}" for number in range(100)), at_s=at_s, group=group)
    while got := queue.receive(at_s=at_s, max_messages=10):
        queue.delete(*got, at_s=at_s)


def test_a_used_queue_is_like_a_new_one_after_a_sweep() -> None:
    queue = QueueDriver()
    assert queue.queue.at_rest
    use(queue, at_s=1)
    use(queue, at_s=1, group="a tenant")
    assert not queue.queue.at_rest

    queue.queue.sweep(2_000)

    state = queue.queue
    assert state.at_rest
    assert (state.lines, state.messages, state.hungry, state.hidden) == ({}, {}, {}, [])
    assert isinstance(state, StandardQueue)
    assert state._fairness is None
    use(queue, at_s=3)
    assert queue.counts(at_s=3) == (0, 0, 0)


def test_a_queue_with_messages_in_any_state_is_not_at_rest() -> None:
    queue = QueueDriver(receive_count_max=1, target="letters")
    queue.send("delayed", at_s=1, delay_s=10)
    queue.queue.sweep(2_000)
    assert not queue.queue.at_rest

    [delayed] = queue.receive(at_s=12)
    queue.queue.sweep(12_000)
    assert not queue.queue.at_rest
    assert queue.delete(delayed, at_s=13)

    queue.send("dead", at_s=14)
    queue.receive(at_s=15)
    assert queue.receive(at_s=50) == []
    [letter] = queue.letters()
    queue.queue.sweep(50_000)
    assert not queue.queue.at_rest

    queue.release([letter], at_s=51)
    queue.queue.sweep(52_000)
    assert queue.queue.at_rest


def test_an_emptied_fifo_queue_rests_once_nothing_it_has_seen_would_be_a_duplicate() -> None:
    queue = fifo_queue()
    queue.send("once", at_s=1, group="a", deduplication="id")
    [got] = queue.receive(at_s=2, attempt="try")
    queue.delete(got, at_s=3)

    queue.queue.sweep(300_999)
    assert not queue.queue.at_rest
    assert queue.send("once more", at_s=300.9, group="a", deduplication="id") == [1]
    queue.queue.sweep(303_000)

    state = queue.queue
    assert state.at_rest
    assert isinstance(state, FifoQueue)
    assert (len(state.deduplication), len(state.attempts), state._opening) == (0, 0, [])
    assert queue.send("again", at_s=304, group="a", deduplication="id") == [2]


def test_a_purged_queue_is_at_rest() -> None:
    queue = fifo_queue()
    queue.send("gone", at_s=1, group="a", deduplication="id")
    queue.purge(at_s=2)

    assert queue.queue.at_rest
    assert queue.queue.lines == {}
    assert queue.send("new", at_s=3, group="a", deduplication="id") == [2]
