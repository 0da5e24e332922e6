"""A record that is not exactly what was written is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.log.errors import LogDamaged
from waystation.log.records import NO_CHECKSUM, Chain, Record, decode_record, digest, encode_record

positions = st.integers(1, 2**63 - 1)
checksums = st.binary(min_size=16, max_size=16)
payloads = st.binary(max_size=300)


def resealed(data: bytes) -> bytes:
    """The record with a checksum that fits it again."""
    return data[:-16] + digest(data[:-16])


@given(positions, checksums, payloads)
def test_a_record_is_read_back_as_it_was_written(position: int, previous: bytes, payload: bytes) -> None:
    data, checksum = encode_record(position, previous, payload)

    assert decode_record(position, data) == Record(position, payload, checksum, previous)
    assert len(data) == 48 + len(payload)


@given(positions, checksums, payloads, st.data())
def test_every_changed_byte_is_noticed(
    position: int, previous: bytes, payload: bytes, data: st.DataObject
) -> None:
    written, _ = encode_record(position, previous, payload)
    at = data.draw(st.integers(0, len(written) - 1))
    damaged = bytearray(written)
    damaged[at] ^= data.draw(st.integers(1, 255))

    with pytest.raises(LogDamaged, match=f"record {position} "):
        decode_record(position, bytes(damaged))


@given(payloads, st.data())
def test_a_record_that_is_cut_short_is_noticed(payload: bytes, data: st.DataObject) -> None:
    written, _ = encode_record(7, NO_CHECKSUM, payload)
    length = data.draw(st.integers(0, len(written) - 1))

    with pytest.raises(LogDamaged, match="record 7 "):
        decode_record(7, written[:length])
    with pytest.raises(LogDamaged, match="record 7 "):
        decode_record(7, written + b"\0")


def test_a_record_found_in_another_place_is_refused() -> None:
    data, _ = encode_record(7, NO_CHECKSUM, b"hello")

    with pytest.raises(LogDamaged, match="record 8 says that it is record 7"):
        decode_record(8, data)


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [(0, b"XX", "is not a record"), (2, b"\2", "has format version 2"), (4, b"\7", "is not a record")],
)
def test_a_record_with_a_right_checksum_over_wrong_fields_is_refused(
    offset: int, value: bytes, reason: str
) -> None:
    data, _ = encode_record(7, NO_CHECKSUM, b"hello")
    changed = data[:offset] + value + data[offset + len(value) :]

    with pytest.raises(LogDamaged, match=f"record 7 {reason}"):
        decode_record(7, resealed(changed))


def test_the_format_of_a_record_does_not_change_by_accident() -> None:
    """Logs on disks out there look like this; another layout needs another version."""
    data, checksum = encode_record(0x0102, b"p" * 16, b"hello")

    head = b"WR\1\0" + struct.pack("<IQ", 5, 0x0102) + b"p" * 16
    assert data == head + b"hello" + checksum
    assert checksum.hex() == "20a3bb8fdc8f1d2ff8588126773347ad"


def chained(*payloads: bytes) -> list[Record]:
    """Records that follow each other from position 1."""
    records: list[Record] = []
    previous = NO_CHECKSUM
    for position, payload in enumerate(payloads, 1):
        data, previous = encode_record(position, previous, payload)
        records.append(decode_record(position, data))
    return records


def test_a_chain_accepts_what_follows_from_where_it_begins() -> None:
    one, two, three = chained(b"one", b"two", b"three")
    chain = Chain(0, NO_CHECKSUM)

    assert [chain.check(record) for record in (one, two, three)] == [one, two, three]
    assert Chain(1, one.checksum).check(two) == two
    assert Chain(2, None).check(three) == three


def test_a_chain_notices_a_record_that_is_missing_doubled_or_from_another_log() -> None:
    one, _, three = chained(b"one", b"two", b"three")
    _, other = chained(b"another", b"log")
    chain = Chain(0, NO_CHECKSUM)
    chain.check(one)

    with pytest.raises(LogDamaged, match="records 2 to 2 are missing"):
        chain.check(three)
    with pytest.raises(LogDamaged):
        chain.check(one)
    with pytest.raises(LogDamaged, match="record 2 does not follow the record before it"):
        chain.check(other)
