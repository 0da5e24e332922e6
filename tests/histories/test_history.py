"""What a history says of single calls and messages, and how people read it."""

from __future__ import annotations

from math import inf

import pytest

from tests.histories.history import Call, Handed, QueueFacts, Violation, story
from tests.histories.written import FIFO_WITH_LETTERS, WITH_LETTERS, Written, change


def received(timeout_s: float = 30) -> Handed:
    """Received at 1 to 2 s."""
    [handed] = Written().receive("a", (1, 2), timeout_s=timeout_s)
    return handed


def test_a_call_has_begun_when_its_first_act_has() -> None:
    assert Written().send("a", (3, 4), (1, 2)).began_s == 1


def test_what_was_refused_never_begins() -> None:
    assert Written().send("a").began_s == inf


def test_a_message_is_hidden_since_the_beginning_of_its_receive() -> None:
    assert received(timeout_s=30).hidden_until_s(inf) == 31


@pytest.mark.parametrize(
    ("seen_s", "hidden_until_s"),
    [
        (5.9, 31),  # the change may not have happened yet
        (6, 105),
    ],
)
def test_a_longer_timeout_counts_once_it_has_certainly_begun(seen_s: float, hidden_until_s: float) -> None:
    handed = received()
    change(handed, 100, (5, 6))

    assert handed.hidden_until_s(seen_s) == hidden_until_s


def test_a_shorter_timeout_may_count_at_once() -> None:
    handed = received()
    change(handed, 1, (5, 6))

    assert handed.hidden_until_s(5) == 6


def test_a_longer_timeout_of_unknown_outcome_does_not_count() -> None:
    handed = received()
    change(handed, 100, (5, 6), unknown=True)

    assert handed.hidden_until_s(inf) == 31


def test_a_shorter_timeout_of_unknown_outcome_may_count() -> None:
    handed = received()
    change(handed, 1, (5, 6), unknown=True)

    assert handed.hidden_until_s(inf) == 6


def test_a_refused_change_changes_nothing() -> None:
    handed = received()
    change(handed, 1, unknown=True)

    assert handed.hidden_until_s(inf) == 31


@pytest.mark.parametrize(
    ("began_s", "hidden_until_s"),
    [
        (6, 6),  # it may have been the first of the two
        (6.1, 106.1),
    ],
)
def test_of_two_changes_the_one_that_was_surely_later_counts(began_s: float, hidden_until_s: float) -> None:
    handed = received()
    change(handed, 1, (5, 6))
    change(handed, 100, (began_s, 7))

    assert handed.hidden_until_s(inf) == hidden_until_s


def test_the_last_of_several_certain_changes_replaces_the_others() -> None:
    handed = received()
    change(handed, 100, (9, 10))
    change(handed, 1, (5, 6))
    change(handed, 2, (7, 8))

    assert handed.hidden_until_s(inf) == 109


def test_a_change_that_was_tried_again_may_have_happened_the_first_time() -> None:
    handed = received()
    change(handed, 100, (5, inf), (7, 8))

    assert handed.hidden_until_s(inf) == 105


def test_queues_that_get_dead_letters_are_known_by_those_that_send_them() -> None:
    assert Written(WITH_LETTERS).dead_letter_queues == {"letters"}


def test_a_history_says_how_much_it_holds() -> None:
    history = Written()
    history.send("a", (1, 2))
    history.send("b", (1, 2), unknown=True)
    history.receive("ab", (3, 4))
    history.delete("a", (5, 6))
    history.delete("b", (5, 6), unknown=True)
    history.drain("b")

    assert str(history) == (
        "1 of 2 sends acknowledged, 3 messages received, 1 of 2 deletes acknowledged, 1 messages left"
    )


def test_a_violation_reads_as_its_text() -> None:
    assert str(Violation("all is lost", ("a",))) == "all is lost"


def test_a_story_tells_all_that_happened_to_a_message_in_order_of_time() -> None:
    history = Written(FIFO_WITH_LETTERS)
    history.move((11, 12))
    history.clear((9, 10), unknown=True)
    history.send("a", (1, 2), group="red", deduplication_id="x")
    history.send("b", (1, 2))
    [handed] = history.receive("a", (3, 4))
    change(handed, 7, (5, inf), unknown=True)
    history.receive("b", (3, 4))
    history.delete("a", (7, 8))
    history.delete("b", (7, 8))

    assert story(history, {"a"}) == [
        (
            "     1.000 to      2.000 producer: send a to orders group red as id-a"
            " deduplication id x, sequence 1 (acknowledged)"
        ),
        "     3.000 to      4.000 consumer: receive 1 of a from orders as id-a for 30 s (acknowledged)",
        "     5.000 to          ? consumer: change receive 1 of a to 7 s (nobody knows)",
        "     7.000 to      8.000 consumer: delete id-a from orders (acknowledged)",
        "     9.000 to     10.000 operator: clear orders (nobody knows)",
        "    11.000 to     12.000 operator: move the messages of letters (acknowledged)",
    ]


def test_a_story_follows_a_message_of_which_one_side_alone_is_known() -> None:
    """By the id that its sender was told, or the one under which it was received."""
    history = Written()
    history.send("a", (1, 2), delay_s=3)
    history.send("b", (1, 2), unknown=True)
    history.receive("b", (5, 6))
    history.delete("a", (7, 8))
    history.delete("b", (9, 10))

    assert story(history, {"a", "b"}) == [
        "     1.000 to      2.000 producer: send a to orders as id-a delay 3 (acknowledged)",
        "     1.000 to      2.000 producer: send b to orders as ? (nobody knows)",
        "     5.000 to      6.000 consumer: receive 1 of b from orders as id-b for 30 s (acknowledged)",
        "     7.000 to      8.000 consumer: delete id-a from orders (acknowledged)",
        "     9.000 to     10.000 consumer: delete id-b from orders (acknowledged)",
    ]


def test_calls_and_queues_are_simple_until_more_is_said() -> None:
    assert (Call("client", "orders").acts, Call("client", "orders").answer) == ([], None)
    assert QueueFacts().retention_s == inf
