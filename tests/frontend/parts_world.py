"""A queue of several parts, and what a FrontEnd has of it, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from tests.backend.virtual_time import now_ms, settle
from tests.log.faulty import FaultyLog
from waystation.backend.backend import Backend
from waystation.backend.giving_back import give_back
from waystation.backend.settings import BackendSettings
from waystation.frontend.part_polls import Handed
from waystation.frontend.parts import Parts
from waystation.metadata.queues import Place, Queue, QueueRecord, shard_settings
from waystation.queues.commands import (
    Answer,
    ChangeVisibility,
    Command,
    CountMessages,
    Counts,
    DeleteMessages,
    Entry,
    Outcome,
    Receipt,
    ReceiveMessages,
    VisibilityChange,
)

TIMEOUT_MS = 30_000


class SlowLog(FaultyLog):
    """A log each of whose appends takes a time of its own, up to 5 ms."""

    def __init__(self, random: Random | None) -> None:
        super().__init__()
        self._random = random

    async def append(self, payload: bytes) -> int:
        if self._random is not None:
            await asyncio.sleep(self._random.uniform(0, 0.005))
        return await super().append(payload)


class DistantShards:
    """Implements `Shards` as links to other nodes do: everything takes its time, cancelling as well."""

    def __init__(self, backend: Backend, random: Random) -> None:
        self._backend = backend
        self._random = random

    @property
    def count(self) -> int:
        return self._backend.count

    def place(self, name: str) -> int:
        return self._backend.place(name)

    def is_serving(self) -> bool:
        return True

    def _delay_s(self) -> float:
        return self._random.uniform(0, 0.003)

    def submit(self, shard: int, command: Command) -> asyncio.Future[Answer]:
        loop = asyncio.get_running_loop()
        outside: asyncio.Future[Answer] = loop.create_future()
        loop.call_later(self._delay_s(), self._arrive, shard, command, outside)
        return outside

    def _arrive(self, shard: int, command: Command, outside: asyncio.Future[Answer]) -> None:
        loop = asyncio.get_running_loop()
        if outside.cancelled():
            return
        try:
            inside = self._backend.submit(shard, command)
        except Exception as error:
            inside = loop.create_future()
            inside.set_exception(error)
        inside.add_done_callback(
            lambda done: loop.call_later(self._delay_s(), self._answer, shard, done, outside)
        )
        outside.add_done_callback(
            lambda done: loop.call_later(self._delay_s(), inside.cancel) if done.cancelled() else None
        )

    def _answer(self, shard: int, inside: asyncio.Future[Answer], outside: asyncio.Future[Answer]) -> None:
        if inside.cancelled():
            return
        error = inside.exception()
        if outside.done():
            if error is None:
                give_back(self.submit, shard, inside.result())
        elif error is not None:
            outside.set_exception(error)
        else:
            outside.set_result(inside.result())


class PartsWorld:
    """A queue with as many parts as there are shards."""

    def __init__(self, backend: Backend, logs: list[SlowLog], queue: Queue, parts: Parts) -> None:
        self.backend = backend
        self.logs = logs
        self.queue = queue
        self.parts = parts

    async def send(self, *bodies: str, group: str = "", delay_ms: int = 0) -> list[tuple[Place, int]]:
        """All in one request."""
        entries = [
            Entry(body.encode(), delay_ms, group, body.encode().rjust(16) if self.queue.is_fifo else b"")
            for body in bodies
        ]
        return await self.parts.send(self.queue, entries)

    async def send_to(self, part: int, *bodies: str) -> None:
        """As another FrontEnd does: this one does not hear of it."""
        other = Parts(self.backend)
        spread = other._spread(self.queue)
        spread.sends = part - 1
        [(place, _), *_] = await other.send(self.queue, [Entry(body.encode()) for body in bodies])
        assert place == self.queue.places[part]

    async def receive(
        self, max_messages: int = 10, wait_s: float = 0, timeout_ms: int = TIMEOUT_MS, attempt: bytes = b""
    ) -> list[Handed]:
        command = ReceiveMessages(0, max_messages, timeout_ms, round(wait_s * 1_000), attempt)
        return await self.parts.receive(self.queue, command)

    def begin(self, max_messages: int = 1, wait_s: float = 20) -> asyncio.Task[list[Handed]]:
        """Begin a long poll."""
        return asyncio.create_task(self.receive(max_messages, wait_s))

    async def delete(self, handed: list[Handed]) -> list[Outcome]:
        located = [(place, Receipt(each.sequence, each.receive_count)) for place, each in handed]
        return await self.parts.outcomes(located, DeleteMessages)

    async def show(self, handed: list[Handed]) -> list[Outcome]:
        """Make messages visible again."""
        located = [
            (place, VisibilityChange(Receipt(each.sequence, each.receive_count), 0)) for place, each in handed
        ]
        return await self.parts.outcomes(located, ChangeVisibility)

    async def counts(self) -> Counts:
        return await self.parts.count(self.queue)

    async def counts_of(self, part: int) -> Counts:
        place = self.queue.places[part]
        counts: Any = await self.backend.submit(place.shard, CountMessages(place.number))
        assert isinstance(counts, Counts)
        return counts

    def waiting(self) -> int:
        """How many receives wait in all shards."""
        return sum(len(shard._receiver._polls._waiting) for shard in self.backend.shards)


def bodies(handed: list[Handed]) -> list[str]:
    return [message.envelope.decode() for _, message in handed]


@asynccontextmanager
async def parts_world(
    parts: int = 4, *, fifo: bool = False, seed: int | None = None, waiting_max: int = 10_000
) -> AsyncIterator[PartsWorld]:
    """With a seed, shards are far away and their logs slow; without, all happens at once."""
    random = None if seed is None else Random(seed)
    logs = [SlowLog(random) for _ in range(parts)]
    backend = Backend(logs.__getitem__, parts, BackendSettings(waiting_max=waiting_max), now_ms)
    before = asyncio.all_tasks()
    await backend.start()
    shards = backend if random is None else DistantShards(backend, random)
    spread = Parts(shards)
    record = QueueRecord("orders.fifo" if fifo else "orders", "000000000000", 0, 0, 0, 0)
    first, *others = await spread.create(range(parts), shard_settings(record, 0))
    record = QueueRecord(record.name, record.account, 0, 0, *first, parts=tuple(others))
    yield PartsWorld(backend, logs, Queue(record, 1), spread)
    await settle()
    backend.drain()
    await backend.stop()
    assert asyncio.all_tasks() == before, "a task was left behind"
