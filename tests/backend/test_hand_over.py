"""Shards that come to a process and go to another, with everything that clients were told."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.backend.post_driver import posting
from tests.backend.shared_log import SharedDisk, SharedLog
from tests.backend.virtual_time import now_ms, settle, virtual_time
from tests.log.asynchrony import async_test
from waystation.backend.backend import Backend
from waystation.backend.errors import NotOwner, ShardUnavailable
from waystation.backend.settings import BackendSettings
from waystation.log.errors import Fenced, LogDamaged, LogUnavailable
from waystation.log.memory import MemoryLog
from waystation.log.sqlite import SqliteLog
from waystation.queues.commands import (
    Answer,
    CountMessages,
    Counts,
    CreateQueue,
    Done,
    Entry,
    PurgeQueue,
    QueueId,
    QueueSettings,
    Received,
    ReceiveMessages,
    SendMessages,
    Sent,
)

SHARD = 3


class Node:
    """A process that may have any of four shards, of which there are disks that outlive it."""

    def __init__(self, disks: list[SharedDisk], **settings: float) -> None:
        self.logs: dict[int, SharedLog] = {}
        self._disks = disks
        self.backend = Backend(self._log_of, len(disks), BackendSettings(**settings), now_ms)  # type: ignore[arg-type]

    def _log_of(self, number: int) -> SharedLog:
        self.logs[number] = SharedLog(self._disks[number])
        return self.logs[number]

    @property
    def log(self) -> SharedLog:
        return self.logs[SHARD]

    def sending(self, *texts: str) -> asyncio.Future[Answer]:
        entries = [Entry(text.encode()) for text in texts]
        return self.backend.submit(SHARD, SendMessages(1, entries))

    def receiving(self, max_messages: int = 10, wait_ms: int = 0) -> asyncio.Future[Answer]:
        return self.backend.submit(SHARD, ReceiveMessages(1, max_messages, 30_000, wait_ms))

    async def texts(self) -> list[str]:
        received = await self.receiving()
        assert isinstance(received, Received)
        return [message.envelope.decode() for message in received.messages]


def nodes() -> tuple[Node, Node]:
    disks = [SharedDisk() for _ in range(4)]
    return Node(disks), Node(disks)


async def serving() -> tuple[Node, Node]:
    """Two nodes, of which the first has the shard, and a queue in it."""
    both = nodes()
    await both[0].backend.take(SHARD)
    assert await both[0].backend.submit(SHARD, CreateQueue(QueueSettings("orders"))) == QueueId(1)
    return both


@virtual_time
async def test_a_shard_that_is_elsewhere_does_nothing_and_says_so() -> None:
    node, _ = await serving()

    assert (node.backend.serves(SHARD), node.backend.serves(0)) == (True, False)
    assert not node.backend.is_serving(), "of four shards one is here"
    with pytest.raises(NotOwner):
        _ = node.backend.submit(0, CountMessages(1))
    await node.backend.stop()


@virtual_time
async def test_a_released_shard_goes_on_elsewhere_with_nothing_to_replay() -> None:
    first, second = await serving()
    tasks = len(asyncio.all_tasks())
    for number in range(10):
        await first.sending(f"message {number}")
    await first.backend.release(SHARD)
    with pytest.raises(NotOwner):
        _ = first.sending("too late")
    with pytest.raises(LogUnavailable):
        await first.log.read([1])
    assert not first.backend.shards
    assert len(asyncio.all_tasks()) < tasks

    assert await second.backend.take(SHARD) == 2
    assert second.log.replayed == []
    assert await second.texts() == [f"message {number}" for number in range(10)]
    await second.backend.stop()


@virtual_time
async def test_what_is_under_way_when_a_shard_is_released_becomes_durable_and_is_answered() -> None:
    first, second = await serving()
    first.log.appends.shut()
    sending = first.sending("one")
    await settle()
    sending_more, receiving = first.sending("two"), first.receiving(1)
    releasing = asyncio.ensure_future(first.backend.release(SHARD))
    await settle()
    assert not sending.done()
    with pytest.raises(NotOwner):
        _ = first.sending("too late")
    first.log.appends.release()
    await releasing

    assert [await sending, await sending_more] == [Sent([1]), Sent([2])]
    received = await receiving
    assert isinstance(received, Received)
    assert [message.envelope for message in received.messages] == [b"one"]
    await second.backend.take(SHARD)
    assert await second.texts() == ["two"]
    await second.backend.stop()


@virtual_time
async def test_a_consumer_gets_its_messages_although_they_are_still_being_read_when_the_shard_goes() -> None:
    first, second = await serving()
    await first.sending("hello")
    await first.backend.release(SHARD)
    await second.backend.take(SHARD)  # its cache is empty
    second.log.reads.shut()
    receiving = second.receiving()
    await settle()
    releasing = asyncio.ensure_future(second.backend.release(SHARD))
    await settle()
    assert not releasing.done()
    second.log.reads.release()
    await releasing

    received = await receiving
    assert isinstance(received, Received)
    assert [message.envelope for message in received.messages] == [b"hello"]


@virtual_time
async def test_messages_whose_consumer_goes_away_during_a_hand_over_are_visible_at_the_next_owner() -> None:
    first, second = await serving()
    await first.sending("hello")
    first.log.appends.shut()
    receiving = first.receiving()
    await settle()
    releasing = asyncio.ensure_future(first.backend.release(SHARD))
    await settle()
    receiving.cancel()
    first.log.appends.release()
    await releasing

    await second.backend.take(SHARD)
    assert await second.texts() == ["hello"]
    await second.backend.stop()


@virtual_time
async def test_long_polls_are_answered_when_their_shard_goes() -> None:
    first, _ = await serving()
    polling = [first.receiving(wait_ms=20_000) for _ in range(3)]
    began_ms = now_ms()
    await first.backend.release(SHARD)

    assert [await poll for poll in polling] == [Received(1, [])] * 3
    assert now_ms() == began_ms


@pytest.mark.parametrize("how", ["refused_appends", "lost_answers", "refused_snapshots"])
def test_a_log_that_fails_during_a_hand_over_ends_it_and_leaves_nobody_waiting(how: str) -> None:
    @virtual_time
    async def fail() -> None:
        first, second = await serving()
        setattr(first.log, how, 1)
        first.log.appends.shut()
        sending = first.sending("in doubt")
        releasing = asyncio.ensure_future(first.backend.release(SHARD))
        await settle()
        first.log.appends.release()
        await releasing

        if how == "refused_snapshots":
            assert await sending == Sent([1])
        else:
            with pytest.raises(ShardUnavailable):
                await sending
        await second.backend.take(SHARD)
        assert await second.texts() == ([] if how == "refused_appends" else ["in doubt"])
        await second.backend.stop()

    fail()


@virtual_time
async def test_a_hand_over_that_takes_too_long_can_be_cancelled() -> None:
    first, second = await serving()
    first.log.appends.shut()
    sending = first.sending("in doubt")
    await settle()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await first.backend.release(SHARD)

    with pytest.raises(ShardUnavailable):
        await sending
    assert not first.backend.shards
    await second.backend.take(SHARD)
    await second.backend.stop()


@virtual_time
async def test_a_shard_that_recovers_is_released_at_once() -> None:
    first, second = await serving()
    first.log.refused_opens = 1_000_000
    first.log.refused_appends = 1
    with pytest.raises(ShardUnavailable):
        await first.sending("refused")
    await asyncio.sleep(5)
    await first.backend.release(SHARD)

    await second.backend.take(SHARD)
    assert await second.texts() == []
    await second.backend.stop()


@virtual_time
async def test_a_dropped_shard_can_be_taken_again() -> None:
    first, _ = await serving()
    await first.sending("hello")
    for epoch in (2, 3):
        await first.backend.drop(SHARD)
        assert await first.backend.take(SHARD) == epoch
    await first.backend.drop(0)  # it is not here

    assert await first.texts() == ["hello"]
    await first.backend.stop()


@virtual_time
async def test_a_shard_that_cannot_be_taken_leaves_nothing_behind() -> None:
    first, second = nodes()
    first._disks[SHARD].records[1] = b"not a record"
    for node in (first, second):
        with pytest.raises(LogDamaged):
            await node.backend.take(SHARD)
        assert not node.backend.shards
    first._disks[SHARD].records.clear()

    assert await first.backend.take(SHARD) == 1
    await first.backend.stop()


@virtual_time
async def test_whoever_runs_a_shard_is_told_that_another_owner_has_it() -> None:
    first, second = await serving()
    ended = asyncio.ensure_future(first.backend.ended(SHARD))
    await second.backend.take(SHARD)
    await settle()
    assert not ended.done(), "it cannot know yet"
    with pytest.raises(NotOwner):
        await first.sending("fenced")

    with pytest.raises(Fenced):
        await ended
    assert not first.backend.serves(SHARD)
    await first.backend.drop(SHARD)
    await second.backend.stop()


@pytest.mark.parametrize("how", ["release", "drop", "stop"])
def test_who_waits_for_the_end_of_a_shard_hears_of_a_planned_one_as_well(how: str) -> None:
    @virtual_time
    async def end() -> None:
        first, _ = await serving()
        ended = asyncio.ensure_future(first.backend.ended(SHARD))
        await settle()
        await getattr(first.backend, how)(*() if how == "stop" else (SHARD,))
        await ended
        await first.backend.ended(SHARD)  # it is not here

    end()


@virtual_time
async def test_dead_letters_that_are_on_their_way_when_their_shard_goes_arrive_once() -> None:
    async with posting() as post:
        post.target.log.appends.shut()
        await post.source.send("poison")
        assert await post.source.texts(timeout_ms=1_000) == ["poison"]
        await asyncio.sleep(1)
        assert await post.source.texts() == []
        await asyncio.sleep(0.1)
        assert post.parcels
        await post.backend.release(0)
        post.target.log.appends.release()
        await asyncio.sleep(1)
        await post.backend.take(0)
        await asyncio.sleep(5)

        assert await post.in_target() == ["poison"]
        assert await post.backend.submit(0, CountMessages(1)) == Counts(0, 0, 0)


@async_test
async def test_a_shard_with_a_backlog_is_handed_over_in_a_fraction_of_a_second(tmp_path: Path) -> None:
    """Clients wait from the first refused command on until the next owner serves."""
    backend = Backend(lambda _: SqliteLog(tmp_path / "shard.log"), 1, BackendSettings())
    await backend.take(0)
    await backend.submit(0, CreateQueue(QueueSettings("orders")))
    for _ in range(20):
        sends = [backend.submit(0, SendMessages(1, [Entry(b"x" * 1_000)] * 10)) for _ in range(50)]
        await asyncio.gather(*sends)
    sends = [backend.submit(0, SendMessages(1, [Entry(b"last")] * 10)) for _ in range(50)]
    began_s = time.monotonic()
    await backend.release(0)
    took_s = time.monotonic() - began_s

    assert all(isinstance(send.result(), Sent) for send in sends)
    assert took_s < 0.5
    await backend.take(0)
    assert await backend.submit(0, CountMessages(1)) == Counts(10_500, 0, 0)
    assert await backend.submit(0, PurgeQueue(1, 0)) == Done()
    await backend.stop()


def test_logs_are_asked_for_only_when_a_shard_is_taken() -> None:
    def never(number: int) -> MemoryLog:
        raise AssertionError(f"nobody takes shard {number}")

    assert Backend(never, 64, BackendSettings()).place("orders") < 64
