"""The real server as a child process, for tests that see it only from the outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import IO, Any, TypeVar

import boto3
from botocore.config import Config

ACCESS_KEY_ID = "AKIATESTTESTTESTTEST"
SECRET_ACCESS_KEY = "secret-of-the-tests"
REGION = "us-east-1"
ACCOUNT = "000000000000"

NAMES_ARE_FREE_AT_ONCE = ("--service.name-reuse-s", "0")
"""No test waits a minute to use a name again. What comes after it among the flags counts instead."""

START_S_MAX = 30.0
STOP_S_MAX = 20.0

Value = TypeVar("Value")


class Server:
    """One data directory, and at most one process on it at a time.

    Lifecycle: build it, `start`, end it with `stop` or `kill`, `start` again as often as
    wanted: it comes back at the same port. `running` cleans up after all of that.
    """

    def __init__(self, data_dir: Path, *flags: str, log: Path | None = None) -> None:
        self.data_dir = data_dir
        self.url = ""
        self._flags = flags
        self._port = "0"
        self._process: subprocess.Popen[str] | None = None
        self.log = log or data_dir.parent / f"{data_dir.name}.log"
        """What it wrote to standard error, in all its lives."""

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Return once it listens."""
        process = self._spawn()
        lines: Queue[str] = Queue()
        assert process.stdout is not None
        Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
        deadline = time.monotonic() + START_S_MAX
        while True:
            try:
                line = lines.get(timeout=max(deadline - time.monotonic(), 0.01))
            except Empty:
                self.kill()
                raise AssertionError(f"the server does not listen: {self.log.read_text()}") from None
            if not line:
                raise AssertionError(f"the server did not start: {self.log.read_text()}")
            if line.startswith("listening on "):
                self.url = line.split()[-1]
                self._port = self.url.rpartition(":")[2]
                return

    def fail_to_start(self) -> tuple[int, str]:
        """Start it when it cannot: returns its exit code and what it said on standard error."""
        said_before = len(self.log.read_text()) if self.log.exists() else 0
        process = self._spawn()
        try:
            process.communicate(timeout=START_S_MAX)
        finally:
            self.kill()
        return process.returncode, self.log.read_text()[said_before:]

    def _spawn(self) -> subprocess.Popen[str]:
        assert not self.is_running
        command = [sys.executable, "-m", "waystation", "serve", "--port", self._port]
        secrets = {
            "WAYSTATION_ROOT_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "WAYSTATION_ROOT_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        }
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [*command, "--data-dir", str(self.data_dir), *NAMES_ARE_FREE_AT_ONCE, *self._flags],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | secrets,
            )
        return self._process

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def exit_code(self) -> int:
        """Wait for its end."""
        assert self._process is not None
        return self._process.wait(STOP_S_MAX)

    def stop(self) -> None:
        """Stop it as an operator would: it has to end well."""
        self.ask_to_stop()
        assert self.exit_code() == 0, self.log.read_text()

    def kill(self) -> None:
        """End it without warning, as a crash would. Does nothing when it has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(STOP_S_MAX)

    def client(self, **settings: Any) -> Any:
        """A boto3 client; `settings` are those of botocore's `Config`."""
        return boto3.client("sqs", **self.connection(), config=config(**settings))

    def connection(self) -> dict[str, Any]:
        """The arguments that make any boto3 or aiobotocore client one of this server."""
        return {
            "endpoint_url": self.url,
            "region_name": REGION,
            "aws_access_key_id": ACCESS_KEY_ID,
            "aws_secret_access_key": SECRET_ACCESS_KEY,
        }


def config(**settings: Any) -> Config:
    """No retries unless asked for: a test wants to see the first answer."""
    defaults = {
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "connect_timeout": 10,
        "read_timeout": 40,
        "max_pool_connections": 64,
    }
    return Config(**{**defaults, **settings})


@contextmanager
def running(data_dir: Path, *flags: str, log: Path | None = None) -> Iterator[Server]:
    """A server that listens, and is gone afterwards, whatever the test did to it."""
    server = Server(data_dir, *flags, log=log)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def cluster(command: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run `waystation cluster` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "waystation", "cluster", command, *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def arn(url: str, *, account: str = ACCOUNT, region: str = REGION) -> str:
    """The ARN of the queue of a URL, or of a name."""
    return f"arn:aws:sqs:{region}:{account}:{url.rpartition('/')[2]}"


def eventually(look: Callable[[], Value], within_s: float = 20.0, every_s: float = 0.05) -> Value:
    """Look until there is something to see, and return it; fails when there is nothing in time."""
    deadline = time.monotonic() + within_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"nothing was seen within {within_s} s"
        time.sleep(every_s)
    return seen


def _pump(stream: IO[str], lines: Queue[str]) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put("")
