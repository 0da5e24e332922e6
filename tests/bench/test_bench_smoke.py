"""Does the benchmark run, and does it say all that it should? How large its figures are is not asserted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench.phases import PHASES
from tests.bench.benchmarks import ON_LINUX, ROOT, run_benchmark

pytestmark = ON_LINUX


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a quick run printed, and its raw figures."""
    directory = tmp_path_factory.mktemp("bench")
    raw = directory / "raw.json"
    printed = run_benchmark(
        "run.py", "--quick", "--messages", "1000", "--data-dir", str(directory / "data"), "--json", str(raw)
    )
    assert list((directory / "data").iterdir()) == [], "servers' data is left behind"
    return printed, raw


def test_a_quick_run_has_figures_for_every_phase_and_limit(quick: tuple[str, Path]) -> None:
    """
    Each phase has moved messages, used CPU and timed its calls; so have the limits it is
    compared with. Open loops keep to the rate they were given, within what so short a look can tell.
    """
    results = json.loads(quick[1].read_text())

    assert list(results["phases"]) == [phase.name for phase in PHASES]
    for name, [seen] in results["phases"].items():
        assert seen["messages"] > 0, name
        assert seen["messages_per_s"] > 0, name
        assert 0 < seen["p50_ms"][""] <= seen["p99_ms"][""] <= seen["max_ms"][""], name
    assert {"SendMessage", "ReceiveMessage", "DeleteMessage"} == set(
        results["phases"]["both1"][0]["p50_ms"]
    ) - {""}
    assert results["http"]["send1"][0]["messages_per_s"] > 0
    assert [speed["messages"] for speed in results["log"][0]] == [1, 16, 64]
    assert results["disk"][0]["commits_per_s"] > 0


def test_a_quick_run_fills_and_drains_a_backlog(quick: tuple[str, Path]) -> None:
    """The backlog's memory, files, restarts and speeds are all there, and it went through wholly."""
    backlog = json.loads(quick[1].read_text())["backlog"]

    assert backlog["fill"]["total_messages"] >= 1_000
    through = sum(runs[0]["total_messages"] for name, runs in backlog["waiting"].items() if "send" in name)
    received = sum(
        runs[0]["total_messages"] for name, runs in backlog["waiting"].items() if "receive" in name
    )
    assert backlog["fill"]["total_messages"] + through == received + backlog["drain"]["total_messages"]
    for name in (
        "fill_peak_rss_mb",
        "drain_peak_rss_mb",
        "full_files_mb",
        "restart_full_s",
        "restart_killed_s",
    ):
        assert backlog[name] > 0, name


def test_a_quick_run_has_figures_for_message_groups_tenants_and_dead_letters(quick: tuple[str, Path]) -> None:
    """FIFO queues of few and of many groups, a deep one, both loads of fairness, and both moves."""
    results = json.loads(quick[1].read_text())

    groups = results["groups"]
    assert list(groups["by_groups"]) == ["0", "1", "100", "10000"]
    for loads in groups["by_groups"].values():
        assert all(seen["messages"] > 0 for [seen] in loads.values())
    for runs in (groups["alone"], groups["deep"]):
        assert {name: seen["messages"] > 0 for name, [seen] in runs.items()} == {
            "itself": True,
            "others": True,
        }
    for runs in results["fairness"]["by_load"].values():
        assert all(runs[name]["messages"] > 0 for name in ("alone", "fair", "ungrouped"))
    assert results["letters"]["dead_per_s"] > 0
    assert results["letters"]["moved_per_s"] > 0


def test_the_tables_name_every_phase_and_can_be_made_again_from_raw_figures(quick: tuple[str, Path]) -> None:
    """What was printed is a function of what was saved, so that a table can be checked later."""
    printed, raw = quick

    for phase in PHASES:
        assert f"| {phase.title} |" in printed
    assert run_benchmark("run.py", "--load", str(raw)) == printed


def test_the_readme_has_a_place_for_the_figures() -> None:
    """`--update-readme` replaces what stands between two markers, which must be there once."""
    readme = (ROOT / "bench/README.md").read_text()

    assert len(re.findall(r"^<!-- figures: (begin|end)", readme, re.MULTILINE)) == 2
