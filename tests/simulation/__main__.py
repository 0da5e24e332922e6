"""Run many seeds of the simulation: python -m tests.simulation --seeds 10000

Prints what they came to. A seed that breaks a promise is told of in full, in a file of its own
with `--failures`, and the exit code is 1. `--first` gives the first seed; without it, a fresh one is drawn.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from random import SystemRandom
from time import perf_counter

from tests.simulation.many import Tally, run_in_parallel

_TOLD_S = 10.0
"""Between two lines of progress."""
_SEEDS_END = 10**9


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--first", type=int, help="of the seeds, which follow one another")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--failures", type=Path, help="a directory for what failing seeds have to tell")
    arguments = parser.parse_args()
    first = SystemRandom().randrange(_SEEDS_END) if arguments.first is None else arguments.first
    print(f"seeds {first} to {first + arguments.seeds - 1}", flush=True)
    tally = Tally()
    began_s = told_s = perf_counter()
    for part in run_in_parallel(range(first, first + arguments.seeds), arguments.processes):
        tally.add(part)
        for seed, report in part.failed.items():
            _tell(seed, report, arguments.failures)
        if perf_counter() - told_s > _TOLD_S:
            told_s = perf_counter()
            print(f"{tally.seeds:,} seeds, {len(tally.failed)} with violations", flush=True)
    print(f"{tally}; {perf_counter() - began_s:.0f} s")
    if tally.failed:
        print(f"failed: {' '.join(map(str, sorted(tally.failed)))}")
    return 1 if tally.failed else 0


def _tell(seed: int, report: str, directory: Path | None) -> None:
    if directory is None:
        print(report, flush=True)
        return
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"seed-{seed}.txt").write_text(report + "\n")
    print("\n".join(report.splitlines()[:3]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
