"""A program on a machine of the test's own, which is killed, stopped, paused and started again.

What ends by itself is started again, as systemd would do it.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from threading import Event, RLock, Thread

from tests.jepsen.network import Namespace

STOP_S_MAX = 45.0
RESTART_S = 2.0
"""As in `deploy/systemd`: so long after it ended, a program is started again."""


class Program:
    """One command, and at most one process of it at a time.

    Lifecycle: build it, `start`, end it with `stop` or `kill`, `start` again as often as wanted.
    """

    def __init__(
        self, machine: Namespace, command: list[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.machine = machine
        self.command = command
        self.log = log
        self.ended_by_itself = 0
        self.is_wanted = False
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = RLock()

    @property
    def is_running(self) -> bool:
        with self._lock:
            return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and return at once."""
        with self._lock:
            assert not self.is_running, f"{self.log.stem} runs already"
            self.is_wanted = True
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self.machine.command(*self.command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **self._environment},
                )

    def kill(self) -> None:
        """End it without warning. Does nothing when it has ended."""
        with self._lock:
            self.is_wanted = False
            if self._process is not None and self._process.poll() is None:
                self._process.kill()
                self._process.wait(STOP_S_MAX)

    def stop(self) -> None:
        """Stop it as an operator would: it has to end well, and in time."""
        with self._lock:
            self.is_wanted = False
            assert self._process is not None
            self._process.terminate()
        code = self._process.wait(STOP_S_MAX)
        assert code == 0, f"{self.log.stem} ended with {code}"

    def pause(self) -> None:
        """Let it do nothing any more, while its connections stay."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            assert self._process is not None
            self._process.send_signal(number)

    def tend(self) -> None:
        """Start it again if it should run, and has ended."""
        with self._lock:
            if self.is_wanted and not self.is_running:
                self.ended_by_itself += 1
                self.start()


class Supervisor(Thread):
    """Starts again what has ended by itself, until it is `over`."""

    def __init__(self, programs: list[Program]) -> None:
        super().__init__(name="supervisor", daemon=True)
        self.over = Event()
        self._programs = programs

    def run(self) -> None:
        while not self.over.wait(RESTART_S):
            for program in self._programs:
                program.tend()
