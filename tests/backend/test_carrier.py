"""Dead letters on their way from queue to queue, through every failure: each in one place, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from tests.backend.shard_driver import ShardDriver, texts_of
from tests.backend.virtual_time import now_ms, settle, virtual_time
from tests.log.faulty import FaultyLog
from waystation.backend.backend import Backend
from waystation.backend.carrier import Parcel
from waystation.backend.errors import ShardUnavailable, StorageNearlyFull
from waystation.backend.settings import BackendSettings
from waystation.protocol.errors import QueueDoesNotExist, Unavailable
from waystation.queues.commands import AcceptMessages, Arrival, CreateQueue, QueueSettings
from waystation.queues.events import (
    Event,
    MessagesArrived,
    MessagesReleased,
    MessagesSetAside,
    decode_events,
)

TEXTS = [f"poison {number}" for number in range(5)]
LONG_MS = 43_200_000


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
        self.backend = Backend(list(logs), BackendSettings(), now_ms)
        self.backend.carry_with(self.deliver)
        self.source, self.target = (
            ShardDriver(log, shard) for log, shard in zip(logs, self.backend.shards, strict=True)
        )
        self.places = {name: number for number, name in enumerate(targets, 1)}
        self.parcels: list[tuple[int, Parcel]] = []
        """All that was tried to deliver, and when."""

    async def deliver(self, parcel: Parcel) -> None:
        self.parcels.append((now_ms(), parcel))
        if parcel.target not in self.places:
            raise QueueDoesNotExist
        command = AcceptMessages(
            self.places[parcel.target],
            parcel.source_shard,
            parcel.source_queue,
            parcel.arrivals,
            parcel.settled,
        )
        await self.backend.submit(1, command)

    async def add_target(self, name: str) -> None:
        answer: Any = await self.backend.submit(1, CreateQueue(QueueSettings(name)))
        self.places[name] = answer.queue

    async def lose(self, *texts: str) -> None:
        """Send messages to the source and receive them as often as they may be."""
        await self.source.send(*texts)
        assert len(await self.source.texts(timeout_ms=1_000)) == len(texts)
        await asyncio.sleep(1)

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
    await post.backend.start()
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


@virtual_time
async def test_dead_letters_go_to_their_target_as_old_and_as_often_received_as_they_are() -> None:
    async with posting() as post:
        await post.lose(*TEXTS)
        began_ms = now_ms()
        assert await post.source.texts() == []
        messages = await post.target.receive(10, wait_ms=20_000)

        assert texts_of(messages) == TEXTS
        assert now_ms() == began_ms, "they went at once, and woke who waited for them"
        assert {message.receive_count for message in messages} == {2}
        assert all(message.sent_at_ms <= began_ms - 1_000 for message in messages)
        assert {message.first_received_at_ms for message in messages} == {began_ms}
        await post.nothing_is_left()


@virtual_time
async def test_more_letters_than_go_at_once_all_arrive_and_what_is_settled_is_forgotten() -> None:
    async with posting() as post:
        texts = [f"poison {number:03}" for number in range(200)]
        await post.source.sending(*texts)
        for _ in range(20):
            await post.source.texts(timeout_ms=1_000)
        await asyncio.sleep(1)
        assert await post.source.texts() == []
        await settle(200)

        assert await post.in_target() == texts
        await post.nothing_is_left()
        [known] = post.backend.shards[1].state.queues[1].arrived.values()
        assert len(known) <= 64, "no more than those of the last delivery"


@pytest.mark.parametrize("how", ["refused_appends", "lost_answers"])
@pytest.mark.parametrize("step", [MessagesSetAside, MessagesArrived, MessagesReleased])
def test_whichever_step_fails_each_letter_arrives_once(how: str, step: type[Event]) -> None:
    @virtual_time
    async def fail() -> None:
        async with posting() as post:
            await post.lose(*TEXTS)
            log = post.target.log if step is MessagesArrived else post.source.log
            assert isinstance(log, FailingAt)
            log.at, log.how = step, how
            opens = log.opens
            await post.poll_source()

            assert log.opens > opens, "the step did not fail"
            assert await post.in_target() == TEXTS
            await post.nothing_is_left()

    fail()


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 25])
def test_a_node_that_stops_at_any_moment_carries_on_when_it_starts_again(at: int) -> None:
    @virtual_time
    async def stop() -> None:
        logs = [FailingAt(), FailingAt()]
        async with posting(logs) as post:
            await post.lose(*TEXTS)
            receiving = post.source.receiving(10)
            await settle(at)
            receiving.cancel()
        async with posting(logs) as post:
            await post.poll_source(3)

            assert await post.in_target() == TEXTS
            await post.nothing_is_left()

    stop()


@virtual_time
async def test_nothing_is_delivered_before_it_is_durable_that_nobody_receives_it_any_more() -> None:
    async with posting() as post:
        await post.lose(*TEXTS)
        post.source.log.appends.shut()
        assert await post.source.texts() == []
        await asyncio.sleep(30)
        assert post.parcels == []

        post.source.log.appends.release()
        await settle()
        assert await post.in_target() == TEXTS


@virtual_time
async def test_letters_wait_for_a_target_that_is_missing_and_go_when_it_is_there() -> None:
    async with posting(targets=()) as post:
        await post.lose(*TEXTS)
        assert await post.source.texts() == []
        await asyncio.sleep(60)
        counts = await post.source.counts()
        assert (counts.visible, counts.in_flight) == (0, 5)

        await post.add_target("letters")
        await asyncio.sleep(2)
        assert await post.in_target() == TEXTS
        await post.nothing_is_left()


@virtual_time
async def test_letters_wait_for_a_target_that_does_not_answer() -> None:
    async with posting() as post:
        await post.lose(*TEXTS)
        post.target.log.refused_appends = 3
        post.target.log.refused_opens = 5
        with pytest.raises(ShardUnavailable):
            await post.target.sending("makes it fail")
        assert await post.source.texts() == []
        await post.target.serves()
        await asyncio.sleep(60)

        assert await post.in_target() == TEXTS


@virtual_time
async def test_a_target_that_takes_its_time_holds_up_nobody_at_the_source() -> None:
    async with posting() as post:
        await post.lose(*TEXTS)
        post.target.log.appends.shut()
        assert await post.source.texts() == []
        await settle()

        await post.source.send("alive")
        assert await post.source.texts() == ["alive"]
        post.target.log.appends.release()
        await settle()
        assert await post.in_target() == TEXTS


@virtual_time
async def test_what_cannot_be_delivered_is_tried_once_a_second_however_many_more_come() -> None:
    async with posting(targets=()) as post:
        await post.lose("first")
        await post.source.texts()
        for number in range(100):
            await post.source.send(f"poison {number}")
            await post.source.texts(timeout_ms=50)
            await asyncio.sleep(0.1)
        tried_at_ms = [at_ms for at_ms, _ in post.parcels]

        assert len(tried_at_ms) < 30
        gaps = {later - earlier for earlier, later in pairwise(tried_at_ms)}
        assert min(gaps) >= 1_000


@virtual_time
async def test_a_message_that_was_delivered_goes_to_no_other_queue_when_the_policy_changes() -> None:
    """Its release fails; by then the queue has another target, or none."""
    for target in ("elsewhere", ""):
        async with posting(targets=("letters", "elsewhere")) as post:
            await post.lose(*TEXTS)
            post.source.log.at, post.source.log.how = MessagesReleased, "refused_appends"  # type: ignore[attr-defined]
            await post.source.texts()
            await settle(100)
            await post.source.serves()
            await post.source.configure(receive_count_max=1, dead_letter_target=target)
            await asyncio.sleep(5)

            assert await post.in_target("letters") == TEXTS
            assert await post.in_target("elsewhere") == []
            await post.nothing_is_left()


@virtual_time
async def test_letters_for_a_queue_that_is_gone_go_to_the_one_that_the_policy_names_now() -> None:
    logs = [FailingAt(), FailingAt()]
    async with posting(logs, targets=("elsewhere",)) as post:
        await post.lose(*TEXTS)
        await post.source.texts()
        await asyncio.sleep(5)
        await post.source.configure(receive_count_max=1, dead_letter_target="elsewhere")
        await asyncio.sleep(5)

        assert await post.in_target("elsewhere") == TEXTS
        await post.nothing_is_left()


@virtual_time
async def test_letters_for_a_target_that_is_there_do_not_wait_for_those_of_one_that_is_not() -> None:
    async with posting(targets=("elsewhere",)) as post:
        await post.lose("for nobody")
        await post.source.texts()
        await asyncio.sleep(5)
        await post.source.configure(receive_count_max=0, dead_letter_target="")
        await post.source.configure(receive_count_max=1, dead_letter_target="elsewhere")
        await post.lose(*TEXTS)
        await post.source.texts()
        await asyncio.sleep(5)

        assert await post.in_target("elsewhere") == sorted(["for nobody", *TEXTS])


@virtual_time
async def test_a_queue_that_is_deleted_or_purged_while_it_waits_for_its_target_ends_the_trying() -> None:
    async with posting(targets=()) as post:
        await post.lose(*TEXTS)
        await post.source.texts()
        await asyncio.sleep(5)
        await post.source.purge()
        await asyncio.sleep(5)
        tried = len(post.parcels)
        await asyncio.sleep(60)

        assert len(post.parcels) == tried
        await post.nothing_is_left()


@virtual_time
async def test_letters_wait_while_the_disk_of_their_target_is_nearly_full() -> None:
    async with posting() as post:
        await post.lose(*TEXTS)
        post.target.log.is_nearly_full = True
        with pytest.raises(StorageNearlyFull):
            await post.backend.submit(1, AcceptMessages(1, 9, 9, [Arrival(1, 1, 1, b"")], []))
        await post.source.texts()
        await asyncio.sleep(10)
        assert await post.in_target() == []

        post.target.log.is_nearly_full = False
        await asyncio.sleep(2)
        assert await post.in_target() == TEXTS


@virtual_time
async def test_relocation_of_what_is_on_its_way_takes_nothing_with_it() -> None:
    async with posting(targets=()) as post:
        await post.lose(*TEXTS)
        await post.source.texts()
        for _ in range(3):
            await post.source.shard._housekeeper._relocate()
            await post.source.shard._housekeeper._snapshot_and_truncate()
            await asyncio.sleep(1.5)
        await post.add_target("letters")
        await asyncio.sleep(2)

        assert await post.in_target() == TEXTS
        await post.nothing_is_left()


@virtual_time
async def test_a_long_poll_on_dead_messages_only_waits_for_one_that_lives() -> None:
    async with posting() as post:
        await post.lose(*TEXTS)
        polling = post.source.receiving(10, wait_ms=20_000)
        await asyncio.sleep(5)
        assert not polling.done()

        await post.source.send("alive")
        assert texts_of((await polling).messages) == ["alive"]
        assert await post.in_target() == TEXTS
