"""When the messages of a queue were sent lately: a sequence for a time, 16 bytes for each millisecond."""

from __future__ import annotations

from array import array
from bisect import bisect_left

_TRIM_AT = 4_096
"""Forgotten times at the front before their memory is given back."""


class SendTimes:
    """Times, and the first sequence sent at each."""

    __slots__ = ("_first_sequences", "_start", "_times_ms")

    def __init__(self) -> None:
        self._times_ms = array("q")
        self._first_sequences = array("Q")
        self._start = 0

    def note(self, at_ms: int, first_sequence: int, forget_before_ms: int) -> None:
        """Messages were sent. What was sent before `forget_before_ms` will not be asked for."""
        times = self._times_ms
        if len(times) == self._start or times[-1] < at_ms:
            times.append(at_ms)
            self._first_sequences.append(first_sequence)
        while times[self._start] < forget_before_ms:
            self._start += 1
        if self._start >= _TRIM_AT and self._start * 2 >= len(times):
            del times[: self._start]
            del self._first_sequences[: self._start]
            self._start = 0

    def first_since(self, at_ms: int) -> int | None:
        """The first sequence that was sent at a time or later; None when none was."""
        index = bisect_left(self._times_ms, at_ms, lo=self._start)
        return self._first_sequences[index] if index < len(self._times_ms) else None

    def to_bytes(self) -> tuple[bytes, bytes]:
        """For a snapshot: times and sequences, little-endian 64-bit."""
        return self._times_ms[self._start :].tobytes(), self._first_sequences[self._start :].tobytes()

    @classmethod
    def from_bytes(cls, times_ms: bytes, first_sequences: bytes) -> SendTimes:
        """What `to_bytes` gave."""
        found = cls()
        found._times_ms.frombytes(times_ms)
        found._first_sequences.frombytes(first_sequences)
        return found
