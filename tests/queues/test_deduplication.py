"""What deduplication remembers, and that it forgets."""

from __future__ import annotations

import pytest

from waystation.queues import deduplication
from waystation.queues.deduplication import Deduplication


def digest(number: int) -> bytes:
    return b"%016d" % number


def test_a_digest_is_found_as_long_as_its_message_is_young_enough() -> None:
    known = Deduplication()
    known.add(digest(1), 7)

    assert known.find(digest(1), 7) == 7
    assert known.find(digest(1), 8) is None
    assert known.find(digest(2), 0) is None


def test_messages_without_a_digest_are_nobodys_duplicates() -> None:
    known = Deduplication()
    known.add(b"", 1)

    assert known.find(b"", 0) is None
    assert len(known) == 0


def test_what_is_too_old_is_forgotten_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deduplication, "_FORGET_AT", 10)
    known = Deduplication()
    for number in range(1, 31):
        known.add(digest(number), number)
    known.add(digest(1), 31)  # used again, as five minutes were over
    known.forget(21)

    assert len(known) == 11
    assert known.find(digest(1), 21) == 31
    assert known.find(digest(20), 0) is None
    assert known.find(digest(21), 21) == 21


def test_memory_is_bounded_by_what_is_young_enough() -> None:
    known = Deduplication()
    for number in range(1, 20_001):
        known.forget(number - 100)
        known.add(digest(number), number)

    assert len(known) <= 100 + deduplication._FORGET_AT


def test_digests_are_read_back_in_their_order() -> None:
    known = Deduplication()
    for number in (3, 1, 2):
        known.add(digest(number), number + 10)
    read = Deduplication.from_bytes(*known.to_bytes())

    assert read.to_bytes() == known.to_bytes()
    assert read.find(digest(1), 11) == 11
