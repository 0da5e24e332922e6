"""Receives that wait are served in the order in which they came, each queue's by itself."""

from __future__ import annotations

from waystation.queues.waiting import Waiting


def test_who_has_waited_longest_is_first() -> None:
    waiting: Waiting[str] = Waiting(10)
    for token in ("a", "b", "c"):
        waiting.add(1, token)
    waiting.add(2, "other")

    assert waiting.first(1) == "a"
    assert waiting.remove(1, "a")
    assert waiting.first(1) == "b"
    assert waiting.first(2) == "other"
    assert waiting.first(3) is None


def test_who_waits_no_more_is_forgotten_wherever_it_stood() -> None:
    waiting: Waiting[str] = Waiting(10)
    for token in ("a", "b", "c"):
        waiting.add(1, token)

    assert waiting.remove(1, "b")
    assert not waiting.remove(1, "b")
    assert not waiting.remove(9, "a")
    assert waiting.take_all(1) == ["a", "c"]
    assert len(waiting) == 0


def test_a_queue_on_which_nobody_waits_is_not_held() -> None:
    waiting: Waiting[str] = Waiting(10)
    waiting.add(1, "a")
    assert 1 in waiting

    waiting.remove(1, "a")

    assert 1 not in waiting
    assert not waiting._by_queue


def test_no_more_may_wait_than_the_limit_over_all_queues() -> None:
    waiting: Waiting[str] = Waiting(2)
    waiting.add(1, "a")
    assert not waiting.is_full()

    waiting.add(2, "b")

    assert waiting.is_full()
    waiting.remove(1, "a")
    assert not waiting.is_full()


def test_all_are_taken_from_one_queue_or_from_every_one() -> None:
    waiting: Waiting[str] = Waiting(10)
    for queue, token in ((1, "a"), (2, "b"), (1, "c")):
        waiting.add(queue, token)

    assert waiting.take_all(2) == ["b"]
    assert waiting.take_all(2) == []
    assert waiting.take_all() == ["a", "c"]
    assert len(waiting) == 0
