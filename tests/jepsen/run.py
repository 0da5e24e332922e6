"""Faults of a real cluster, each in a world of its own: `make jepsen ROUNDS=5`. JEPSEN_SEED=… repeats a run.

A short version is in `make test`. Ends with 1 when a promise was broken, and keeps the logs then.
Linux with root only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import SystemRandom

import pytest

from tests.crash.run import clean_environment
from tests.jepsen.disk_faults import Damage, DiskFull, PowerLoss
from tests.jepsen.faults import (
    BalancerLost,
    Clock,
    Fault,
    Kill,
    KillAll,
    LinkDown,
    Nothing,
    Partition,
    Pause,
    RollingRestart,
    Stop,
)
from tests.jepsen.outages import middle_and_worst
from tests.jepsen.rounds import Chapter

MAKERS: tuple[Callable[[], Fault], ...] = (
    lambda: Nothing("nothing", 10),
    lambda: Kill("node"),
    lambda: Kill("nats"),
    lambda: Kill("host"),
    KillAll,
    *(
        lambda part=part, lasts_s=lasts_s: Pause(part, lasts_s)
        for part in ("node", "nats", "host")
        for lasts_s in (1, 5, 20)
    ),
    LinkDown,
    lambda: Partition("one-way-loss"),
    lambda: Partition("minority"),
    lambda: Partition("bridge"),
    lambda: Clock(60),
    lambda: Clock(-60),
    lambda: BalancerLost("killed"),
    lambda: BalancerLost("link-down"),
    Stop,
    RollingRestart,
    DiskFull,
    Damage,
    lambda: PowerLoss("one"),
    lambda: PowerLoss("all"),
    lambda: PowerLoss("all", lazy=True),
)
"""Of every fault there is."""


def main() -> int:
    makers = {make().name: make for make in MAKERS}
    parser = argparse.ArgumentParser(description="Let things happen to a cluster under load.")
    parser.add_argument("--rounds", type=int, default=3, help="how often each fault happens")
    parser.add_argument("--fault", action="append", choices=makers, help="only this one; may be repeated")
    parser.add_argument("--seed", default=os.environ.get("JEPSEN_SEED"), help="as an earlier run named it")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("there has to be a round at least")
    clean_environment()
    seed = arguments.seed or str(SystemRandom().randrange(10**6))
    print(f"JEPSEN_SEED={seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="waystation-jepsen-"))
    began_s = time.monotonic()
    chapters: list[Chapter] = []
    for name in arguments.fault or makers:
        chapter = Chapter(folder / name, f"{seed}/{name}", [makers[name]()], arguments.rounds)
        try:
            run_chapter(chapter)
        except pytest.skip.Exception as reason:
            print(f"{name} cannot be tried: {reason}", flush=True)
            continue
        chapters.append(chapter)
        result = "WRONG" if chapter.found else "right"
        print(f"{time.monotonic() - began_s:5.0f} s  {name}: {result}; {chapter.history}", flush=True)
        if chapter.found:
            print(f"\n{chapter.found}\nits logs are in {chapter.folder}; once more:")
            again = f"ROUNDS={arguments.rounds} ARGS='--fault {name}'"
            print(f"    JEPSEN_SEED={seed} make jepsen {again}\n", flush=True)
        if arguments.json:
            figures = [each.figures() for each in chapters]
            arguments.json.write_text(json.dumps({"seed": seed, "chapters": figures}, indent=2))
    print(table(chapters))
    if not chapters or any(chapter.found for chapter in chapters):
        return 1
    shutil.rmtree(folder)
    return 0


def run_chapter(chapter: Chapter) -> None:
    """Run it in its folder, which is there afterwards only if something is wrong."""
    chapter.folder.mkdir()
    chapter.run()
    if not chapter.found:
        shutil.rmtree(chapter.folder)


_COLUMNS = (
    *("fault", "rounds", "acked", "unknown", "lost", "dup", "reord", "errors", "wrong"),
    *("send: all", "one shard", "receive: all", "one shard", "well again"),
)


def table(chapters: Sequence[Chapter]) -> str:
    """One line for each fault. Times are seconds: median and worst over the rounds."""
    rows: list[Sequence[str]] = [_COLUMNS]
    for chapter in chapters:
        figures = chapter.figures()
        keys = ("rounds", "acknowledged", "unknown", "lost", "duplicated", "reordered")
        row = ["+".join(figures["faults"]), *(f"{figures[key]:,}" for key in keys)]
        row += [f"{len(chapter.error_lines):,}", "yes" if chapter.found else ""]
        for by_fault in chapter.outages.values():
            outages = [outage for of_fault in by_fault.values() for outage in of_fault]
            row.append("{:.1f} {:.1f}".format(*middle_and_worst(outages, lambda each: each.all_s)))
            row.append("{:.1f} {:.1f}".format(*middle_and_worst(outages, lambda each: each.shard_s)))
        again_s = sorted(each_s for of_fault in chapter.well_again_s.values() for each_s in of_fault)
        row.append(f"{again_s[len(again_s) // 2]:.1f} {again_s[-1]:.1f}" if again_s else "")
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    said = "without an answer for … s (median and worst of the rounds): at all queues, and at the worst shard"
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(["", said, *lines])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
