"""For how long nobody was served: the longest times between two answers, to senders and to receivers."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from tests.crash.wires import Wire

KINDS = {"SendMessage": "send", "SendMessageBatch": "send", "ReceiveMessage": "receive"}


@dataclass(frozen=True)
class Outage:
    """What one fault did to one kind of request, in seconds."""

    all_s: float
    """The longest time in which nobody, at no queue, got an answer."""
    shard_s: float
    """The longest time in which nobody got an answer from one shard: of the worst one."""


class Answers:
    """When clients were answered, by kind of request and queue. Written by many threads."""

    def __init__(self) -> None:
        self._times_s: dict[tuple[str, str], list[float]] = defaultdict(list)

    def expect(self, kind: str, queue: str) -> None:
        """There is a client that asks for this."""
        self._times_s[kind, queue]

    def note(self, operation: str, queue: str, at_s: float) -> None:
        """A request had its answer. Other operations than sends and receives do not count."""
        if operation in KINDS:
            self._times_s[KINDS[operation], queue].append(at_s)

    def counts(self) -> dict[tuple[str, str], int]:
        """How many answers each kind had at each queue until now."""
        return {key: len(times_s) for key, times_s in self._times_s.items()}

    def outage(self, kind: str, began_s: float, ended_s: float) -> Outage:
        """The worst between two moments. Each queue is in a shard of its own."""
        by_queue = [sorted(times_s) for (each, _), times_s in self._times_s.items() if each == kind]
        everybody = sorted(at_s for times_s in by_queue for at_s in times_s)
        gaps_s = [longest_gap_s(times_s, began_s, ended_s) for times_s in by_queue]
        return Outage(longest_gap_s(everybody, began_s, ended_s), max(gaps_s, default=0.0))


def longest_gap_s(times_s: Sequence[float], began_s: float, ended_s: float) -> float:
    """The longest time without any of these, in order, between two moments."""
    inner = times_s[bisect_left(times_s, began_s) : bisect_right(times_s, ended_s)]
    return max(after - before for before, after in pairwise([began_s, *inner, ended_s]))


def middle_and_worst(outages: Sequence[Outage], of: Callable[[Outage], float]) -> tuple[float, float]:
    """Median and maximum over rounds; zeros without any."""
    values = [of(outage) for outage in outages]
    return (median(values), max(values)) if values else (0.0, 0.0)


class NotingWire(Wire):
    """Notes when its requests were answered."""

    def __init__(self, wire: Wire, queue: str, answers: Answers) -> None:
        self._wire = wire
        self._queue = queue
        self._answers = answers

    def call(self, operation: str, members: dict[str, Any], sending: Callable[[], None]) -> dict[str, Any]:
        answer = self._wire.call(operation, members, sending)
        if operation != "SendMessageBatch" or answer.get("Successful"):
            self._answers.note(operation, self._queue, time.monotonic())
        return answer

    def close(self) -> None:
        self._wire.close()
