"""A data directory with queues in it, and the command that looks at such."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.checking import Check
from tests.cli.directories import with_orders


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    return Check(capsys)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    with_orders(tmp_path / "data")
    return tmp_path / "data"
