"""Message ids, sequence numbers and receipt handles: derived, not stored.

All follow from where a message is (shard, queue, sequence), so they cost no
memory, and a handle leads to its shard without a look-up. Ids and handles need
a secret of the installation too: neither can be guessed, and a handle cannot be
forged, as it carries a keyed BLAKE2b digest of what it says.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from hashlib import blake2b
from hmac import compare_digest
from struct import Struct

from waystation.metadata.queues import Place, Queue
from waystation.protocol.errors import ReceiptHandleIsInvalid
from waystation.queues.commands import Receipt

_VERSION = 1
_MESSAGE = Struct(">HIQ")
"""Shard, queue, sequence."""
_HANDLE = Struct(">BHIQI")
"""Version, shard, queue, sequence, receive count."""
_PROOF_BYTES = 14
"""112 bits: nobody guesses it, and the handle is a round 44 characters."""
_HANDLE_CHARACTERS = 44
_SEQUENCE_NUMBER_MIN = 10**19
"""Added to a sequence it gives the 20 digits of AWS: comparing them as text compares them as numbers."""
_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The digit of a UUID that says which kind it is, from a random one (RFC 9562, section 4.1)."""


def sequence_number(sequence: int) -> str:
    """What clients of a FIFO queue see of a message's place in it."""
    return str(_SEQUENCE_NUMBER_MIN + sequence)


def _place(queue: Queue, where: tuple[int, int]) -> Place | None:
    for place in queue.places:
        if place == where:
            return place
    return None


class Handles:
    """Makes and reads the ids and handles of one installation.

    Args:
        secret: 32 random bytes; with another secret, all old handles are invalid.
    """

    def __init__(self, secret: bytes) -> None:
        self._ids = blake2b(key=secret, digest_size=16, person=b"message id")
        self._proofs = blake2b(key=secret, digest_size=_PROOF_BYTES, person=b"receipt handle")

    def message_id(self, queue: Queue | Place, sequence: int) -> str:
        """The id of a message: a UUID that looks random (RFC 9562, version 4), for clients parse it."""
        return self.message_id_at(queue.shard, queue.number, sequence)

    def message_id_at(self, shard: int, number: int, sequence: int) -> str:
        """The same, for a queue that is known by its place only."""
        hasher = self._ids.copy()
        hasher.update(_MESSAGE.pack(shard, number, sequence))
        digits = hasher.hexdigest()
        variant = _VARIANTS[digits[16]]
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"

    def receipt_handle(self, queue: Queue | Place, sequence: int, receive_count: int) -> str:
        """The handle that proves one receive of a message: 44 characters of base64, as AWS's are."""
        claim = _HANDLE.pack(_VERSION, queue.shard, queue.number, sequence, receive_count)
        return b2a_base64(claim + self._prove(claim), newline=False).decode()

    def read(self, queue: Queue, handle: str) -> tuple[Place, Receipt]:
        """What a handle proves about a message of this queue, and in which part of it that is.

        Raises:
            ReceiptHandleIsInvalid: it is no handle, not one of ours, or of another queue.
        """
        try:
            data = a2b_base64(handle, strict_mode=True) if len(handle) == _HANDLE_CHARACTERS else b""
        except (Base64Error, ValueError):
            data = b""
        claim, proof = data[: _HANDLE.size], data[_HANDLE.size :]
        if not compare_digest(proof, self._prove(claim)):
            raise ReceiptHandleIsInvalid(handle)
        version, shard, number, sequence, receive_count = _HANDLE.unpack(claim)
        place = _place(queue, (shard, number)) if version == _VERSION else None
        if place is None:
            raise ReceiptHandleIsInvalid(handle)
        return place, Receipt(sequence, receive_count)

    def _prove(self, claim: bytes) -> bytes:
        hasher = self._proofs.copy()
        hasher.update(claim)
        return hasher.digest()
