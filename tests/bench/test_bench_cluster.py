"""Do the benchmarks of a cluster run and say all that they should? How large figures are is not asserted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from bench.capacity import MEASURED, PAGE, report
from bench.capacity_model import NODES_MIN, Costs, costs_of, fitted, need, points
from bench.capacity_simulation import Setup, Simulation, Times
from bench.cluster import COMPARED, FITTED, MODES, Results
from bench.cluster import report as shown
from tests.bench.benchmarks import ON_LINUX, ROOT, run_benchmark

pytestmark = ON_LINUX

_PLACES = ("costs", "plan", "latency", "reach", "check")


@pytest.fixture(scope="module")
def measured() -> Results:
    """The figures that the pages were made from."""
    return msgspec.json.decode(MEASURED.read_bytes(), type=Results)


@pytest.fixture(scope="module")
def costs(measured: Results) -> Costs:
    return costs_of(measured)


def test_a_quick_run_has_figures_for_each_load_and_can_be_shown_again(tmp_path: Path) -> None:
    """Of a node alone and of bare JetStream, which need nothing that development does not need anyhow."""
    raw = tmp_path / "raw.json"
    systems = ("--system", "embedded", "--system", "jetstream")
    printed = run_benchmark(
        "cluster.py", "--quick", *systems, "--json", str(raw), "--data-dir", str(tmp_path / "data")
    )

    seen = json.loads(raw.read_text())["seen"]
    assert set(seen) == {"embedded", "jetstream"}
    for loads in seen.values():
        assert list(loads) == [f"{pair.name}/{mode}" for pair in COMPARED for mode in MODES]
        assert all(ran["messages_per_s"] > 0 for [ran] in loads.values())
    assert list((tmp_path / "data").iterdir()) == [], "data is left behind"
    assert shown(msgspec.json.decode(raw.read_bytes(), type=Results)) + "\n" == printed


def test_the_pages_have_a_place_for_each_table() -> None:
    """`--update-readme` and `--update-page` replace what stands between two markers, which are there once."""
    readme = (ROOT / "bench/README.md").read_text()
    page = PAGE.read_text()

    assert len(re.findall(r"^<!-- cluster: (begin|end)", readme, re.MULTILINE)) == 2
    for place in _PLACES:
        assert len(re.findall(rf"^<!-- {place}: (begin|end)", page, re.MULTILINE)) == 2, place


def test_costs_that_made_the_figures_are_found_again(measured: Results) -> None:
    """Points that lie exactly on the model's surface are met by the fit, to a percent."""
    real = points(measured, "cluster-other", "owner", "send", COMPARED + FITTED)
    wanted = fitted(real, "ramb")
    exact = [
        type(point)(
            pair=point.pair,
            grouped=point.grouped,
            us=wanted.of(point.pair.batch, point.grouped, point.pair.body_bytes),
        )
        for point in real
    ]

    found = fitted(exact, "ramb")
    for point in exact:
        modelled = found.of(point.pair.batch, point.grouped, point.pair.body_bytes)
        assert modelled == pytest.approx(point.us, rel=0.01)


def test_more_messages_need_more_of_everything_and_never_fewer_than_three_nodes(costs: Costs) -> None:
    """A plan grows with the rate; each node has a shard to serve."""
    plans = [need(costs, rate, 10, 256, 3_600) for rate in (1_000, 100_000, 1_000_000)]

    assert plans[0].nodes >= NODES_MIN
    assert all(plan.shards >= plan.nodes for plan in plans)
    for part in ("nodes", "storage_cores", "storage_servers", "disk_gb"):
        assert sorted(getattr(plan, part) for plan in plans) == [getattr(plan, part) for plan in plans]


def test_the_simulation_agrees_with_what_can_be_reckoned() -> None:
    """
    One request at a time takes the sum of its parts: two ways to the node and back, its work, and an append,
    which goes to the leader, to its disk, to a follower, to that disk, and back again.
    """
    times = Times(
        frontend=0.0002, owner=0.0001, record=0.0003, storage=0.0001, fsync=0.001, round_trip=0.0005
    )
    alone = Simulation(times, Setup(nodes=1, shards=1, connections=1)).run(1.0)

    append = 0.0003 + 2 * (0.0001 + 0.001) + 4 * 0.00025
    assert alone.p50_ms == pytest.approx((0.0005 + 0.0002 + 0.0001 + append) * 1e3)
    assert alone.requests_per_record == pytest.approx(1.0, rel=0.01)


def test_a_simulated_node_is_no_faster_than_its_core() -> None:
    """With more clients than it can serve, its core is the limit, and appends are shared by many."""
    times = Times(frontend=0.0002, owner=0.0001, record=0.0, storage=0.0, fsync=0.001, round_trip=0.0005)
    busy = Simulation(times, Setup(nodes=1, shards=1, connections=200)).run(1.0)

    assert busy.requests_per_s == pytest.approx(1 / 0.0003, rel=0.05)
    assert busy.node_use == pytest.approx(1.0, rel=0.05)
    assert busy.requests_per_record > 5


def test_the_report_has_every_table_of_the_page(
    measured: Results, costs: Costs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the figures that are kept, with a look at latency too short to mean anything."""
    monkeypatch.setattr("bench.capacity_model.SIMULATED_REQUESTS", 300)
    monkeypatch.setattr("bench.capacity.CHECKED_S", 0.05)

    tables = report(measured, costs)

    assert tuple(tables) == _PLACES
    assert all("| --- |" in table for table in tables.values())
