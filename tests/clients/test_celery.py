"""Celery: it receives by libcurl, and signs those requests itself; for the rest it uses boto3."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.clients import celery_jobs
from tests.clients.celery_jobs import RETRY_COUNTDOWN_S, do, do_at_third_attempt, do_once_open, lines_of
from tests.server import Server, eventually

ROOT = Path(__file__).parents[2]
TASKS = 200
WITHIN_S = 40.0


class Worker:
    """A `celery worker` of two processes."""

    def __init__(self, name: str, queue: str, log: Path) -> None:
        self.name = f"{name}@localhost"
        self._log = log
        arguments = ["--queues", queue, "--hostname", self.name, "--concurrency", "2", "--loglevel", "INFO"]
        with log.open("a") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", "--app", "tests.clients.celery_jobs", "worker", *arguments],
                cwd=ROOT,
                stdout=output,
                stderr=output,
                # Of a group of its own, for its two processes die with it when it is killed.
                start_new_session=True,
            )

    def stop(self) -> None:
        """It ends what it has begun, and gives back what it has not."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(30) == 0, self._log.read_text()

    def kill(self) -> None:
        """End all its processes without warning. Does nothing when it has ended."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)


@pytest.fixture(scope="module", autouse=True)
def broker(server: Server) -> Iterator[None]:
    """The address of the server, for this process and for workers."""
    connection = server.connection()
    key, secret = (
        quote(connection[f"aws_{name}"], safe="") for name in ("access_key_id", "secret_access_key")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELERY_BROKER_URL", f"sqs://{key}:{secret}@{server.url.removeprefix('http://')}//")
        yield
        celery_jobs.app.close()


@contextmanager
def working(name: str, queue: str, log: Path) -> Iterator[Worker]:
    worker = Worker(name, queue, log)
    try:
        yield worker
    finally:
        worker.kill()


@pytest.fixture(scope="module")
def queue(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a queue that Celery creates, and a worker serves until the last test has ended."""
    with working("only", "celery-jobs", tmp_path_factory.mktemp("celery") / "worker.log") as worker:
        yield "celery-jobs"
        worker.stop()


def counts(server: Server, name: str) -> dict[str, int]:
    """How many messages of a queue are visible, in flight and delayed."""
    sqs = server.client()
    prefix = "ApproximateNumberOfMessages"
    names = [prefix, f"{prefix}NotVisible", f"{prefix}Delayed"]
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    shown = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return {name.removeprefix(prefix): int(shown[name]) for name in names}


def is_empty(server: Server, name: str) -> bool:
    return not any(counts(server, name).values())


def test_200_tasks_are_done_once_each(server: Server, queue: str, tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(TASKS)]
    for file in files:
        do.apply_async([str(file)], queue=queue)

    eventually(lambda: all(file.exists() for file in files), WITHIN_S)
    eventually(lambda: is_empty(server, queue))

    assert [len(lines_of(file)) for file in files] == [1] * TASKS


def test_a_task_that_fails_is_tried_again_after_its_countdown(
    server: Server, queue: str, tmp_path: Path
) -> None:
    do_at_third_attempt.apply_async([str(tmp_path / "file")], queue=queue)

    eventually(lambda: len(lines_of(tmp_path / "file")) == 3, WITHIN_S)
    eventually(lambda: is_empty(server, queue))

    first, second, third = (line.ended_at_s for line in lines_of(tmp_path / "file"))
    assert second - first >= RETRY_COUNTDOWN_S
    assert third - second >= RETRY_COUNTDOWN_S


def test_a_task_is_not_done_before_its_time(server: Server, queue: str, tmp_path: Path) -> None:
    """Whether the worker waits for it, as for any broker, or the server does, as only SQS can."""
    sent_at_s = time.time()
    do.apply_async([str(tmp_path / "worker waits")], queue=queue, countdown=2)
    do.apply_async([str(tmp_path / "server waits")], queue=queue, delay_seconds=2)
    assert counts(server, queue)["Delayed"] == 1

    for name in ("worker waits", "server waits"):
        [line] = eventually(partial(lines_of, tmp_path / name), WITHIN_S)
        assert line.ended_at_s >= sent_at_s + 2
    eventually(lambda: is_empty(server, queue))


def test_what_a_killed_worker_had_taken_is_done_by_another(server: Server, tmp_path: Path) -> None:
    """Its tasks come back once their visibility timeout is over; those that were done stay done."""
    name = "celery-crash"
    server.client().create_queue(QueueName=name, Attributes={"VisibilityTimeout": "5"})
    done = [tmp_path / f"done {number}" for number in range(10)]
    cut_off = [tmp_path / f"cut off {number}" for number in range(20)]
    gate = tmp_path / "gate"
    with ExitStack() as workers:
        first = workers.enter_context(working("first", name, tmp_path / "first.log"))
        for file in done:
            do.apply_async([str(file)], queue=name)
        eventually(lambda: is_empty(server, name), WITHIN_S)
        for file in cut_off:
            do_once_open.apply_async([str(file), str(gate)], queue=name)
        eventually(lambda: len(list(tmp_path.glob("*.begun"))) == 2, WITHIN_S)
        first.kill()

        assert not any(lines_of(file) for file in cut_off)
        gate.touch()
        second = workers.enter_context(working("second", name, tmp_path / "second.log"))
        eventually(lambda: all(lines_of(file) for file in cut_off), WITHIN_S)
        eventually(lambda: is_empty(server, name))
        second.stop()

    assert {line.worker for file in done for line in lines_of(file)} == {first.name}
    assert {line.worker for file in cut_off for line in lines_of(file)} == {second.name}
