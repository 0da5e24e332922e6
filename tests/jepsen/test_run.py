"""What `make jepsen` says, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.histories.history import Violation
from tests.jepsen import run
from tests.jepsen.outages import Outage
from tests.jepsen.rounds import Chapter


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the run keeps what it needs; it does not touch this process's environment."""
    found = tmp_path / "jepsen"
    found.mkdir()
    monkeypatch.setattr(run, "clean_environment", lambda: None)
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: str(found))
    monkeypatch.setenv("JEPSEN_SEED", "some seed")
    return found


@pytest.mark.parametrize(("found", "code"), [("", 0), ("orders-7 was acknowledged and never received", 1)])
def test_a_run_ends_with_1_when_a_promise_was_broken_and_says_how_to_repeat_it(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: str,
    code: int,
) -> None:
    def run_chapter(chapter: Chapter) -> None:
        fault = chapter.faults[0].name
        chapter.outages["send"][fault] = [Outage(0.1, 2), Outage(0.2, 4), Outage(0.4, 12)]
        chapter.well_again_s[fault] = [1, 3, 2]
        if fault == "minority":
            chapter.found = found
            chapter.broken = [Violation(found, check="lost")] if found else []

    monkeypatch.setattr(run, "run_chapter", run_chapter)
    figures = folder.parent / "figures.json"
    arguments = ["--rounds", "3", "--fault", "kill-node", "--fault", "minority", "--json", str(figures)]
    monkeypatch.setattr("sys.argv", ["run", *arguments])

    assert run.main() == code

    said = capsys.readouterr().out
    assert said.startswith("JEPSEN_SEED=some seed\n")
    line = next(line for line in said.splitlines() if line.strip().startswith("kill-node "))
    assert "0.2 0.4" in line
    assert "4.0 12.0" in line
    assert "2.0 3.0" in line
    assert found in said
    assert ("JEPSEN_SEED=some seed make jepsen ROUNDS=3 ARGS='--fault minority'" in said) == bool(found)
    written = json.loads(figures.read_text())
    assert written["seed"] == "some seed"
    assert [chapter["lost"] for chapter in written["chapters"]] == [0, code]
    assert written["chapters"][0]["outages"]["send"]["kill-node"][2] == {"all_s": 0.4, "shard_s": 12}
    assert folder.exists() == bool(found)


def test_a_run_that_can_try_nothing_here_says_why_and_has_proved_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_chapter(_: Chapter) -> None:
        pytest.skip("network namespaces need root")

    monkeypatch.setattr(run, "run_chapter", run_chapter)
    monkeypatch.setattr("sys.argv", ["run", "--fault", "kill-node"])

    assert run.main() == 1
    assert "kill-node cannot be tried: network namespaces need root" in capsys.readouterr().out


def test_every_fault_has_a_name_of_its_own() -> None:
    names = [make().name for make in run.MAKERS]

    assert len(set(names)) == len(names)
    assert len(names) >= 25


def test_no_rounds_at_all_are_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["run", "--rounds", "0"])

    with pytest.raises(SystemExit) as ended:
        run.main()

    assert ended.value.code == 2
    assert "there has to be a round at least" in capsys.readouterr().err
