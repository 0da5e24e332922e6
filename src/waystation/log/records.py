"""The format of one log record, the same in every storage engine.

    offset  bytes  field
    0       2      magic "WR"
    2       1      format version, 1
    3       1      reserved, 0
    4       4      length of the payload, little-endian as all numbers
    8       8      position in the log
    16      16     checksum of the record before it, zeros for the first
    32      n      payload
    32 + n  16     checksum: BLAKE2b-128 of all bytes before it

Each record carries the checksum of the one before it, so that a reader of
successive records notices one that is missing, doubled or from another log.
A reader refuses what it cannot verify; nothing unverified is ever served.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

from waystation.log.errors import LogDamaged

CHECKSUM_BYTES = 16
NO_CHECKSUM = bytes(CHECKSUM_BYTES)
"""What the first record of a log carries as the checksum before it."""

_MAGIC = b"WR"
_VERSION = 1
_HEADER = Struct("<2sBBIQ16s")
_OVERHEAD = _HEADER.size + CHECKSUM_BYTES


class Record(NamedTuple):
    """A verified record: its place, its contents, and the checksums that chain it."""

    position: int
    payload: bytes
    checksum: bytes
    previous: bytes


def encode_record(position: int, previous: bytes, payload: bytes) -> tuple[bytes, bytes]:
    """The record's bytes, and its checksum. `previous` is the checksum of the record before."""
    head = _HEADER.pack(_MAGIC, _VERSION, 0, len(payload), position, previous)
    checksum = digest(head, payload)
    return b"".join((head, payload, checksum)), checksum


def decode_record(position: int, data: bytes) -> Record:
    """The verified record found at a position.

    Raises:
        LogDamaged: it is not a record, not this one, not of a known version, or
            its checksum does not match its bytes.
    """
    if len(data) < _OVERHEAD:
        raise LogDamaged(f"record {position} is cut short: {len(data)} bytes")
    magic, version, _, length, found, previous = _HEADER.unpack_from(data)
    checksum = data[-CHECKSUM_BYTES:]
    if digest(data[:-CHECKSUM_BYTES]) != checksum:
        raise LogDamaged(f"record {position} does not match its checksum")
    if magic != _MAGIC or length != len(data) - _OVERHEAD:
        raise LogDamaged(f"record {position} is not a record")
    if version != _VERSION:
        raise LogDamaged(f"record {position} has format version {version}; this program reads {_VERSION}")
    if found != position:
        raise LogDamaged(f"record {position} says that it is record {found}")
    return Record(position, data[_HEADER.size : -CHECKSUM_BYTES], checksum, previous)


def digest(*parts: bytes) -> bytes:
    """The 16-byte checksum that records and snapshots carry."""
    hasher = blake2b(digest_size=CHECKSUM_BYTES)
    for part in parts:
        hasher.update(part)
    return hasher.digest()


class Chain:
    """Checks that records follow each other without a hole, from a known one on."""

    def __init__(self, position: int, checksum: bytes | None) -> None:
        """Begin after the record at `position`; a checksum of None trusts the first link."""
        self._position = position
        self._checksum = checksum

    def check(self, record: Record) -> Record:
        """Return the record if it is the next. Raises `LogDamaged` otherwise."""
        if record.position != self._position + 1:
            raise LogDamaged(f"records {self._position + 1} to {record.position - 1} are missing")
        if self._checksum is not None and record.previous != self._checksum:
            raise LogDamaged(f"record {record.position} does not follow the record before it")
        self._position, self._checksum = record.position, record.checksum
        return record
