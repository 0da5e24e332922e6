"""Does anything grow? A long run of mixed load, watched from outside.

    make soak MINUTES=30                         the whole thing; flags go in ARGS
    python bench/soak.py --minutes 3             a short look, whose verdict says little about memory
    python bench/soak.py --load FILE             the page and the plots again, from a soak.json

A server with its default settings and authentication is given a steady rate well below what it could
do. Its memory, files, descriptors, threads and CPU are read from the kernel, latencies are the
clients', and every message is accounted for. The exit code is 1 when something was not flat, failed
or was lost. Linux only. See bench/README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
from contextlib import suppress
from math import inf
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import msgspec
import uvloop

from bench.flatness import SAMPLES_MIN, WARM_UP_SHARE
from bench.phases import empty_directory
from bench.processes import ROOT, Server, cpu_s, environment, file_system, memory_mb, waystation
from bench.soak_load import Load
from bench.soak_plots import drawn
from bench.soak_report import FILE_SERIES, PLOTS, Soak, load, report, save

MINUTES = 30.0
MESSAGES_PER_S = 1_500.0
EVERY_S = 5.0
_NAMES_STAY_TAKEN = ("--service.name-reuse-s", "60")
"""The default, which benchmarks otherwise turn off: here deleted queues are to be remembered."""


def main() -> None:
    arguments = _arguments()
    if arguments.load:
        soak = _loaded(arguments.load)
    else:
        os.environ.update(environment())
        arguments.data_dir.mkdir(parents=True, exist_ok=True)
        soak = measure(arguments.data_dir, arguments.minutes * 60, arguments.rate, arguments.every)
    _write(soak, arguments.results)
    if broken := soak.broken():
        sys.exit("\n".join(["The long run is not as it should be:", *broken]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long messages are sent")
    parser.add_argument("--rate", type=float, default=MESSAGES_PER_S, help="messages a second")
    parser.add_argument("--every", type=float, default=EVERY_S, help="seconds between two samples")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "bench/.data")
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results", help="where the page goes")
    parser.add_argument("--load", type=Path, help="make the page from such a file, measure nothing")
    arguments = parser.parse_args()
    for name in ("minutes", "rate", "every"):
        if not 0 < getattr(arguments, name) < inf:
            parser.error(f"--{name} is more than 0, and finite")
    needed_s = arguments.every * (SAMPLES_MIN + 2) / (1 - WARM_UP_SHARE)
    if arguments.minutes * 60 < needed_s:
        parser.error(f"with a sample every {arguments.every:g} s, --minutes is at least {needed_s / 60:.2g}")
    return arguments


def measure(data_dir: Path, seconds: float, messages_per_s: float, every_s: float) -> Soak:
    """Run it all; it takes that long, and up to a minute to drain the queues."""
    with (
        empty_directory(data_dir / "soak") as directory,
        Server.run(*waystation(directory, *_NAMES_STAY_TAKEN)) as server,
    ):
        soak = Soak(machine=_machine(directory), messages_per_s=messages_per_s, seconds=seconds)
        uvloop.run(_run(soak, Load(server.url, messages_per_s), server.pid, directory, every_s))
    return soak


async def _run(soak: Soak, clients: Load, pid: int, directory: Path, every_s: float) -> None:
    await clients.prepare()
    async with asyncio.TaskGroup() as group:  # the end of the server is the end of both
        group.create_task(_watch(soak, clients, pid, directory, every_s))
        group.create_task(clients.run(soak.seconds))
    soak.sent = {name: ledger.sent for name, ledger in clients.ledgers.items()}
    soak.deleted = {name: ledger.deleted for name, ledger in clients.ledgers.items()}
    soak.left, soak.queues_churned = clients.left, clients.queues_churned
    soak.faults, soak.first_faults = clients.faults, clients.first_faults


async def _watch(soak: Soak, clients: Load, pid: int, directory: Path, every_s: float) -> None:
    """Take a sample every so often, until no more is sent."""
    began = perf_counter()
    clients.take()
    cpu_before, at_before, done_before = cpu_s(pid), began, clients.deleted
    for number in range(1, int(soak.seconds / every_s) + 1):
        await asyncio.sleep(max(began + number * every_s - perf_counter(), 0))
        cpu, at, done = cpu_s(pid), perf_counter(), clients.deleted
        used_s = cpu - cpu_before
        sample = look(pid, directory) | clients.take()
        sample["cpu_share"] = used_s / (at - at_before)
        sample["cpu_us_per_message"] = used_s / (done - done_before) * 1e6 if done > done_before else None
        sample["client_rss_mb"] = memory_mb(os.getpid(), "VmRSS")
        soak.add(at - began, sample)
        cpu_before, at_before, done_before = cpu, at, done
        if number % max(round(60 / every_s), 1) == 0:
            _say(soak)


def look(pid: int, directory: Path) -> dict[str, float | None]:
    """What the kernel says of a server now. Sizes in units of 1,000,000 bytes."""
    files: dict[str, float | None] = {}
    for path in sorted(directory.rglob("*")):
        with suppress(FileNotFoundError):  # SQLite removes files of its own
            if path.is_file():
                files[f"{FILE_SERIES}{path.relative_to(directory)}"] = path.stat().st_size / 1e6
    return {
        "rss_mb": memory_mb(pid, "VmRSS"),
        "anonymous_mb": memory_mb(pid, "RssAnon"),
        "mapped_mb": memory_mb(pid, "RssFile"),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
        "files_mb": sum(size or 0.0 for size in files.values()),
        **files,
    }


def _loaded(path: Path) -> Soak:
    try:
        return load(path)
    except (OSError, msgspec.MsgspecError) as error:
        sys.exit(f"{path} cannot be read as the samples of a long run: {error}")


def _write(soak: Soak, directory: Path) -> None:
    """Write the page and what is on it, and print the page."""
    directory.mkdir(parents=True, exist_ok=True)
    save(soak, directory / "soak.json")
    for plot in PLOTS:
        (directory / f"soak-{plot.name}.svg").write_bytes(drawn(plot, soak))
    page = report(soak)
    (directory / "soak.md").write_text(page)
    print(page)


def _machine(directory: Path) -> dict[str, str]:
    return {
        "cores": str(os.cpu_count()),
        "data on": file_system(directory),
        "kernel": platform.release(),
        "Python": platform.python_version(),
    }


def _say(soak: Soak) -> None:
    now = {name: values[-1] for name, values in soak.series.items()}
    print(
        f"{soak.at_s[-1] / 60:.1f} min: {now['rss_mb']} MB, {now['files_mb']} MB of files, "
        f"{now['sent_per_s']} messages/s, send p99 {now['send_p99_ms']} ms, faults {now['faults']}",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    main()
