"""Is a series flat? Its first quarter after a warm-up is compared with its last, and a line is fitted.

Nothing here measures, and nothing here knows what a series is of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression, median

WARM_UP_SHARE = 0.2
"""Of the run's time, which is not judged: caches fill, files get their size. In a run of half an hour that is
six minutes, and deduplication ids live for five."""
SAMPLES_MIN = 8
"""After the warm-up; with fewer, a quarter has no median worth the name."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How much higher a series may be at its end than at its beginning."""

    series: str
    title: str
    growth_max: float
    """Of the first quarter's median; for a series that must not fall, how far it may."""
    slack: float = 0.0
    """In the unit of the series, and always allowed: a few pages are no leak."""
    must_not_fall: bool = False
    judges_trend: bool = False
    """Whether the fitted line, too, may rise by no more than that: for what grows without much noise."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one series."""

    limit: Limit
    first: float
    """Median of the first quarter."""
    last: float
    slope_per_h: float
    """Of the line of least squares through all samples after the warm-up."""
    rise: float
    """Of that line, from the first of these samples to the last."""
    allowed: float

    @property
    def ratio(self) -> float | None:
        return self.last / self.first if self.first else None

    @property
    def is_flat(self) -> bool:
        sign = -1 if self.limit.must_not_fall else 1
        trend = self.rise if self.limit.judges_trend else 0.0
        return max(sign * (self.last - self.first), sign * trend) <= self.allowed


def judge(limit: Limit, at_s: Sequence[float], values: Sequence[float | None]) -> Verdict:
    """Judge a series.

    Args:
        at_s: when each sample was taken, rising, from the beginning of the run.
        values: one for each moment; None where there was nothing to see.

    Raises:
        ValueError: there are fewer than `SAMPLES_MIN` samples after the warm-up.
    """
    pairs = zip(at_s, values, strict=True)
    warm_s = at_s[-1] * WARM_UP_SHARE if at_s else 0.0
    settled = [(at, value) for at, value in pairs if value is not None and at >= warm_s]
    if len(settled) < SAMPLES_MIN:
        raise ValueError(f"{limit.title}: {len(settled)} samples are too few to judge")
    quarter = len(settled) // 4
    first = median(value for _, value in settled[:quarter])
    last = median(value for _, value in settled[-quarter:])
    times, seen = zip(*settled, strict=True)
    slope_per_s = linear_regression(times, seen).slope
    return Verdict(
        limit=limit,
        first=first,
        last=last,
        slope_per_h=slope_per_s * 3_600,
        rise=slope_per_s * (times[-1] - times[0]),
        allowed=max(abs(first) * limit.growth_max, limit.slack),
    )
