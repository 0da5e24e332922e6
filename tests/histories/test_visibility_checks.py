"""When messages are received: the smallest history that breaks a promise is found, the nearest is not."""

from __future__ import annotations

from math import inf

import pytest

from tests.histories.checks import cleared, come_back, early, handed_out_twice, overlooked
from tests.histories.history import Act, QueueFacts
from tests.histories.written import FIFO, STANDARD, WITH_LETTERS, Written, change, found

# early


@pytest.mark.parametrize(
    ("ended_s", "texts"), [(5.9, ["a was received 0.100 s before its delay was over"]), (6, [])]
)
@pytest.mark.parametrize(("of_queue_s", "of_message_s"), [(5, 0), (9, 5)])
def test_a_delayed_message_is_not_received_early(
    ended_s: float, texts: list[str], of_queue_s: float, of_message_s: float
) -> None:
    """The delay of the message counts, if it has one of its own."""
    history = Written({"orders": QueueFacts(delay_s=of_queue_s)})
    history.send("a", (1, 2), delay_s=of_message_s)
    history.receive("a", (3, ended_s))

    assert found(early, history) == texts


def test_clocks_may_differ_a_little_about_a_delay() -> None:
    history = Written(slack_s=0.2)
    history.send("a", (1, 2), delay_s=5)
    history.receive("a", (3, 5.9))
    assert found(early, history) == []

    history.receive("a", (3, 5.7))

    assert len(found(early, history)) == 1


def test_the_first_send_of_a_message_counts_for_its_delay() -> None:
    history = Written({"orders": QueueFacts(fifo=True, delay_s=5)})
    history.send("a", (10, 11))
    history.send("a", (1, 2), (20, 21), unknown=True)
    history.receive("a", (3, 6))

    assert found(early, history) == []


def test_nothing_is_received_before_it_was_sent() -> None:
    history = Written()
    history.send("a", (5, 6))
    history.receive("a", (3, 4))

    assert found(early, history) == ["a was received 1.000 s before its delay was over"]


# come back


@pytest.mark.parametrize(
    ("began_s", "texts"), [(8, []), (8.1, ["a was received after its delete had been acknowledged"])]
)
def test_what_was_deleted_does_not_come_back(began_s: float, texts: list[str]) -> None:
    history = Written(slack_s=2)
    history.send("a", (1, 2))
    history.receive("a", (3, 4))
    history.delete("a", (5, 6))
    history.receive("a", (began_s, 9))

    assert found(come_back, history) == texts


def test_what_comes_back_twice_is_told_of_once() -> None:
    history = Written()
    history.delete("a", (5, 6))
    history.receive("a", (7, 8))
    history.receive("a", (9, 10))

    assert len(found(come_back, history)) == 1


@pytest.mark.parametrize("at", [[(5, 6)], []])
def test_a_delete_of_unknown_outcome_promises_nothing(at: list[tuple[float, float]]) -> None:
    history = Written()
    history.receive("a", (3, 4))
    history.delete("a", *at, unknown=True)
    history.receive("a", (7, 8))

    assert found(come_back, history) == []


@pytest.mark.parametrize(("ended_s", "count"), [(31.9, 1), (32, 0)])
def test_a_delete_reaches_a_message_until_it_may_be_set_aside(ended_s: float, count: int) -> None:
    """After its visibility timeout it may be in the dead-letter queue, and the delete has no effect."""
    history = Written(WITH_LETTERS, slack_s=1)
    history.receive("a", (1, 2), timeout_s=1, count=1)
    history.receive("a", (3, 4), timeout_s=30)
    history.delete("a", (5, ended_s))
    history.receive("a", (40, 41), queue="letters")

    assert len(found(come_back, history)) == count


def test_a_delete_is_of_no_use_if_nobody_knows_of_a_receive() -> None:
    history = Written(WITH_LETTERS)
    history.delete("a", (5, 6))
    history.receive("a", (40, 41), queue="letters")

    assert found(come_back, history) == []


@pytest.mark.parametrize(("timeout_s", "count"), [(30, 1), (0, 0)])
def test_a_changed_visibility_says_how_long_a_delete_reaches_it(timeout_s: float, count: int) -> None:
    history = Written(WITH_LETTERS)
    [handed] = history.receive("a", (3, 4), timeout_s=10)
    change(handed, timeout_s, (5, 6))
    history.delete("a", (20, 21))
    history.receive("a", (40, 41), queue="letters")

    assert len(found(come_back, history)) == count


def test_what_was_deleted_as_a_dead_letter_does_not_come_back_in_the_source() -> None:
    history = Written(WITH_LETTERS)
    history.receive("a", (3, 4), queue="letters", timeout_s=0)
    history.delete("a", (5, 6), queue="letters")
    history.receive("a", (40, 41))

    assert len(found(come_back, history)) == 1


# cleared


PURGED = ["a was received after it had been purged"]


@pytest.mark.parametrize(
    ("sent_s", "purge", "received_s", "texts"),
    [
        (2, (2.1, 4), 4.1, PURGED),
        (2, (2, 4), 4.1, []),  # it may have been sent after the purge
        (2, (2.1, 4), 4, []),  # it may have been received before the purge
    ],
)
def test_what_was_there_before_a_purge_is_gone_after_it(
    sent_s: float, purge: tuple[float, float], received_s: float, texts: list[str]
) -> None:
    history = Written()
    history.send("a", (1, sent_s))
    history.clear(purge)
    history.receive("a", (received_s, 9))
    history.receive("a", (received_s, 9))

    assert found(cleared, history) == texts


def test_the_first_of_several_purges_counts() -> None:
    history = Written()
    history.send("a", (1, 2))
    history.clear((0, 1))
    history.clear((10, 20))
    history.clear((3, 4))
    history.receive("a", (5, 6))

    assert found(cleared, history) == PURGED


def test_a_purge_of_unknown_outcome_promises_nothing() -> None:
    history = Written()
    history.send("a", (1, 2))
    history.clear((3, 4), unknown=True)
    history.receive("a", (5, 6))

    assert found(cleared, history) == []


def test_a_send_of_unknown_outcome_may_happen_after_a_purge() -> None:
    history = Written()
    history.send("a", (1, 2), unknown=True, message_id="id-a")
    history.clear((3, 4))
    history.receive("a", (5, 6))

    assert found(cleared, history) == []


def test_a_purge_is_of_one_queue() -> None:
    """Nor is what is in a dead-letter queue as old there as it is."""
    history = Written(WITH_LETTERS)
    history.send("a", (1, 2))
    history.send("b", (1, 2), queue="letters")
    history.clear((3, 4))
    history.clear((3, 4), queue="letters")
    history.receive("ab", (5, 6), queue="letters")

    assert found(cleared, history) == []


# handed out twice


TOO_EARLY = ["receive 2 of a came 0.500 s too early"]


@pytest.mark.parametrize(("ended_s", "texts"), [(32.5, TOO_EARLY), (33, [])])
def test_nobody_gets_what_another_receive_hides(ended_s: float, texts: list[str]) -> None:
    history = Written()
    history.receive("a", (3, 4), timeout_s=30)
    history.receive("a", (20, ended_s))

    assert found(handed_out_twice, history) == texts


def test_clocks_may_differ_a_little_about_a_visibility_timeout() -> None:
    history = Written(slack_s=0.5)
    history.receive("a", (3, 4), timeout_s=30)
    history.receive("a", (20, 32.5))
    assert found(handed_out_twice, history) == []

    history.receive("b", (3, 4), timeout_s=30)
    history.receive("b", (20, 32.4))

    assert found(handed_out_twice, history) == ["receive 2 of b came 0.600 s too early"]


def test_dead_letters_are_hidden_in_their_source() -> None:
    history = Written(WITH_LETTERS)
    history.receive("a", (3, 4), timeout_s=30)
    history.receive("a", (20, 32.5), queue="letters")

    assert found(handed_out_twice, history) == TOO_EARLY


def test_receives_count_whatever_their_order_in_the_history() -> None:
    history = Written()
    history.receive("a", (40, 41), count=2)
    history.receive("a", (3, 4), timeout_s=30, count=1)

    assert found(handed_out_twice, history) == []


@pytest.mark.parametrize(
    ("attempts", "texts"),
    [
        (("x", "x"), []),
        (("x", "y"), ["receive 1 of a was handed out twice"]),
        (("", ""), ["receive 1 of a was handed out twice"]),
    ],
)
def test_only_the_same_attempt_gets_a_receive_again(attempts: tuple[str, str], texts: list[str]) -> None:
    history = Written({"orders": FIFO})
    for attempt in attempts:
        history.receive("a", (3, 4), count=1, attempt_id=attempt)

    assert found(handed_out_twice, history) == texts


def test_an_attempt_hides_its_messages_anew_when_it_is_repeated() -> None:
    history = Written({"orders": FIFO})
    history.receive("a", (3, 4), count=1, attempt_id="x")
    history.receive("a", (13, 14), count=1, attempt_id="x")
    history.receive("a", (35, 42.5), count=2)

    assert found(handed_out_twice, history) == TOO_EARLY


# overlooked


def overlooking(delay_s: float = 0.0, retention_s: float = inf) -> Written:
    """A message that is there from 2 s on, 5 s later surely for everybody."""
    return Written(
        {"orders": QueueFacts(delay_s=delay_s, retention_s=retention_s), "others": STANDARD}, wake_s=5
    )


GOT_NOTHING = ["consumer got nothing while a was in orders, at 7.100"]


@pytest.mark.parametrize(("ended_s", "texts"), [(7, []), (7.1, GOT_NOTHING)])
def test_an_empty_answer_overlooks_what_is_there(ended_s: float, texts: list[str]) -> None:
    history = overlooking()
    history.send("a", (1, 2))
    history.receive("", (6, ended_s))

    assert found(overlooked, history) == texts


@pytest.mark.parametrize(
    ("began_s", "ended_s", "texts"), [(5, 6, []), (7.1, 9, []), (5, 5.9, GOT_NOTHING), (7.2, 9, GOT_NOTHING)]
)
def test_what_was_received_may_be_deleted_by_an_older_receipt_before_the_answer(
    began_s: float, ended_s: float, texts: list[str]
) -> None:
    history = overlooking()
    history.send("a", (1, 2))
    history.receive("", (6, 7.1))
    history.delete("b", (began_s, ended_s))

    assert found(overlooked, history) == texts


def test_who_waits_while_the_server_stops_or_its_disk_is_slow_may_get_nothing() -> None:
    history = overlooking()
    history.send("a", (1, 2))
    history.receive("", (6, 7.1))
    history.pauses.append(Act(7, 8))

    assert found(overlooked, history) == []


def test_one_message_that_is_overlooked_is_enough_to_tell_of() -> None:
    history = overlooking()
    history.send("a", (1, 2))
    history.send("b", (1, 2))
    history.receive("", (6, 7.1))
    history.receive("", (6, 7.1), queue="others")
    history.receive("c", (6, 7.1))

    assert found(overlooked, history) == GOT_NOTHING


def test_without_a_time_to_wake_nothing_is_overlooked() -> None:
    history = Written()
    history.send("a", (1, 2))
    history.receive("", (60, 70))

    assert found(overlooked, history) == []


def test_a_send_of_unknown_outcome_is_not_overlooked() -> None:
    history = overlooking()
    history.send("a", (1, 2), unknown=True)
    history.receive("", (60, 70))

    assert found(overlooked, history) == []


def test_fifo_queues_and_dead_letter_queues_may_have_reasons_to_give_nothing() -> None:
    history = Written({**WITH_LETTERS, "fifo": FIFO}, wake_s=5)
    for queue in ("letters", "fifo"):
        history.send("a", (1, 2), queue=queue)
        history.receive("", (60, 70), queue=queue)

    assert found(overlooked, history) == []


@pytest.mark.parametrize(("of_queue_s", "of_message_s"), [(3, 0), (9, 3)])
@pytest.mark.parametrize(("ended_s", "count"), [(10, 0), (10.1, 1)])
def test_a_delayed_message_is_overlooked_after_its_delay(
    of_queue_s: float, of_message_s: float, ended_s: float, count: int
) -> None:
    history = overlooking(delay_s=of_queue_s)
    history.send("a", (1, 2), delay_s=of_message_s)
    history.receive("", (6, ended_s))

    assert len(found(overlooked, history)) == count


def test_clocks_may_differ_a_little_about_what_is_there() -> None:
    history = Written(wake_s=5, slack_s=0.2)
    history.send("a", (1, 2))
    history.receive("", (6, 7.2))
    assert found(overlooked, history) == []

    history.receive("", (6, 7.3))

    assert len(found(overlooked, history)) == 1


@pytest.mark.parametrize(("timeout_s", "count"), [(1, 0), (2, 1), (0, 1)])
def test_a_receive_may_outlive_what_it_took(timeout_s: float, count: int) -> None:
    history = overlooking()
    history.send("a", (1, 2))
    history.receive("", (10, 12), timeout_s=timeout_s)

    assert len(found(overlooked, history)) == count


@pytest.mark.parametrize(("other_s", "count"), [(12, 0), (12.1, 1)])
@pytest.mark.parametrize("what", ["received", "unanswered", "purged"])
def test_what_another_may_have_taken_is_not_overlooked(other_s: float, count: int, what: str) -> None:
    history = overlooking()
    history.send("a", (1, 2))
    history.receive("", (10, 12))
    if what == "received":
        history.receive("a", (other_s, 14), timeout_s=0)
        history.receive("a", (15, 16))
    elif what == "unanswered":
        history.unanswered_receive((15, 16))
        history.unanswered_receive((other_s, 14))
        history.unanswered_receive((1, 2), queue="others")
    else:
        history.clear((other_s, 14), unknown=True)

    assert len(found(overlooked, history)) == count


@pytest.mark.parametrize(("ended_s", "count"), [(0.9, 1), (1, 0)])
def test_a_purge_that_was_over_before_the_send_took_nothing(ended_s: float, count: int) -> None:
    history = overlooking()
    history.send("a", (1, 2))
    history.clear((0, ended_s))
    history.receive("", (10, 12))

    assert len(found(overlooked, history)) == count


@pytest.mark.parametrize(("ended_s", "count"), [(60.9, 1), (61, 0)])
def test_a_message_that_is_too_old_is_not_overlooked(ended_s: float, count: int) -> None:
    history = overlooking(retention_s=60)
    history.send("a", (1, 2))
    history.receive("", (40, ended_s))

    assert len(found(overlooked, history)) == count


def test_what_is_gone_hides_nothing_that_is_there() -> None:
    history = overlooking()
    history.send("b", (1, 2))
    history.send("a", (3, 4))
    history.receive("b", (8, 9))
    history.receive("", (20, 21))
    history.receive("", (8.5, 9.5))

    assert len(found(overlooked, history)) == 2
