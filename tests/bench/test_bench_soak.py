"""Does the long run watch what it should, and would it notice? A few seconds of it, and made-up figures."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.flatness import Limit
from bench.soak_load import FLOWS, Flow, Ledger
from bench.soak_report import LIMITS, PLOTS, Soak, report
from tests.bench.benchmarks import ON_LINUX, finished


def run_soak(*flags: str) -> subprocess.CompletedProcess[str]:
    return finished("soak.py", *flags)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run of six seconds left its page. How flat so short a run was is nobody's concern."""
    directory = tmp_path_factory.mktemp("soak")
    flags = ["--minutes", "0.1", "--every", "0.25", "--rate", "150"]
    run = run_soak(*flags, "--data-dir", str(directory / "data"), "--results", str(directory / "results"))
    assert run.returncode in (0, 1), run.stderr
    assert (directory / "results/soak.md").exists(), run.stderr
    assert list((directory / "data").iterdir()) == [], "the server's data is left behind"
    return directory / "results"


@ON_LINUX
def test_every_message_of_a_short_run_is_accepted_received_and_deleted(results: Path) -> None:
    """Each kind of traffic has moved messages without one fault, and the queues are empty."""
    soak = json.loads((results / "soak.json").read_text())

    assert soak["faults"] == 0, soak["first_faults"]
    assert list(soak["sent"]) == [flow.name for flow in FLOWS]
    assert soak["sent"] == soak["deleted"]
    assert sum(soak["sent"].values()) > 300
    assert {"dead", *soak["sent"]} == set(soak["left"])
    assert set(soak["left"].values()) == {0}
    assert soak["queues_churned"] >= 2


@ON_LINUX
def test_the_samples_hold_every_series_that_is_judged_or_drawn(results: Path) -> None:
    soak = json.loads((results / "soak.json").read_text())

    series = soak["series"]
    assert {limit.series for limit in LIMITS} <= set(series)
    assert {name for plot in PLOTS for name in plot.lines.values()} <= set(series)
    assert any(re.fullmatch(r"file .*\.(db|sqlite)[^ ]*", name) for name in series), list(series)
    assert {len(values) for values in series.values()} == {len(soak["at_s"])}
    for name in ("rss_mb", "anonymous_mb", "descriptors", "threads", "files_mb", "cpu_share"):
        assert series[name][-1] > 0, name


@ON_LINUX
def test_the_page_shows_plots_that_are_there(results: Path) -> None:
    """Each picture is small, of valid XML, without scripts, and beside the page."""
    page = (results / "soak.md").read_text()

    names = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    assert names == [f"soak-{plot.name}.svg" for plot in PLOTS]
    for name in names:
        drawn = (results / name).read_bytes()
        assert len(drawn) < 100_000
        assert b"<script" not in drawn
        assert ElementTree.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"


@ON_LINUX
def test_the_page_can_be_made_again_from_the_samples(results: Path, tmp_path: Path) -> None:
    run_soak("--load", str(results / "soak.json"), "--results", str(tmp_path))

    assert (tmp_path / "soak.md").read_text() == (results / "soak.md").read_text()


def test_a_run_too_short_to_judge_is_refused_in_one_sentence() -> None:
    run = run_soak("--minutes", "0.5")

    assert run.returncode == 2
    assert "with a sample every 5 s, --minutes is at least 1" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("flags", [("--rate", "inf"), ("--every", "0"), ("--minutes", "nan")])
def test_a_number_that_makes_no_run_is_refused_in_one_sentence(flags: tuple[str, str]) -> None:
    run = run_soak(*flags)

    assert run.returncode == 2
    assert f"{flags[0]} is more than 0, and finite" in run.stderr


def made_up(value_of: Callable[[str, int], float]) -> Soak:
    """Half an hour of every series."""
    soak = Soak(machine={}, messages_per_s=100, seconds=1_800, sent={"singles": 5}, deleted={"singles": 5})
    for at in range(5, 1_800, 5):
        soak.add(at, {limit.series: value_of(limit.series, at) for limit in LIMITS})
    return soak


def test_a_flat_run_without_losses_is_well() -> None:
    soak = made_up(lambda _, __: 50.0)

    assert soak.broken() == []
    assert "Flat, and nothing lost." in report(soak)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.series)
def test_each_series_that_drifts_breaks_the_run(limit: Limit) -> None:
    """One that goes up all the time, or for rates down, while all others are flat."""

    def value_of(series: str, at: int) -> float:
        if series != limit.series:
            return 50.0
        return 300.0 - at / 6 if limit.must_not_fall else at / 3

    soak = made_up(value_of)

    assert soak.broken() == [f"{limit.title}: not flat"]
    assert f"**Broken: {limit.title}: not flat.**" in report(soak)


def test_faults_losses_and_leftovers_break_the_run() -> None:
    soak = made_up(lambda _, __: 50.0)
    soak.faults, soak.first_faults = 1, ["RuntimeError: SendMessage was answered with 503"]
    soak.sent["singles"] = 6
    soak.left = {"singles": 1, "dead": 0}

    assert soak.broken() == [
        "faults: 1",
        "singles: 6 were accepted, 5 received and deleted",
        "singles: 1 messages are left",
    ]
    assert "answered with 503" in report(soak)


def test_a_series_with_too_little_to_judge_breaks_the_run() -> None:
    """No figure is no good figure."""
    soak = made_up(lambda _, __: 50.0)
    soak.series["send_p99_ms"] = [None] * len(soak.at_s)

    assert soak.broken() == ["send, p99 ms: 0 samples are too few to judge"]
    assert "send, p50 ms |" in report(soak)


def test_samples_that_cannot_be_read_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "soak.json"
    path.write_text('{"machine": 3}')

    run = run_soak("--load", str(path), "--results", str(tmp_path))

    assert run.returncode == 1
    assert "cannot be read as the samples of a long run" in run.stderr
    assert "Traceback" not in run.stderr


def test_the_ledger_notices_what_a_queue_must_not_do() -> None:
    """A second receive, one after the delete, one too early, and one out of order."""
    plain = Ledger(Flow(name="plain", share=1))
    plain.expect(range(3))
    assert plain.receive(0, 0.1) is None
    assert "a second time" in str(plain.receive(0, 0.2))
    plain.delete(0)
    assert "after its delete" in str(plain.receive(0, 0.3))
    assert (plain.backlog, plain.deleted) == (2, 1)

    delayed = Ledger(Flow(name="delayed", share=1, delay_s_max=10))
    delayed.expect(range(3))
    assert delayed.receive(0, 1.0) is None
    assert "after its send" in str(delayed.receive(1, 1.9))

    fifo = Ledger(Flow(name="fifo", share=1, groups=2))
    fifo.expect(range(5))
    assert [fifo.receive(number, 0.1) for number in (0, 1, 4)] == [None, None, None]
    assert "after a later one of its group" in str(fifo.receive(2, 0.1))


def test_the_ledger_gives_poison_back_each_time_and_others_once() -> None:
    poison = Ledger(Flow(name="poison", share=1, poison_every=4))
    poison.expect(range(5))
    for _ in range(3):
        assert poison.receive(4, 0.1) is None
        assert poison.is_to_be_given_back(4)
    assert not poison.is_to_be_given_back(3)

    once = Ledger(Flow(name="once", share=1, give_back_every=2))
    once.expect(range(3))
    assert once.receive(2, 0.1) is None
    assert once.is_to_be_given_back(2)
    assert once.receive(2, 0.2) is None
    assert not once.is_to_be_given_back(2)
