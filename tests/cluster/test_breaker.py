"""The circuit breaker: when it opens, whom it lets through, and what closes it."""

from __future__ import annotations

from waystation.cluster.breaker import CircuitBreaker


def test_it_opens_after_successive_failures_and_lets_one_attempt_through_at_a_time() -> None:
    breaker = CircuitBreaker(failures_max=2, open_s=1.0)
    breaker.failed(10.0)
    assert breaker.allows(10.0)

    breaker.failed(10.5)

    assert [breaker.allows(at_s) for at_s in (10.5, 11.4, 11.5, 11.6, 12.4, 12.5)] == [
        False,
        False,
        True,
        False,
        False,
        True,
    ]


def test_a_success_closes_it_and_failures_are_counted_anew() -> None:
    breaker = CircuitBreaker(failures_max=2, open_s=1.0)
    breaker.failed(10.0)
    breaker.failed(10.0)
    breaker.succeeded()
    breaker.failed(10.1)

    assert all(breaker.allows(10.1) for _ in range(3))


def test_an_attempt_that_fails_keeps_it_open() -> None:
    breaker = CircuitBreaker(failures_max=1, open_s=1.0)
    breaker.failed(10.0)
    assert breaker.allows(11.0)
    breaker.failed(11.2)

    assert not breaker.allows(12.1)
    assert breaker.allows(12.2)


def test_hope_lets_one_attempt_through_at_once() -> None:
    breaker = CircuitBreaker(failures_max=1, open_s=1.0)
    breaker.failed(10.0)
    breaker.try_again()

    assert breaker.allows(10.1)
    assert not breaker.allows(10.2)
