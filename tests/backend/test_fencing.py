"""Two owners of one shard: the later one serves, and the earlier one stops and says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from tests.backend.shard_driver import ShardDriver
from tests.backend.shared_log import SharedDisk, SharedLog
from tests.backend.virtual_time import now_ms, settle, virtual_time
from waystation.backend.errors import NotOwner, ShardUnavailable
from waystation.backend.settings import BackendSettings
from waystation.backend.shard import Shard
from waystation.log.errors import Fenced, LogUnavailable
from waystation.queues.commands import DeleteMessages, Receipt
from waystation.queues.events import EpochStarted, decode_events, encode_events
from waystation.queues.snapshots import from_snapshot, to_snapshot


class Owner(ShardDriver):
    """One of those who think that the shard is theirs."""

    log: SharedLog

    def __init__(self, disk: SharedDisk, name: str, **settings: Any) -> None:
        log = SharedLog(disk)
        super().__init__(log, Shard(0, log, BackendSettings(**settings), now_ms, owner=name))
        self.running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.shard.open()
        self.running = asyncio.create_task(self.shard.run())
        await settle()

    async def ended(self) -> BaseException | None:
        assert self.running is not None
        await asyncio.wait([self.running], timeout=60)
        return self.running.exception()

    async def stop(self) -> None:
        self.shard.end()
        if self.running is not None:
            self.running.cancel()
            await asyncio.gather(self.running, return_exceptions=True)


@asynccontextmanager
async def owners(**settings: Any) -> AsyncIterator[tuple[Owner, Owner]]:
    """The first serves queue 1; the second has not begun. The log keeps all its records."""
    disk = SharedDisk()
    settings = {"idle_snapshot_s": 1e9, **settings}
    both = Owner(disk, "first", **settings), Owner(disk, "second", **settings)
    await both[0].start()
    await both[0].create()
    try:
        yield both
    finally:
        for each in both:
            await each.stop()


def epochs(disk: SharedDisk) -> list[tuple[int, str]]:
    events = [event for _, data in sorted(disk.records.items()) for event in decode_events(data[32:-16])]
    return [(event.epoch, event.owner) for event in events if isinstance(event, EpochStarted)]


@virtual_time
async def test_an_owner_that_was_left_behind_confirms_no_delete_of_what_it_knows_nothing_of() -> None:
    """The message was sent and received since: who has not heard of it sees nothing to delete."""
    async with owners() as (first, second):
        await second.start()
        await second.send("sent since")
        [message] = await second.receive()

        delete = DeleteMessages(second.queue, [Receipt(message.sequence, message.receive_count)])
        with pytest.raises(NotOwner):
            await first.shard.submit(delete)
        await second.shard.submit(delete)
        assert isinstance(await first.ended(), Fenced)


@virtual_time
async def test_a_fenced_shard_refuses_all_who_wait_and_never_serves_again() -> None:
    async with owners() as (first, second):
        await first.send("acknowledged")
        await second.start()
        polling = first.receiving(10, wait_ms=20_000)
        assert (await asyncio.wait({polling}, timeout=1))[0], "its receive has met the fence"
        with pytest.raises(NotOwner):
            await polling
        with pytest.raises(NotOwner):
            _ = first.sending("on arrival")

        assert isinstance(await first.ended(), Fenced)
        await asyncio.sleep(3_600)
        assert not first.shard.is_serving
        assert epochs(first.log.disk) == [(1, "first"), (2, "second")]
        assert await second.texts() == ["acknowledged"]


@virtual_time
async def test_what_a_fenced_append_refuses_was_not_done() -> None:
    """So whoever is told `NotOwner` may ask the new owner for the same again."""
    async with owners() as (first, second):
        polling = first.receiving(wait_ms=20_000)
        first.log.appends.shut()
        sending = [first.sending("in the record", delay_ms=1)]
        await settle()
        sending.append(first.sending("in the record after it", delay_ms=1))
        await second.start()
        first.log.appends.release()

        for future in (*sending, polling):
            with pytest.raises(NotOwner):
                await future
        await asyncio.sleep(1)
        assert await second.texts() == []


@virtual_time
async def test_a_shard_that_recovers_from_a_failure_does_not_take_itself_back() -> None:
    """An append that fails may be the first sign that another owner is at work."""
    async with owners() as (first, second):
        first.log.lost_answers = 1
        with pytest.raises(ShardUnavailable):
            await first.sending("in doubt")
        await second.start()

        assert isinstance(await first.ended(), Fenced)
        await asyncio.sleep(60)
        assert second.shard.is_serving
        assert epochs(second.log.disk) == [(1, "first"), (2, "second")]
        assert await second.texts() == ["in doubt"]
        with pytest.raises(NotOwner):
            _ = first.sending("too late")


@virtual_time
async def test_a_shard_recovers_although_the_record_of_its_own_new_epoch_was_in_doubt() -> None:
    async with owners() as (first, _):
        first.log.lost_answers = 3
        with pytest.raises(ShardUnavailable):
            await first.sending("in doubt")
        await first.serves()

        assert epochs(first.log.disk) == [(1, "first"), (2, "first"), (3, "first"), (4, "first")]
        assert await first.texts() == ["in doubt"]


@virtual_time
async def test_a_shard_that_was_saved_by_another_owner_is_not_taken_back_either() -> None:
    """Of that one's epoch there may be nothing left in the log, as it is in the snapshot."""
    async with owners() as (first, second):
        await first.send("a")
        first.log.refused_opens = 10
        first.log.refused_appends = 1
        with pytest.raises(ShardUnavailable):
            await first.sending("refused")
        await second.start()
        await second.shard._housekeeper.tidy()

        assert isinstance(await first.ended(), Fenced)
        assert second.shard.is_serving


@virtual_time
async def test_of_two_who_take_a_shard_at_once_one_is_fenced() -> None:
    disk = SharedDisk()
    both = Owner(disk, "first"), Owner(disk, "second")
    for each in both:
        each.log.appends.shut()
    opening = [asyncio.ensure_future(each.shard.open()) for each in both]
    await settle()
    for each in both:
        each.log.appends.release()
    results = await asyncio.gather(*opening, return_exceptions=True)

    assert [type(result) for result in results] == [type(None), Fenced]
    assert isinstance(results[1], LogUnavailable)
    assert [each.shard.is_serving for each in both] == [True, False]
    assert epochs(disk) == [(1, "first")]


@virtual_time
async def test_who_waits_for_an_append_that_was_not_fenced_itself_is_not_told_that_nothing_happened() -> None:
    """Housekeeping is fenced while a record is on its way: that one may still land before the fence."""
    async with owners(snapshot_events=2) as (first, _):
        first.log.is_snapshot_fenced = True
        first.log.snapshots.shut()
        await first.send("a", "b", "c")
        await settle()
        first.log.appends.shut()
        sending = first.sending("in doubt")
        await settle()
        first.log.snapshots.release()

        assert isinstance(await first.ended(), Fenced)
        with pytest.raises(ShardUnavailable):
            await sending


def test_the_records_of_two_owners_differ_and_those_of_older_versions_are_read() -> None:
    old = msgspec.msgpack.encode([[1, 1_000, 7]])
    [event] = decode_events(old)
    assert event == EpochStarted(1_000, 7, "")
    records = {encode_events([EpochStarted(1_000, 8, owner)]) for owner in ("a", "b")}
    assert len(records) == 2


@virtual_time
async def test_a_snapshot_says_whose_epoch_it_is_from() -> None:
    async with owners() as (first, _):
        assert from_snapshot(to_snapshot(first.shard.state)).owner == "first"
