"""A verdict is worth something only if it can be bad: series that are made up, flat ones and others."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from bench.flatness import Limit, Verdict, judge

MEMORY = Limit(series="mb", title="memory", growth_max=0.05, slack=2.0, judges_trend=True, reason="a test")
LATENCY = Limit(series="ms", title="latency", growth_max=0.5, slack=1.0, reason="a test")
RATE = Limit(series="per_s", title="rate", growth_max=0.05, must_not_fall=True, reason="a test")

SECONDS = range(0, 1_800, 5)


def judged(limit: Limit, value_at: Callable[[int], float | None]) -> Verdict:
    """The verdict on half an hour."""
    return judge(limit, [float(at) for at in SECONDS], [value_at(at) for at in SECONDS])


def test_a_series_that_stays_where_it_is_is_flat() -> None:
    verdict = judged(MEMORY, lambda _: 100.0)

    assert verdict.is_flat
    assert (verdict.first, verdict.last, verdict.ratio) == (100.0, 100.0, 1.0)
    assert verdict.slope_per_h == pytest.approx(0)


def test_noise_and_teeth_of_a_saw_are_flat() -> None:
    """A log's file grows until a snapshot lets it be truncated, over and over."""
    chance = random.Random(7)

    assert judged(MEMORY, lambda _: 100 + chance.gauss(0, 5)).is_flat
    assert judged(replace(MEMORY, slack=4.0), lambda at: 20 + at % 60 / 2).is_flat


def test_a_slow_leak_is_not_flat() -> None:
    """Ten megabytes an hour, under noise: less than what noise does from one sample to the next."""
    chance = random.Random(8)

    verdict = judged(replace(MEMORY, growth_max=0.02), lambda at: 100 + at / 360 + chance.gauss(0, 1))

    assert not verdict.is_flat
    assert verdict.slope_per_h == pytest.approx(10, rel=0.2)
    assert verdict.rise == pytest.approx(4, rel=0.2)


def test_growth_up_to_the_limit_is_allowed_and_not_more() -> None:
    """A step in the middle is seen by the medians, whatever a line makes of it."""
    only_medians = replace(MEMORY, judges_trend=False)

    assert judged(only_medians, lambda at: 100.0 if at < 1_000 else 104.9).is_flat
    assert not judged(only_medians, lambda at: 100.0 if at < 1_000 else 105.1).is_flat


def test_a_trend_is_seen_though_both_quarters_have_the_same_median() -> None:
    """What climbs between the quarters' middles shows in the line, where the limit asks for it."""

    def climbing(at: int) -> float:
        return 100.0 if at < 580 or at >= 1_600 else 130.0 if at >= 1_440 else 100.0

    assert judged(replace(MEMORY, growth_max=0.2, judges_trend=False), climbing).first == 100
    assert not judged(MEMORY, climbing).is_flat


def test_what_happens_while_caches_fill_does_not_count() -> None:
    assert judged(MEMORY, lambda at: 100.0 if at >= 360 else at / 3.6).is_flat


def test_a_few_spikes_are_not_a_slower_server() -> None:
    """Medians of quarters: a moment of somebody else's work on the machine says nothing."""
    assert judged(LATENCY, lambda at: 500.0 if at % 300 == 0 else 4.0).is_flat


def test_a_server_that_becomes_slower_is_not_flat() -> None:
    assert not judged(LATENCY, lambda at: 4.0 + at / 300).is_flat


def test_slack_is_for_values_so_small_that_their_ratio_says_nothing() -> None:
    assert judged(LATENCY, lambda at: 0.1 if at < 1_000 else 0.9).is_flat
    assert judged(LATENCY, lambda at: 0.0 if at < 1_000 else 0.9).ratio is None


def test_a_rate_must_not_fall_and_may_rise() -> None:
    assert judged(RATE, lambda at: 1_000.0 + at).is_flat
    assert judged(RATE, lambda at: 1_000.0 - at / 90).is_flat
    assert not judged(RATE, lambda at: 1_000.0 - at / 15).is_flat


def test_moments_without_anything_to_see_are_left_out() -> None:
    verdict = judged(LATENCY, lambda at: None if at % 10 else 4.0)

    assert verdict.is_flat
    assert verdict.first == 4.0


def test_too_few_samples_are_no_verdict() -> None:
    """Of eight seconds, two are the warm-up."""
    with pytest.raises(ValueError, match="memory: 6 samples are too few"):
        judge(MEMORY, list(range(8)), [1.0] * 8)
