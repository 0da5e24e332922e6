"""The rules of a standard queue, one by one."""

from __future__ import annotations

import pytest

from tests.queues.driver import QueueDriver
from waystation.protocol.errors import OverLimit, PurgeQueueInProgress
from waystation.queues.commands import Outcome

HOUR_S = 3_600


def test_a_message_comes_back_when_its_consumer_goes_silent() -> None:
    """
    A message that is received and not deleted stays hidden for exactly the
    visibility timeout, then is received again under a new receipt.
    """
    queue = QueueDriver(visibility_timeout_s=30)
    queue.send("hello", at_s=0.5)
    [first] = queue.receive(at_s=10)

    assert queue.receive(at_s=39.999) == []

    [second] = queue.receive(at_s=40)
    assert (second.text, second.receipt.sequence) == ("hello", first.receipt.sequence)
    assert second.receipt != first.receipt


def test_a_message_tells_when_it_was_sent_and_first_received_and_how_often() -> None:
    queue = QueueDriver(visibility_timeout_s=30)
    queue.send("hello", at_s=1)
    received = [queue.receive(at_s=at_s)[0] for at_s in (10, 40, 70)]

    assert [got.receive_count for got in received] == [1, 2, 3]
    assert {got.sent_at_s for got in received} == {1}
    assert {got.first_received_at_s for got in received} == {10}


def test_a_visibility_timeout_of_zero_hides_nothing() -> None:
    queue = QueueDriver(visibility_timeout_s=0)
    queue.send("hello", at_s=1)

    assert [queue.receive(at_s=2)[0].receive_count for _ in range(3)] == [1, 2, 3]
    assert queue.counts(at_s=2) == (1, 0, 0)


def test_a_delayed_message_shows_when_its_delay_has_run_and_not_a_millisecond_earlier() -> None:
    queue = QueueDriver()
    queue.send("later", at_s=1, delay_s=5)

    assert queue.counts(at_s=1) == (0, 0, 1)
    assert queue.texts(at_s=5.999) == []
    assert queue.texts(at_s=6) == ["later"]


def test_one_receive_gets_at_most_as_many_as_it_asks_for_oldest_first() -> None:
    queue = QueueDriver()
    queue.send(*"abcde", at_s=1)

    assert queue.texts(at_s=2, max_messages=2) == ["a", "b"]
    assert queue.texts(at_s=2, max_messages=10) == ["c", "d", "e"]


# Order


def test_a_message_that_was_received_once_or_twice_returns_to_the_front() -> None:
    queue = QueueDriver(visibility_timeout_s=10)
    queue.send("first", "second", at_s=1)

    assert [queue.texts(at_s=at_s, max_messages=1) for at_s in (10, 20, 30)] == [["first"]] * 3


def test_messages_that_were_received_together_come_back_in_their_order() -> None:
    queue = QueueDriver(visibility_timeout_s=10)
    queue.send(*"abcd", at_s=1)
    assert queue.texts(at_s=2, max_messages=3) == ["a", "b", "c"]

    assert queue.texts(at_s=12) == ["a", "b", "c", "d"]
    assert [queue.texts(at_s=22, max_messages=2) for _ in range(2)] == [["a", "b"], ["c", "d"]]


def test_messages_that_are_given_back_together_come_back_in_their_order() -> None:
    queue = QueueDriver(visibility_timeout_s=0)
    queue.send(*"abcd", at_s=1)
    for _ in range(2):
        assert queue.texts(at_s=2, max_messages=3) == ["a", "b", "c"]
    got = queue.receive(at_s=2, max_messages=4, visibility_timeout_s=30)
    queue.change_visibility(*got, timeout_s=0, at_s=3)

    assert queue.texts(at_s=3) == ["d", "a", "b", "c"], "the first three have been received too often"


def test_a_message_that_was_received_more_often_returns_to_the_back() -> None:
    """So that one which nobody can process does not keep all others waiting."""
    queue = QueueDriver(visibility_timeout_s=10)
    queue.send("poison", "healthy", at_s=1)
    for at_s in (10, 20, 30):
        assert queue.texts(at_s=at_s, max_messages=1) == ["poison"]

    assert queue.texts(at_s=40, max_messages=1) == ["healthy"]
    assert queue.texts(at_s=40, max_messages=1) == ["poison"]


# Retention


def test_a_message_expires_when_its_retention_is_over_whatever_its_state() -> None:
    queue = QueueDriver(retention_s=60)
    queue.send("in flight", at_s=1)
    [got] = queue.receive(at_s=1, visibility_timeout_s=HOUR_S)
    queue.send("visible", at_s=1)
    queue.send("delayed", at_s=1, delay_s=900)

    assert queue.counts(at_s=60.999) == (1, 1, 1)
    assert queue.counts(at_s=61) == (0, 0, 0)
    assert queue.texts(at_s=61) == []
    assert queue.queue.messages == {}
    assert queue.queue.live_bytes == 0
    assert queue.delete(got, at_s=62) == [Outcome.DONE], "deleting what has expired is no error"
    assert queue.change_visibility(got, timeout_s=10, at_s=62) == [Outcome.GONE]


def test_retention_counts_from_the_send_and_not_from_the_end_of_the_delay() -> None:
    queue = QueueDriver(retention_s=60)
    queue.send("hello", at_s=1, delay_s=50)

    assert queue.counts(at_s=51) == (1, 0, 0)
    assert queue.texts(at_s=61) == []


def test_a_shorter_retention_expires_what_is_older_at_once() -> None:
    queue = QueueDriver(retention_s=HOUR_S)
    queue.send("old", at_s=1)
    queue.send("old in flight", at_s=1)
    queue.receive(at_s=2, max_messages=2, visibility_timeout_s=HOUR_S)
    queue.send("old and waiting", at_s=3)
    queue.send("young", at_s=100)
    queue.retain(retention_s=60, at_s=110)

    assert queue.counts(at_s=110)[1] == 0
    assert queue.texts(at_s=110) == ["young"]


def test_what_has_expired_stays_expired_when_the_retention_grows() -> None:
    queue = QueueDriver(retention_s=60)
    queue.send("expired", at_s=1)
    queue.send("expired behind one that is not", at_s=2)
    queue.send("still there", at_s=50)
    [still_there] = [got for got in queue.receive(at_s=51, max_messages=3) if got.text == "still there"]
    queue.change_visibility(still_there, timeout_s=0, at_s=52)
    queue.retain(retention_s=HOUR_S, at_s=70)

    assert queue.texts(at_s=90) == ["still there"]
    assert queue.texts(at_s=3_000) == ["still there"]


def test_a_longer_retention_keeps_what_is_hidden_for_longer_too() -> None:
    queue = QueueDriver(retention_s=60)
    queue.send("hello", at_s=1)
    queue.receive(at_s=2, visibility_timeout_s=500)
    queue.retain(retention_s=HOUR_S, at_s=10)

    assert queue.counts(at_s=100) == (0, 1, 0)
    assert queue.texts(at_s=502) == ["hello"]


def test_an_expired_message_behind_one_that_is_not_is_never_handed_out() -> None:
    """The younger one has returned to the front; the sweep of an idle moment drops the other."""
    queue = QueueDriver(retention_s=60)
    queue.send("older", at_s=1)
    queue.send("younger", at_s=30)
    older, younger = queue.receive(at_s=31, max_messages=2)
    queue.change_visibility(older, timeout_s=0, at_s=32)
    queue.change_visibility(younger, timeout_s=0, at_s=32)

    assert queue.change_visibility(older, timeout_s=9, at_s=61) == [Outcome.GONE]
    assert queue.texts(at_s=61) == ["younger"]
    queue.queue.sweep(61_000)
    assert len(queue.queue.messages) == 1


# Limits on what is in flight


def test_past_the_in_flight_limit_a_short_poll_is_refused_and_a_long_poll_gets_nothing() -> None:
    queue = QueueDriver(in_flight_max=3, visibility_timeout_s=30)
    queue.send(*"abcde", at_s=1)
    assert queue.texts(at_s=2, max_messages=2) == ["a", "b"]

    [c] = queue.receive(at_s=3, max_messages=10)

    assert c.text == "c", "only one more may be in flight"
    with pytest.raises(OverLimit):
        queue.receive(at_s=4)
    assert queue.receive(at_s=4, wait_s=20) == []
    queue.delete(c, at_s=5)
    assert queue.texts(at_s=5) == ["d"]
    assert sorted(queue.texts(at_s=32)) == ["a", "b"], "their timeouts have made room"


# Changing visibility


def test_a_timeout_runs_from_the_moment_of_the_change() -> None:
    queue = QueueDriver(visibility_timeout_s=30)
    queue.send("hello", at_s=1)
    [got] = queue.receive(at_s=10)

    assert queue.change_visibility(got, timeout_s=60, at_s=20) == [Outcome.DONE]
    assert queue.receive(at_s=79.999) == []
    assert queue.texts(at_s=80) == ["hello"]


def test_a_timeout_changed_to_zero_gives_the_message_back_at_once() -> None:
    queue = QueueDriver()
    queue.send("hello", at_s=1)
    [got] = queue.receive(at_s=2)
    queue.change_visibility(got, timeout_s=0, at_s=3)

    assert queue.texts(at_s=3) == ["hello"]


def test_a_message_is_hidden_for_12_hours_from_its_receive_at_most() -> None:
    queue = QueueDriver()
    queue.send("hello", at_s=1)
    [got] = queue.receive(at_s=100)

    at_s = 100 + HOUR_S
    assert queue.change_visibility(got, timeout_s=11 * HOUR_S + 0.001, at_s=at_s) == [Outcome.BEYOND_LIMIT]
    assert queue.change_visibility(got, timeout_s=11 * HOUR_S, at_s=at_s) == [Outcome.DONE]
    assert queue.receive(at_s=100 + 12 * HOUR_S - 0.001) == []
    assert queue.texts(at_s=100 + 12 * HOUR_S) == ["hello"]


def test_a_receipt_that_a_later_receive_has_replaced_cannot_change_that_ones_timeout() -> None:
    queue = QueueDriver(visibility_timeout_s=30)
    queue.send("hello", at_s=1)
    [old] = queue.receive(at_s=10)
    [new] = queue.receive(at_s=40)

    assert queue.change_visibility(old, timeout_s=0, at_s=41) == [Outcome.GONE]
    assert queue.receive(at_s=69) == []
    assert queue.change_visibility(new, timeout_s=0, at_s=69) == [Outcome.DONE]


def test_a_message_whose_timeout_is_over_can_be_hidden_again_by_its_latest_receipt() -> None:
    queue = QueueDriver(visibility_timeout_s=30)
    queue.send("hello", at_s=1)
    [got] = queue.receive(at_s=10)

    assert queue.change_visibility(got, timeout_s=30, at_s=50) == [Outcome.DONE]
    assert queue.receive(at_s=79) == []
    assert queue.texts(at_s=80) == ["hello"]


def test_each_change_of_a_batch_has_its_own_outcome() -> None:
    queue = QueueDriver()
    queue.send(*"abc", at_s=1)
    a, b, c = queue.receive(at_s=2, max_messages=3)
    queue.delete(a, at_s=3)

    assert queue.change_visibility(a, b, c, timeout_s=0, at_s=3) == [Outcome.GONE, Outcome.DONE, Outcome.DONE]
    assert set(queue.texts(at_s=3)) == {"b", "c"}


# Deleting


def test_a_deleted_message_is_gone_for_good() -> None:
    queue = QueueDriver(visibility_timeout_s=30)
    queue.send("hello", at_s=1)
    [got] = queue.receive(at_s=2)

    assert queue.delete(got, at_s=3) == [Outcome.DONE]
    assert queue.receive(at_s=1_000) == []
    assert queue.delete(got, at_s=1_001) == [Outcome.DONE], "a repeated delete succeeds"
    assert queue.change_visibility(got, timeout_s=1, at_s=1_001) == [Outcome.GONE]


def test_a_receipt_deletes_after_its_timeout_also_while_another_consumer_has_the_message() -> None:
    queue = QueueDriver(visibility_timeout_s=30)
    queue.send("hello", at_s=1)
    [old] = queue.receive(at_s=10)
    [new] = queue.receive(at_s=40)

    assert queue.delete(old, at_s=41) == [Outcome.DONE]
    assert queue.counts(at_s=41) == (0, 0, 0)
    assert queue.delete(new, at_s=42) == [Outcome.DONE]


def test_a_batch_may_name_one_receipt_several_times() -> None:
    queue = QueueDriver()
    queue.send("a", "b", at_s=1)
    a, b = queue.receive(at_s=2, max_messages=2)

    assert queue.delete(a, a, b, a, at_s=3) == [Outcome.DONE] * 4
    assert queue.counts(at_s=3) == (0, 0, 0)
    assert queue.queue.live_bytes == 0


# Purging and counting


def test_a_purge_drops_messages_in_every_state() -> None:
    queue = QueueDriver(visibility_timeout_s=30)
    queue.send("in flight", "visible", at_s=1)
    queue.send("delayed", at_s=1, delay_s=60)
    [got] = queue.receive(at_s=2)
    queue.purge(at_s=3)

    assert queue.counts(at_s=3) == (0, 0, 0)
    assert queue.receive(at_s=1_000) == []
    assert queue.delete(got, at_s=4) == [Outcome.DONE]
    assert queue.queue.live_bytes == 0


def test_messages_sent_after_a_purge_are_other_messages() -> None:
    queue = QueueDriver()
    [before] = queue.send("before", at_s=1)
    queue.purge(at_s=2)

    assert queue.send("after", at_s=2) == [before + 1]
    assert queue.texts(at_s=2) == ["after"]


def test_a_queue_is_purged_once_in_an_interval() -> None:
    queue = QueueDriver()
    queue.purge(at_s=1, interval_s=60)

    with pytest.raises(PurgeQueueInProgress):
        queue.purge(at_s=60.999, interval_s=60)
    queue.purge(at_s=61, interval_s=60)


def test_counts_follow_each_message_through_its_states() -> None:
    queue = QueueDriver(visibility_timeout_s=30)
    queue.send("a", "b", at_s=1)
    queue.send("c", at_s=1, delay_s=10)
    assert queue.counts(at_s=1) == (2, 0, 1)

    [a] = queue.receive(at_s=2)
    assert queue.counts(at_s=2) == (1, 1, 1)
    assert queue.counts(at_s=11) == (2, 1, 0)

    queue.delete(a, at_s=12)
    assert queue.counts(at_s=12) == (2, 0, 0)
