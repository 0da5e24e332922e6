"""Runs `waystation check` as a user would, and reads what it prints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from waystation.cli.errors import ExitCode
from waystation.cli.findings import counted
from waystation.cli.main import main


@dataclass(frozen=True)
class Said:
    """What a check printed."""

    problems: list[str]
    remarks: list[str]
    summary: str


class Check:
    """Runs the command, and reads what it prints."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, directory: Path) -> Said:
        code = main(["check", "--data-dir", str(directory)])
        said = self._capsys.readouterr()
        assert said.err == ""
        *findings, summary = said.out.splitlines()
        problems = [line for line in findings if line.startswith("problem: ")]
        remarks = [line for line in findings if line.startswith("remark: ")]
        assert len(problems) + len(remarks) == len(findings)
        assert code == (ExitCode.FAILED if problems else ExitCode.STOPPED)
        assert summary.endswith(f": {counted(len(problems), 'problem')}, {counted(len(remarks), 'remark')}")
        return Said(problems, remarks, summary)

    def refuses(self, directory: Path) -> str:
        """Why it cannot be looked at."""
        assert main(["check", "--data-dir", str(directory)]) == ExitCode.FAILED
        said = self._capsys.readouterr()
        assert said.out == ""
        [line] = said.err.splitlines()
        return line
