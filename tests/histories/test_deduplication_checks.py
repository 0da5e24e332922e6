"""What is sent twice to a FIFO queue is one message for five minutes, and no longer."""

from __future__ import annotations

from math import inf

import pytest

from tests.histories.fifo_checks import deduplicated
from tests.histories.written import FIFO, STANDARD, At, Written, found


def fifo(slack_s: float = 0.0) -> Written:
    return Written({"orders": FIFO}, slack_s=slack_s)


def sent_twice(first: At, second: At, *, slack_s: float = 0.0, unknown: bool = False) -> Written:
    """Under one deduplication id; the second is answered with another message id."""
    history = fifo(slack_s)
    history.send("a", first, deduplication_id="x")
    history.send("a", second, deduplication_id="x", message_id="other", unknown=unknown)
    return history


TWICE = ["a was sent once and is there under 2 ids"]


@pytest.mark.parametrize(("ended_s", "texts"), [(298.9, TWICE), (299, [])])
def test_a_deduplication_id_is_of_one_message_for_five_minutes(ended_s: float, texts: list[str]) -> None:
    assert found(deduplicated, sent_twice((1, 2), (200, ended_s), slack_s=2)) == texts


def test_a_later_send_does_not_excuse_those_within_five_minutes() -> None:
    history = sent_twice((1, 2), (200, 201))
    history.send("a", (400, 401), deduplication_id="x", message_id="third")

    assert found(deduplicated, history) == ["a was sent once and is there under 3 ids"]


@pytest.mark.parametrize(("ended_s", "texts"), [(300.9, TWICE), (inf, [])])
def test_what_is_received_under_another_id_was_taken_twice(ended_s: float, texts: list[str]) -> None:
    history = fifo()
    history.send("a", (1, 2), deduplication_id="x")
    history.send("a", (3, ended_s), deduplication_id="x", unknown=True)
    history.receive("a", (5, 6), message_id="other")

    assert found(deduplicated, history) == texts


def test_a_move_may_have_given_it_another_id() -> None:
    history = fifo()
    history.send("a", (1, 2), deduplication_id="x")
    history.receive("a", (5, 6), message_id="other")
    history.move((3, 4))
    assert found(deduplicated, history) == []

    history.receive("a", (7, 8), message_id="third")

    assert found(deduplicated, history) == ["a was sent once and is there under 3 ids"]


def test_another_deduplication_id_and_another_queue_are_other_messages() -> None:
    history = Written({"orders": FIFO, "others": FIFO, "standard": STANDARD})
    history.send("a", (1, 2), deduplication_id="x")
    history.send("b", (1, 2), deduplication_id="y")
    history.send("c", (1, 2), deduplication_id="x", queue="others")
    history.send("d", (1, 2), queue="orders")
    history.send("e", (1, 2), queue="orders")
    history.send("f", (1, 2), deduplication_id="x", queue="standard")
    history.send("g", (1, 2), deduplication_id="x", queue="standard")

    assert found(deduplicated, history) == []


def test_refused_sends_are_no_messages() -> None:
    history = fifo()
    history.send("a", deduplication_id="x", unknown=True)
    history.send("a", deduplication_id="x", unknown=True)

    assert found(deduplicated, history) == []


@pytest.mark.parametrize(("purge", "texts"), [((0, 0.9), TWICE), ((0, 1), []), ((250, 251), [])])
def test_what_was_purged_may_be_sent_anew(purge: At, texts: list[str]) -> None:
    history = sent_twice((1, 2), (200, 201))
    history.sends.insert(0, history.send("a", deduplication_id="x", unknown=True))
    history.clear(purge)

    assert found(deduplicated, history) == texts


@pytest.mark.parametrize(("began_s", "count"), [(303, 0), (303.1, 1)])
def test_after_five_minutes_it_is_a_new_message(began_s: float, count: int) -> None:
    history = fifo(slack_s=1)
    history.send("a", (1, 2), deduplication_id="x")
    history.send("a", (began_s, 310), deduplication_id="x")

    texts = ["a was sent anew after five minutes and taken for a duplicate"] * count
    assert found(deduplicated, history) == texts


def test_a_repeated_send_does_not_prolong_the_five_minutes() -> None:
    history = fifo()
    for at in (1, 200, 400):
        history.send("a", (at, at + 1), deduplication_id="x")

    assert len(found(deduplicated, history)) == 1


def test_a_send_of_unknown_outcome_does_not_begin_the_five_minutes() -> None:
    """It may not have happened."""
    history = fifo()
    history.send("a", (1, 2), deduplication_id="x", unknown=True)
    history.send("a", (400, 401), deduplication_id="x")
    history.send("a", (402, 403), deduplication_id="x", unknown=True)

    assert found(deduplicated, history) == []
