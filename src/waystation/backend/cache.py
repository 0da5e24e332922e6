"""Envelopes in memory, for messages that will be received soon."""

from __future__ import annotations

from collections import OrderedDict


class EnvelopeCache:
    """At most `bytes_max` of envelopes; the one put in first goes first. A miss reads the log."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._envelopes: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._envelopes)

    def put(self, queue: int, sequence: int, envelope: bytes) -> None:
        """Keep an envelope, which is not in the cache yet."""
        self._envelopes[queue, sequence] = envelope
        self._bytes += len(envelope)
        while self._bytes > self._bytes_max:
            _, oldest = self._envelopes.popitem(last=False)
            self._bytes -= len(oldest)

    def take(self, queue: int, sequence: int) -> bytes | None:
        """Remove and return an envelope: received now, it is rarely asked for again."""
        envelope = self._envelopes.pop((queue, sequence), None)
        if envelope is not None:
            self._bytes -= len(envelope)
        return envelope
