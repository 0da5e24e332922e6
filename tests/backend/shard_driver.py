"""Drives one shard over a log that can fail, and checks that it leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.backend.virtual_time import now_ms, settle
from tests.log.faulty import FaultyLog
from waystation.backend.settings import BackendSettings
from waystation.backend.shard import Shard
from waystation.queues.commands import (
    ChangeVisibility,
    ConfigureQueue,
    CountMessages,
    CreateQueue,
    DeleteMessages,
    Entry,
    PurgeQueue,
    QueueSettings,
    Receipt,
    Received,
    ReceivedMessage,
    ReceiveMessages,
    SendMessages,
    VisibilityChange,
)
from waystation.queues.events import Event, decode_events


class ShardDriver:
    """Commands to queue 1 of a shard, as futures of their answers or as the answers themselves."""

    def __init__(self, log: FaultyLog, shard: Shard) -> None:
        self.log = log
        self.shard = shard
        self.queue = 1

    def sending(self, *texts: str, delay_ms: int = 0, group: str = "") -> asyncio.Future[Any]:
        entries = [Entry(text.encode(), delay_ms, group) for text in texts]
        return self.shard.submit(SendMessages(self.queue, entries))

    def receiving(
        self, max_messages: int = 1, *, wait_ms: int = 0, timeout_ms: int = 30_000
    ) -> asyncio.Future[Any]:
        return self.shard.submit(ReceiveMessages(self.queue, max_messages, timeout_ms, wait_ms))

    def deleting(self, *messages: ReceivedMessage) -> asyncio.Future[Any]:
        receipts = [Receipt(message.sequence, message.receive_count) for message in messages]
        return self.shard.submit(DeleteMessages(self.queue, receipts))

    def changing(self, *messages: ReceivedMessage, timeout_ms: int) -> asyncio.Future[Any]:
        changes = [
            VisibilityChange(Receipt(message.sequence, message.receive_count), timeout_ms)
            for message in messages
        ]
        return self.shard.submit(ChangeVisibility(self.queue, changes))

    async def create(self, **settings: Any) -> int:
        self.queue = (await self.shard.submit(CreateQueue(QueueSettings("orders", **settings)))).queue  # type: ignore[union-attr]
        return self.queue

    async def send(self, *texts: str, delay_ms: int = 0) -> None:
        """Each in a command and a record of its own."""
        for text in texts:
            await self.sending(text, delay_ms=delay_ms)

    async def receive(self, max_messages: int = 1, **options: int) -> list[ReceivedMessage]:
        received = await self.receiving(max_messages, **options)
        assert isinstance(received, Received)
        return received.messages

    async def texts(self, max_messages: int = 10, **options: int) -> list[str]:
        return texts_of(await self.receive(max_messages, **options))

    async def purge(self) -> None:
        await self.shard.submit(PurgeQueue(self.queue, 0))

    async def configure(self, **settings: Any) -> None:
        await self.shard.submit(ConfigureQueue(self.queue, QueueSettings("orders", **settings)))

    async def counts(self) -> Any:
        return await self.shard.submit(CountMessages(self.queue))

    async def serves(self) -> None:
        """Wait until the shard takes commands."""
        while not self.shard.is_serving:  # noqa: ASYNC110 (the time is virtual)
            await asyncio.sleep(0.01)

    def records(self, after: int = 0) -> list[list[Event]]:
        """What the log holds, record by record."""
        return [decode_events(data[32:-16]) for at, data in sorted(self.log.records.items()) if at > after]


def texts_of(messages: list[ReceivedMessage]) -> list[str]:
    return [message.envelope.decode() for message in messages]


@asynccontextmanager
async def running(log: FaultyLog | None = None, **settings: Any) -> AsyncIterator[ShardDriver]:
    """A shard that serves queue 1; stopped at the end, when no task and no timer may be left."""
    log = FaultyLog() if log is None else log
    before = asyncio.all_tasks()
    shard = Shard(0, log, BackendSettings(**settings), now_ms)
    await shard.open()
    task = asyncio.create_task(shard.run())
    await settle()
    driver = ShardDriver(log, shard)
    if not shard.state.queues:
        await driver.create()
    try:
        yield driver
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await log.close()
    assert asyncio.all_tasks() == before, "a task was left behind"
    assert not shard.is_serving
