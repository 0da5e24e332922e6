"""What clients saw of a server that was killed again and again, and what they must not have seen.

All times are in seconds of this process's monotonic clock, taken before a request and after its
answer: the server did its part somewhere in between. So only what is wrong wherever in between it
happened counts as wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

CLOCK_SLACK_S = 0.02
"""The server counts in whole milliseconds of another clock, which may be adjusted a little."""


@dataclass(frozen=True)
class Change:
    """One change of the visibility timeout of a received message; `known` when it was acknowledged."""

    began_s: float
    ended_s: float
    timeout_s: float
    known: bool


@dataclass
class Receive:
    """One message of one receive."""

    message_id: str
    body: str
    count: int
    """The server's own count of the receives of this message."""
    began_s: float
    ended_s: float
    timeout_s: float
    changes: list[Change] = field(default_factory=list)
    """By its handle, in the order made: each began after the one before had ended."""

    def hidden_until_s(self, seen_s: float) -> float:
        """The earliest time at which it may be visible again, to a receive that began at `seen_s`."""
        candidates = [self.began_s + self.timeout_s]
        for change in self.changes:
            until_s = change.began_s + change.timeout_s
            # One that was acknowledged before has replaced the others; any other may have or not.
            candidates = [until_s] if change.known and change.ended_s <= seen_s else [*candidates, until_s]
        return min(candidates)


@dataclass(frozen=True)
class Delete:
    message_id: str
    ended_s: float
    known: bool


@dataclass
class History:
    """Appended to by many threads, read when they are through."""

    sent: dict[str, str] = field(default_factory=dict)
    """Message ids of acknowledged sends, by body."""
    maybe_sent: set[str] = field(default_factory=set)
    """Bodies of sends whose outcome nobody knows."""
    receives: list[Receive] = field(default_factory=list)
    deletes: list[Delete] = field(default_factory=list)
    drained: set[str] = field(default_factory=set)
    """Message ids of what was still there at the end."""

    @property
    def work_done(self) -> int:
        """Messages of acknowledged sends and receives: rises while the server serves."""
        return len(self.sent) + len(self.receives)

    def __str__(self) -> str:
        known = sum(delete.known for delete in self.deletes)
        came = {receive.body for receive in self.receives}
        return (
            f"{len(self.sent)} sends acknowledged and {len(self.maybe_sent)} unknown, of which "
            f"{len(self.maybe_sent & came)} came; {len(self.receives)} messages received; {known} deletes "
            f"acknowledged and {len(self.deletes) - known} unknown; {len(self.drained)} left"
        )

    def violations(self) -> list[str]:
        """Every broken promise, in words; none in a right server."""
        return [
            *self._lost(),
            *self._strange(),
            *self._come_back(),
            *self._received_twice(),
        ]

    def _lost(self) -> Iterator[str]:
        came = {receive.message_id for receive in self.receives}
        maybe_deleted = {delete.message_id for delete in self.deletes}
        for body, message_id in self.sent.items():
            if message_id not in came:
                yield f"{body} was acknowledged and never received"
            elif message_id not in maybe_deleted and message_id not in self.drained:
                yield f"{body} was acknowledged, not deleted, and is gone"

    def _strange(self) -> Iterator[str]:
        for receive in self.receives:
            if receive.body not in self.sent and receive.body not in self.maybe_sent:
                yield f"{receive.body} was received and never sent"
            elif self.sent.get(receive.body, receive.message_id) != receive.message_id:
                yield f"{receive.body} was received under another message id than it was sent"
        for body, ids in Counter(self.sent.values()).items():
            if ids > 1:
                yield f"{body} is the id of {ids} messages"

    def _come_back(self) -> Iterator[str]:
        deleted_s: dict[str, float] = {}
        for delete in self.deletes:
            if delete.known:
                earlier_s = deleted_s.get(delete.message_id, delete.ended_s)
                deleted_s[delete.message_id] = min(earlier_s, delete.ended_s)
        for receive in self.receives:
            if receive.began_s > deleted_s.get(receive.message_id, float("inf")):
                yield f"{receive.body} was received after its delete had been acknowledged"

    def _received_twice(self) -> Iterator[str]:
        by_message: dict[str, list[Receive]] = defaultdict(list)
        for receive in self.receives:
            by_message[receive.message_id].append(receive)
        for receives in by_message.values():
            for first, second in pairwise(sorted(receives, key=lambda receive: receive.count)):
                if first.count == second.count:
                    yield f"receive {first.count} of {first.body} was handed out twice"
                elif second.ended_s + CLOCK_SLACK_S < first.hidden_until_s(second.began_s):
                    early_s = first.hidden_until_s(second.began_s) - second.ended_s
                    yield f"receive {second.count} of {second.body} came {early_s:.3f} s too early"
