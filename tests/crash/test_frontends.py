"""A node that is split keeps every promise when any of its processes is killed at any moment."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from random import SystemRandom

import pytest

from tests.cli.front_end_processes import front_ends
from tests.crash.rounds import FAULTS, Chapter, figures

KILLS = 16
KINDS = {"kill of a FrontEnd": 3, "kill": 1}


def kill_a_front_end(chapter: Chapter) -> None:
    """Its clients do not know what became of what they asked for; the backend may still do it."""
    if found := front_ends(chapter.server):  # one that was killed just now may not have been replaced yet
        with suppress(ProcessLookupError):
            os.kill(chapter.random.choice(found), signal.SIGKILL)


def test_nothing_is_lost_and_one_consumer_at_a_time_when_front_ends_and_backends_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `test_kill.py` does it for one process. CRASH_SEED=… sets what clients ask and when kills come."""
    seed = os.environ.get("CRASH_SEED") or str(SystemRandom().randrange(10**6))
    print(f"CRASH_SEED={seed}")
    monkeypatch.setitem(FAULTS, "kill of a FrontEnd", kill_a_front_end)
    chapter = Chapter(tmp_path, seed, environment={"WAYSTATION_FRONTENDS": "2"})
    chapter.shared.goes_on = True
    chapter.run(KILLS, KINDS)
    print(figures([chapter]), chapter.happened, chapter.found, sep="\n")

    assert chapter.found == ""
    # The kills have met a server at work.
    assert chapter.happened["kill of a FrontEnd"] > 0
    assert figures([chapter])["sends acknowledged"] > 20 * KILLS
    assert figures([chapter])["deletes acknowledged"] > 10 * KILLS
