"""What FrontEnd processes of their own cost, and what they free: `waystation serve --frontends N`.

    python bench/frontends.py                     # some six minutes
    python bench/frontends.py --quick             # does it run? The figures mean nothing
    python bench/frontends.py --frontends 0 4     # on a machine with more cores

CPU is user and system time of all threads, from the first request to the last, by messages; of the process
that has the data, and of its FrontEnds together. The load generator runs beside them, so that messages a
second say little on a machine with few cores. What CPU tells is how far more cores would carry: the process
that has the data cannot use more than one of them for long, so a million microseconds over its CPU per
message is the most that it bears, whatever the number of FrontEnds.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from bench.phases import PHASES, Phase, drive, empty_directory, load_of
from bench.processes import ROOT, Server, cpu_s, waystation
from bench.tables import table

NAMES = ("send1", "both1", "send10", "both10")
"""Those in which what is preloaded does not count."""
QUICK_SCALE = 0.02


@dataclass(frozen=True, kw_only=True)
class Seen:
    messages_per_s: float
    backend_us: float
    """CPU per message of the process that has the data."""
    frontends_us: float
    """CPU per message of all others together."""
    p99_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frontends", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--repetitions", type=int, default=3, help="the medians of which are shown")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "bench/.data", help="on the disk to measure")
    parser.add_argument("--scale", type=float, default=1.0, help="of the usual number of messages")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    repetitions, scale = (1, QUICK_SCALE) if arguments.quick else (arguments.repetitions, arguments.scale)
    phases = [phase for phase in PHASES if phase.name in NAMES]
    seen: dict[tuple[str, int], list[Seen]] = {}
    # In turn, so that a busy moment of the machine hits all alike.
    for number in range(repetitions):
        for phase in phases:
            for frontends in arguments.frontends:
                print(f"repetition {number + 1}: {phase.name}, {frontends}", file=sys.stderr, flush=True)
                each = measure(phase, frontends, arguments.data_dir, scale)
                seen.setdefault((phase.title, frontends), []).append(each)
    print(f"{os.cpu_count()} cores, shared with the load generator\n")
    print(shown(seen))


def measure(phase: Phase, frontends: int, data_dir: Path, scale: float) -> Seen:
    """One load on a new server."""
    command = ("--frontends", str(frontends))
    with (
        empty_directory(data_dir / f"frontends-{frontends}") as directory,
        Server.run(*waystation(directory, *command)) as server,
    ):
        children = children_of(server.pid)
        assert len(children) == frontends
        before = cpu_s(server.pid), sum(map(cpu_s, children))
        done = drive(server.url, server.pid, load_of(phase, None, scale))
        after = cpu_s(server.pid), sum(map(cpu_s, children))
    backend_us, frontends_us = (
        (end - begin) / done.total_messages * 1e6 for begin, end in zip(before, after, strict=True)
    )
    return Seen(
        messages_per_s=done.messages_per_s,
        backend_us=backend_us,
        frontends_us=frontends_us,
        p99_ms=done.p99_ms[""],
    )


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def shown(seen: dict[tuple[str, int], list[Seen]]) -> str:
    head = [
        "",
        "FrontEnds",
        "messages/s",
        "p99, ms",
        "CPU µs: data",
        "FrontEnds",
        "together",
        "one core bears",
    ]
    rows = []
    for (title, frontends), runs in seen.items():
        backend_us = median(run.backend_us for run in runs)
        frontends_us = median(run.frontends_us for run in runs)
        rows.append(
            [
                title,
                str(frontends) if frontends else "in the one process",
                f"{median(run.messages_per_s for run in runs):,.0f}",
                f"{median(run.p99_ms for run in runs):.1f}",
                f"{backend_us:.1f}",
                f"{frontends_us:.1f}",
                f"{backend_us + frontends_us:.1f}",
                f"{1e6 / backend_us:,.0f} messages/s",
            ]
        )
    return table(head, rows)


if __name__ == "__main__":
    main()
