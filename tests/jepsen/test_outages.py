"""How the times without an answer are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.crash.wires import Unknown, Wire
from tests.jepsen.outages import Answers, NotingWire, Outage, longest_gap_s, middle_and_worst


@pytest.mark.parametrize(
    ("times_s", "gap_s"),
    [
        ([], 10),
        ([11, 13, 18], 5),
        ([5, 25], 10),
        ([5, 12, 30], 8),
        ([19], 9),
    ],
)
def test_a_gap_counts_as_far_as_it_lies_between_the_two_moments(times_s: list[float], gap_s: float) -> None:
    assert longest_gap_s(times_s, 10, 20) == gap_s


def test_a_shard_without_answers_shows_though_others_answer_all_the_time() -> None:
    answers = Answers()
    answers.expect("send", "silent")
    for at_s in range(10, 21):
        answers.note("SendMessage", "orders", at_s)
    answers.note("SendMessageBatch", "silent", 17)
    answers.note("DeleteMessage", "silent", 12)

    assert answers.outage("send", 10, 20) == Outage(all_s=1, shard_s=7)
    assert answers.outage("receive", 10, 20) == Outage(all_s=10, shard_s=0)


def test_median_and_worst_are_over_the_rounds() -> None:
    outages = [Outage(1, 2), Outage(3, 9), Outage(2, 4)]

    assert middle_and_worst(outages, lambda outage: outage.shard_s) == (4, 9)
    assert middle_and_worst([], lambda outage: outage.all_s) == (0, 0)


class _Answering(Wire):
    """Gives the answers that it was built with; raises those that are errors."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self._answers = list(answers)

    def call(self, operation: str, members: dict[str, Any], sending: Callable[[], None]) -> dict[str, Any]:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """There is nothing to hang up."""


def test_only_what_was_served_is_noted() -> None:
    answers = Answers()
    wire = NotingWire(
        _Answering({}, Unknown(), {"Failed": [{}]}, {"Successful": [{}], "Failed": [{}]}), "orders", answers
    )

    wire.call("ReceiveMessage", {}, lambda: None)
    with pytest.raises(Unknown):
        wire.call("SendMessage", {}, lambda: None)
    wire.call("SendMessageBatch", {}, lambda: None)
    wire.call("SendMessageBatch", {}, lambda: None)

    assert answers.counts() == {("receive", "orders"): 1, ("send", "orders"): 1}
