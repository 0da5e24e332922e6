"""dramatiq: actors, retries that the server delays, and what becomes of jobs that cannot be done."""

from __future__ import annotations

import json
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import Event, Lock
from typing import Any

import dramatiq
from dramatiq.middleware import Retries
from dramatiq_sqs import SQSBroker

from tests.server import Server, eventually

JOBS = 100
LONG_S = 600

_numbers = count(1)


class Jobs:
    """An application: one queue, and its dead-letter queue as dramatiq means it.

    dramatiq moves there by itself what has failed too often. What it cannot even
    decode it leaves in flight, and only the server's redrive policy sees to that.
    """

    def __init__(self, server: Server, visibility_timeout_s: int = LONG_S) -> None:
        self.sqs = server.client()
        self.queue_name = f"dramatiq-{next(_numbers)}"
        self.broker: Any = SQSBroker(
            middleware=[Retries()],
            dead_letter=True,
            visibility_timeout=visibility_timeout_s,
            tags={"of": "the tests"},
            **server.connection(),
        )

    def actor(self, function: Callable[..., None], **options: Any) -> Any:
        declare = dramatiq.actor(broker=self.broker, queue_name=self.queue_name, **options)
        return declare(function)

    def url(self, name: str) -> str:
        url: str = self.sqs.get_queue_url(QueueName=name)["QueueUrl"]
        return url

    def counts(self) -> list[int]:
        """How many messages of the queue are visible, in flight and delayed."""
        prefix = "ApproximateNumberOfMessages"
        names = [prefix, f"{prefix}NotVisible", f"{prefix}Delayed"]
        shown = self.sqs.get_queue_attributes(QueueUrl=self.url(self.queue_name), AttributeNames=names)
        return [int(shown["Attributes"][name]) for name in names]

    def dead_letter(self) -> Any:
        """Wait for the first one."""
        answer = self.sqs.receive_message(
            QueueUrl=self.url(f"{self.queue_name}_dlq"),
            WaitTimeSeconds=20,
            MessageSystemAttributeNames=["All"],
        )
        [message] = answer["Messages"]
        return message


@contextmanager
def working(jobs: Jobs, threads: int = 4) -> Iterator[Any]:
    worker = dramatiq.Worker(jobs.broker, worker_threads=threads)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()
        jobs.broker.sqs.meta.client.close()


def test_100_jobs_are_done_once_each(server: Server) -> None:
    done: Counter[int] = Counter()
    lock = Lock()

    def work(number: int) -> None:
        with lock:
            done[number] += 1

    jobs = Jobs(server)
    actor = jobs.actor(work)
    with working(jobs):
        for number in range(JOBS):
            actor.send(number)
        eventually(lambda: len(done) == JOBS)
        eventually(lambda: jobs.counts() == [0, 0, 0])

    assert set(done.values()) == {1}
    assert jobs.sqs.list_queue_tags(QueueUrl=jobs.url(jobs.queue_name))["Tags"] == {"of": "the tests"}


def test_a_job_that_fails_is_tried_again_when_the_delay_of_its_message_is_over(server: Server) -> None:
    started_at_s: list[float] = []
    done = Event()

    def work() -> None:
        started_at_s.append(time.monotonic())
        if len(started_at_s) < 3:
            raise dramatiq.Retry(delay=1_000)
        done.set()

    jobs = Jobs(server)
    actor = jobs.actor(work)
    with working(jobs):
        actor.send()
        assert done.wait(20)
        eventually(lambda: jobs.counts() == [0, 0, 0])

    first, second, third = started_at_s
    assert second - first >= 1
    assert third - second >= 1


def test_a_job_that_fails_too_often_ends_in_the_dead_letter_queue(server: Server) -> None:
    attempts: list[str] = []

    def work(order: str) -> None:
        attempts.append(order)
        raise dramatiq.Retry(delay=0)

    jobs = Jobs(server)
    actor = jobs.actor(work, max_retries=2)
    with working(jobs):
        sent = actor.send("an order that nobody can fill")
        dead = jobs.dead_letter()
        eventually(lambda: jobs.counts() == [0, 0, 0])

    assert len(attempts) == 3
    assert dramatiq.Message.decode(b64decode(dead["Body"])).message_id == sent.message_id


def test_a_message_that_is_no_job_ends_in_the_dead_letter_queue_and_stops_no_other(server: Server) -> None:
    done = Event()
    jobs = Jobs(server, visibility_timeout_s=1)
    actor = jobs.actor(done.set)
    with working(jobs):
        actor.send()  # the first one creates the queues
        assert done.wait(20)
        queue, target = jobs.url(jobs.queue_name), jobs.url(f"{jobs.queue_name}_dlq")
        arn = jobs.sqs.get_queue_attributes(QueueUrl=target, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "2"})
        jobs.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": policy})

        done.clear()
        poison = jobs.sqs.send_message(QueueUrl=queue, MessageBody="no job")
        actor.send()
        dead = jobs.dead_letter()
        assert done.wait(20)
        eventually(lambda: jobs.counts() == [0, 0, 0])

    assert (dead["Body"], dead["MessageId"]) == ("no job", poison["MessageId"])
    assert dead["Attributes"]["DeadLetterQueueSourceArn"].endswith(f":{jobs.queue_name}")


def test_a_worker_that_stops_gives_back_what_it_has_not_begun(server: Server) -> None:
    """At once, though their visibility timeouts have long to run."""
    gate, begun = Event(), Event()
    done: list[int] = []

    def work(number: int) -> None:
        begun.set()
        assert gate.wait(20)
        done.append(number)

    jobs = Jobs(server)
    actor = jobs.actor(work)
    for number in range(10):
        actor.send(number)
    with working(jobs, threads=1):
        assert begun.wait(20)
        eventually(lambda: jobs.counts()[1] > 1)
        gate.set()

    assert done
    assert jobs.counts() == [10 - len(done), 0, 0]
