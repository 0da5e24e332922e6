"""Moves at work in virtual time: queues in two shards, and everything between them and a task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tests.backend.virtual_time import now_ms, settle
from tests.log.faulty import FaultyLog
from waystation.backend.backend import Backend
from waystation.backend.settings import BackendSettings
from waystation.frontend.arns import QueueArn
from waystation.frontend.dead_letters import DeadLetterDelivery
from waystation.frontend.envelope import Envelope, decode_envelope, encode_envelope
from waystation.frontend.handles import Handles
from waystation.frontend.move_runner import Move, MoveRunner
from waystation.frontend.stored_queues import StoredQueues
from waystation.log.worker import Result
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.move_register import MoveRegister
from waystation.metadata.move_tasks import MoveTask
from waystation.metadata.queues import Queue, QueueRecord, shard_settings
from waystation.metadata.sqlite import SqliteMetadataStore
from waystation.metadata.store import MetadataUnavailable
from waystation.queues import commands

ACCOUNT = "000000000001"
_LONG_MS = 43_200_000


def arn(name: str) -> str:
    return str(QueueArn("us-east-1", ACCOUNT, name))


class InstantWorker:
    """Makes each call at once, as virtual time goes on without waiting for threads."""

    def run(self, call: Callable[[], Result]) -> asyncio.Future[Result]:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)
        return future

    async def stop(self) -> None:
        pass


class InstantStore(SqliteMetadataStore):
    """A store in memory that outlives `close`, as a disk would, and can be out of order."""

    def __init__(self) -> None:
        super().__init__(Path(":memory:"))
        self.is_out_of_order = False
        self.writes = 0

    async def open(self) -> None:
        if self._worker is None:
            self._worker = InstantWorker()  # type: ignore[assignment]
            self._connect()

    async def close(self) -> None:
        pass

    def _guard(self, call: Callable[[], Result]) -> Result:
        if self.is_out_of_order:
            raise MetadataUnavailable("refused by the test")
        return super()._guard(call)

    def _compare_and_set(self, key: str, value: bytes | None, expected: int) -> int:
        self.writes += key.startswith("move/")
        return super()._compare_and_set(key, value, expected)


class MoveWorld:
    """What a node has of it. Queues whose names begin with "far" are in the second shard."""

    catalogue: Catalogue
    backend: Backend
    tasks: MoveRegister
    runner: MoveRunner

    def __init__(self) -> None:
        self.logs = [FaultyLog(), FaultyLog()]
        self.store = InstantStore()
        self.sent: list[str] = []
        """The bodies of all messages, in order."""
        self._ids = 0

    async def start(self) -> None:
        """A node begins with what the logs and the store hold."""
        self._before = asyncio.all_tasks()
        self.catalogue = Catalogue(self.store)
        self.backend = Backend(self.logs.__getitem__, len(self.logs), BackendSettings(), now_ms)
        self.tasks = MoveRegister(self.store)
        stored = StoredQueues(self.store)
        await self.store.open()
        await self.catalogue.start()
        handles = Handles(self.catalogue.secret)
        delivery = DeadLetterDelivery(self.catalogue, stored, self.backend, handles, _now_s)
        self.runner = MoveRunner(self.tasks, self.catalogue, stored, self.backend, delivery.deliver, _now_s)
        self.backend.carry_with(self.runner.deliver)
        await self.backend.start()
        for shard in range(len(self.logs)):
            self.runner.take(shard)
        await self.runner.start()

    async def stop(self) -> None:
        self.backend.drain()
        await self.runner.stop()
        await self.backend.stop()
        await self.runner.save()
        await self.catalogue.stop()
        assert asyncio.all_tasks() == self._before, "a task was left behind"

    async def crash(self) -> None:
        """End without writing another word."""
        self.store.is_out_of_order = True
        for log in self.logs:
            log.refused_appends = 1_000_000
        await self.stop()
        self.store.is_out_of_order = False
        for log in self.logs:
            log.refused_appends = 0

    # Queues and messages

    async def create(self, name: str, **attributes: str) -> Queue:
        shard = int(name.startswith("far"))
        record = QueueRecord(name, ACCOUNT, 1, 1, shard, 0, attributes)
        made: Any = await self.backend.submit(shard, commands.CreateQueue(shard_settings(record, 0)))
        return await self.catalogue.create(replace(record, number=made.queue))

    async def delete(self, name: str) -> None:
        queue = self.queue(name)
        await self.catalogue.delete(queue)
        await self.backend.submit(queue.shard, commands.DeleteQueue(queue.number))

    def queue(self, name: str) -> Queue:
        queue = self.catalogue.find(ACCOUNT, name)
        assert queue is not None
        return queue

    async def send(self, name: str, count: int = 1, *, source: str = "") -> list[str]:
        """Send messages, as if they were dead letters of a source if one is given; returns their bodies."""
        queue = self.queue(name)
        bodies = [f"{name} {number:05}" for number in range(len(self.sent), len(self.sent) + count)]
        self.sent += bodies
        envelopes = [Envelope(body, "md5", ACCOUNT, source_arn=source and arn(source)) for body in bodies]
        entries = [commands.Entry(encode_envelope(envelope)) for envelope in envelopes]
        await self.backend.submit(queue.shard, commands.SendMessages(queue.number, entries))
        return bodies

    async def counts(self, name: str) -> commands.Counts:
        queue = self.queue(name)
        counts = await self.backend.submit(queue.shard, commands.CountMessages(queue.number))
        assert isinstance(counts, commands.Counts)
        return counts

    async def total(self, name: str) -> int:
        counts = await self.counts(name)
        return counts.visible + counts.in_flight

    async def bodies(self, name: str, timeout_ms: int = _LONG_MS) -> list[str]:
        """Everything that is visible in a queue, which is then in flight; once for each time it is there."""
        queue = self.queue(name)
        found: list[str] = []
        while True:
            command = commands.ReceiveMessages(queue.number, 10, timeout_ms)
            received: Any = await self.backend.submit(queue.shard, command)
            if not received.messages:
                return sorted(found)
            found += [decode_envelope(message.envelope).body for message in received.messages]

    # Moves

    async def begin(self, source: str = "letters", destination: str = "", **fields: Any) -> Move:
        queue = self.queue(source)
        counts = await self.counts(source)
        self._ids += 1
        task = MoveTask(
            f"task-{self._ids}",
            ACCOUNT,
            source,
            queue.shard,
            queue.number,
            now_ms(),
            counts.visible,
            destination and arn(destination),
            **fields,
        )
        await self.tasks.begin(task)
        await settle()
        return self.move(source)

    async def cancel(self, source: str = "letters") -> None:
        """As a client does, who knows nothing of who is at work."""
        assert await self.tasks.cancel(await self.saved(source)) is not None

    def move(self, source: str = "letters") -> Move:
        move = self.runner.move_of(self.queue(source))
        assert move is not None
        return move

    async def saved(self, source: str = "letters") -> MoveTask:
        """The newest task of a queue, as clients see it."""
        return (await self.tasks.of(ACCOUNT, source))[0]

    async def ended(self, source: str = "letters") -> MoveTask:
        """The newest task of a queue once it has ended."""
        while (task := await self.saved(source)).is_active:  # noqa: ASYNC110 (the time is virtual)
            await asyncio.sleep(0.01)
        return task

    def on_their_way(self, source: str = "letters") -> int:
        queue = self.queue(source)
        state = self.backend.shards[queue.shard].state.queues.get(queue.number)
        return sum(state.aside_targets[at].startswith("move:") for at in state.aside) if state else 0

    async def serves(self) -> None:
        while not self.backend.is_serving():  # noqa: ASYNC110 (the time is virtual)
            await asyncio.sleep(0.01)


def _now_s() -> float:
    return now_ms() / 1_000


@asynccontextmanager
async def moving(*names: str) -> AsyncIterator[MoveWorld]:
    """A node with these queues."""
    world = MoveWorld()
    await world.start()
    for name in names:
        await world.create(name)
    try:
        yield world
    finally:
        await world.stop()


@asynccontextmanager
async def moving_to(destination: str, messages: int, **fields: Any) -> AsyncIterator[MoveWorld]:
    """A node with a queue "letters" of which so many messages have just begun to move."""
    async with moving("letters", destination) as world:
        await world.send("letters", messages)
        await world.begin(destination=destination, **fields)
        yield world
