"""The judge of the crash test is itself judged: it finds what is wrong, and nothing else."""

from __future__ import annotations

import pytest

from tests.crash.history import Change, Delete, History, Receive


def receive(count: int, began_s: float, timeout_s: float = 10, changes: tuple[Change, ...] = ()) -> Receive:
    """One that took a second."""
    return Receive("id", "body", count, began_s, began_s + 1, timeout_s, list(changes))


def history(*receives: Receive, deletes: tuple[Delete, ...] = (), drained: bool = False) -> History:
    left = {"id"} if drained else set()
    return History({"body": "id"}, set(), list(receives), list(deletes), left)


def change(began_s: float, timeout_s: float, *, known: bool = True) -> Change:
    return Change(began_s, began_s + 1, timeout_s, known)


DONE = (Delete("id", 50, known=True),)


@pytest.mark.parametrize(
    "right",
    [
        history(receive(1, 0), deletes=DONE),
        history(receive(1, 0), drained=True),
        history(receive(1, 0), deletes=(Delete("id", 50, known=False),)),
        history(receive(1, 0), receive(2, 9), deletes=DONE),
        history(receive(1, 49), deletes=DONE),
        history(receive(1, 0, changes=(change(2, 0),)), receive(2, 3), deletes=DONE),
        history(receive(1, 0, changes=(change(2, 0, known=False),)), receive(2, 4), deletes=DONE),
        history(receive(1, 0, changes=(change(2, 60, known=False),)), receive(2, 12), deletes=DONE),
        History({}, {"body"}, [receive(1, 0)], [], set()),
        History({}, {"body"}, [], [], set()),
    ],
)
def test_a_right_history_breaks_no_promise(right: History) -> None:
    assert right.violations() == []


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (history(), "body was acknowledged and never received"),
        (history(receive(1, 0)), "body was acknowledged, not deleted, and is gone"),
        (history(receive(1, 0), receive(2, 51), deletes=DONE), "received after its delete"),
        (history(receive(1, 0), receive(2, 8), deletes=DONE), "receive 2 of body came 1.000 s too early"),
        (history(receive(1, 0), receive(1, 20), deletes=DONE), "receive 1 of body was handed out twice"),
        (
            history(receive(1, 0, changes=(change(2, 30),)), receive(2, 15), deletes=DONE),
            "receive 2 of body came 16.000 s too early",
        ),
        (
            history(receive(1, 0, changes=(change(2, 0), change(4, 30))), receive(2, 15), deletes=DONE),
            "too early",
        ),
        (History({}, set(), [receive(1, 0)], [], set()), "body was received and never sent"),
        (History({"body": "x"}, set(), [receive(1, 0)], list(DONE), set()), "under another message id"),
        (History({"a": "id", "b": "id"}, {"body"}, [receive(1, 0)], list(DONE), set()), "id of 2 messages"),
    ],
)
def test_a_wrong_history_is_found_out(wrong: History, found: str) -> None:
    assert found in "; ".join(wrong.violations())
