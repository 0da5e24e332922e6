"""A Celery application as its users write them: what workers import, and what tests send.

Where the broker is comes from Celery's own variable, CELERY_BROKER_URL. What a task
has done is a line in a file of its own: the worker's name, and when.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from celery import Celery

VISIBILITY_TIMEOUT_S = 100
"""Of queues that Celery creates: longer than any test, so that nothing is done twice by it."""
RETRY_COUNTDOWN_S = 1
GATE_S_MAX = 60.0

app = Celery("jobs")
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "region": "us-east-1",
        "is_secure": False,
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "wait_time_seconds": 5,
        "polling_interval": 0,
    },
    task_acks_late=True,
    task_ignore_result=True,
    worker_enable_remote_control=False,  # it needs a broker that can broadcast
)


class Failed(Exception):
    """What a task raises that has to be tried again."""


class Line(NamedTuple):
    """One run of a task."""

    worker: str
    ended_at_s: float


def _do(self: Any, file: str) -> None:
    _note(self, file)


def _do_at_third_attempt(self: Any, file: str) -> None:
    _note(self, file)
    if self.request.retries < 2:
        raise Failed


def _do_once_open(self: Any, file: str, gate: str) -> None:
    """Says that it has begun, and waits for a file to exist."""
    Path(f"{file}.begun").touch()
    deadline = time.monotonic() + GATE_S_MAX
    while not Path(gate).exists():
        if time.monotonic() > deadline:
            raise Failed
        time.sleep(0.02)
    _note(self, file)


def _note(self: Any, file: str) -> None:
    # One write of a short line to the end of a file is whole, whoever else writes there.
    with Path(file).open("a") as lines:
        lines.write(f"{self.request.hostname} {time.time()}\n")
        lines.flush()
        os.fsync(lines.fileno())


def lines_of(file: Path) -> list[Line]:
    """The runs of a task so far."""
    if not file.exists():
        return []
    fields = [line.split() for line in file.read_text().splitlines()]
    return [Line(worker, float(ended_at_s)) for worker, ended_at_s in fields]


do = app.task(bind=True, name="do")(_do)
do_at_third_attempt = app.task(
    bind=True,
    name="do-at-third-attempt",
    autoretry_for=(Failed,),
    retry_kwargs={"countdown": RETRY_COUNTDOWN_S, "max_retries": 5},
)(_do_at_third_attempt)
do_once_open = app.task(bind=True, name="do-once-open")(_do_once_open)
