"""Does the benchmark of deep backlogs and many queues run? How large its figures are is not asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.benchmarks import ON_LINUX, run_benchmark

pytestmark = ON_LINUX


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the smallest run of all parts printed, and its raw figures."""
    directory = tmp_path_factory.mktemp("deep")
    raw = directory / "raw.json"
    printed = run_benchmark(
        "deep.py", "--scale", "0.0005", "--data-dir", str(directory / "data"), "--json", str(raw)
    )
    assert list((directory / "data").iterdir()) == [], "servers' data is left behind"
    return printed, raw


def test_every_deep_queue_is_filled_and_drained_to_its_last_message(quick: tuple[str, Path]) -> None:
    deep = json.loads(quick[1].read_text())["deep"]

    assert list(deep) == ["standard", "single", "group", "groups"]
    for name, figures in deep.items():
        messages = figures["depth"]["messages"]
        assert figures["fill"]["messages"] == messages > 0, name
        assert sum(seen["total_messages"] for seen in figures["drain"]) == messages, name
        for size in ("full_files_mb", "killed_start_s", "clean_start_s", "drain_peak_rss_mb"):
            assert figures[size] > 0, (name, size)
        assert figures["snapshot"]["snapshot_bytes"] > 0, name
        assert 0 < figures["snapshot"]["blocked_ms"] <= figures["snapshot"]["total_ms"] + 10, name


def test_no_pin_is_lost_while_traffic_passes_over_it(quick: tuple[str, Path]) -> None:
    pinned = json.loads(quick[1].read_text())["pinned"]

    assert pinned["pins"] == pinned["left"] > 0
    assert len(pinned["files_mb"]) == len(pinned["peak_files_mb"]) == len(pinned["passed_mb"])
    assert pinned["passed_mb"] == sorted(pinned["passed_mb"])


def test_queues_are_created_used_and_there_after_a_kill(quick: tuple[str, Path]) -> None:
    many = json.loads(quick[1].read_text())["many"]

    assert many["created"]["total_messages"] == many["used"]["total_messages"] >= many["queues"] > 0
    assert many["killed_start_s"] > 0
    assert many["snapshot"]["snapshot_bytes"] > many["queues"] * len("queue-1")


def test_the_tables_are_made_again_from_raw_figures(quick: tuple[str, Path]) -> None:
    printed, raw = quick

    assert "| drained at |" in printed
    assert "CPU of the idle server" in printed
    assert run_benchmark("deep.py", "--load", str(raw)) == printed
