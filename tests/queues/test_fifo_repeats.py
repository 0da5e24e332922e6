"""What a FIFO queue recognises when it comes again: a message, and a receive."""

from __future__ import annotations

import pytest

from tests.queues.driver import fifo_queue, texts
from waystation.queues import deduplication

# Deduplication


def test_a_duplicate_within_five_minutes_is_accepted_and_not_added() -> None:
    queue = fifo_queue()
    [first] = queue.send("once", at_s=0, group="a", deduplication="x")

    assert queue.send("twice", at_s=299.999, group="a", deduplication="x") == [first]

    assert queue.texts(at_s=299.999) == ["once"]


def test_five_minutes_after_the_first_message_its_deduplication_id_may_be_used_again() -> None:
    """Duplicates in between do not make the five minutes longer."""
    queue = fifo_queue()
    [first] = queue.send("one", at_s=100, group="a", deduplication="x")
    queue.send("duplicate", at_s=300, group="a", deduplication="x")
    [second] = queue.send("two", at_s=400, group="a", deduplication="x")

    assert second > first
    assert queue.send("duplicate", at_s=699, group="a", deduplication="x") == [second]
    assert queue.texts(at_s=699) == ["one", "two"]


def test_a_queue_that_nobody_uses_forgets_deduplication_ids_and_attempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are most of what a queue holds, and would stay for as long as nothing is sent."""
    monkeypatch.setattr(deduplication, "_FORGET_AT", 2)
    queue = fifo_queue()
    for number in range(5):
        queue.send("body", at_s=0, group="a", deduplication=str(number))
    queue.receive(at_s=1, attempt="try")
    before = queue.queue.held()
    queue.queue.sweep(299_999)
    assert queue.queue.held() == before

    queue.queue.sweep(301_000)

    assert queue.queue.held() == len(queue.queue.messages)
    assert queue.send("body", at_s=302, group="a", deduplication="0") == [6]
    assert queue.send("again", at_s=303, group="a", deduplication="0") == [6]


def test_deduplication_survives_deletion_and_a_restart() -> None:
    queue = fifo_queue()
    queue.send("once", at_s=0, group="a", deduplication="x")
    queue.delete(*queue.receive(at_s=1), at_s=1)
    queue.restart()
    queue.send("twice", at_s=2, group="a", deduplication="x")
    queue.shard.snapshot()
    queue.shard.truncate()
    queue.restart()
    queue.send("thrice", at_s=3, group="a", deduplication="x")

    assert queue.texts(at_s=3) == []


def test_deduplication_spans_groups() -> None:
    queue = fifo_queue()
    queue.send("once", at_s=0, group="a", deduplication="x")
    queue.send("twice", at_s=0, group="b", deduplication="x")

    assert queue.texts(at_s=0) == ["once"]


def test_duplicates_in_one_batch_are_one_message() -> None:
    queue = fifo_queue()

    assert queue.send("one", "two", "three", at_s=0, group="a", deduplication="x") == [1, 1, 1]

    assert queue.texts(at_s=0) == ["one"]
    assert queue.send("next", at_s=0, group="a", deduplication="y") == [2]


def test_a_purge_forgets_deduplication_ids() -> None:
    queue = fifo_queue()
    queue.send("once", at_s=0, group="a", deduplication="x")
    queue.purge(at_s=1)
    queue.send("twice", at_s=2, group="a", deduplication="x")

    assert queue.texts(at_s=2) == ["twice"]


# Attempts


def test_a_repeated_attempt_gets_the_same_messages_under_the_same_receipts_and_hides_them_anew() -> None:
    queue = fifo_queue()
    queue.send("a1", "a2", "a3", at_s=0, group="a")
    first = queue.receive(at_s=0, max_messages=2, attempt="x", visibility_timeout_s=30)

    assert queue.receive(at_s=29, max_messages=2, attempt="x", visibility_timeout_s=30) == first

    assert queue.texts(at_s=58) == []
    assert queue.texts(at_s=59) == ["a1", "a2", "a3"]


def test_another_attempt_gets_other_messages() -> None:
    queue = fifo_queue()
    queue.send("a1", at_s=0, group="a")
    queue.send("b1", at_s=0, group="b")

    assert texts(queue.receive(at_s=0, attempt="x")) == ["a1"]
    assert texts(queue.receive(at_s=0, attempt="y")) == ["b1"]
    assert texts(queue.receive(at_s=0, attempt="x")) == ["a1"]


@pytest.mark.parametrize("touch", ["delete", "extend", "show", "time"])
def test_an_attempt_is_not_repeated_once_any_of_its_messages_was_touched(touch: str) -> None:
    queue = fifo_queue()
    queue.send("a1", "a2", at_s=100, group="a")
    queue.send("b1", at_s=100, group="b")
    first, _ = queue.receive(at_s=100, max_messages=2, attempt="x", visibility_timeout_s=30)
    at_s = 110
    if touch == "delete":
        queue.delete(first, at_s=at_s)
    elif touch == "extend":
        queue.change_visibility(first, timeout_s=60, at_s=at_s)
    elif touch == "show":
        queue.change_visibility(first, timeout_s=0, at_s=at_s)
    else:
        at_s = 130

    assert queue.receive(at_s=at_s, attempt="x")[0].text == "b1"


def test_an_attempt_may_be_repeated_for_five_minutes_from_its_first_time() -> None:
    queue = fifo_queue()
    queue.send("a1", at_s=100, group="a")
    queue.send("b1", at_s=100, group="b")
    for at_s in (100, 300, 399.999):
        assert texts(queue.receive(at_s=at_s, attempt="x", visibility_timeout_s=1_000)) == ["a1"]

    assert texts(queue.receive(at_s=400, attempt="x", visibility_timeout_s=1_000)) == ["b1"]


def test_an_attempt_survives_a_restart() -> None:
    queue = fifo_queue()
    queue.send("a1", at_s=0, group="a")
    first = queue.receive(at_s=0, attempt="x")
    queue.restart()
    assert queue.receive(at_s=1, attempt="x") == first
    queue.shard.snapshot()
    queue.restart()

    assert queue.receive(at_s=2, attempt="x") == first
