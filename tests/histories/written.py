"""Histories that are written by hand, to see what the checks say of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import inf
from typing import Any

from tests.histories.checks import Check, Index
from tests.histories.history import (
    Act,
    Change,
    Clear,
    Delete,
    Handed,
    History,
    Move,
    QueueFacts,
    Receive,
    Send,
)

At = tuple[float, float]
"""When an act began and ended."""
STANDARD, FIFO = QueueFacts(), QueueFacts(fifo=True)
WITH_LETTERS = {"orders": QueueFacts(dead_letters_to="letters", receive_count_max=2), "letters": STANDARD}
FIFO_WITH_LETTERS = {
    "orders": QueueFacts(fifo=True, dead_letters_to="letters", receive_count_max=2),
    "letters": FIFO,
}


def found(check: Check, history: History) -> list[str]:
    """What a check says."""
    return [violation.text for violation in check(Index(history))]


class Written(History):
    """Calls are written down with the times of their acts, of which the last was answered.

    With `unknown=True` none was; without times, what was asked for was refused, and has not happened.
    A body `a` has the id `id-a`. The first body that is sent has the sequence number 1 on a FIFO queue,
    and so on. Receives of a message are counted.
    """

    def __init__(
        self, queues: dict[str, QueueFacts] | None = None, *, slack_s: float = 0.0, wake_s: float = inf
    ) -> None:
        super().__init__(queues or {"orders": STANDARD}, slack_s=slack_s, wake_s=wake_s)
        self.numbers: dict[str, int] = {}
        self.groups: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def send(self, body: str, *at: At, unknown: bool = False, queue: str = "orders", **facts: Any) -> Send:
        acts, answer = _acts(at, unknown)
        send = Send("producer", queue, acts, answer, body=body)
        number = self.numbers.setdefault(body, len(self.numbers) + 1)
        if answer is not None:
            send.message_id = f"id-{body}"
            send.sequence = number if self.queues[queue].fifo else 0
        _set(send, facts)
        self.groups.setdefault(body, send.group)
        self.sends.append(send)
        return send

    def batch(self, bodies: str, at: At, **facts: Any) -> None:
        """Sends of a batch share their acts."""
        act = Act(*at)
        for body in bodies:
            send = self.send(body, **facts)
            send.acts, send.answer = [act], act
            send.message_id = f"id-{body}"
            send.sequence = self.numbers[body]

    def receive(
        self,
        bodies: Sequence[str],
        *at: At,
        timeout_s: float = 30,
        queue: str = "orders",
        attempt_id: str = "",
        **facts: Any,
    ) -> list[Handed]:
        """Receive messages: bodies of one letter can be written as a word."""
        acts, answer = _acts(at, unknown=False)
        receive = Receive("consumer", queue, acts, answer, timeout_s, attempt_id)
        for body in bodies:
            self.counts[body] += 1
            handed = Handed(receive, f"id-{body}", body, self.counts[body], self.groups.get(body, ""))
            handed.sequence = self.numbers.get(body, 0) if self.queues[queue].fifo else 0
            _set(handed, facts)
            receive.messages.append(handed)
        self.receives.append(receive)
        return receive.messages

    def unanswered_receive(self, *at: At, queue: str = "orders") -> None:
        self.unanswered.append(Receive("consumer", queue, _acts(at, unknown=True)[0]))

    def delete(self, body: str, *at: At, unknown: bool = False, queue: str = "orders", **facts: Any) -> None:
        delete = Delete("consumer", queue, *_acts(at, unknown), message_id=f"id-{body}")
        _set(delete, facts)
        self.deletes.append(delete)

    def clear(self, *at: At, unknown: bool = False, queue: str = "orders") -> None:
        self.clears.append(Clear("operator", queue, *_acts(at, unknown)))

    def move(self, *at: At, queue: str = "letters") -> None:
        self.moves.append(Move("operator", queue, *_acts(at, unknown=False)))

    def drain(self, bodies: str, *at: At, **facts: Any) -> None:
        """Receive and delete what is left."""
        for body in bodies:
            [handed] = self.receive(body, *(at or [(1000, 1001)]), **facts)
            self.left.append(handed)


def change(handed: Handed, timeout_s: float, *at: At, unknown: bool = False) -> None:
    """Change the visibility timeout of what was received."""
    acts, answer = _acts(at, unknown)
    handed.changes.append(Change("consumer", handed.receive.queue, acts, answer, timeout_s))


def _acts(at: tuple[At, ...], unknown: bool) -> tuple[list[Act], Act | None]:
    acts = [Act(began_s, ended_s) for began_s, ended_s in at]
    return acts, acts[-1] if acts and not unknown else None


def _set(call: object, facts: dict[str, Any]) -> None:
    for name, value in facts.items():
        assert hasattr(call, name), name
        setattr(call, name, value)
