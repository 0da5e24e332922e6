"""Runs of a backlog's messages: so many of one queue, from one sequence on, in one log record.

`Runs` can be looked at and changed, at 16 bytes a run. A `Block` holds runs that nobody will look
at soon, packed: sequences and records mostly rise by the same few steps, so that a run costs less
than a byte then, and a snapshot takes blocks over as they are.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate, chain
from operator import sub
from typing import NamedTuple

import msgspec

RUN_MESSAGES_MAX = 0xFFFF
"""How many messages a run has takes the low 16 bits beside its record."""
BLOCK_RUNS = 2_048
"""Packed at once, in half a millisecond, during which no client is answered."""
_LEVEL = 1
"""Of zlib. Higher ones take longer, and gain little on what is so regular."""


class Run(NamedTuple):
    """`messages` messages of one queue, from `first_sequence`, in log record `record`."""

    record: int
    first_sequence: int
    messages: int


class Runs:
    """Runs in two arrays, oldest first; those before `start` have been taken away."""

    __slots__ = ("first_sequences", "locations", "start")

    def __init__(self) -> None:
        self.first_sequences = array("Q")
        self.locations = array("Q")
        """Each the record, and in its low 16 bits the messages."""
        self.start = 0

    def __len__(self) -> int:
        return len(self.locations) - self.start

    def __iter__(self) -> Iterator[Run]:
        return (self.run(index) for index in range(self.start, len(self.locations)))

    def run(self, index: int) -> Run:
        """The run at an index of the arrays."""
        location = self.locations[index]
        return Run(location >> 16, self.first_sequences[index], location & RUN_MESSAGES_MAX)

    def pop(self) -> Run:
        """Take the oldest run away."""
        run = self.run(self.start)
        self.start += 1
        if self.start == len(self.locations):
            del self.first_sequences[:]
            del self.locations[:]
            self.start = 0
        return run

    def index(self, sequence: int) -> int | None:
        """Where the run is that a sequence falls in, if any; between two runs, the earlier."""
        index = bisect_right(self.first_sequences, sequence, lo=self.start) - 1
        return index if index >= self.start else None

    def relocate(self, index: int, record: int) -> bool:
        """The run at an index lies in `record` now. False when it did before."""
        location = record << 16 | self.locations[index] & RUN_MESSAGES_MAX
        if location == self.locations[index]:
            return False
        self.locations[index] = location
        return True

    def lowest_record(self) -> int | None:
        """The lowest record that a run lies in; None without runs."""
        return min(self.locations[self.start :]) >> 16 if len(self) else None

    def messages(self) -> int:
        """How many messages all runs have."""
        return sum(location & RUN_MESSAGES_MAX for location in self.locations[self.start :])

    def part(self, first: int, end: int) -> Runs:
        """Some of them, by indexes of the arrays."""
        part = Runs()
        part.first_sequences = self.first_sequences[first:end]
        part.locations = self.locations[first:end]
        return part

    def extend(self, more: Runs) -> None:
        """Add runs that are younger than all that are here."""
        self.first_sequences += more.first_sequences[more.start :]
        self.locations += more.locations[more.start :]

    def to_bytes(self) -> tuple[bytes, bytes]:
        """For a snapshot, where none has been taken away: two arrays of little-endian 64-bit numbers."""
        return self.first_sequences.tobytes(), self.locations.tobytes()

    @classmethod
    def from_bytes(cls, first_sequences: bytes, locations: bytes) -> Runs:
        """What `to_bytes` gave."""
        runs = cls()
        runs.first_sequences.frombytes(first_sequences)
        runs.locations.frombytes(locations)
        return runs


class Block(msgspec.Struct, array_like=True, gc=False):
    """Runs that are packed. A snapshot holds the fields in this order.

    `packed` is, compressed by zlib, by how much each first sequence is above the one before
    it, from 0 on, then the same of the locations, all little-endian signed 64-bit.
    """

    first_sequence: int
    lowest_record: int
    runs: int
    messages: int
    packed: bytes

    @classmethod
    def of(cls, runs: Runs) -> Block:
        """Pack runs, of which none has been taken away."""
        lowest = runs.lowest_record()
        assert lowest is not None, "a block holds at least one run"
        packed = zlib.compress(_steps(runs.first_sequences) + _steps(runs.locations), _LEVEL)
        return cls(runs.first_sequences[0], lowest, len(runs), runs.messages(), packed)

    def unpack(self) -> Runs:
        """The runs, to be looked at."""
        steps = array("q")
        steps.frombytes(zlib.decompress(self.packed))
        runs = Runs()
        runs.first_sequences.extend(accumulate(steps[: self.runs]))
        runs.locations.extend(accumulate(steps[self.runs :]))
        return runs


def _steps(numbers: array[int]) -> bytes:
    return array("q", map(sub, numbers, chain((0,), numbers))).tobytes()
