"""A quorum queue as its clients use it: publisher confirms; consumers with a prefetch, and manual acks.

A consumer's ack has no answer in AMQP: unlike the other peers', these deletes are not known to be durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from bench.peers import window

OPEN_S = 60.0


class Channel:
    """One connection with one channel. Lifecycle: build it in a running loop, `open`, `close`.

    `pika` is looked up when it is used, for it is not among the packages that development needs.
    """

    def __init__(self, address: str, queue: str) -> None:
        self._pika: Any = import_module("pika")
        self._adapter: Any = import_module("pika.adapters.asyncio_connection")
        host, _, port = address.rpartition(":")
        self._parameters = self._pika.ConnectionParameters(host, int(port))
        self._queue = queue
        self._loop = asyncio.get_running_loop()
        self._unconfirmed: set[int] = set()
        self._published = 0
        self._all_confirmed: asyncio.Future[None] | None = None
        self._received: asyncio.Queue[int] = asyncio.Queue()
        self._connection: Any = None
        self._channel: Any = None

    async def open(self, prefetch: int, consumes: bool) -> None:
        """Connect, declare the queue, and ask for confirms or for messages. Raises `TimeoutError`."""
        connected, is_open, ready = (self._loop.create_future() for _ in range(3))
        async with asyncio.timeout(OPEN_S):
            self._connection = self._adapter.AsyncioConnection(
                self._parameters,
                on_open_callback=connected.set_result,
                on_open_error_callback=lambda _, error: connected.set_exception(error),
                on_close_callback=lambda _, reason: self._closed(reason),
                custom_ioloop=self._loop,
            )
            await connected
            self._connection.channel(on_open_callback=is_open.set_result)
            self._channel = await is_open
            arguments = {"x-queue-type": "quorum", "x-quorum-initial-group-size": 3}
            self._channel.queue_declare(
                self._queue, durable=True, arguments=arguments, callback=ready.set_result
            )
            await ready
            started = self._loop.create_future()
            if consumes:
                self._channel.basic_qos(prefetch_count=prefetch)
                self._channel.basic_consume(
                    self._queue,
                    lambda _, method, *__: self._received.put_nowait(method.delivery_tag),
                    callback=started.set_result,
                )
            else:
                self._channel.confirm_delivery(self._confirmed, callback=started.set_result)
            await started

    def _closed(self, reason: Exception) -> None:
        if self._all_confirmed is not None and not self._all_confirmed.done():
            self._all_confirmed.set_exception(reason)

    def _confirmed(self, frame: Any) -> None:
        method, waiting = frame.method, self._all_confirmed
        if waiting is None:
            return
        if method.NAME != "Basic.Ack":
            waiting.set_exception(RuntimeError("a message was refused"))
        elif method.multiple:
            self._unconfirmed = {tag for tag in self._unconfirmed if tag > method.delivery_tag}
        else:
            self._unconfirmed.discard(method.delivery_tag)
        if not self._unconfirmed and not waiting.done():
            waiting.set_result(None)

    async def send(self, bodies: Sequence[bytes]) -> None:
        self._all_confirmed = self._loop.create_future()
        persistent = self._pika.BasicProperties(delivery_mode=2)
        for body in bodies:
            self._published += 1
            self._unconfirmed.add(self._published)
            self._channel.basic_publish("", self._queue, body, persistent)
        await self._all_confirmed

    async def receive(self, most: int) -> int:
        tags = [await self._received.get()]
        while len(tags) < most and not self._received.empty():
            tags.append(self._received.get_nowait())
        for tag in tags:
            self._channel.basic_ack(tag)
        return len(tags)

    def close(self) -> None:
        if self._connection is not None and self._connection.is_open:
            self._connection.close()


async def client(job: window.Job) -> window.Done:
    channels = [
        Channel(job.addresses[number % len(job.addresses)], job.queue) for number in range(job.connections)
    ]
    try:
        for channel in channels:
            await channel.open(job.window, job.mode == "receive")
        return await window.measure(channels, job)
    finally:
        for channel in channels:
            channel.close()


if __name__ == "__main__":
    window.main(client, __doc__)
