"""Storage that fails on request, for the tests that need it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.faults import NoCompiler, compile_faults


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return compile_faults(tmp_path_factory.mktemp("faults"))
    except NoCompiler as reason:
        pytest.skip(str(reason))
