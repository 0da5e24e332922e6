"""The circuit breaker of a link: who has failed several times in a row is left alone for a while.

Closed, it lets everything through. Open, it lets nothing through. After a while it is half-open: one
attempt is let through, and the next one only as much later; a success closes it. Pure: no clock.
"""

from __future__ import annotations


class CircuitBreaker:
    """It opens after `failures_max` successive failures, for `open_s` each time."""

    def __init__(self, failures_max: int, open_s: float) -> None:
        self.failures = 0
        """In a row."""
        self._failures_max = failures_max
        self._open_s = open_s
        self._next_try_s = 0.0

    def allows(self, now_s: float) -> bool:
        """Whether to try; when it is half-open, asking uses up the attempt."""
        if self.failures < self._failures_max:
            return True
        if now_s < self._next_try_s:
            return False
        self._next_try_s = now_s + self._open_s
        return True

    def succeeded(self) -> None:
        """Close it."""
        self.failures = 0

    def failed(self, now_s: float) -> None:
        """Count a failure; it may open."""
        self.failures += 1
        if self.failures >= self._failures_max:
            self._next_try_s = now_s + self._open_s

    def try_again(self) -> None:
        """There is reason to hope: let one attempt through at once."""
        self._next_try_s = 0.0
