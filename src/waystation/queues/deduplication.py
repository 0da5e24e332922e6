"""Which deduplication ids a FIFO queue has seen lately: some 150 bytes for each.

Ids are known by digests of 16 bytes. How long ago one was seen is known by the sequence
of its message, so that no time is kept for each.
"""

from __future__ import annotations

from array import array

_DIGEST_BYTES = 16
_FORGET_AT = 1_024
"""Sequences passed before their digests are looked for, so that forgetting one is cheap."""


class Deduplication:
    """Digests, and the sequence of the message that first had each, in order of sequences."""

    __slots__ = ("_forgotten", "_sequences")

    def __init__(self) -> None:
        self._sequences: dict[bytes, int] = {}
        self._forgotten = 0

    def __len__(self) -> int:
        return len(self._sequences)

    def find(self, digest: bytes, oldest: int) -> int | None:
        """The sequence of a digest, if it is `oldest` or younger."""
        sequence = self._sequences.get(digest)
        return sequence if sequence is not None and sequence >= oldest else None

    def add(self, digest: bytes, sequence: int) -> None:
        """A message with this digest was sent; one without any has an empty digest."""
        if digest:
            self._sequences.pop(digest, None)  # so that it stands at the end
            self._sequences[digest] = sequence

    def forget(self, oldest: int) -> None:
        """Forget sequences below `oldest`, once they are so many that it is worth it."""
        if oldest - self._forgotten < max(_FORGET_AT, len(self._sequences) // 8):
            return
        self._forgotten = oldest
        dead: list[bytes] = []
        for digest, sequence in self._sequences.items():
            if sequence >= oldest:
                break
            dead.append(digest)
        for digest in dead:
            del self._sequences[digest]

    def to_bytes(self) -> tuple[bytes, bytes]:
        """For a snapshot: digests, and sequences as little-endian 64-bit."""
        return b"".join(self._sequences), array("Q", self._sequences.values()).tobytes()

    @classmethod
    def from_bytes(cls, digests: bytes, sequences: bytes) -> Deduplication:
        """What `to_bytes` gave."""
        found = cls()
        numbers = array("Q")
        numbers.frombytes(sequences)
        starts = range(0, len(digests), _DIGEST_BYTES)
        found._sequences = {
            digests[start : start + _DIGEST_BYTES]: number
            for start, number in zip(starts, numbers, strict=True)
        }
        return found
