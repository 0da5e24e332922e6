"""A cluster of real processes on real networks keeps its promises: the short version of `make jepsen`."""

from __future__ import annotations

import os
from pathlib import Path
from random import SystemRandom

import pytest

from tests.jepsen.faults import Kill, Partition, Stop
from tests.jepsen.rounds import Chapter
from tests.jepsen.run import table

SEND_GAP_S_MAX = 30.0
"""Measured are 2 to 8 s; this machine may have other things to do."""


@pytest.mark.timeout(400)
def test_nothing_is_lost_doubled_or_reordered_whatever_one_machine_does(tmp_path: Path) -> None:
    """
    A host dies, one is cut off from the two others, a node is killed, and one is stopped in an orderly
    way: all the while clients send and receive, through the floating address and at single nodes.

    The seed decides what clients ask and whom the faults meet; JEPSEN_SEED=… sets it.
    """
    seed = os.environ.get("JEPSEN_SEED") or str(SystemRandom().randrange(10**6))
    print(f"JEPSEN_SEED={seed}")
    faults = [Kill("host", 6), Partition("minority", 8), Kill("node", 4), Stop(1)]
    chapter = Chapter(tmp_path, seed, faults, hurried=True)
    chapter.run()
    print(table([chapter]), chapter.found, sep="\n")

    assert chapter.found == ""
    assert chapter.figures()["acknowledged"] > 500
    assert chapter.figures()["deleted"] > 500
    for name, [outage] in chapter.outages["send"].items():
        assert outage.shard_s < SEND_GAP_S_MAX, name
