"""Many seeds, on all cores: what they came to, and which of them broke a promise."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from time import process_time

from tests.histories.history import History
from tests.simulation.runs import run
from tests.simulation.world import Outcome, small_world

CHUNK = 25
"""Seeds that one process runs between two reports."""


@dataclass
class Tally:
    """What a number of seeds came to."""

    seeds: int = 0
    cpu_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    """How often what happened: it shows that the seeds have met what they are for."""
    failed: dict[int, str] = field(default_factory=dict)
    """By seed: what is to be read."""

    def add(self, other: Tally) -> None:
        self.seeds += other.seeds
        self.cpu_s += other.cpu_s
        self.counts += other.counts
        self.failed |= other.failed

    def __str__(self) -> str:
        per_s = self.seeds / self.cpu_s if self.cpu_s else 0
        counts = ", ".join(f"{number:,} {what}" for what, number in sorted(self.counts.items()))
        return (
            f"{self.seeds:,} seeds, {len(self.failed)} with violations; "
            f"{per_s:.0f} seeds a second of a core; {counts}"
        )


def run_all(seeds: Sequence[int]) -> Tally:
    """Run seeds, one after the other, in this process."""
    tally = Tally()
    gc.collect()
    gc.disable()  # a run leaves its cycles behind, and they are few: once for many is enough
    began_s = process_time()
    try:
        with small_world():
            for seed in seeds:
                tally.seeds += 1
                outcome = run(seed)
                tally.counts += _counts(outcome)
                if outcome.violations:
                    tally.failed[seed] = outcome.report()
    finally:
        tally.cpu_s = process_time() - began_s
        gc.enable()
        gc.collect()
    return tally


def run_in_parallel(seeds: Sequence[int], processes: int) -> Iterator[Tally]:
    """Run seeds in several processes; gives a tally for each of their chunks as it is ready."""
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(run_all, chunks)


def _counts(outcome: Outcome) -> Counter[str]:
    history = outcome.history
    counts = Counter(
        {
            "operations": outcome.operations,
            "sends acknowledged": sum(send.answer is not None for send in history.sends),
            "sends with unknown outcome": sum(_is_unknown(send) for send in history.sends),
            "messages received": sum(len(receive.messages) for receive in history.receives),
            "received again": sum(handed.count > 1 for handed in history.handed()),
            "dead letters received": _dead_letters(history),
            "deletes acknowledged": sum(delete.answer is not None for delete in history.deletes),
            "deletes with unknown outcome": sum(_is_unknown(delete) for delete in history.deletes),
            "answers lost with messages in them, perhaps": len(history.unanswered),
            "purges": len(history.clears),
            "moves": len(history.moves),
            "processes killed": sum(text.endswith("is killed") for _, text in outcome.told),
        }
    )
    return counts + outcome.counts


def _is_unknown(call: object) -> bool:
    return getattr(call, "answer", None) is None and bool(getattr(call, "acts", ()))


def _dead_letters(history: History) -> int:
    letters = history.dead_letter_queues
    return sum(len(receive.messages) for receive in history.receives if receive.queue in letters)
