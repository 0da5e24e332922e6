"""What is measured of a whole server: each phase is one load on a server of its own.

A server of its own, with a new data directory, because snapshots and truncation after one load
would be paid for by the next.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import msgspec

from bench.driver import Load, Seen
from bench.processes import Server, output_of, waystation
from bench.workload import Mode

MESSAGES = 120_000
"""Measured in each closed loop, thrice that in batches: enough to pay for the snapshots that a
server makes every 100,000 events, which a short look would never see."""

HALF_RATE_S = 8
"""How long an open loop is measured."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One line of the table, and what we want it to say."""

    name: str
    title: str
    mode: Mode
    batch: int
    half_of: str | None = None
    """An open loop at half of the rate that this phase reached; None for a closed loop."""
    cpu_us_aim: float | None = None
    p99_ms_aim: float | None = None


PHASES = (
    Phase(name="send1", title="send, singly", mode="send", batch=1, cpu_us_aim=40),
    Phase(name="receive1", title="receive + delete, singly", mode="receive", batch=1, cpu_us_aim=80),
    Phase(name="both1", title="both at once, singly", mode="both", batch=1),
    Phase(name="send10", title="send, batches of 10", mode="send", batch=10, cpu_us_aim=8),
    Phase(name="receive10", title="receive + delete, batches of 10", mode="receive", batch=10, cpu_us_aim=14),
    Phase(name="both10", title="both at once, batches of 10", mode="both", batch=10),
    Phase(name="send1-half", title="send, singly", mode="send", batch=1, half_of="send1", p99_ms_aim=10),
    Phase(
        name="both1-half", title="both at once, singly", mode="both", batch=1, half_of="both1", p99_ms_aim=10
    ),
    Phase(
        name="send10-half",
        title="send, batches of 10",
        mode="send",
        batch=10,
        half_of="send10",
        p99_ms_aim=10,
    ),
    Phase(
        name="both10-half",
        title="both at once, batches of 10",
        mode="both",
        batch=10,
        half_of="both10",
        p99_ms_aim=10,
    ),
)


def load_of(phase: Phase, closed_rate: float | None, scale: float) -> Load:
    """The load of a phase.

    Args:
        closed_rate: messages a second that `half_of` reached; not needed for a closed loop.
        scale: of the usual number of messages; below 1 for a quick look.
    """
    warmup = round(4_000 * phase.batch * scale)
    messages = round(MESSAGES * min(phase.batch, 3) * scale)
    rate = None
    if phase.half_of is not None:
        assert closed_rate is not None, f"{phase.half_of} was not measured"
        rate = closed_rate / 2
        warmup, messages = round(rate), max(round(rate * HALF_RATE_S * scale), 100)
        warmup = round(warmup * scale)
    # Both at once: a cushion, so that a receive never finds the queue empty. Receiving alone: enough
    # for each connection to have a full batch in hand, and some.
    preload = {"send": 0, "both": 1_000 * phase.batch, "receive": warmup + messages + 100 * phase.batch}
    return Load(
        mode=phase.mode,
        batch=phase.batch,
        warmup_messages=warmup,
        messages=messages,
        preload_messages=preload[phase.mode],
        rate=rate,
    )


def drive(url: str, pid: int, load: Load, *flags: str) -> Seen:
    """Run a load from a process of its own."""
    options = [
        f"--{field.name.replace('_', '-')}={getattr(load, field.name)}"
        for field in fields(Load)
        if getattr(load, field.name) is not None
    ]
    output = output_of("-m", "bench.client", "--url", url, "--server-pid", str(pid), *options, *flags)
    return msgspec.json.decode(output, type=Seen)


@contextmanager
def empty_directory(path: Path) -> Iterator[Path]:
    """A new directory that is removed, with all that is in it, at the end."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def run_phase(phase: Phase, load: Load, data_dir: Path) -> Seen:
    """Measure one phase on a new server."""
    with empty_directory(data_dir / phase.name) as directory, Server.run(*waystation(directory)) as server:
        return drive(server.url, server.pid, load)
