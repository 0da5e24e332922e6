"""What clients asked of a server and were told, in a form in which promises can be checked.

All times are seconds of one clock. A request is an `Act`: what the server may have done once, at some
moment between two. A call that is tried again is one call of several acts. Whoever writes a history
down has to make each act's interval wide enough: a simulation knows when a request reached the server
and when the answer left it; a client of a real server knows when it began to send, and when it had the
answer or the connection broke. An act that may still happen has not ended: its end is `inf`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any


@dataclass(slots=True, eq=False)
class Act:
    """One request that the server may have carried out, at one moment between these two."""

    began_s: float
    ended_s: float = inf


@dataclass(slots=True, eq=False)
class Call:
    """What a client wanted, and how it ended.

    `acts` are those that may have happened: not one that was refused, or that nobody can have heard.
    `answer` is the act that was acknowledged, if the client was told so.
    """

    client: str
    queue: str
    acts: list[Act] = field(default_factory=list)
    answer: Act | None = None

    @property
    def began_s(self) -> float:
        """Before this, it has surely not happened; `inf` if it never has."""
        return min((act.began_s for act in self.acts), default=inf)


@dataclass(slots=True, eq=False)
class Send(Call):
    """One message. Its body is never sent again, except under the same deduplication id."""

    body: str = ""
    group: str = ""
    deduplication_id: str = ""
    delay_s: float = 0.0
    message_id: str = ""
    sequence: int = 0
    """On FIFO queues, the sequence number that the answer gave."""


@dataclass(slots=True, eq=False)
class Receive(Call):
    """One receive, and the messages of the answer, in its order."""

    timeout_s: float = 0.0
    attempt_id: str = ""
    """All receives of one attempt id have the same timeout."""
    messages: list[Handed] = field(default_factory=list)

    def may_have_taken_more(self) -> bool:
        """Whether it may have hidden messages for a time which nobody was told of.

        An act whose answer was lost may. And one that took longer than its visibility timeout: what it
        took was visible again before it could be answered.
        """
        if self.answer is None or len(self.acts) > 1:
            return True
        return self.answer.ended_s - self.answer.began_s > self.timeout_s > 0


@dataclass(slots=True, eq=False)
class Handed:
    """One message of one receive."""

    receive: Receive
    message_id: str
    body: str
    count: int
    """`ApproximateReceiveCount`."""
    group: str = ""
    sequence: int = 0
    changes: list[Change] = field(default_factory=list)
    """All that was asked for with its receipt handle."""

    @property
    def act(self) -> Act:
        """That by which it was handed out."""
        assert self.receive.answer is not None, "what was handed out was answered"
        return self.receive.answer

    def hidden_until_s(self, seen_s: float) -> float:
        """The earliest time at which it may be visible again, to somebody who looked at `seen_s`."""
        if not self.changes:
            return self.act.began_s + self.receive.timeout_s
        settings = [(self.act, self.receive.timeout_s, True)]
        for change in self.changes:
            settings += [(act, change.timeout_s, act is change.answer) for act in change.acts]
        begins = (act.began_s for act, _, certain in settings if certain and act.ended_s <= seen_s)
        replaced_s = max(begins, default=-inf)
        # What had ended before another certainly began has been replaced by it.
        return min(act.began_s + timeout_s for act, timeout_s, _ in settings if act.ended_s >= replaced_s)


@dataclass(slots=True, eq=False)
class Change(Call):
    """A change of the visibility timeout."""

    timeout_s: float = 0.0


@dataclass(slots=True, eq=False)
class Delete(Call):
    message_id: str = ""


@dataclass(slots=True, eq=False)
class Clear(Call):
    """A purge, or the deletion of the queue: what was in it may be gone."""


@dataclass(slots=True, eq=False)
class Move(Call):
    """A task that moves the messages of `queue` elsewhere, where each gets another id."""


@dataclass(frozen=True, kw_only=True)
class QueueFacts:
    """What was set when a queue was created, and never changed."""

    fifo: bool = False
    dead_letters_to: str = ""
    receive_count_max: int = 0
    delay_s: float = 0.0
    retention_s: float = inf


@dataclass
class History:
    """Appended to while clients run, read when they are through."""

    queues: dict[str, QueueFacts]
    slack_s: float = 0.0
    """How much the server's clock and that of the history may differ in rate and rounding."""
    wake_s: float = inf
    """Within what time a receive that waits hears of a message; `inf` if nobody wants to say."""
    sends: list[Send] = field(default_factory=list)
    receives: list[Receive] = field(default_factory=list)
    """Those that have an answer."""
    unanswered: list[Receive] = field(default_factory=list)
    """Those that may have taken messages which nobody has seen."""
    deletes: list[Delete] = field(default_factory=list)
    clears: list[Clear] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    pauses: list[Act] = field(default_factory=list)
    """When a server was stopped in an orderly way, and answered all who waited with nothing; or its disk was
    slow, and who waited was not served while something else was written."""
    left: list[Handed] = field(default_factory=list)
    """What was found when everything was drained, each of it deleted at once."""
    counted: int | None = None
    """What the queues said they held, all together, just before they were drained."""

    def handed(self) -> Iterator[Handed]:
        """Every message of every receive, those of the drain included."""
        for receive in self.receives:
            yield from receive.messages

    @property
    def dead_letter_queues(self) -> set[str]:
        """Names of queues that get what others set aside."""
        return {facts.dead_letters_to for facts in self.queues.values() if facts.dead_letters_to}

    def __str__(self) -> str:
        acknowledged = sum(send.answer is not None for send in self.sends)
        deleted = sum(delete.answer is not None for delete in self.deletes)
        return (
            f"{acknowledged} of {len(self.sends)} sends acknowledged, "
            f"{sum(len(receive.messages) for receive in self.receives)} messages received, "
            f"{deleted} of {len(self.deletes)} deletes acknowledged, {len(self.left)} messages left"
        )


@dataclass(frozen=True)
class Violation:
    """A broken promise, in words, and the messages that it is about, by their bodies."""

    text: str
    bodies: tuple[str, ...] = ()
    check: str = ""
    """The name of the check that found it."""

    def __str__(self) -> str:
        return self.text


def story(history: History, bodies: set[str]) -> list[str]:
    """All that happened to some messages, and to whole queues, in order of time: to be read by people."""
    ids = {handed.message_id for handed in history.handed() if handed.body in bodies}
    lines: list[tuple[float, str]] = []

    def tell(call: Call, text: str) -> None:
        for act in call.acts:
            end = "?" if act.ended_s == inf else f"{act.ended_s:.3f}"
            heard = "acknowledged" if act is call.answer else "nobody knows"
            lines.append((act.began_s, f"{act.began_s:10.3f} to {end:>10} {call.client}: {text} ({heard})"))

    for send in history.sends:
        if send.body in bodies:
            where = f"{send.queue}{' group ' + send.group if send.group else ''}"
            tell(send, f"send {send.body} to {where} as {send.message_id or '?'} {_facts(send)}".rstrip())
            ids.add(send.message_id)
    for handed in history.handed():
        if handed.body in bodies:
            said = f"receive {handed.count} of {handed.body} from {handed.receive.queue}"
            tell(handed.receive, f"{said} as {handed.message_id} for {handed.receive.timeout_s:g} s")
            for change in handed.changes:
                tell(change, f"change receive {handed.count} of {handed.body} to {change.timeout_s:g} s")
    for delete in history.deletes:
        if delete.message_id in ids:
            tell(delete, f"delete {delete.message_id} from {delete.queue}")
    for clear in history.clears:
        tell(clear, f"clear {clear.queue}")
    for move in history.moves:
        tell(move, f"move the messages of {move.queue}")
    return [line for _, line in sorted(lines)]


def _facts(send: Send) -> str:
    facts: dict[str, Any] = {
        "delay": send.delay_s,
        "deduplication id": send.deduplication_id,
        "sequence": send.sequence,
    }
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value)
