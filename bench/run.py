"""Measure Waystation: throughput, latency and server CPU, against the limits of its parts.

    make bench                                  everything, some thirteen minutes
    python bench/run.py --quick                 everything, too small to mean anything: does it run?
    python bench/run.py --phase send1           one phase only; may be given several times
    python bench/run.py --phase send1 --server-url http://127.0.0.1:9324 --pid 4711
                                                on a server that is running, under a profiler say;
                                                keys from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
    python bench/run.py --update-readme         everything, and the tables of bench/README.md anew

Linux only. See bench/README.md for what the figures mean.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import msgspec

from bench import backlog, fairness, groups, letters
from bench.driver import Seen
from bench.limits import CommitSpeed
from bench.phases import PHASES, Phase, drive, empty_directory, load_of, run_phase
from bench.processes import ROOT, Server, file_system, output_of
from bench.report import Results, report, update_readme

QUICK_SCALE = 0.02
QUICK_BACKLOG = 5_000
LIMIT_S = 2.0
"""How long commits alone are measured, for each size."""
CONSTANT_QUEUE_URL = "http://127.0.0.1/000000000000/bench"


def main() -> None:
    arguments = _arguments()
    if arguments.load:
        results = msgspec.json.decode(arguments.load.read_bytes(), type=Results)
    else:
        results = _measure(arguments)
    print(report(results))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    if arguments.update_readme:
        update_readme(results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [phase.name for phase in PHASES]
    parser.add_argument("--phase", action="append", choices=names, help="and neither limits nor backlog")
    parser.add_argument("--repetitions", type=int, default=3, help="the medians of which are shown")
    parser.add_argument(
        "--messages", type=int, default=backlog.MESSAGES, help="of the backlog; 0 leaves it out"
    )
    parser.add_argument("--data-dir", type=Path, default=ROOT / "bench/.data", help="on the disk to measure")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="write the raw figures to this file")
    parser.add_argument("--load", type=Path, help="show the figures of such a file, measure nothing")
    parser.add_argument("--update-readme", action="store_true")
    parser.add_argument("--server-url", help="of a server that runs already")
    parser.add_argument("--pid", type=int, help="of that server")
    arguments = parser.parse_args()
    if (arguments.server_url is None) != (arguments.pid is None):
        parser.error("--server-url and --pid go together")
    if arguments.server_url and not arguments.phase:
        parser.error("--server-url needs --phase")
    if arguments.quick:
        arguments.repetitions, arguments.messages = 1, min(arguments.messages, QUICK_BACKLOG)
    return arguments


def _measure(arguments: argparse.Namespace) -> Results:
    directory: Path = arguments.data_dir
    directory.mkdir(parents=True, exist_ok=True)
    results = Results(machine=_machine(directory, arguments.repetitions))
    phases = [phase for phase in PHASES if not arguments.phase or phase.name in arguments.phase]
    scale = QUICK_SCALE if arguments.quick else 1.0
    # Repetition by repetition, so that a busy moment of the machine hits all alike.
    for number in range(arguments.repetitions):
        for phase in phases:
            _say(f"repetition {number + 1}: {phase.name}")
            seen = _measure_phase(phase, results, scale, arguments)
            results.phases.setdefault(phase.name, []).append(seen)
            _say(f"  {seen.messages_per_s:,.0f} messages/s, {seen.cpu_us_per_message:.1f} µs/message")
        if not arguments.phase:
            _say(f"repetition {number + 1}: limits")
            _measure_limits(results, directory, scale)
    if not arguments.phase and arguments.messages:
        _say(f"backlog of {arguments.messages:,} messages")
        results.backlog = backlog.measure(directory, arguments.messages, arguments.repetitions, scale)
    if not arguments.phase:
        _measure_groups(results, directory, arguments, scale)
    return results


def _measure_groups(results: Results, directory: Path, arguments: argparse.Namespace, scale: float) -> None:
    _say("message groups")
    deep = QUICK_BACKLOG if arguments.quick else groups.DEEP_MESSAGES
    # A repetition has twelve loads of its own here, each with a ratio to its neighbour.
    results.groups = groups.measure(directory, deep, 1, scale)
    _say("fairness")
    results.fairness = fairness.measure(directory, max(fairness.SECONDS * scale, 2.0))
    _say("dead letters")
    results.letters = letters.measure(directory, round(letters.MESSAGES * max(scale, 0.02)))


def _measure_phase(phase: Phase, results: Results, scale: float, arguments: argparse.Namespace) -> Seen:
    rate = None
    if phase.half_of is not None:
        if phase.half_of not in results.phases:
            sys.exit(f"{phase.name} needs --phase {phase.half_of} as well")
        rate = median(seen.messages_per_s for seen in results.phases[phase.half_of])
    load = load_of(phase, rate, scale)
    if arguments.server_url:
        return drive(arguments.server_url, arguments.pid, load, f"--queue=bench-{time.time_ns()}")
    return run_phase(phase, load, arguments.data_dir)


def _measure_limits(results: Results, directory: Path, scale: float) -> None:
    with Server.run("-m", "bench.limits", "http") as server:
        for phase in PHASES:
            if phase.name in ("send1", "send10"):
                seen = drive(
                    server.url, server.pid, load_of(phase, None, scale), f"--queue-url={CONSTANT_QUEUE_URL}"
                )
                results.http.setdefault(phase.name, []).append(seen)
    for kind in ("log", "disk"):
        with empty_directory(directory / kind) as place:
            output = output_of("-m", "bench.limits", kind, str(place), str(LIMIT_S * scale))
        speeds = msgspec.json.decode(output, type=list[CommitSpeed])
        if kind == "log":
            results.log.append(speeds)
        else:
            results.disk += speeds


def _machine(directory: Path, repetitions: int) -> dict[str, str]:
    """What the figures depend on, in the order in which it is printed."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cores": f"{os.cpu_count()} of {model}",
        "data on": file_system(directory),
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "repetitions": str(repetitions),
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
