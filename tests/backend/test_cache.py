"""Envelopes in memory are bounded by their bytes, and given out once."""

from __future__ import annotations

from waystation.backend.cache import EnvelopeCache


def test_an_envelope_is_taken_out_when_it_is_asked_for() -> None:
    cache = EnvelopeCache(100)
    cache.put(1, 7, b"hello")

    assert cache.take(2, 7) is None
    assert cache.take(1, 8) is None
    assert cache.take(1, 7) == b"hello"
    assert cache.take(1, 7) is None
    assert len(cache) == 0


def test_past_its_bytes_the_one_put_in_first_goes_first() -> None:
    cache = EnvelopeCache(10)
    for sequence in range(1, 4):
        cache.put(1, sequence, b"x" * 4)

    assert [cache.take(1, sequence) for sequence in range(1, 4)] == [None, b"xxxx", b"xxxx"]


def test_one_larger_than_the_whole_cache_is_not_kept() -> None:
    cache = EnvelopeCache(10)
    cache.put(1, 1, b"x" * 11)
    assert len(cache) == 0

    cache.put(1, 2, b"x" * 10)

    assert cache.take(1, 2) == b"x" * 10


def test_space_that_was_given_back_is_used_again() -> None:
    cache = EnvelopeCache(10)
    for sequence in range(100):
        cache.put(1, sequence, b"x" * 10)
        assert cache.take(1, sequence) is not None
    cache.put(1, 100, b"x" * 5)
    cache.put(1, 101, b"x" * 5)

    assert len(cache) == 2
