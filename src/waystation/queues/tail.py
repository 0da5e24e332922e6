"""The part of a backlog that is only remembered, not held: 16 bytes a run.

A run says "from `first_sequence` on, so many messages of this queue lie in log
record `record`". Its messages are neither delayed nor ever received, and run
after run, sequences rise. What they contain stays in the log until consumers
come near. One message alone in its record costs 16 bytes; a busy shard has
many messages in a record, and then a message costs far less.

Records need not rise from run to run: relocation writes old messages again in
a new record and only changes where a run points.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from math import inf
from typing import NamedTuple

RUN_MESSAGES_MAX = 0xFFFF
"""How many messages a run has takes the low 16 bits beside its record."""

_TRIM_AT = 4_096
"""Runs consumed at the front before their memory is given back, so that taking one is cheap."""


class Run(NamedTuple):
    """`messages` messages of one queue, from `first_sequence`, in log record `record`."""

    record: int
    first_sequence: int
    messages: int


class Tail:
    """The runs of one queue, oldest first."""

    __slots__ = ("_first_sequences", "_locations", "_start", "messages")

    def __init__(self) -> None:
        self._first_sequences = array("Q")
        self._locations = array("Q")
        self._start = 0
        self.messages = 0

    def __len__(self) -> int:
        return len(self._locations) - self._start

    def __iter__(self) -> Iterator[Run]:
        return (self._run(index) for index in range(self._start, len(self._locations)))

    def _run(self, index: int) -> Run:
        location = self._locations[index]
        return Run(location >> 16, self._first_sequences[index], location & RUN_MESSAGES_MAX)

    def append(self, record: int, sequence: int) -> None:
        """Add the newest message. It joins the last run when that is of the same record."""
        self.messages += 1
        if len(self._locations) > self._start:
            last = self._locations[-1]
            if last >> 16 == record and last & RUN_MESSAGES_MAX < RUN_MESSAGES_MAX:
                self._locations[-1] = last + 1
                return
        self._locations.append(record << 16 | 1)
        self._first_sequences.append(sequence)

    def front(self, messages: int) -> list[Run]:
        """The oldest runs that together hold at least `messages` messages, or all there are."""
        runs: list[Run] = []
        for run in self:
            if messages <= 0:
                break
            runs.append(run)
            messages -= run.messages
        return runs

    def second_sequence(self) -> float:
        """Where the oldest run ends: the first sequence of the run after it, infinite without one."""
        second = self._start + 1
        return self._first_sequences[second] if second < len(self._locations) else inf

    def pop(self) -> Run:
        """Take the oldest run away."""
        run = self._run(self._start)
        self.messages -= run.messages
        self._start += 1
        if self._start >= _TRIM_AT and self._start * 2 >= len(self._locations):
            del self._locations[: self._start]
            del self._first_sequences[: self._start]
            self._start = 0
        return run

    def find(self, sequence: int) -> Run | None:
        """The run that `sequence` falls in, if any; between two runs, the earlier."""
        index = self._index(sequence)
        return None if index is None else self._run(index)

    def relocate(self, sequence: int, record: int) -> None:
        """The run that `sequence` falls in lies in `record` now."""
        index = self._index(sequence)
        if index is not None:
            self._locations[index] = record << 16 | self._locations[index] & RUN_MESSAGES_MAX

    def _index(self, sequence: int) -> int | None:
        index = bisect_right(self._first_sequences, sequence, lo=self._start) - 1
        return index if index >= self._start else None

    def oldest_record(self) -> int | None:
        """The lowest record that a run lies in."""
        if not len(self):
            return None
        return min(self._locations[self._start :]) >> 16

    def to_bytes(self) -> tuple[bytes, bytes]:
        """For a snapshot: first sequences and locations, little-endian 64-bit."""
        return self._first_sequences[self._start :].tobytes(), self._locations[self._start :].tobytes()

    @classmethod
    def from_bytes(cls, first_sequences: bytes, locations: bytes) -> Tail:
        """What `to_bytes` gave."""
        tail = cls()
        tail._first_sequences.frombytes(first_sequences)
        tail._locations.frombytes(locations)
        tail.messages = sum(location & RUN_MESSAGES_MAX for location in tail._locations)
        return tail
