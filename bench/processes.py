"""Child processes that are measured: starting and stopping them, and what the kernel says of them.

Linux only: figures are read from `/proc`, where they hold all threads of a process.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
STOP_S = 60.0

ACCESS_KEY_ID = "AKIABENCHMARKEXAMPLE"
SECRET = "benchmark-secret"

_LISTENING = re.compile(r"listening on (\S+)")


def cpu_s(pid: int) -> float:
    """User and system seconds of a process so far, with all its threads, to a hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int, name: str) -> float:
    """`VmRSS`, or `VmHWM`, its highest value ever, in units of 1,000,000 bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None, f"no {name} in /proc/{pid}/status"
    return int(found[1]) * 1024 / 1e6


def files_mb(directory: Path) -> float:
    """Bytes of all files in a directory, in units of 1,000,000."""
    return sum(path.stat().st_size for path in directory.iterdir() if path.is_file()) / 1e6


def file_system(directory: Path) -> str:
    """The type and device of the file system that a directory is on, such as `ext4 on /dev/vda`."""
    best = ("", "unknown")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, mount_point, kind, *_ = line.split()
        if directory.resolve().is_relative_to(mount_point) and len(mount_point) >= len(best[0]):
            best = (mount_point, f"{kind} on {device}")
    return best[1]


def environment() -> dict[str, str]:
    """Of every child: it finds this checkout's modules, and one access key known to both sides."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
        "WAYSTATION_ROOT_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "WAYSTATION_ROOT_SECRET_ACCESS_KEY": SECRET,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }


class Server:
    """A child that prints `listening on URL` once it serves, and stops on SIGTERM."""

    def __init__(self, process: subprocess.Popen[str], url: str, start_s: float) -> None:
        self.pid = process.pid
        self.url = url
        self.start_s = start_s
        """From starting the program to its saying that it listens."""

    @classmethod
    @contextmanager
    def run(cls, *command: str) -> Iterator[Server]:
        """Run `python COMMAND` while the context lasts. Raises `RuntimeError` if it never listens."""
        began = perf_counter()
        with subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                yield cls(process, _url_said(process.stdout), perf_counter() - began)
            finally:
                process.terminate()
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise


def _url_said(output: IO[str]) -> str:
    for line in output:
        if found := _LISTENING.search(line):
            return found[1]
    raise RuntimeError("the server ended before it listened")


def waystation(data_dir: Path, *flags: str) -> tuple[str, ...]:
    """The command of a node on a free port."""
    return (
        "-m",
        "waystation",
        "serve",
        "--port",
        "0",
        "--service.name-reuse-s",
        "0",
        "--data-dir",
        str(data_dir),
        *flags,
    )


def output_of(*command: str) -> str:
    """What `python COMMAND` prints. Raises `CalledProcessError` if it fails."""
    finished = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True, check=True
    )
    return finished.stdout
