"""The time of a shard: Unix time that never falls, and never stands still."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

_SLIP_MS = 1_000
"""Behind the newest event, a clock may be without a word: adjustments are smaller."""

_logger = logging.getLogger(__name__)


def wall_clock_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class SteadyClock:
    """Follows a wall clock, and goes on by itself while that is behind what was already read.

    A clock that was set back, or an earlier owner's that was ahead, must not stop all
    timeouts until it has caught up: that may be a day.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wall_ms: Callable[[], int]) -> None:
        self._loop = loop
        self._wall_ms = wall_ms
        self._slipped: tuple[int, int] | None = None
        """While the wall clock is behind: this clock's time, and the loop's, when that began."""

    def read(self, newest_ms: int) -> int:
        """Unix time in milliseconds, not before `newest_ms`, the newest time that was ever used."""
        wall_ms = self._wall_ms()
        if wall_ms >= newest_ms:
            self._slipped = None
            return wall_ms
        loop_ms = int(self._loop.time() * 1_000)
        if self._slipped is None:
            self._slipped = (newest_ms, loop_ms)
            if newest_ms - wall_ms > _SLIP_MS:
                behind = {"behind_ms": newest_ms - wall_ms}
                _logger.error("clock is behind the newest event", extra=behind)
        since_ms, at_loop_ms = self._slipped
        return since_ms + loop_ms - at_loop_ms
