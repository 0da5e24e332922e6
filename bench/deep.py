"""What deep backlogs and many queues cost: memory, snapshots, restarts, files, and the speed of a drain.

    python bench/deep.py                          everything, about half an hour
    python bench/deep.py --part groups            one part; may be given several times
    python bench/deep.py --scale 0.1              a tenth of all sizes
    python bench/deep.py --quick                  everything, too small to mean anything: does it run?

The deepest queues are filled by `loader.py`, the backend without HTTP and without syncs, in log
records of ten messages: what clients make that send batches one by one, and the most that a
message's place in the index costs them. A million messages are sent over HTTP as well. All else is
done by clients to servers.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import msgspec

from bench import many, pinned
from bench.driver import Load, Seen
from bench.loader import Filled, SnapshotCost
from bench.many import Many, many_table
from bench.phases import drive, empty_directory
from bench.pinned import Pinned, pinned_table
from bench.processes import ROOT, Server, files_mb, memory_mb, output_of, waystation
from bench.tables import aim, table

HTTP_MESSAGES = 1_000_000
QUICK_SCALE = 0.002
SETTLE_S = 30.0
"""For the last snapshot, ten seconds after the last delete, and what it lets go."""
SEGMENTS = 10
"""Equal parts of a drain, whose speeds are compared."""
FEW_SEGMENTS = 2
"""When only a quick look is wanted: each is a process of its own."""
PEAK_RSS_MB_AIM = 400.0
START_S_AIM = 5.0
_CONNECTIONS = 32
_FEW_CONNECTIONS = 4
"""Few clients share a log record, so that filling over HTTP makes many of them too."""
PARTS = ("http", "standard", "single", "group", "groups", "pinned", "many")


@dataclass(frozen=True, kw_only=True)
class Depth:
    """What is filled: `messages`, each `record_messages` of them in a log record, in turn to `groups`."""

    title: str
    messages: int
    record_messages: int = 10
    groups: int = 0
    connections: int = _CONNECTIONS
    """That drain it. Of one group no more than one batch is ever in flight."""


DEPTHS = {
    "standard": Depth(title="standard queue", messages=10_000_000),
    "single": Depth(title="standard queue, sent singly", messages=2_000_000, record_messages=1),
    "group": Depth(title="FIFO, one group", messages=1_000_000, groups=1, connections=1),
    "groups": Depth(title="FIFO, groups of 10", messages=1_000_000, groups=100_000),
}


@dataclass(kw_only=True)
class Deep:
    """What was measured of one depth. Sizes in units of 1,000,000 bytes."""

    depth: Depth
    fill: Filled
    """By the loader."""
    full_files_mb: float
    killed_start_s: float
    """From the program's start to its listening, of a directory as SIGKILL leaves it."""
    clean_start_s: float
    snapshot: SnapshotCost
    waiting_rss_mb: float
    """After the start that the drain follows."""
    drain: list[Seen] = field(default_factory=list)
    """By segment."""
    drain_peak_rss_mb: float = 0.0
    drained_files_mb: float = 0.0
    """Some seconds after the last delete."""


@dataclass(kw_only=True)
class Results:
    """All parts that were run."""

    http_fill: Seen | None = None
    """A standard queue, filled in batches over few connections."""
    http_peak_rss_mb: float = 0.0
    deep: dict[str, Deep] = field(default_factory=dict)
    pinned: Pinned | None = None
    many: Many | None = None


def measure(data_dir: Path, parts: Sequence[str] = PARTS, scale: float = 1.0) -> Results:
    """Run some parts, each on a directory of its own."""
    results = Results()
    if "http" in parts:
        _say("http")
        _fill_over_http(results, data_dir, round(HTTP_MESSAGES * scale))
    for name, depth in DEPTHS.items():
        if name in parts:
            _say(name)
            results.deep[name] = _measure_depth(data_dir, _scaled(depth, scale), SETTLE_S * min(scale, 1.0))
    if "pinned" in parts:
        _say("pinned")
        pins, traffic_mb = round(pinned.PINS * scale), round(pinned.TRAFFIC_MB * scale)
        results.pinned = pinned.measure(data_dir, pins, traffic_mb)
    if "many" in parts:
        _say("many")
        waits = (many.IDLE_S * scale, many.PAUSE_S * scale)
        results.many = many.measure(data_dir, round(many.QUEUES * scale), *waits)
    return results


def _scaled(depth: Depth, scale: float) -> Depth:
    groups = max(round(depth.groups * scale), min(depth.groups, 1))
    return replace(depth, messages=round(depth.messages * scale), groups=groups)


def _fill_over_http(results: Results, data_dir: Path, messages: int) -> None:
    load = Load(mode="send", batch=10, connections=_FEW_CONNECTIONS, warmup_messages=0, messages=messages)
    with empty_directory(data_dir / "deep") as directory, Server.run(*waystation(directory)) as server:
        results.http_fill = drive(server.url, server.pid, load, "--keep")
        results.http_peak_rss_mb = memory_mb(server.pid, "VmHWM")


def _measure_depth(data_dir: Path, depth: Depth, settle_s: float) -> Deep:
    with empty_directory(data_dir / "deep") as directory:
        flags = [
            f"--{name.replace('_', '-')}={getattr(depth, name)}"
            for name in ("messages", "record_messages", "groups")
        ]
        filled = output_of("-m", "bench.loader", "fill", str(directory), *flags)
        full_files_mb = files_mb(directory)
        with Server.run(*waystation(directory)) as server:
            killed_start_s = server.start_s
            os.kill(server.pid, signal.SIGKILL)
        with Server.run(*waystation(directory)) as server:
            killed_start_s = max(killed_start_s, server.start_s)
        cost = output_of("-m", "bench.loader", "snapshot", str(directory))
        with Server.run(*waystation(directory)) as server:
            deep = Deep(
                depth=depth,
                fill=msgspec.json.decode(filled, type=Filled),
                full_files_mb=full_files_mb,
                killed_start_s=killed_start_s,
                clean_start_s=server.start_s,
                snapshot=msgspec.json.decode(cost, type=SnapshotCost),
                waiting_rss_mb=memory_mb(server.pid, "VmRSS"),
            )
            _drain(deep, server)
            time.sleep(settle_s)
            deep.drained_files_mb = files_mb(directory)
    return deep


def _drain(deep: Deep, server: Server) -> None:
    depth = deep.depth
    left = depth.messages
    segments = SEGMENTS if left >= SEGMENTS * 10_000 else FEW_SEGMENTS
    for segment in range(segments):
        if left <= 0:
            break  # a quick look: the last of a segment are more than a whole one
        load = Load(
            mode="receive",
            batch=10,
            connections=min(depth.connections, max(depth.messages // 1_000, 1)),
            warmup_messages=0,
            messages=left // (segments - segment),
            groups=depth.groups,
        )
        seen = drive(server.url, server.pid, load, "--keep")
        left -= seen.total_messages
        deep.drain.append(seen)
        _say(f"  {seen.messages_per_s:,.0f} messages/s, {seen.cpu_us_per_message:.1f} us/message")
    deep.drain_peak_rss_mb = memory_mb(server.pid, "VmHWM")


def deep_tables(results: Results) -> str:
    """A column for each deep queue, then pins, then queues."""
    parts = []
    if results.deep:
        parts.append(_depths_table(list(results.deep.values())))
    if results.http_fill is not None:
        fill, peak_mb = results.http_fill, results.http_peak_rss_mb
        parts.append(
            f"Over HTTP, {fill.total_messages:,} messages were sent at {fill.messages_per_s:,.0f}/s, "
            f"in batches of ten over {_FEW_CONNECTIONS} connections; "
            f"peak memory {peak_mb:.0f} MB, aim {aim(PEAK_RSS_MB_AIM, peak_mb)}."
        )
    if results.pinned is not None:
        parts.append(pinned_table(results.pinned))
    if results.many is not None:
        parts.append(many_table(results.many))
    return "\n\n".join(parts)


def _depths_table(columns: list[Deep]) -> str:
    def row(title: str, figure: Callable[[Deep], str]) -> list[str]:
        return [title, *map(figure, columns)]

    def memory(of: Callable[[Deep], float]) -> Callable[[Deep], str]:
        return lambda deep: f"{of(deep):,.0f} MB, {aim(PEAK_RSS_MB_AIM, of(deep))}"

    def start(of: Callable[[Deep], float]) -> Callable[[Deep], str]:
        return lambda deep: f"{of(deep):.2f} s, {aim(START_S_AIM, of(deep))}"

    rows = [
        row("messages", lambda deep: f"{deep.depth.messages:,}"),
        row("in log records of", lambda deep: f"{deep.depth.record_messages}"),
        row("groups", lambda deep: f"{deep.depth.groups:,}" if deep.depth.groups else ""),
        row(
            "filled by the loader at",
            lambda deep: f"{deep.fill.messages / deep.fill.seconds:,.0f} messages/s",
        ),
        row("peak memory of the loader", memory(lambda deep: deep.fill.peak_rss_mb)),
        row("files, full", lambda deep: f"{deep.full_files_mb:,.0f} MB"),
        row("a snapshot, on disk", lambda deep: f"{deep.snapshot.snapshot_bytes / 1e6:,.1f} MB"),
        row("it blocks the event loop for", lambda deep: f"{deep.snapshot.blocked_ms:,.0f} ms"),
        row("and takes", lambda deep: f"{deep.snapshot.total_ms:,.0f} ms"),
        row("start after SIGKILL", start(lambda deep: deep.killed_start_s)),
        row("start after a clean stop", start(lambda deep: deep.clean_start_s)),
        row("memory then", lambda deep: f"{deep.waiting_rss_mb:,.0f} MB"),
        row("peak memory until drained", memory(lambda deep: deep.drain_peak_rss_mb)),
        row("drained at", lambda deep: f"{_median_rate(deep):,.0f} messages/s"),
        row("fastest tenth / slowest tenth", lambda deep: f"{_spread(deep):.2f}"),
        row("server CPU, first and last tenth", lambda deep: f"{_cpu(deep, 0)}, {_cpu(deep, -1)} µs/message"),
        row("longest that a client waited", lambda deep: f"{max(s.max_ms[''] for s in deep.drain):,.0f} ms"),
        row("files, drained", lambda deep: f"{deep.drained_files_mb:,.0f} MB"),
    ]
    return table(["", *(deep.depth.title for deep in columns)], rows)


def _median_rate(deep: Deep) -> float:
    return median(seen.messages_per_s for seen in deep.drain)


def _spread(deep: Deep) -> float:
    rates = [seen.messages_per_s for seen in deep.drain]
    return max(rates) / min(rates)


def _cpu(deep: Deep, segment: int) -> str:
    return f"{deep.drain[segment].cpu_us_per_message:.1f}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="and no other")
    parser.add_argument("--scale", type=float, default=1.0, help="of all sizes")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "bench/.data", help="on the disk to measure")
    parser.add_argument("--json", type=Path, help="write the raw figures to this file; parts not run stay")
    parser.add_argument("--load", type=Path, help="show the figures of such a file, measure nothing")
    arguments = parser.parse_args()
    if arguments.load:
        results = msgspec.json.decode(arguments.load.read_bytes(), type=Results)
    else:
        arguments.data_dir.mkdir(parents=True, exist_ok=True)
        scale = QUICK_SCALE if arguments.quick else arguments.scale
        results = measure(arguments.data_dir, arguments.part or PARTS, scale)
    print(deep_tables(results))
    if arguments.json:
        _save(results, arguments.json)


def _save(results: Results, path: Path) -> None:
    """Put the parts that were run into a file, beside those that are in it."""
    if path.exists():
        before = msgspec.json.decode(path.read_bytes(), type=Results)
        if results.http_fill is None:
            results.http_fill, results.http_peak_rss_mb = before.http_fill, before.http_peak_rss_mb
        found = before.deep | results.deep
        results.deep = {name: found[name] for name in DEPTHS if name in found}
        results.pinned = results.pinned or before.pinned
        results.many = results.many or before.many
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


if __name__ == "__main__":
    main()
