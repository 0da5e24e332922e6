"""What the tests of `deploy/` share: its files with a test's addresses, and programs to run with them."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
PAGE = ROOT / "docs" / "cluster.md"


def program(name: str, package: str) -> str:
    """The path of a program; skips the test, saying what to install, where there is none."""
    beside_python = Path(sys.executable).with_name(name)
    found = str(beside_python) if beside_python.exists() else shutil.which(name, path=_PATH)
    if found is None:
        pytest.skip(f"{name} is not installed; on Debian: apt-get install {package}")
    return found


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
"""Daemons are where only root looks."""


def replaced(text: str, changes: dict[str, str]) -> str:
    """The text with each of the given pieces replaced; a piece that is not there fails the test."""
    for old, new in changes.items():
        assert old in text, f"{old!r} is not in the file"
        text = text.replace(old, new)
    return text


def without_lines(text: str, *beginnings: str) -> str:
    """The text without the lines that begin so."""
    return "\n".join(line for line in text.splitlines() if not line.strip().startswith(beginnings)) + "\n"


def commands_of_the_page(title: str) -> str:
    """The shell commands that the operator's page has in one of its sections."""
    section = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    [wanted] = [each for each in section if each.startswith(title)]
    blocks = re.findall(r"^```sh\n(.*?)^```", wanted, flags=re.MULTILINE | re.DOTALL)
    assert blocks, title
    return "".join(blocks)


def run_commands(commands: str, directory: Path) -> None:
    """Run them as an operator would, in that directory."""
    done = subprocess.run(
        ["/bin/sh", "-euc", commands], cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def free_ports(number: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that nobody listens on. Another process could take one before it is used; none does."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind((host, 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextmanager
def background(
    command: list[str], log: Path, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is gone afterwards. What it says goes to `log`."""
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | (env or {}))
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
