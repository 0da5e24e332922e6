"""Ids and handles: nobody can guess, forge or mix them up."""

from __future__ import annotations

import string
from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.frontend.handles import Handles, sequence_number
from waystation.metadata.queues import Queue, QueueRecord
from waystation.protocol.errors import ReceiptHandleIsInvalid
from waystation.queues.commands import Receipt

SECRET = bytes(range(32))
HANDLES = Handles(SECRET)

sequences = st.integers(0, 2**64 - 1)
counts = st.integers(0, 2**32 - 1)


def queue(shard: int = 0, number: int = 1) -> Queue:
    return Queue(QueueRecord("orders", "000000000000", 0, 0, shard, number), 1)


@given(st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), sequences, counts)
def test_a_handle_gives_back_what_it_was_made_from(
    shard: int, number: int, sequence: int, receive_count: int
) -> None:
    handle = HANDLES.receipt_handle(queue(shard, number), sequence, receive_count)

    assert HANDLES.read(queue(shard, number), handle) == ((shard, number), Receipt(sequence, receive_count))
    assert len(handle) == 44
    assert set(handle) <= set(string.ascii_letters + string.digits + "+/")


@pytest.mark.parametrize("other", [queue(shard=1), queue(number=2)])
def test_a_handle_is_of_no_use_for_another_queue(other: Queue) -> None:
    with pytest.raises(ReceiptHandleIsInvalid):
        HANDLES.read(other, HANDLES.receipt_handle(queue(), 7, 1))


def test_a_handle_of_another_installation_is_refused() -> None:
    foreign = Handles(bytes(32)).receipt_handle(queue(), 7, 1)

    with pytest.raises(ReceiptHandleIsInvalid):
        HANDLES.read(queue(), foreign)


def test_a_handle_with_any_character_changed_is_refused() -> None:
    handle = HANDLES.receipt_handle(queue(), 7, 1)
    for index, old in enumerate(handle):
        for new in string.ascii_letters + string.digits + "+/-_=. \né":
            if new != old:
                with pytest.raises(ReceiptHandleIsInvalid):
                    HANDLES.read(queue(), handle[:index] + new + handle[index + 1 :])


def test_a_handle_with_any_bit_flipped_is_refused() -> None:
    data = urlsafe_b64decode(HANDLES.receipt_handle(queue(), 7, 1))
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ReceiptHandleIsInvalid):
            HANDLES.read(queue(), urlsafe_b64encode(flipped).decode())


@given(st.text(max_size=60) | st.text("AQ_-=", min_size=44, max_size=44))
def test_no_text_is_a_handle_by_chance(text: str) -> None:
    with pytest.raises(ReceiptHandleIsInvalid) as refused:
        HANDLES.read(queue(), text)
    assert text in refused.value.message


@pytest.mark.parametrize("change", ["{0}=", "{0}A", " {0}", "{0}\n"])
def test_a_handle_with_something_added_is_refused(change: str) -> None:
    with pytest.raises(ReceiptHandleIsInvalid):
        HANDLES.read(queue(), change.format(HANDLES.receipt_handle(queue(), 7, 1)))


def test_each_receive_has_a_handle_of_its_own() -> None:
    made = {HANDLES.receipt_handle(queue(), sequence, count) for sequence in (1, 2) for count in (1, 2)}

    assert len(made) == 4


@given(st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), sequences)
def test_a_message_id_is_a_random_uuid_to_whoever_parses_it(shard: int, number: int, sequence: int) -> None:
    message_id = HANDLES.message_id(queue(shard, number), sequence)

    assert str(UUID(message_id)) == message_id
    assert (UUID(message_id).version, UUID(message_id).variant) == (4, RFC_4122)


def test_a_message_keeps_its_id_and_no_other_message_has_it() -> None:
    places = [(shard, number, sequence) for shard in (0, 1) for number in (1, 2) for sequence in range(1_000)]
    ids = [HANDLES.message_id(queue(shard, number), sequence) for shard, number, sequence in places]

    assert len(set(ids)) == len(places)
    assert HANDLES.message_id(queue(*places[0][:2]), places[0][2]) == ids[0]
    assert Handles(bytes(32)).message_id(queue(), 0) not in ids


def test_a_message_id_does_not_tell_how_many_messages_there_are() -> None:
    """Neighbours have nothing in common, as far as 16 random bytes can have nothing in common."""
    first, second = (UUID(HANDLES.message_id(queue(), sequence)).int for sequence in (1, 2))

    assert 30 < (first ^ second).bit_count() < 92


@given(st.integers(0, 2**63), st.integers(0, 2**63))
def test_a_sequence_number_has_20_digits_and_sorts_as_text_as_it_does_as_a_number(
    one: int, other: int
) -> None:
    first, second = sequence_number(one), sequence_number(other)

    assert len(first) == len(second) == 20
    assert (one < other) == (first < second) == (int(first) < int(second))
