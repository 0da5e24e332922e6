"""Runs benchmarks as their users do, too small to mean anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ON_LINUX = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="CPU and memory are read from /proc"
)


def finished(program: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """A run of `bench/PROGRAM`, however it ended."""
    return subprocess.run(
        [sys.executable, f"bench/{program}", *flags],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def run_benchmark(program: str, *flags: str) -> str:
    """What `bench/PROGRAM` prints; it has to end well."""
    run = finished(program, *flags)
    assert run.returncode == 0, run.stderr
    return run.stdout
