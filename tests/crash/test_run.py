"""What `make crash` says, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash import run
from tests.crash.rounds import Chapter


@pytest.mark.parametrize(("found", "code"), [("", 0), ("orders-7 was acknowledged and never received", 1)])
def test_a_run_ends_with_1_when_a_promise_was_broken_and_says_how_to_repeat_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: str,
    code: int,
) -> None:
    def run_chapter(folder: Path, seed: str, library: Path | None, rounds: int) -> Chapter:
        chapter = Chapter(folder, seed)
        chapter.happened["kill"] = rounds
        chapter.found = found if folder.name == "5" else ""
        return chapter

    monkeypatch.setattr(run, "run_chapter", run_chapter)
    monkeypatch.setattr(run, "clean_environment", lambda: None)
    monkeypatch.setattr(run, "library_if_possible", lambda _: None)
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: str(tmp_path / "crash"))
    monkeypatch.setattr("sys.argv", ["run", "--rounds", "60", "--chapter", "4"])
    monkeypatch.setenv("CRASH_SEED", "some seed")
    (tmp_path / "crash").mkdir()

    assert run.main() == code

    said = capsys.readouterr().out
    assert said.startswith("CRASH_SEED=some seed\n")
    assert "60  kill" in said
    assert ("CRASH_SEED=some seed make crash ROUNDS=25 ARGS='--chapter 5'" in said) == bool(found)
    assert found in said
    assert (tmp_path / "crash").exists() == bool(found)


def test_no_rounds_at_all_are_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["run", "--rounds", "0"])

    with pytest.raises(SystemExit) as ended:
        run.main()

    assert ended.value.code == 2
    assert "there has to be a round at least" in capsys.readouterr().err
