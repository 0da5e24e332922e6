"""The rules of a FIFO queue, one by one."""

from __future__ import annotations

import pytest

from tests.queues.driver import QueueDriver, fifo_queue, texts
from tests.queues.windows import small_windows
from waystation.queues.commands import Outcome
from waystation.queues.fifo import FifoQueue
from waystation.queues.line import OrderedLine

# Groups


def test_a_receive_drains_one_group_before_it_goes_on_to_the_next() -> None:
    queue = fifo_queue()
    for number in range(1, 4):
        queue.send(f"a{number}", at_s=0, group="a")
        queue.send(f"b{number}", at_s=0, group="b")

    assert queue.texts(at_s=1, max_messages=4) == ["a1", "a2", "a3", "b1"]


def test_nothing_of_a_group_is_received_while_some_of_it_is_in_flight() -> None:
    queue = fifo_queue()
    queue.send("a1", "a2", "a3", at_s=0, group="a")
    queue.send("b1", at_s=0, group="b")
    first, second = queue.receive(at_s=1, max_messages=2)

    queue.delete(first, at_s=2)

    assert queue.texts(at_s=2) == ["b1"]
    queue.delete(second, at_s=3)
    assert queue.texts(at_s=3) == ["a3"]


def test_what_is_sent_to_a_group_in_flight_waits_for_it() -> None:
    queue = fifo_queue()
    queue.send("a1", at_s=0, group="a")
    [first] = queue.receive(at_s=1)
    queue.send("a2", at_s=2, group="a")

    assert queue.texts(at_s=2) == []
    queue.delete(first, at_s=3)
    assert queue.texts(at_s=3) == ["a2"]


def test_a_freed_group_goes_behind_all_others() -> None:
    queue = fifo_queue()
    queue.send("a1", "a2", at_s=0, group="a")
    queue.send("b1", "b2", at_s=0, group="b")
    queue.send("c1", at_s=0, group="c")
    [first] = queue.receive(at_s=1)
    queue.delete(first, at_s=1)

    assert queue.texts(at_s=2) == ["b1", "b2", "c1", "a2"]


def test_a_group_that_was_given_back_at_once_has_lost_its_turn_too() -> None:
    queue = fifo_queue()
    queue.send("a1", at_s=0, group="a")
    queue.send("b1", at_s=0, group="b")
    queue.receive(at_s=1, visibility_timeout_s=0)

    assert queue.texts(at_s=1) == ["b1", "a1"]


def test_messages_come_back_before_those_that_were_sent_later_however_often_they_were_received() -> None:
    queue = fifo_queue()
    queue.send("a1", "a2", "a3", "a4", at_s=0, group="a")
    for attempt in range(5):
        got = queue.receive(at_s=attempt * 100, max_messages=2)
        assert texts(got) == ["a1", "a2"]
        assert [each.receive_count for each in got] == [attempt + 1] * 2

    assert queue.texts(at_s=1_000) == ["a1", "a2", "a3", "a4"]


def test_making_one_message_visible_frees_only_that_one() -> None:
    queue = fifo_queue()
    queue.send("a1", "a2", "a3", "a4", at_s=0, group="a")
    first, second, third = queue.receive(at_s=1, max_messages=3)

    assert queue.change_visibility(first, timeout_s=0, at_s=2) == [Outcome.DONE]

    assert queue.texts(at_s=2) == ["a1"]
    queue.delete(second, third, at_s=3)
    assert queue.texts(at_s=3) == [], "a4 is behind a1"


def test_a_message_is_not_received_before_an_earlier_one_that_is_in_flight() -> None:
    queue = fifo_queue()
    queue.send("a1", "a2", "a3", at_s=0, group="a")
    _, second, _ = queue.receive(at_s=1, max_messages=3)

    queue.change_visibility(second, timeout_s=0, at_s=2)

    assert queue.texts(at_s=2) == []


def test_extending_one_message_still_delivers_the_earlier_ones_and_keeps_back_the_later_ones() -> None:
    queue = fifo_queue()
    queue.send("a1", "a2", "a3", at_s=100, group="a")
    _, second, _ = queue.receive(at_s=100, max_messages=3, visibility_timeout_s=30)

    queue.change_visibility(second, timeout_s=100, at_s=110)

    assert queue.texts(at_s=130) == ["a1"]


def test_a_full_receive_takes_part_of_a_group_and_the_rest_waits() -> None:
    queue = fifo_queue()
    queue.send(*(f"a{number}" for number in range(12)), at_s=0, group="a")
    queue.send("b0", at_s=0, group="b")

    assert queue.texts(at_s=1) == [f"a{number}" for number in range(10)]
    assert queue.texts(at_s=1) == ["b0"]


def test_a_queue_with_too_many_in_flight_gives_nothing_and_no_error() -> None:
    queue = fifo_queue(in_flight_max=2)
    queue.send("a1", "a2", "a3", at_s=0, group="a")
    queue.send("b1", at_s=0, group="b")

    assert queue.texts(at_s=1) == ["a1", "a2"]
    assert queue.texts(at_s=1) == []


def test_a_receive_looks_at_no_group_that_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = fifo_queue()
    groups = [f"group {number}" for number in range(10_000)]
    for group in groups:
        queue.send("first", "second", at_s=0, group=group)
    for _ in range(len(groups) // 2):
        queue.receive(at_s=1, max_messages=2, visibility_timeout_s=1_000)
        queue.receive(at_s=1, max_messages=1, visibility_timeout_s=1_000)
    queue.send("the only one", at_s=2, group="another")
    looked_at: list[str] = []
    in_order = OrderedLine.in_order

    def watched(line: OrderedLine):  # type: ignore[no-untyped-def]
        looked_at.append(line.group)
        return in_order(line)

    monkeypatch.setattr(OrderedLine, "in_order", watched)
    assert queue.texts(at_s=2) == ["the only one"]
    assert set(looked_at) == {"another"}


def test_a_group_in_flight_does_not_keep_others_from_being_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, 4)
    queue = fifo_queue()
    queue.send(*(f"a{number}" for number in range(9)), at_s=0, group="a")
    queue.send(*(f"b{number}" for number in range(9)), at_s=0, group="b")
    queue.receive(at_s=1)

    for number in range(9):
        [got] = queue.receive(at_s=1)
        assert got.text == f"b{number}"
        queue.delete(got, at_s=1)
    assert queue.receive(at_s=1) == []


# Delay


def test_a_delay_that_is_set_later_holds_for_what_was_sent_before() -> None:
    queue = fifo_queue()
    queue.send("a1", at_s=100, group="a")
    queue.delay(delay_s=60, at_s=101)

    assert queue.texts(at_s=159.999) == []
    assert queue.counts(at_s=159.999) == (0, 0, 1)
    assert queue.texts(at_s=160) == ["a1"]


def test_a_delay_that_is_lifted_is_lifted_for_what_was_sent_before() -> None:
    queue = fifo_queue(delay_s=900)
    queue.send("a1", at_s=100, group="a")
    assert queue.queue.next_due_ms() == 1_000_000
    queue.delay(delay_s=10, at_s=101)

    assert queue.queue.next_due_ms() == 110_000
    assert queue.texts(at_s=109) == []
    assert queue.texts(at_s=110) == ["a1"]


def test_a_delayed_message_does_not_keep_back_what_was_sent_before_it() -> None:
    queue = fifo_queue(delay_s=60)
    queue.send("a1", at_s=100, group="a")
    queue.send("a2", at_s=130, group="a")

    [first] = queue.receive(at_s=160, max_messages=10)
    assert first.text == "a1"
    queue.delete(first, at_s=161)
    assert queue.texts(at_s=189) == []
    assert queue.texts(at_s=190) == ["a2"]


def test_a_message_that_was_received_is_not_delayed_again() -> None:
    queue = fifo_queue()
    queue.send("a1", at_s=0, group="a")
    [first] = queue.receive(at_s=1)
    queue.delay(delay_s=900, at_s=2)
    queue.change_visibility(first, timeout_s=0, at_s=3)

    assert queue.texts(at_s=3) == ["a1"]


def test_a_delayed_message_that_expires_keeps_nothing_back() -> None:
    queue = fifo_queue(retention_s=60)
    queue.send("gone", at_s=100, group="a")
    queue.move(max_messages=1, at_s=100)
    queue.send("received", at_s=130, group="a")
    [received] = queue.receive(at_s=130, visibility_timeout_s=1)
    queue.give_back(queue.letters(), at_s=130)
    queue.delay(delay_s=900, at_s=130)

    assert queue.texts(at_s=159.999) == [], "in the order of sending"
    assert queue.texts(at_s=160) == [received.text]


def test_a_message_that_expired_under_an_earlier_retention_is_not_delayed_by_a_new_delay() -> None:
    queue = fifo_queue(retention_s=60)
    queue.send("gone", at_s=100, group="a")
    queue.move(max_messages=1, at_s=100)
    queue.send("b1", at_s=110, group="b")
    queue.send("a1", at_s=130, group="a")
    queue.receive(at_s=130, max_messages=2, visibility_timeout_s=1)
    assert queue.counts(at_s=131) == (2, 1, 0)
    queue.give_back(queue.letters(), at_s=132)
    queue.retain(retention_s=1_000, at_s=165)
    queue.delay(delay_s=900, at_s=165)

    assert queue.texts(at_s=166) == ["b1", "a1"]


# Receipts


def test_a_receipt_whose_visibility_timeout_is_over_deletes_and_extends_nothing() -> None:
    queue = fifo_queue()
    queue.send("a1", at_s=100, group="a")
    [old] = queue.receive(at_s=100, visibility_timeout_s=30)

    assert queue.delete(old, at_s=130) == [Outcome.EXPIRED]
    assert queue.change_visibility(old, timeout_s=10, at_s=130) == [Outcome.NOT_IN_FLIGHT]

    [new] = queue.receive(at_s=131)
    assert queue.delete(old, at_s=132) == [Outcome.EXPIRED]
    assert queue.change_visibility(old, timeout_s=10, at_s=132) == [Outcome.EXPIRED]
    assert queue.delete(new, at_s=132) == [Outcome.DONE]
    assert queue.delete(old, new, at_s=133) == [Outcome.DONE] * 2, "gone already is no error"


def test_a_receipt_that_was_extended_deletes() -> None:
    queue = fifo_queue()
    queue.send("a1", at_s=0, group="a")
    [got] = queue.receive(at_s=0, visibility_timeout_s=30)
    queue.change_visibility(got, timeout_s=60, at_s=10)

    assert queue.delete(got, at_s=69) == [Outcome.DONE]


def test_deleting_what_has_expired_is_no_error_whether_or_not_it_was_dropped() -> None:
    queue = fifo_queue(retention_s=60)
    queue.send("a1", at_s=100, group="a")
    queue.send("b1", at_s=100, group="b")
    one, other = queue.receive(at_s=101, max_messages=10, visibility_timeout_s=10)

    assert queue.delete(one, other, at_s=160) == [Outcome.DONE] * 2


# Dead letters, moves and retention


def test_dead_letters_of_a_group_are_set_aside_in_order_and_free_the_rest() -> None:
    queue = QueueDriver(fifo=True, receive_count_max=1, target="letters", visibility_timeout_s=10)
    queue.send("a1", "a2", "a3", at_s=100, group="a")
    queue.receive(at_s=100, max_messages=2)

    assert queue.texts(at_s=110) == ["a3"]
    assert [(letter.envelope, letter.group) for letter in queue.letters()] == [(b"a1", "a"), (b"a2", "a")]


def test_what_is_set_aside_keeps_nothing_back_and_returns_to_its_place() -> None:
    queue = fifo_queue()
    queue.send("a1", "a2", "a3", at_s=0, group="a")
    assert queue.move(max_messages=2, at_s=0) == 2
    assert texts(queue.receive(at_s=0, visibility_timeout_s=1)) == ["a3"]
    queue.give_back(queue.letters()[::-1], at_s=1)

    assert queue.texts(at_s=2) == ["a1", "a2", "a3"]


def test_a_move_leaves_what_waits_behind_a_message_in_flight() -> None:
    queue = fifo_queue()
    queue.send("a1", "a2", at_s=0, group="a")
    [first] = queue.receive(at_s=0)

    assert queue.move(max_messages=10, at_s=1) == 0
    queue.delete(first, at_s=2)
    assert queue.move(max_messages=10, at_s=2) == 1


def test_messages_that_arrive_keep_their_groups_and_their_order() -> None:
    source, queue = fifo_queue(), fifo_queue()
    source.send("a1", "a2", at_s=0, group="a")
    source.send("b1", at_s=0, group="b")
    source.move(max_messages=10, at_s=1)
    for _ in range(2):
        queue.accept(source.letters(), at_s=2)

    got = queue.receive(at_s=2, max_messages=10)
    assert [(each.text, each.group) for each in got] == [("a1", "a"), ("a2", "a"), ("b1", "b")]


def test_a_group_whose_first_message_expires_in_flight_goes_on() -> None:
    queue = fifo_queue(retention_s=60)
    queue.send("a1", at_s=100, group="a")
    queue.receive(at_s=101, visibility_timeout_s=1_000)
    queue.send("a2", at_s=130, group="a")

    assert queue.texts(at_s=159.999) == []
    assert queue.texts(at_s=160) == ["a2"]


def test_what_expired_before_a_second_change_of_settings_stays_expired() -> None:
    """Also what came from another queue, as old as it was, after a first change at the same time."""
    source, queue = fifo_queue(), fifo_queue(retention_s=60)
    source.send("a1", at_s=0, group="a")
    source.move(max_messages=1, at_s=0)
    queue.send("b1", at_s=100, group="b")  # so that nobody looks at the other group
    queue.retain(retention_s=60, at_s=100)
    queue.accept(source.letters(), at_s=100)
    queue.retain(retention_s=1_000, at_s=100)

    assert queue.texts(at_s=100) == ["b1"]


# Memory


def test_a_group_leaves_nothing_behind() -> None:
    queue = fifo_queue(delay_s=1)
    queue.send("a1", at_s=100, group="a")
    queue.delete(*queue.receive(at_s=101), at_s=102)

    state = queue.queue
    assert isinstance(state, FifoQueue)
    assert not state.lines
    assert not state.available
    assert state.next_due_ms() is None
