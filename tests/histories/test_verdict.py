"""All checks of a history, and the report of what they found."""

from __future__ import annotations

import pytest

from tests.histories.history import Violation
from tests.histories.verdict import report, violations
from tests.histories.written import FIFO, Written, change


def test_a_right_history_breaks_no_promise() -> None:
    history = Written({"orders": FIFO})
    history.send("a", (1, 2), group="red", deduplication_id="x")
    history.receive("a", (3, 4))
    history.delete("a", (5, 6))
    history.counted = 0

    assert violations(history) == []


def test_a_violation_says_which_check_found_it() -> None:
    """Those of every queue, and those of FIFO queues."""
    history = Written({"orders": FIFO})
    history.batch("ab", (1, 2), group="red")
    history.receive("b", (3, 4))

    assert [(violation.check, violation.bodies) for violation in violations(history)] == [
        ("lost", ("a",)),
        ("lost", ("b",)),
        ("in_order", ("b", "a")),
    ]


def test_a_report_tells_the_stories_of_a_few_violations_of_each_check() -> None:
    history = Written()
    for body in "abc":
        history.send(body, (1, 2))
    found = [*violations(history), Violation("the run hangs")]

    assert report(
        history, found, also=["     1.500               ---- the server is killed"]
    ).splitlines() == [
        f"4 violations; {history}",
        "",
        "a was acknowledged and never received",
        "       1.000 to      2.000 producer: send a to orders as id-a (acknowledged)",
        "       1.500               ---- the server is killed",
        "",
        "b was acknowledged and never received",
        "       1.000 to      2.000 producer: send b to orders as id-b (acknowledged)",
        "       1.500               ---- the server is killed",
        "",
        "the run hangs",
        "       1.500               ---- the server is killed",
        "",
        "3 by lost",
        "1 by the run",
    ]


@pytest.mark.parametrize("given_back", [False, True])
def test_many_messages_of_few_groups_are_judged_in_time(given_back: bool) -> None:
    """The time grows little faster than their number: a check that compares all with all would not end."""
    history = Written({"orders": FIFO}, slack_s=0.01)
    groups = ("red", "green", "blue")
    for number in range(20_000):
        body = f"body-{number}"
        history.send(body, (number, number + 0.1), group=groups[number % 3], deduplication_id=body)
        if given_back:
            [handed] = history.receive([body], (number + 0.2, number + 0.3), timeout_s=43_200)
            change(handed, 0, (number + 0.3, number + 0.4))
        history.receive([body], (number + 0.5, number + 0.6), timeout_s=43_200)
        history.delete(body, (number + 0.7, number + 0.8))

    assert violations(history) == []


def test_many_empty_answers_are_judged_in_time() -> None:
    history = Written(wake_s=0.2)
    for number in range(20_000):
        body = f"body-{number}"
        history.receive([], (number, number + 0.1))
        history.send(body, (number + 0.2, number + 0.3))
        history.receive([body], (number + 0.4, number + 0.5))
        history.delete(body, (number + 0.6, number + 0.7))

    assert violations(history) == []
