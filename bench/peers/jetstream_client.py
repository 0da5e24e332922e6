"""A JetStream work queue as its own client uses it: publishes that are acknowledged, fetches, double acks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import nats
from nats.aio.client import Client as Nats
from nats.errors import TimeoutError as NothingCame
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import BadRequestError

from bench.peers import window

FETCH_S = 1.0
ACK_WAIT_S = 600
CALL_S = 30.0


class WorkQueue:
    """One connection: a publisher, and one of many that fetch from the same consumer."""

    def __init__(self, connection: Nats, subject: str) -> None:
        self._jetstream: JetStreamContext = connection.jetstream(timeout=CALL_S)
        self._subject = subject
        self._pull: JetStreamContext.PullSubscription | None = None

    async def subscribe(self) -> None:
        """Needed before `receive`."""
        self._pull = await self._jetstream.pull_subscribe_bind(self._subject, self._subject)

    async def send(self, bodies: Sequence[bytes]) -> None:
        await asyncio.gather(*(self._jetstream.publish(self._subject, body) for body in bodies))

    async def receive(self, most: int) -> int:
        assert self._pull is not None, "not subscribed"
        try:
            messages = await self._pull.fetch(most, FETCH_S)
        except NothingCame:
            return 0
        await asyncio.gather(*(message.ack_sync(CALL_S) for message in messages))
        return len(messages)


async def make(jetstream: JetStreamContext, name: str) -> None:
    """Create the stream on three servers, and its one consumer, unless they are there."""
    try:
        await jetstream.add_stream(
            StreamConfig(
                name=name,
                subjects=[name],
                retention=RetentionPolicy.WORK_QUEUE,
                storage=StorageType.FILE,
                num_replicas=3,
            )
        )
    except BadRequestError:
        await jetstream.stream_info(name)
    await jetstream.add_consumer(
        name,
        ConsumerConfig(
            durable_name=name, ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_S, max_ack_pending=20_000
        ),
    )


async def client(job: window.Job) -> window.Done:
    connections = []
    try:
        for number in range(job.connections):
            address = job.addresses[number % len(job.addresses)]
            connections.append(await nats.connect(address, allow_reconnect=False))
        await make(connections[0].jetstream(timeout=CALL_S), job.queue)
        queues = [WorkQueue(connection, job.queue) for connection in connections]
        if job.mode == "receive":
            for queue in queues:
                await queue.subscribe()
        return await window.measure(queues, job)
    finally:
        for connection in connections:
            await connection.close()


if __name__ == "__main__":
    window.main(client, __doc__)
