"""Each promise of FIFO queues: the smallest history that breaks it is found, the nearest right one is not."""

from __future__ import annotations

from math import inf

import pytest

from tests.histories.fifo_checks import blocked_by_those_before, in_order, numbered_as_sent
from tests.histories.history import QueueFacts
from tests.histories.written import FIFO, FIFO_WITH_LETTERS, STANDARD, At, Written, change, found


def fifo(slack_s: float = 0.0, retention_s: float = inf) -> Written:
    return Written({"orders": QueueFacts(fifo=True, retention_s=retention_s)}, slack_s=slack_s)


def two_sent(history: Written) -> Written:
    """Two messages of one group, and one of another."""
    history.send("a", (1, 1.1), group="red")
    history.send("b", (1.2, 1.3), group="red")
    history.send("z", (1.2, 1.3), group="blue")
    return history


# numbered as sent


@pytest.mark.parametrize(("began_s", "count"), [(2, 0), (2.1, 1)])
def test_who_sends_after_another_gets_a_higher_number(began_s: float, count: int) -> None:
    history = fifo()
    history.send("a", (1, 2), deduplication_id="a", sequence=5)
    history.send("b", (began_s, 3), deduplication_id="b", sequence=4)

    assert found(numbered_as_sent, history) == (
        ["b was sent after a and has a lower sequence number"] * count
    )


def test_the_highest_number_before_a_send_counts() -> None:
    history = fifo()
    history.send("d", (7, 8), deduplication_id="d", sequence=8)
    history.send("a", (1, 2), deduplication_id="a", sequence=5)
    history.send("b", (1, 3), deduplication_id="b", sequence=9)
    history.send("c", (1, 4), deduplication_id="c", sequence=7)

    assert found(numbered_as_sent, history) == ["d was sent after b and has a lower sequence number"]


def test_numbers_of_standard_queues_and_of_two_queues_are_not_compared() -> None:
    history = Written({"one": FIFO, "two": FIFO, "standard": STANDARD})
    history.send("a", (1, 2), queue="one", sequence=5)
    history.send("b", (3, 4), queue="two", sequence=4)
    history.send("c", (1, 2), queue="standard", sequence=5)
    history.send("d", (3, 4), queue="standard", sequence=4)

    assert found(numbered_as_sent, history) == []


def test_a_send_that_repeats_another_has_the_number_of_the_first() -> None:
    history = fifo()
    history.send("b", (3, 4), deduplication_id="b")
    history.send("a", (1, 2), deduplication_id="a", sequence=0)
    history.send("a", (5, 6), deduplication_id="a", sequence=0)
    for send in history.sends:
        send.sequence = {"a": 1, "b": 2}[send.body]

    assert found(numbered_as_sent, history) == []


def test_an_id_that_is_used_anew_has_a_new_number() -> None:
    history = fifo()
    history.send("a", (1, 2), deduplication_id="a", sequence=1)
    history.send("b", (3, 4), deduplication_id="b", sequence=3)
    history.send("a", (500, 501), deduplication_id="a", sequence=2, message_id="other")

    assert found(numbered_as_sent, history) == ["a was sent after b and has a lower sequence number"]


def test_an_earlier_send_of_unknown_outcome_may_have_got_the_number() -> None:
    history = fifo()
    history.send("b", (1, 2), deduplication_id="b", unknown=True)
    history.send("a", (3, 4), deduplication_id="a", sequence=2)
    history.send("b", (5, 6), deduplication_id="b", sequence=1)

    assert found(numbered_as_sent, history) == []


def test_a_number_is_of_one_message() -> None:
    history = fifo()
    history.send("a", (1, 2), deduplication_id="a", sequence=1)
    history.send("a", (1, 2), deduplication_id="a", sequence=1)
    history.send("c", (1, 2), deduplication_id="c", unknown=True)
    history.send("d", (1, 2), deduplication_id="d", unknown=True)
    assert found(numbered_as_sent, history) == []

    history.send("b", (1, 2), deduplication_id="b", sequence=1)

    assert found(numbered_as_sent, history) == ["b has the sequence number of another message"]


def test_the_entries_of_a_batch_are_numbered_in_their_order() -> None:
    history = fifo()
    history.batch("abc", (1, 2))
    assert found(numbered_as_sent, history) == []

    history.sends[1].sequence, history.sends[2].sequence = 3, 2

    assert found(numbered_as_sent, history) == ["c came after b in a batch and has a lower sequence number"]


@pytest.mark.parametrize("repeated", ["a", "b"])
def test_somebody_else_may_have_sent_an_entry_of_a_batch_before(repeated: str) -> None:
    history = fifo()
    history.batch("ab", (1, 2))
    for send, number in zip(history.sends, (2, 1), strict=True):
        send.deduplication_id, send.sequence = send.body, number
    assert len(found(numbered_as_sent, history)) == 1

    history.send(repeated, (1, 1.5), deduplication_id=repeated)
    history.sends[-1].sequence = {"a": 2, "b": 1}[repeated]

    assert found(numbered_as_sent, history) == []


# in order


BEFORE = ["b was received before a, which was sent first"]


def test_nobody_gets_a_message_while_one_before_it_is_there() -> None:
    history = two_sent(fifo())
    history.receive("b", (3, 4))

    assert found(in_order, history) == BEFORE


def test_messages_of_a_group_come_together_in_their_order() -> None:
    history = two_sent(fifo())
    history.receive("azb", (3, 4))
    assert found(in_order, history) == []

    history.receive("ba", (5, 6))

    assert found(in_order, history) == ["messages of group red came in a wrong order"]


def test_one_message_that_was_passed_by_is_enough_to_tell_of() -> None:
    history = fifo()
    history.batch("abcde", (1, 2), group="red")
    history.receive("acd", (3, 4))
    history.receive("acde", (3, 3.5))

    assert found(in_order, history) == [
        "e was received before b, which was sent first",
        "d was received before b, which was sent first",
    ]


def test_another_group_and_another_queue_do_not_matter() -> None:
    history = two_sent(Written({"orders": FIFO, "others": FIFO, "standard": STANDARD}))
    history.send("c", (1, 2), queue="others", group="red")
    history.receive("z", (3, 4))
    history.receive("c", (3, 4), queue="others")
    history.send("d", (1, 2), queue="standard", group="red", sequence=8)
    history.send("e", (1, 2), queue="standard", group="red", sequence=9)
    history.receive("e", (3, 4), queue="standard", sequence=9)

    assert found(in_order, history) == []


def test_a_message_that_was_sent_later_may_wait() -> None:
    history = two_sent(fifo())
    history.receive("a", (3, 4))

    assert found(in_order, history) == []


def test_a_send_of_unknown_outcome_is_in_order_once_it_was_received() -> None:
    history = fifo()
    history.send("a", (1, 2), unknown=True, group="red")
    history.send("b", (3, 4), group="red")
    history.receive("b", (5, 6))
    assert found(in_order, history) == []

    history.receive("a", (7, 8))

    assert found(in_order, history) == BEFORE


@pytest.mark.parametrize(("began_s", "count"), [(5, 0), (5.1, 1)])
@pytest.mark.parametrize("how", ["deleted", "unknown", "purged"])
def test_what_may_be_gone_keeps_nothing_back(began_s: float, count: int, how: str) -> None:
    history = two_sent(fifo(slack_s=1))
    history.receive("b", (3, 4))
    if how == "purged":
        history.clear((began_s, 9))
    else:
        history.delete("a", (began_s, 9), unknown=how == "unknown")

    assert len(found(in_order, history)) == count


@pytest.mark.parametrize(("purge", "count"), [((0, 0.9), 1), ((0, 1), 0)])
def test_a_purge_that_was_over_before_the_send_took_nothing(purge: At, count: int) -> None:
    history = two_sent(fifo())
    history.clear(purge)
    history.receive("b", (3, 4))

    assert len(found(in_order, history)) == count


@pytest.mark.parametrize(("seen_s", "count"), [(4.9, 0), (5, 0), (5.1, 1)])
def test_what_is_received_later_was_still_there(seen_s: float, count: int) -> None:
    """Whatever became of the delete, and the purge, of which nobody knows."""
    history = two_sent(fifo(slack_s=1))
    history.delete("a", (2, 3), unknown=True)
    history.clear((2, 3), unknown=True)
    history.delete("a", (2, inf), unknown=True)
    history.receive("b", (3, 4))
    history.receive("a", (seen_s, 9))

    assert len(found(in_order, history)) == count


@pytest.mark.parametrize(("ended_s", "count"), [(60.9, 1), (61, 0)])
def test_what_may_be_too_old_keeps_nothing_back(ended_s: float, count: int) -> None:
    history = two_sent(fifo(retention_s=60))
    history.send("a", (0.5, 0.6), unknown=True, group="red")
    history.sends[-1].acts[0].began_s = 1
    history.receive("b", (30, ended_s))

    assert len(found(in_order, history)) == count


@pytest.mark.parametrize("how", ["seen there", "moved away", "cleared there", "expired there"])
def test_a_message_that_was_set_aside_keeps_nothing_back(how: str) -> None:
    history = two_sent(Written(FIFO_WITH_LETTERS))
    history.receive("b", (3, 4))
    assert found(in_order, history) == BEFORE

    if how == "seen there":
        history.receive("a", (7, 8), queue="letters")
    elif how == "moved away":
        history.move((7, 8))
    elif how == "expired there":
        history.queues = {**history.queues, "letters": QueueFacts(fifo=True, retention_s=60)}
    else:
        history.clear((7, 8), queue="letters", unknown=True)

    assert found(in_order, history) == []


def test_a_message_was_not_set_aside_before_its_last_receive() -> None:
    history = two_sent(Written(FIFO_WITH_LETTERS))
    history.receive("b", (3, 4))
    history.receive("a", (5, 6))
    history.receive("a", (7, 8), queue="letters")

    assert found(in_order, history) == BEFORE


def test_dead_letters_of_another_queue_do_not_matter() -> None:
    history = two_sent(Written({**FIFO_WITH_LETTERS, "others": FIFO}))
    history.move((2, 3), queue="others")
    history.clear((2, 3), queue="others")
    history.receive("b", (3, 4))

    assert found(in_order, history) == BEFORE


def test_dead_letters_are_as_old_as_they_came() -> None:
    history = two_sent(Written(FIFO_WITH_LETTERS))
    history.receive("a", (7, 8), queue="letters")
    history.receive("b", (3, 4), queue="letters")

    assert found(in_order, history) == []


# blocked by those before


BLOCKED = ["b of group red was received while a was in flight"]


@pytest.mark.parametrize(("ended_s", "texts"), [(31.9, BLOCKED), (32, [])])
def test_a_message_in_flight_blocks_those_after_it(ended_s: float, texts: list[str]) -> None:
    history = two_sent(fifo(slack_s=1))
    history.receive("a", (3, 4), timeout_s=30)
    history.receive("b", (20, ended_s))

    assert found(blocked_by_those_before, history) == texts


def test_a_message_in_flight_does_not_block_those_before_it() -> None:
    history = two_sent(fifo())
    history.receive("b", (3, 4))
    history.receive("a", (5, 6))

    assert found(blocked_by_those_before, history) == []


def test_a_message_does_not_block_itself_nor_other_groups_nor_other_queues() -> None:
    history = two_sent(Written({"orders": FIFO, "others": FIFO, "standard": STANDARD}))
    history.receive("a", (3, 4))
    history.receive("a", (5, 6))
    history.receive("z", (5, 6))
    history.receive("b", (5, 6), queue="others")
    history.receive("a", (5, 6), queue="standard", sequence=1)
    history.receive("b", (5, 6), queue="standard", sequence=2)

    assert found(blocked_by_those_before, history) == []


def test_any_message_of_a_receive_blocks_and_any_is_blocked() -> None:
    history = fifo()
    history.batch("abc", (1, 2), group="red")
    [first, _] = history.receive("ac", (3, 4))
    change(first, 0, (5, 6))
    assert found(blocked_by_those_before, history) == []
    history.receive("b", (7, 8))
    assert found(blocked_by_those_before, history) == []

    history.batch("d", (1, 2), group="red")
    history.receive("bd", (9, 10))

    assert found(blocked_by_those_before, history) == [
        "d of group red was received while a was in flight",
        "d of group red was received while b was in flight",
    ]


@pytest.mark.parametrize(
    ("at", "count"), [((5, 9), 0), ((8, 9), 0), ((8.1, 9), 1), ((2, 2.9), 1), ((2, 3), 0)]
)
@pytest.mark.parametrize("how", ["deleted", "unknown", "purged"])
def test_what_may_be_gone_blocks_nothing(at: At, count: int, how: str) -> None:
    """What was over before the receive has not taken it, and what begins after the next is too late."""
    history = two_sent(fifo())
    history.receive("a", (3, 4))
    history.receive("b", (7, 8))
    if how == "purged":
        history.clear(at)
    else:
        history.delete("a", at, unknown=how == "unknown")

    assert len(found(blocked_by_those_before, history)) == count


@pytest.mark.parametrize(("ended_s", "count"), [(60.9, 1), (61, 0)])
def test_what_may_be_too_old_blocks_nothing(ended_s: float, count: int) -> None:
    history = two_sent(fifo(retention_s=60))
    history.receive("a", (3, 4), timeout_s=100)
    history.receive("b", (30, ended_s))

    assert len(found(blocked_by_those_before, history)) == count


@pytest.mark.parametrize(
    ("timeout_s", "unknown", "count"), [(0, False, 0), (0, True, 0), (100, False, 1), (100, True, 0)]
)
def test_what_was_given_back_blocks_nothing(timeout_s: float, unknown: bool, count: int) -> None:
    history = two_sent(fifo())
    [handed] = history.receive("a", (3, 4), timeout_s=10)
    change(handed, timeout_s, (5, 6), unknown=unknown)
    history.receive("b", (20, 21))

    assert len(found(blocked_by_those_before, history)) == count


def test_a_longer_timeout_counts_as_soon_as_it_is_certain() -> None:
    """Also for one who looked in between, when it was not."""
    history = two_sent(fifo())
    [handed] = history.receive("a", (3, 4), timeout_s=10)
    change(handed, 100, (5, 40))
    history.receive("b", (20, 21))
    assert found(blocked_by_those_before, history) == []

    history.receive("b", (41, 42))

    assert found(blocked_by_those_before, history) == BLOCKED


@pytest.mark.parametrize(("attempts", "count"), [(("x", "x"), 0), (("x", "y"), 1), (("", ""), 1)])
def test_an_attempt_does_not_block_itself(attempts: tuple[str, str], count: int) -> None:
    history = two_sent(fifo())
    history.receive("a", (3, 4), attempt_id=attempts[0])
    history.receive("ab", (5, 6), attempt_id=attempts[1])

    assert len(found(blocked_by_those_before, history)) == count


@pytest.mark.parametrize(("ended_s", "count"), [(4.9, 1), (5, 0)])
def test_of_two_receives_at_the_same_time_the_blocked_one_may_have_been_first(
    ended_s: float, count: int
) -> None:
    history = two_sent(fifo())
    history.receive("b", (5, 6))
    history.receive("a", (4, ended_s))

    assert len(found(blocked_by_those_before, history)) == count


def test_two_receives_that_block_each_other_are_wrong_in_any_order() -> None:
    history = fifo()
    history.batch("abcd", (1, 2), group="red")
    history.receive("ad", (3, 6))
    history.receive("bc", (3, 6))
    history.receive("bd", (4, 6), message_id="other")

    assert "c of group red was received while a was in flight" in found(blocked_by_those_before, history)
