"""What a million waiting messages cost: memory, disk, restarts, and the speed of everybody else.

    python bench/backlog.py [--messages 1000000] [--data-dir DIRECTORY]

The queue is filled; the server is stopped, started, killed and started; the same loads as on the
empty queue are run on top of the backlog; then all is received and deleted, and what is left
behind is looked at.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.driver import Load, Seen
from bench.phases import drive, empty_directory
from bench.processes import ROOT, Server, files_mb, memory_mb, waystation

MESSAGES = 1_000_000
BODY_BYTES = 1_024
SETTLE_S = 180.0
"""For snapshots and truncation after the last delete; it is over when the files no longer shrink."""
SETTLED_AFTER_S = 15.0
"""An idle shard is snapshotted after 10 s, so shrinking may pause for that long."""

LOADS = {
    "send1": Load(mode="send", body_bytes=BODY_BYTES, warmup_messages=2_000, messages=20_000),
    "send10": Load(mode="send", batch=10, body_bytes=BODY_BYTES, warmup_messages=5_000, messages=100_000),
    "receive1": Load(mode="receive", body_bytes=BODY_BYTES, warmup_messages=2_000, messages=20_000),
    "receive10": Load(
        mode="receive", batch=10, body_bytes=BODY_BYTES, warmup_messages=5_000, messages=100_000
    ),
}
"""Compared with and without the backlog. Sends first, and together no fewer than the receives."""


@dataclass(kw_only=True)
class Backlog:
    """What was measured. Sizes in units of 1,000,000 bytes."""

    messages: int
    empty: dict[str, list[Seen]] = field(default_factory=dict)
    """Each load on a queue that holds nothing but what the load itself needs."""
    waiting: dict[str, list[Seen]] = field(default_factory=dict)
    """The same on top of the backlog."""
    fill: Seen | None = None
    drain: Seen | None = None
    idle_rss_mb: float = 0.0
    """Of a server without messages."""
    fill_peak_rss_mb: float = 0.0
    waiting_rss_mb: float = 0.0
    """After a restart with the backlog."""
    drain_peak_rss_mb: float = 0.0
    """From that restart to the last delete."""
    full_files_mb: float = 0.0
    drained_files_mb: float = 0.0
    settled_s: float = 0.0
    """From the last delete until the files had that size, at most `SETTLE_S`."""
    restart_full_s: float = 0.0
    """From the program's start to its listening, after a clean stop."""
    restart_killed_s: float = 0.0
    """The same after SIGKILL at the end of the fill."""
    restart_drained_s: float = 0.0
    """After the whole backlog went through."""
    restart_empty_s: float = 0.0
    """Of a new data directory: what starting costs by itself."""


def measure(data_dir: Path, messages: int, repetitions: int, scale: float = 1.0) -> Backlog:
    """Run it all. Takes about a minute for each half million messages."""
    loads = {name: _scaled(load, scale) for name, load in LOADS.items()}
    backlog = Backlog(messages=messages)
    with (
        empty_directory(data_dir / "backlog-none") as directory,
        Server.run(*waystation(directory)) as server,
    ):
        backlog.restart_empty_s = server.start_s
        backlog.idle_rss_mb = memory_mb(server.pid, "VmRSS")
        for name, load in loads.items():
            preload = load.warmup_messages + load.messages + 1_000 if load.mode == "receive" else 0
            alone = replace(load, preload_messages=preload)
            backlog.empty[name] = [drive(server.url, server.pid, alone) for _ in range(repetitions)]
    with empty_directory(data_dir / "backlog") as directory:
        _fill_and_kill(backlog, directory)
        with Server.run(*waystation(directory)) as server:
            backlog.restart_killed_s = server.start_s
        with Server.run(*waystation(directory)) as server:
            backlog.restart_full_s = server.start_s
            _use_and_drain(backlog, server, loads, repetitions)
            backlog.drained_files_mb, backlog.settled_s = _settled_files_mb(
                directory, SETTLED_AFTER_S * scale
            )
        with Server.run(*waystation(directory)) as server:
            backlog.restart_drained_s = server.start_s
    return backlog


def _fill_and_kill(backlog: Backlog, directory: Path) -> None:
    load = Load(mode="send", batch=10, body_bytes=BODY_BYTES, warmup_messages=0, messages=backlog.messages)
    with Server.run(*waystation(directory)) as server:
        backlog.fill = drive(server.url, server.pid, load, "--keep")
        backlog.fill_peak_rss_mb = memory_mb(server.pid, "VmHWM")
        backlog.full_files_mb = files_mb(directory)
        os.kill(server.pid, signal.SIGKILL)


def _use_and_drain(backlog: Backlog, server: Server, loads: dict[str, Load], repetitions: int) -> None:
    backlog.waiting_rss_mb = memory_mb(server.pid, "VmRSS")
    assert backlog.fill is not None
    in_queue = backlog.fill.total_messages
    for name, load in loads.items():
        backlog.waiting[name] = []
        for _ in range(repetitions):
            seen = drive(server.url, server.pid, load, "--keep")
            backlog.waiting[name].append(seen)
            in_queue += seen.total_messages if load.mode == "send" else -seen.total_messages
    rest = Load(mode="receive", batch=10, body_bytes=BODY_BYTES, warmup_messages=0, messages=in_queue)
    backlog.drain = drive(server.url, server.pid, rest, "--keep")
    backlog.drain_peak_rss_mb = memory_mb(server.pid, "VmHWM")


def _settled_files_mb(directory: Path, settled_after_s: float) -> tuple[float, float]:
    """The least size of the files before they do not shrink for so long, and seconds until it was reached."""
    began = smallest_at = time.monotonic()
    smallest = files_mb(directory)
    while time.monotonic() < min(began + SETTLE_S, smallest_at + settled_after_s):
        time.sleep(0.25)
        if (size := files_mb(directory)) < smallest:
            smallest, smallest_at = size, time.monotonic()
    return smallest, smallest_at - began


def _scaled(load: Load, scale: float) -> Load:
    return replace(
        load,
        warmup_messages=round(load.warmup_messages * scale),
        messages=round(load.messages * scale),
    )


def main() -> None:
    from bench.report import backlog_table

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--data-dir", type=Path, default=ROOT / "bench/.data")
    arguments = parser.parse_args()
    print(backlog_table(measure(arguments.data_dir, arguments.messages, arguments.repetitions)))


if __name__ == "__main__":
    main()
