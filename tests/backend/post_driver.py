"""Two shards and a delivery between them, whose appends fail where a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.backend.shard_driver import ShardDriver, texts_of
from tests.backend.virtual_time import now_ms, settle
from tests.log.faulty import FaultyLog
from waystation.backend.backend import Backend
from waystation.backend.carrier import Delivered, Parcel
from waystation.backend.errors import ShardUnavailable
from waystation.backend.settings import BackendSettings
from waystation.protocol.errors import QueueDoesNotExist, Unavailable
from waystation.queues.commands import AcceptMessages, Arrival, CreateQueue, MoveMessages, QueueSettings
from waystation.queues.events import Event, decode_events

LONG_MS = 43_200_000
EACH = "each"
"""A target that leaves the choice to the messages: the first word of each is its destination."""


class FailingAt(FaultyLog):
    """Its next append that holds an event of kind `at` fails, in the way `how` says."""

    def __init__(self) -> None:
        super().__init__()
        self.at: type[Event] | None = None
        self.how = "refused_appends"

    async def append(self, payload: bytes) -> int:
        if self.at is not None and any(isinstance(event, self.at) for event in decode_events(payload)):
            self.at = None
            setattr(self, self.how, 1)
        return await super().append(payload)


class Post:
    """Two shards: queue 1 of the first sends its dead letters to "letters", queue 1 of the second."""

    def __init__(self, logs: list[FailingAt], targets: list[str]) -> None:
        self.logs = logs
        self.backend = Backend(logs.__getitem__, len(logs), BackendSettings(), now_ms)
        self.backend.carry_with(self.deliver)
        self.places = {name: number for number, name in enumerate(targets, 1)}
        self.parcels: list[tuple[int, Parcel]] = []
        """All that was tried to deliver, and when."""
        self.accepting: list[AcceptMessages] = []
        """All that targets were asked to accept."""
        self.silent = ""
        """A destination that does not answer."""

    async def start(self) -> None:
        await self.backend.start()
        self.source, self.target = (
            ShardDriver(log, shard) for log, shard in zip(self.logs, self.backend.shards, strict=True)
        )

    async def deliver(self, parcel: Parcel) -> Delivered:
        """As the FrontEnd does it, but with names in the place of ARNs, and words in that of envelopes."""
        self.parcels.append((now_ms(), parcel))
        if parcel.target == EACH:
            return await self.deliver_each(parcel)
        if parcel.target not in self.places:
            raise QueueDoesNotExist
        return Delivered({parcel.target: await self.accept(parcel, parcel.target, parcel.arrivals)}, {})

    async def deliver_each(self, parcel: Parcel) -> Delivered:
        routes: dict[str, list[Arrival]] = {}
        for arrival in parcel.arrivals:
            routes.setdefault(arrival.envelope.decode().split()[0], []).append(arrival)
        accepted: dict[str, list[int]] = {}
        refused: dict[int, str] = {}
        for name, arrivals in routes.items():
            if name == self.silent:
                continue
            if name in self.places:
                accepted[name] = await self.accept(parcel, name, arrivals)
            else:
                refused |= {arrival.sequence: "gone" for arrival in arrivals}
        if not accepted and not refused:
            raise ShardUnavailable("refused by the test")
        return Delivered(accepted, refused)

    async def accept(self, parcel: Parcel, name: str, arrivals: list[Arrival]) -> list[int]:
        command = AcceptMessages(
            self.places[name],
            parcel.source_shard,
            parcel.source_queue,
            arrivals,
            parcel.settled.get(name, []),
            parcel.delivery,
        )
        self.accepting.append(command)
        await self.backend.submit(1, command)
        return [arrival.sequence for arrival in arrivals]

    async def add_target(self, name: str) -> None:
        answer: Any = await self.backend.submit(1, CreateQueue(QueueSettings(name)))
        self.places[name] = answer.queue

    async def lose(self, *texts: str) -> None:
        """Send messages to the source and receive them as often as they may be."""
        await self.source.send(*texts)
        assert len(await self.source.texts(timeout_ms=1_000)) == len(texts)
        await asyncio.sleep(1)

    async def move(self, *texts: str) -> None:
        """Send messages to the source, and set them aside for wherever they say."""
        await self.source.sending(*texts)
        await self.source.shard.submit(MoveMessages(1, EACH, len(texts)))

    async def poll_source(self, seconds: int = 30) -> None:
        """Consumers that get nothing; and what fails, they try again."""
        for _ in range(seconds):
            try:
                assert await self.source.texts() == []
            except Unavailable:
                await self.source.serves()
            await asyncio.sleep(1)

    async def in_target(self, name: str = "letters") -> list[str]:
        """Everything in a target, once for each time that it is there."""
        self.target.queue = self.places[name]
        found: list[str] = []
        while messages := await self.target.receive(10, timeout_ms=LONG_MS):
            found += texts_of(messages)
        return sorted(found)

    async def nothing_is_left(self) -> None:
        counts = await self.source.counts()
        assert (counts.visible, counts.in_flight, counts.delayed) == (0, 0, 0)


@asynccontextmanager
async def posting(
    logs: list[FailingAt] | None = None, targets: tuple[str, ...] = ("letters",)
) -> AsyncIterator[Post]:
    """Shards that serve, the source set up; when they are stopped, no task may be left."""
    before = asyncio.all_tasks()
    logs = [FailingAt(), FailingAt()] if logs is None else logs
    post = Post(logs, [])
    await post.start()
    await settle()
    if not post.backend.shards[0].state.queues:
        await post.source.create(receive_count_max=1, dead_letter_target="letters")
        for name in targets:
            await post.add_target(name)
    else:
        post.places = {
            queue.settings.name: number for number, queue in post.backend.shards[1].state.queues.items()
        }
    try:
        yield post
    finally:
        await post.backend.stop()
        assert asyncio.all_tasks() == before, "a task was left behind"
