"""A server that is killed at any moment keeps every promise that it has made."""

from __future__ import annotations

import os
from pathlib import Path
from random import SystemRandom

from tests.crash.rounds import Chapter, figures

KILLS = 20


def test_acknowledged_is_durable_and_one_consumer_at_a_time_through_twenty_kills(tmp_path: Path) -> None:
    """The same for standard queues, FIFO queues and dead letters: `tests/histories` says what holds.

    The seed decides what clients ask and when the kills come; CRASH_SEED=… sets it.
    """
    seed = os.environ.get("CRASH_SEED") or str(SystemRandom().randrange(10**6))
    print(f"CRASH_SEED={seed}")
    chapter = Chapter(tmp_path, seed)
    chapter.run(KILLS, {"kill": 1})
    print(figures([chapter]), chapter.found, sep="\n")

    assert chapter.found == ""
    # The kills have met a server at work.
    assert figures([chapter])["sends acknowledged"] > 20 * KILLS
    assert figures([chapter])["deletes acknowledged"] > 10 * KILLS
    assert figures([chapter])["dead letters"] > KILLS
