"""What message groups cost: FIFO queues of few and of many, and one with a deep backlog.

    python bench/groups.py [--messages 1000000] [--data-dir DIRECTORY]

Of one group no more than one batch is ever in flight, so receives from a single group come
from a single connection, and are compared with a single connection to a standard queue.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.driver import Load, Seen
from bench.phases import PHASES, drive, empty_directory
from bench.processes import ROOT, Server, memory_mb, waystation
from bench.tables import table

GROUPS = (0, 1, 100, 10_000)
"""0 is a standard queue, with as many connections as the others."""
DEEP_MESSAGES = 1_000_000
OTHER_GROUPS = 100
_CONNECTIONS = 32
SHARE_AIM = 0.9

LOADS = {
    "send1": Load(mode="send", warmup_messages=2_000, messages=40_000),
    "send10": Load(mode="send", batch=10, warmup_messages=5_000, messages=100_000),
    "receive10": Load(mode="receive", batch=10, warmup_messages=5_000, messages=100_000),
}


@dataclass(kw_only=True)
class Groups:
    """What was measured; lists hold one item for each repetition."""

    messages: int
    """Waiting in the deep group."""
    by_groups: dict[int, dict[str, list[Seen]]] = field(default_factory=dict)
    """By number of groups and name of the load."""
    single_connection: list[Seen] = field(default_factory=list)
    """`receive10` of a standard queue over one connection."""
    alone: dict[str, list[Seen]] = field(default_factory=dict)
    """Receives of the deep group itself, and with others in turn, when no more than they need waits."""
    deep: dict[str, list[Seen]] = field(default_factory=dict)
    """The same with the deep backlog in front of the others."""
    fill: Seen | None = None
    peak_rss_mb: float = 0.0
    restart_s: float = 0.0


def measure(data_dir: Path, messages: int, repetitions: int, scale: float = 1.0) -> Groups:
    """Run it all: some three minutes."""
    seen = Groups(messages=messages)
    for _ in range(repetitions):
        for groups in GROUPS:
            with (
                empty_directory(data_dir / "groups") as directory,
                Server.run(*waystation(directory)) as server,
            ):
                for name in LOADS:
                    run = drive(server.url, server.pid, _load(name, groups, scale), f"--queue={name}")
                    seen.by_groups.setdefault(groups, {}).setdefault(name, []).append(run)
                if not groups:
                    load = replace(_load("receive10", 0, scale), connections=1)
                    seen.single_connection.append(drive(server.url, server.pid, load))
    _measure_deep(seen, data_dir, repetitions, scale)
    return seen


def _load(name: str, groups: int, scale: float) -> Load:
    load = LOADS[name]
    warmup, messages = round(load.warmup_messages * scale), round(load.messages * scale)
    preload = warmup + messages + 1_000 if load.mode == "receive" else 0
    connections = min(groups or _CONNECTIONS, _CONNECTIONS) if load.mode == "receive" else _CONNECTIONS
    return replace(
        load,
        groups=groups,
        warmup_messages=warmup,
        messages=messages,
        preload_messages=preload,
        connections=connections,
    )


def _measure_deep(seen: Groups, data_dir: Path, repetitions: int, scale: float) -> None:
    itself = _load("receive10", 1, scale)
    others = replace(_load("receive10", OTHER_GROUPS, scale), first_group=1)
    with empty_directory(data_dir / "deep") as directory:
        with Server.run(*waystation(directory)) as server:
            for number in range(repetitions):
                for name, load in (("itself", itself), ("others", others)):
                    run = drive(server.url, server.pid, load, f"--queue=alone-{name}-{number}")
                    seen.alone.setdefault(name, []).append(run)
            fill = replace(
                LOADS["send10"], groups=1, warmup_messages=0, messages=seen.messages, preload_messages=0
            )
            seen.fill = drive(server.url, server.pid, fill, "--queue=deep", "--keep")
        with Server.run(*waystation(directory)) as server:
            seen.restart_s = server.start_s
            for _ in range(repetitions):
                for name, load in (("itself", replace(itself, preload_messages=0)), ("others", others)):
                    run = drive(server.url, server.pid, load, "--queue=deep", "--keep")
                    seen.deep.setdefault(name, []).append(run)
            seen.peak_rss_mb = memory_mb(server.pid, "VmHWM")


def groups_tables(groups: Groups) -> str:
    """CPU and rates by number of groups, and what a deep group costs itself and the others."""
    titles = {phase.name: phase.title for phase in PHASES}
    standard = groups.by_groups[0]
    rows = []
    for name in LOADS:
        for number, runs in groups.by_groups.items():
            beside = standard[name]
            if name == "receive10" and number == 1:
                beside = groups.single_connection
            kind = f"FIFO, groups: {number:,}" if number else "standard"
            rows.append([titles[name], kind, _rate(runs[name]), _cpu(runs[name]), _ratio(runs[name], beside)])
    head = ["256 bytes", "queue", "messages/s", "server CPU µs/message", "CPU, of a standard queue's"]
    return table(head, rows) + "\n\n" + _deep_table(groups)


def _deep_table(groups: Groups) -> str:
    rows = []
    titles = {"itself": "from the deep group itself", "others": f"with {OTHER_GROUPS} other groups in turn"}
    for name, runs in groups.deep.items():
        alone = groups.alone[name]
        share = _median_rate(runs) / _median_rate(alone)
        said = f"≥ {SHARE_AIM}: {'met' if share >= SHARE_AIM else 'missed'}"
        rows.append([titles[name], _rate(alone), _rate(runs), f"{share:.2f}", _cpu(alone), _cpu(runs), said])
    head = [
        f"receive + delete in tens, {groups.messages:,} waiting in one group",
        "messages/s without",
        "with",
        "share",
        "CPU µs without",
        "with",
        "aim",
    ]
    assert groups.fill is not None
    tail = (
        f"Filled at {groups.fill.messages_per_s:,.0f} messages/s; restart {groups.restart_s:.2f} s; "
        f"peak memory from there {groups.peak_rss_mb:.0f} MB, "
        "of which some 150 bytes are for each deduplication id of the last five minutes."
    )
    return table(head, rows) + "\n\n" + tail


def _median_rate(runs: Sequence[Seen]) -> float:
    return median(run.messages_per_s for run in runs)


def _rate(runs: Sequence[Seen]) -> str:
    return f"{_median_rate(runs):,.0f}"


def _cpu(runs: Sequence[Seen]) -> str:
    return f"{median(run.cpu_us_per_message for run in runs):.1f}"


def _ratio(runs: Sequence[Seen], beside: Sequence[Seen]) -> str:
    cpu = median(run.cpu_us_per_message for run in runs)
    return f"{cpu / median(run.cpu_us_per_message for run in beside):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=DEEP_MESSAGES)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--data-dir", type=Path, default=ROOT / "bench/.data")
    arguments = parser.parse_args()
    arguments.data_dir.mkdir(parents=True, exist_ok=True)
    print(
        groups_tables(measure(arguments.data_dir, arguments.messages, arguments.repetitions, arguments.scale))
    )


if __name__ == "__main__":
    main()
