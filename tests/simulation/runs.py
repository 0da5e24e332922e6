"""One seed, one run: which kind of world it is follows from the seed."""

from __future__ import annotations

from tests.backend.virtual_time import VirtualTimeLoop
from tests.simulation.cluster import ClusterWorld
from tests.simulation.nodes import ClusterLoop
from tests.simulation.world import TURNS_MAX, Outcome, World, listening

_KINDS = 3
"""One seed in so many is a cluster."""


def is_cluster(seed: int) -> bool:
    """Whether a seed is a world of several nodes."""
    return seed % _KINDS == _KINDS - 1


def run(seed: int) -> Outcome:
    """Run a seed: the same world, the same faults and the same end each time."""
    loop = ClusterLoop() if is_cluster(seed) else VirtualTimeLoop()
    loop.turns_left = TURNS_MAX
    try:
        world = ClusterWorld(seed, loop) if isinstance(loop, ClusterLoop) else World(seed, loop)
        loop.set_exception_handler(world.note_exception)
        with listening(world.note_error), world.same_every_time():
            return loop.run_until_complete(world.live())
    finally:
        loop.close()
