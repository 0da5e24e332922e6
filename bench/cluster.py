"""What a message costs in a cluster, beside RabbitMQ's quorum queues and bare JetStream work queues.

    python bench/cluster.py                                   # some twenty minutes
    python bench/cluster.py --quick --system embedded         # does it run? The figures mean nothing
    python bench/cluster.py --json bench/results/cluster.json --update-readme
    python bench/cluster.py --load bench/results/cluster.json # show the figures of a file, measure nothing

All systems run at once on this machine, and are given the same loads in turn, repetition by repetition, so
that a busy moment hits all alike. The comparable figure is CPU of all servers for each message: what is idle
uses next to none, and CPU does not depend on who else has the cores as messages a second do. Needs Linux,
nats-server; RabbitMQ and its client are left out, with a word, where they are not installed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import msgspec

from bench.peers.systems import OURS, STARTS, TITLES, Missing, Ran, System, Work
from bench.phases import empty_directory
from bench.processes import ROOT
from bench.report import README
from bench.tables import table

_MARKED = re.compile(r"(<!-- cluster: begin[^\n]*-->\n).*?(<!-- cluster: end -->)", re.DOTALL)
QUICK_SCALE = 0.01


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A queue is filled by one load, and most of what is in it received and deleted by another."""

    name: str
    batch: int
    connections: int = 32
    body_bytes: int = 256
    messages: int
    systems: tuple[str, ...] = OURS

    def work(self, mode: str, scale: float) -> Work:
        messages = max(round(self.messages * scale), 2 * self.batch * self.connections)
        if mode == "send":
            # Whoever prefetches has some in hand when the last one that is counted is deleted.
            messages += 3 * self.batch * self.connections
        return Work(
            mode=mode,
            batch=self.batch,
            connections=self.connections,
            body_bytes=self.body_bytes,
            messages=messages,
        )


COMPARED = (
    Pair(name="singly", batch=1, messages=6_000, systems=tuple(TITLES)),
    Pair(name="in tens", batch=10, messages=24_000, systems=tuple(TITLES)),
)
FITTED = (
    Pair(name="singly, 4 connections", batch=1, connections=4, messages=2_000),
    Pair(name="in tens, 4 KB", batch=10, body_bytes=4_096, messages=8_000),
)
"""With those above, what the costs of `capacity.py` are derived from."""
CHECKS = (
    Pair(name="in fives, 16 connections, 1 KB", batch=5, connections=16, body_bytes=1_024, messages=8_000),
    Pair(name="in twos, 64 connections", batch=2, connections=64, messages=8_000),
)
"""What `capacity.py` foretells, and is then compared with."""
MODES = ("send", "receive")


@dataclass(kw_only=True)
class Results:
    machine: dict[str, str]
    load_averages: list[float] = field(default_factory=list)
    """Of one minute, at the start and after each repetition."""
    skipped: dict[str, str] = field(default_factory=dict)
    seen: dict[str, dict[str, list[Ran]]] = field(default_factory=dict)
    """By system, then by load: `singly/send`. One for each repetition."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--system", action="append", choices=[start.__name__ for start in STARTS])
    parser.add_argument("--repetitions", type=int, default=3, help="the medians of which are shown")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "bench/.data", help="on the disk to measure")
    parser.add_argument("--scale", type=float, default=1.0, help="of the usual number of messages")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="write the raw figures to this file")
    parser.add_argument("--load", type=Path, help="show the figures of such a file, measure nothing")
    parser.add_argument("--update-readme", action="store_true")
    arguments = parser.parse_args()
    if arguments.load:
        results = msgspec.json.decode(arguments.load.read_bytes(), type=Results)
    else:
        results = measure(arguments)
    print(report(results))
    if arguments.update_readme:
        update_page(README, _MARKED, report(results))


def measure(arguments: argparse.Namespace) -> Results:
    """Start what there is, and run all loads on it in turn."""
    results = Results(machine=machine())
    pairs = COMPARED if arguments.quick else COMPARED + FITTED + CHECKS
    repetitions, scale = (1, QUICK_SCALE) if arguments.quick else (arguments.repetitions, arguments.scale)
    with ExitStack() as running:
        # Absolute, for RabbitMQ's nodes have working directories of their own.
        folder = running.enter_context(empty_directory(arguments.data_dir.resolve() / "cluster"))
        systems: dict[str, System] = {}
        for start in STARTS:
            if arguments.system and start.__name__ not in arguments.system:
                continue
            _say(f"starting {start.__name__}")
            try:
                systems |= running.enter_context(start(folder / start.__name__))
            except Missing as reason:
                results.skipped[start.__name__] = str(reason)
        results.load_averages.append(os.getloadavg()[0])
        for number in range(repetitions):
            for pair in pairs:
                for name in pair.systems:
                    if name in systems:
                        _run_pair(pair, name, systems[name], results, scale, number)
            results.load_averages.append(os.getloadavg()[0])
            if arguments.json:  # after each, for a run takes long
                raw = msgspec.json.encode(results)
                arguments.json.write_bytes(msgspec.json.format(raw, indent=1) + b"\n")
    return results


def _run_pair(pair: Pair, name: str, system: System, results: Results, scale: float, number: int) -> None:
    queue = f"bench-{time.time_ns()}"
    for mode in MODES:
        ran = system.run(pair.work(mode, scale), queue)
        results.seen.setdefault(name, {}).setdefault(f"{pair.name}/{mode}", []).append(ran)
        total = sum(ran.us.values())
        _say(f"{number + 1}: {name}, {pair.name}, {mode}: {ran.messages_per_s:,.0f}/s, {total:.1f} µs")


def machine() -> dict[str, str]:
    """What the figures depend on."""
    model = "an unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    found = {"cores": f"{os.cpu_count()} of {model}", "Python": sys.version.split()[0]}
    package = ["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"]
    try:
        found["RabbitMQ"] = subprocess.run(package, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        found["RabbitMQ"] = "unknown"
    return found


# Tables


def report(results: Results) -> str:
    """All figures, in Markdown."""
    loads = ", ".join(f"{load:.1f}" for load in results.load_averages)
    parts = [
        "Measured on: " + "; ".join(f"{name} {value}" for name, value in results.machine.items()) + ". "
        f"The load average was {loads} (at the start, and after each repetition): the cores were shared.",
        *(f"Not measured: {name}: {reason}." for name, reason in results.skipped.items()),
        _compared_table(results),
        _roles_table(results),
    ]
    return "\n\n".join(parts)


def _compared_table(results: Results) -> str:
    baseline = "cluster-other" if "cluster-other" in results.seen else next(iter(results.seen))
    head = ["server CPU µs/message (× the baseline)"]
    head += [*(_title(pair, mode) for pair, mode in _loads()), "client"]
    rows = []
    for name, loads in results.seen.items():
        cells = []
        for pair, mode in _loads():
            us = total_us(loads[f"{pair.name}/{mode}"])
            base = total_us(results.seen[baseline][f"{pair.name}/{mode}"])
            cells.append(f"{us:.0f} ({us / base:.2f})")
        client = " / ".join(
            f"{median(ran.client_us for ran in loads[f'{pair.name}/{mode}']):.0f}" for pair, mode in _loads()
        )
        rows.append([TITLES[name] + (", the baseline" if name == baseline else ""), *cells, client])
    return table(head, rows)


def _roles_table(results: Results) -> str:
    head = ["of that, by process", "load", "CPU µs/message", "messages/s", "p50 ms", "p99 ms", "in a record"]
    rows = []
    for name, loads in results.seen.items():
        for pair, mode in _loads():
            runs = loads[f"{pair.name}/{mode}"]
            roles = "; ".join(f"{role} {median(ran.us[role] for ran in runs):.0f}" for role in runs[0].us)
            grouped = [ran.messages_per_record for ran in runs if ran.messages_per_record is not None]
            row = [TITLES[name], _title(pair, mode), roles]
            row.append(f"{median(ran.messages_per_s for ran in runs):,.0f}")
            row += [f"{median(ran.p50_ms for ran in runs):.1f}", f"{median(ran.p99_ms for ran in runs):.1f}"]
            rows.append([*row, f"{median(grouped):.1f}" if grouped else ""])
    return table(head, rows)


def _loads() -> list[tuple[Pair, str]]:
    return [(pair, mode) for pair in COMPARED for mode in MODES]


def _title(pair: Pair, mode: str) -> str:
    return f"{'send' if mode == 'send' else 'receive + delete'}, {pair.name}"


def total_us(runs: list[Ran]) -> float:
    """CPU of all servers for each message, the median of the repetitions."""
    return median(sum(ran.us.values()) for ran in runs)


def update_page(page: Path, marked: re.Pattern[str], figures: str) -> None:
    """Put the tables between the page's markers."""
    text, number = marked.subn(lambda found: f"{found[1]}\n{figures}\n\n{found[2]}", page.read_text())
    assert number == 1, f"{page} has no markers"
    page.write_text(text)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
