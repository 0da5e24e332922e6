"""Where messages are: the smallest history that breaks a promise is found, the nearest right one is not."""

from __future__ import annotations

from math import inf

import pytest

from tests.histories.checks import Index, as_sent, in_one_place, lost, strange, too_often
from tests.histories.history import QueueFacts
from tests.histories.written import FIFO, STANDARD, WITH_LETTERS, Written, found

NEVER_RECEIVED = ["a was acknowledged and never received"]
GONE = ["a was acknowledged received, not deleted, and is gone"]


# lost


def test_a_message_that_was_acknowledged_and_never_came_is_lost() -> None:
    history = Written()
    history.send("a", (1, 2))

    [violation] = lost(Index(history))

    assert (violation.text, violation.bodies) == (NEVER_RECEIVED[0], ("a",))


def test_a_message_that_was_received_and_is_not_there_at_the_end_is_lost() -> None:
    history = Written()
    history.send("a", (1, 2))
    history.receive("a", (3, 4))

    assert found(lost, history) == GONE


@pytest.mark.parametrize("at", [[(1, 2)], []])
def test_a_send_that_was_not_acknowledged_may_be_lost(at: list[tuple[float, float]]) -> None:
    history = Written()
    history.send("a", *at, unknown=True)

    assert found(lost, history) == []


def test_what_is_found_at_the_end_is_not_lost() -> None:
    history = Written()
    history.send("a", (1, 2))
    history.drain("a")

    assert found(lost, history) == []


@pytest.mark.parametrize("unknown", [False, True])
def test_what_a_client_may_have_deleted_is_not_lost(unknown: bool) -> None:
    history = Written()
    history.send("a", (1, 2))
    history.receive("a", (3, 4))
    history.delete("a", (5, 6), unknown=unknown)

    assert found(lost, history) == []


def test_a_refused_delete_deletes_nothing() -> None:
    history = Written()
    history.send("a", (1, 2))
    history.receive("a", (3, 4))
    history.delete("a", unknown=True)

    assert found(lost, history) == GONE


@pytest.mark.parametrize(("ended_s", "texts"), [(6.9, GONE), (7, []), (inf, [])])
def test_a_delete_of_unknown_outcome_that_was_over_before_a_receive_deleted_nothing(
    ended_s: float, texts: list[str]
) -> None:
    history = Written()
    history.send("a", (1, 2))
    history.receive("a", (3, 4), timeout_s=0)
    history.delete("a", (5, ended_s), unknown=True)
    history.receive("a", (7, 8))

    assert found(lost, history) == texts


@pytest.mark.parametrize(("at", "texts"), [((0, 0.9), NEVER_RECEIVED), ((0, 1), []), ((3, 4), [])])
@pytest.mark.parametrize("unknown", [False, True])
def test_what_may_have_been_purged_is_not_lost(
    at: tuple[float, float], texts: list[str], unknown: bool
) -> None:
    history = Written()
    history.send("a", (1, 2))
    history.clear(at, unknown=unknown)

    assert found(lost, history) == texts


@pytest.mark.parametrize(("received_s", "texts"), [(6, []), (6.1, GONE)])
def test_what_was_received_after_a_purge_has_survived_it(received_s: float, texts: list[str]) -> None:
    history = Written()
    history.send("a", (1, 2))
    history.clear((3, 6), unknown=True)
    history.receive("a", (received_s, 7))

    assert found(lost, history) == texts


def test_a_purge_of_another_queue_takes_nothing() -> None:
    history = Written({"orders": STANDARD, "others": STANDARD})
    history.send("a", (1, 2))
    history.clear((3, 4), queue="others")

    assert found(lost, history) == NEVER_RECEIVED


def test_a_purge_of_the_dead_letter_queue_may_have_taken_it() -> None:
    history = Written(WITH_LETTERS)
    history.send("a", (1, 2))
    history.clear((3, 4), queue="letters")

    assert found(lost, history) == []


def test_a_purge_of_the_source_takes_no_message_that_was_sent_to_the_dead_letter_queue() -> None:
    history = Written(WITH_LETTERS)
    history.send("a", (1, 2), queue="letters")
    history.clear((3, 4))

    assert found(lost, history) == NEVER_RECEIVED


def test_a_dead_letter_that_is_not_there_at_the_end_is_lost() -> None:
    history = Written(WITH_LETTERS)
    history.send("a", (1, 2))
    history.clear((3, 4), unknown=True)
    history.receive("a", (5, 6), queue="letters")

    assert found(lost, history) == GONE


@pytest.mark.parametrize(("fifo", "texts"), [(True, []), (False, NEVER_RECEIVED)])
def test_a_send_that_is_repeated_after_a_purge_tells_of_the_message_that_was_purged(
    fifo: bool, texts: list[str]
) -> None:
    """On FIFO queues; on standard queues it is a message of its own."""
    history = Written({"orders": FIFO if fifo else STANDARD})
    history.send("a", (1, 2), (5, 6), deduplication_id="1")
    history.clear((3, 4))

    assert found(lost, history) == texts


def test_the_same_goes_for_another_client_that_repeats_the_send() -> None:
    history = Written({"orders": FIFO})
    history.send("a", (1, 2), unknown=True)
    history.receive("a", (3, 4))
    history.delete("a", (5, 6))
    history.send("a", (7, 8))

    assert found(lost, history) == []


def test_a_queue_that_forgets_old_messages_loses_nothing() -> None:
    history = Written({"orders": QueueFacts(retention_s=60)})
    history.send("a", (1, 2))

    assert found(lost, history) == []


@pytest.mark.parametrize("end", ["left", "deleted"])
def test_what_was_moved_has_another_id(end: str) -> None:
    history = Written(WITH_LETTERS)
    history.send("a", (1, 2))
    history.receive("a", (3, 4), message_id="new")
    if end == "left":
        history.drain("a", message_id="new")
    else:
        history.delete("a", (5, 6), message_id="new")
    assert found(lost, history) == NEVER_RECEIVED

    history.move((2, 3))

    assert found(lost, history) == []


def test_what_was_moved_and_is_gone_is_lost() -> None:
    history = Written(WITH_LETTERS)
    history.send("a", (1, 2))
    history.move((2, 3))
    history.receive("a", (3, 4), message_id="new")

    assert found(lost, history) == NEVER_RECEIVED


def test_a_move_of_another_queue_gives_no_new_id() -> None:
    history = Written({**WITH_LETTERS, "others": STANDARD})
    history.send("a", (1, 2), queue="others")
    history.move((2, 3))
    history.drain("a", message_id="new", queue="others")

    assert found(lost, history) == NEVER_RECEIVED


# strange


def test_what_was_received_and_never_sent_is_strange() -> None:
    history = Written()
    history.receive("a", (3, 4))

    [violation] = strange(Index(history))

    assert (violation.text, violation.bodies) == ("a was received and never sent", ("a",))


def test_a_send_that_is_tried_again_may_make_one_message_more() -> None:
    history = Written()
    history.send("a", (1, 2), (3, 4))
    history.receive("a", (5, 6), message_id="other")
    assert found(strange, history) == []

    history.receive("a", (7, 8), message_id="third")

    assert found(strange, history) == ["a was sent 2 times and is there under 3 ids"]


def test_a_refused_send_makes_no_message() -> None:
    history = Written()
    history.send("a", unknown=True)
    history.receive("a", (3, 4))

    assert found(strange, history) == ["a was sent 0 times and is there under 1 ids"]


def test_a_move_may_give_one_id_more() -> None:
    history = Written(WITH_LETTERS)
    history.send("a", (1, 2))
    history.receive("a", (5, 6), message_id="other")
    assert found(strange, history) == ["a was sent 1 times and is there under 2 ids"]

    history.move((3, 4))

    assert found(strange, history) == []


def test_an_id_is_of_one_message() -> None:
    history = Written()
    history.send("a", (1, 2))
    history.send("b", (1, 2))
    assert found(strange, history) == []

    history.receive("b", (3, 4), message_id="id-a")
    history.sends[-1].answer = None

    [violation] = strange(Index(history))
    assert (violation.text, violation.bodies) == ("id-a is the id of 2 messages", ("a", "b"))


# as sent


def test_a_message_comes_from_its_queue_or_the_dead_letter_queue() -> None:
    history = Written({**WITH_LETTERS, "others": STANDARD})
    history.send("a", (1, 2))
    history.receive("a", (3, 4))
    history.receive("a", (5, 6), queue="letters")
    assert found(as_sent, history) == []

    history.receive("a", (7, 8), queue="others")

    assert found(as_sent, history) == ["a was received from others, where nobody sent it"]


def test_a_move_may_have_brought_it_elsewhere() -> None:
    history = Written({**WITH_LETTERS, "others": STANDARD})
    history.send("a", (1, 2))
    history.move((3, 4))
    history.receive("a", (7, 8), queue="others", message_id="new")

    assert found(as_sent, history) == []


def test_a_message_keeps_its_group() -> None:
    history = Written({"orders": FIFO})
    history.send("a", (1, 2), group="red")
    history.receive("a", (3, 4))
    assert found(as_sent, history) == []

    history.receive("a", (5, 6), group="blue")

    assert found(as_sent, history) == ["a was received as one of group blue"]


def test_a_message_keeps_the_sequence_number_that_its_sender_was_told() -> None:
    history = Written({"orders": FIFO})
    history.send("a", (1, 2))
    history.receive("a", (3, 4))
    history.receive("a", (5, 6), message_id="other", sequence=7)
    assert found(as_sent, history) == []

    history.receive("a", (5, 6), sequence=7)

    assert found(as_sent, history) == ["a was received with another sequence number"]


# too often


def test_what_was_received_too_often_was_not_set_aside() -> None:
    history = Written(WITH_LETTERS)
    history.send("a", (1, 2))
    history.receive("a", (3, 4))
    history.receive("a", (5, 6))
    history.receive("a", (7, 8), queue="letters")
    assert found(too_often, history) == []

    history.receive("a", (7, 8), count=3)

    assert found(too_often, history) == ["a was not set aside after 2 receives"]


def test_without_a_dead_letter_queue_nothing_is_received_too_often() -> None:
    history = Written()
    history.receive("a", (3, 4), count=1000)

    assert found(too_often, history) == []


# in one place


def test_a_message_is_in_one_place_when_all_is_drained() -> None:
    history = Written(WITH_LETTERS)
    history.drain("ab")
    assert found(in_one_place, history) == []

    history.drain("a", queue="letters")

    assert found(in_one_place, history) == ["a was there twice when all was drained"]


@pytest.mark.parametrize("counted", [1, 3])
def test_queues_count_what_they_hold(counted: int) -> None:
    history = Written()
    history.drain("ab")
    history.counted = 2
    assert found(in_one_place, history) == []

    history.counted = counted

    assert found(in_one_place, history) == [f"the queues counted {counted} messages, and 2 were there"]
