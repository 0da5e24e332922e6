"""How far does a cluster carry that is larger than this machine? A model of measured costs, and its check.

    python bench/capacity.py                 # from bench/results/cluster.json
    python bench/capacity.py --update-page   # and write the tables of docs/capacity.md anew

`capacity_model.py` derives what a rate of messages needs from what `cluster.py` measured; a simulation
(`capacity_simulation.py`) of such a cluster gives the latency. Both are compared here with loads
that the model was not fitted to, and with a single node on a quiet machine.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import msgspec

from bench.capacity_model import (
    ASSUMED,
    ROLES,
    Costs,
    costs_of,
    month_usd,
    need,
    points,
    simulated,
    sqs_month_usd,
    times_of,
    zones_usd,
)
from bench.capacity_simulation import Setup, Simulation
from bench.cluster import CHECKS, MODES, Results, total_us, update_page
from bench.driver import Seen
from bench.peers.systems import TITLES
from bench.processes import ROOT
from bench.tables import table

PAGE = ROOT / "docs/capacity.md"
MEASURED = ROOT / "bench/results/cluster.json"
SINGLE = ROOT / "bench/results/latest.json"

CASES = (
    (1_000, 1, 256),
    (1_000, 10, 256),
    (100_000, 10, 256),
    (100_000, 10, 4_096),
    (1_000_000, 10, 256),
    (1_000_000, 10, 4_096),
)
"""Messages a second, in a request, bytes of a body."""
RETAINED_S = 3_600
FSYNCS_S = (0.0001, 0.001, 0.005)
LOCAL_FSYNC_S = 0.0001
"""Of the machine that `cluster.json` comes from."""
MANY = 1e9
CHECKED_S = 3.0
_MODES = {"send": "send", "receive": "receive + delete"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measured", type=Path, default=MEASURED, help="by bench/cluster.py")
    parser.add_argument("--update-page", action="store_true")
    arguments = parser.parse_args()
    results = msgspec.json.decode(arguments.measured.read_bytes(), type=Results)
    for place, figures in report(results, costs_of(results)).items():
        print(f"{figures}\n")
        if arguments.update_page:
            marked = re.compile(rf"(<!-- {place}: begin[^\n]*-->\n).*?(<!-- {place}: end -->)", re.DOTALL)
            update_page(PAGE, marked, figures)


def report(results: Results, costs: Costs) -> dict[str, str]:
    """Tables by the name of the place where each belongs."""
    return {
        "costs": _costs_table(costs, results),
        "plan": _plan_table(costs),
        "latency": _latency_table(costs),
        "reach": _reach_table(costs),
        "check": "\n\n".join(
            [_cpu_check(results, costs), _simulation_check(results, costs), _single_check()]
        ),
    }


def _costs_table(costs: Costs, results: Results) -> str:
    head = ["CPU µs", "for each request", "for each append", "for each message", "for each KB of body"]
    head += ["= a message alone", "= one of ten, 100 in an append"]
    rows = []
    for (system, role, mode), cost in costs.items():
        row = [f"{TITLES[system].removeprefix('Waystation, ')}: {role}, {_MODES[mode]}"]
        row += [f"{value:.1f}" for value in (cost.request, cost.record, cost.message, cost.byte * 1_000)]
        rows.append([*row, f"{cost.of(1, 1, 256):.0f}", f"{cost.of(10, 100, 256):.1f}"])
    return "\n\n".join([table(head, rows), _call_and_bytes(costs, results)])


def _call_and_bytes(costs: Costs, results: Results) -> str:
    def whole(system: str, batch: int) -> float:
        roles = [role for role in ROLES[system] if role != "nats-servers"]
        return sum(costs[system, role, mode].of(batch, MANY, 256) for role in roles for mode in MODES)

    single, tenth = (whole("cluster-other", batch) - whole("cluster-owner", batch) for batch in (1, 10))
    small = median(run.record_bytes or 0 for run in results.seen["cluster-other"]["in tens/send"])
    return (
        f"The calls between two nodes for one message, which are part of this: {single:.0f} µs singly, "
        f"{tenth:.0f} in tens. A message of 256 bytes takes {small:,.0f} bytes of the stream of its shard, "
        "on each of three servers."
    )


def _plan_table(costs: Costs) -> str:
    head = ["messages/s", "in a request", "bytes", "node processes", "shards", "NATS cores (servers)"]
    head += ["disk MB/s, syncs/s, of each", "network Mbit/s, all", "GB retained", "p50 / p99 ms of a request"]
    head += ["USD a month, one zone", "over three zones", "Amazon SQS"]
    rows = []
    for rate, batch, size in CASES:
        what = need(costs, rate, batch, size, RETAINED_S)
        seen = simulated(costs, what, ASSUMED.fsync_s)
        row = [f"{rate:,}", str(batch), f"{size:,}", str(what.nodes), str(what.shards)]
        row += [f"{what.storage_cores} ({what.storage_servers})"]
        row += [f"{what.disk_bytes_per_s / 1e6:,.0f}, {what.syncs_per_s:,.0f}"]
        row += [f"{what.traffic_bytes_per_s * 8 / 1e6:,.0f}", f"{what.disk_gb:,.0f}"]
        usd = month_usd(what)
        row += [f"{seen.p50_ms:.1f} / {seen.p99_ms:.1f}", _rounded(usd), _rounded(usd + zones_usd(what))]
        rows.append([*row, _rounded(sqs_month_usd(rate, batch, size))])
    return table(head, rows)


def _rounded(usd: float) -> str:
    """To two digits: no more is known."""
    return f"{float(f'{usd:.2g}'):,.0f}"


def _latency_table(costs: Costs) -> str:
    head = ["p50 / p99 ms of a request, simulated", *(f"fsync {each * 1e3:g} ms" for each in FSYNCS_S)]
    rows = []
    for rate, batch, size in CASES[:3]:
        what = need(costs, rate, batch, size, RETAINED_S)
        row = [f"{rate:,} messages/s, {'singly' if batch == 1 else 'in tens'}, {size} bytes"]
        for fsync_s in FSYNCS_S:
            seen = simulated(costs, what, fsync_s)
            row.append(f"{seen.p50_ms:.1f} / {seen.p99_ms:.1f}")
        rows.append(row)
    return table(head, rows)


def _reach_table(costs: Costs) -> str:
    head = ["256 bytes, sent, received and deleted", "singly", "in tens"]
    reaches: tuple[tuple[str, list[tuple[str, str]]], ...] = (
        ("1 node, embedded: its core", [("embedded", "node")]),
        ("1 node with FrontEnd processes: the core of the shard's owner", [("frontends", "owner")]),
        ("a shard of a cluster, its owner doing nothing else: its core", [("cluster-other", "owner")]),
        ("3 nodes: their three cores", []),
    )
    rows = []
    for title, roles in reaches:
        row = [title]
        for batch in (1, 10):
            if roles:
                us = sum(costs[*where, mode].of(batch, 20 * batch, 256) for where in roles for mode in MODES)
            else:
                us = need(costs, 1_000 * batch, batch, 256, 0).node_us / 3
            row.append(f"{1e6 / us:,.0f} messages/s")
        rows.append(row)
    return table(head, rows)


# How far the model is from what was measured


def _cpu_check(results: Results, costs: Costs) -> str:
    head = ["CPU µs/message of a load that nothing was fitted to", "load", "model", "measured", "error"]
    rows = []
    for system, roles in ROLES.items():
        if system not in results.seen:
            continue
        for pair in CHECKS:
            for mode in MODES:
                model = 0.0
                for role in roles:
                    [point] = points(results, system, role, mode, [pair])
                    cost = costs[system, role, mode]
                    model += cost.of(pair.batch, point.grouped, pair.body_bytes)
                us = total_us(results.seen[system][f"{pair.name}/{mode}"])
                row = [TITLES[system].removeprefix("Waystation, "), f"{_MODES[mode]}, {pair.name}"]
                rows.append([*row, f"{model:.0f}", f"{us:.0f}", f"{(model / us - 1) * 100:+.0f} %"])
    return table(head, rows)


def _simulation_check(results: Results, costs: Costs) -> str:
    head = [
        "3 nodes, sends, by the simulation",
        "messages/s",
        "measured",
        "error",
        "in an append",
        "measured",
    ]
    rows = []
    for pair in CHECKS:
        runs = results.seen["cluster-other"][f"{pair.name}/send"]
        rate = median(run.messages_per_s for run in runs)
        # What the cores gave to this load and its client, for others had the rest.
        cores = median(run.messages_per_s * (sum(run.us.values()) + run.client_us) for run in runs) / 1e6
        client_s = median(run.client_us for run in runs) * pair.batch / 1e6
        times = times_of(costs, "send", pair.batch, pair.body_bytes, LOCAL_FSYNC_S, client_s)
        setup = Setup(nodes=2, shards=1, machine=cores, connections=pair.connections)
        seen = Simulation(times, setup).run(CHECKED_S)
        got, grouped = seen.requests_per_s * pair.batch, seen.requests_per_record * pair.batch
        measured = median(run.messages_per_record or 0 for run in runs)
        row = [f"{pair.name}, {cores:.1f} of 2 cores", f"{got:,.0f}", f"{rate:,.0f}"]
        rows.append([*row, f"{(got / rate - 1) * 100:+.0f} %", f"{grouped:.0f}", f"{measured:.0f}"])
    return table(head, rows)


def _single_check() -> str:
    """One node on a quiet machine: what its one core bears, and what it did."""
    head = ["1 node, nothing else on the machine", "messages/s of one core", "measured", "error"]
    rows = []
    for name, runs in _single_runs():
        rate = median(run.messages_per_s for run in runs)
        model = 1e6 / median(run.cpu_us_per_message for run in runs)
        rows.append([name, f"{model:,.0f}", f"{rate:,.0f}", f"{(model / rate - 1) * 100:+.0f} %"])
    return table(head, rows)


class _Single(msgspec.Struct):
    phases: dict[str, list[Seen]]


def _single_runs() -> Iterator[tuple[str, list[Seen]]]:
    phases = msgspec.json.decode(SINGLE.read_bytes(), type=_Single).phases
    for name, title in (("send", "send"), ("receive", "receive + delete"), ("both", "both at once")):
        yield f"{title}, singly", phases[f"{name}1"]
        yield f"{title}, in tens", phases[f"{name}10"]


if __name__ == "__main__":
    main()
