"""Child processes by id: starting and ending them, and finding those that they started."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.frontends import children_of

STOP_S = 30.0


@contextmanager
def child(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is asked to end afterwards, and killed if it does not."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=os.environ | environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)


def descendants(pid: int, word: str) -> list[int]:
    """This process and all below it whose command line has that word."""
    line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    below = [found for each in children_of(pid) for found in descendants(each, word)]
    # A wrapper names the program as well; what it has started is what runs.
    return below or ([pid] if word in line else [])
