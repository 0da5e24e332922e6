"""One shard: answers only for what is durable, many commands in one record, nobody left waiting."""

from __future__ import annotations

import asyncio

import pytest

from tests.backend.shard_driver import ShardDriver, running, texts_of
from tests.backend.virtual_time import settle, virtual_time
from tests.log.faulty import FaultyLog
from waystation.backend.errors import ShardBusy, ShardUnavailable, StorageNearlyFull
from waystation.backend.settings import BackendSettings
from waystation.backend.shard import Shard
from waystation.protocol.errors import OverLimit, QueueDoesNotExist
from waystation.queues.commands import (
    CountMessages,
    Counts,
    CreateQueue,
    DeleteMessages,
    DeleteQueue,
    Done,
    Outcome,
    QueueId,
    QueueSettings,
    Received,
    Sent,
)
from waystation.queues.events import EpochStarted, MessagesReceived, MessagesSent

# Answers and appends


@virtual_time
async def test_a_command_is_answered_when_its_record_is_durable_and_not_before() -> None:
    async with running() as driver:
        driver.log.appends.shut()
        sending = driver.sending("hello")
        await settle()
        assert not sending.done()

        driver.log.appends.release()

        assert await sending == Sent([1])


@virtual_time
async def test_a_message_is_handed_out_only_when_the_log_says_so() -> None:
    async with running() as driver:
        await driver.send("hello")
        driver.log.appends.shut()
        receiving = driver.receiving()
        await settle()
        assert not receiving.done()

        driver.log.appends.release()

        assert texts_of((await receiving).messages) == ["hello"]


@virtual_time
async def test_commands_that_arrive_during_an_append_share_the_next_record() -> None:
    async with running() as driver:
        driver.log.appends.shut()
        first = driver.sending("first")
        await settle()
        others = [driver.sending(f"m{number}") for number in range(50)]
        position = driver.log.position
        driver.log.appends.release()
        await asyncio.gather(first, *others)

        assert [len(events) for events in driver.records(position)] == [1, 50]


@virtual_time
async def test_a_record_is_begun_anew_when_it_is_full() -> None:
    async with running(record_bytes_max=1_000) as driver:
        position = driver.log.position
        await asyncio.gather(*(driver.sending("x" * 400) for _ in range(9)))

        assert [len(events) for events in driver.records(position)] == [3, 3, 3]


@virtual_time
async def test_a_repeated_delete_is_not_answered_before_the_first_is_durable() -> None:
    """It changes nothing, and still tells its client something that a crash could take back."""
    async with running() as driver:
        await driver.send("hello")
        messages = await driver.receive()
        driver.log.appends.shut()
        first = driver.deleting(*messages)
        await settle()
        again = driver.deleting(*messages)
        queue_gone = driver.shard.submit(DeleteQueue(99))
        await settle()
        assert (first.done(), again.done(), queue_gone.done()) == (False, False, False)

        driver.log.refused_appends = 1
        driver.log.appends.release()
        for future in (first, again, queue_gone):
            with pytest.raises(ShardUnavailable):
                await future
        await driver.serves()
        assert (await driver.counts()).in_flight == 1


@virtual_time
async def test_what_changes_nothing_is_answered_at_once_when_all_is_durable() -> None:
    async with running() as driver:
        position = driver.log.position

        assert driver.shard.submit(CountMessages(1)).result() == Counts(0, 0, 0)
        assert driver.receiving().result() == Received(1, [])
        assert driver.shard.submit(DeleteQueue(99)).result() == Done()
        await settle()
        assert driver.log.position == position, "nothing was written"


@virtual_time
async def test_a_refusal_is_raised_at_once() -> None:
    async with running() as driver:
        with pytest.raises(QueueDoesNotExist):
            _ = driver.shard.submit(DeleteMessages(99, []))
        await driver.configure(in_flight_max=1)
        await driver.send("a", "b")
        assert await driver.texts() == ["a"]
        with pytest.raises(OverLimit):
            _ = driver.receiving()


@virtual_time
async def test_a_command_whose_client_has_gone_is_done_all_the_same() -> None:
    async with running() as driver:
        driver.log.appends.shut()
        sending = driver.sending("hello")
        await settle()
        sending.cancel()
        driver.log.appends.release()

        assert await driver.texts() == ["hello"]


@virtual_time
async def test_a_message_whose_consumer_went_away_before_the_answer_shows_again_at_once() -> None:
    async with running() as driver:
        await driver.send("hello")
        driver.log.appends.shut()
        receiving = driver.receiving()
        await settle()
        receiving.cancel()
        driver.log.appends.release()
        await settle()

        assert await driver.texts() == ["hello"]


# Limits


@virtual_time
async def test_more_than_may_wait_for_the_disk_is_refused_and_does_not_happen() -> None:
    async with running(pending_bytes_max=1_000) as driver:
        driver.log.appends.shut()
        accepted = [driver.sending("x" * 600) for _ in range(2)]
        await settle()
        with pytest.raises(ShardBusy):
            _ = driver.sending("one too many")
        driver.log.appends.release()
        await asyncio.gather(*accepted)

        assert await driver.counts() == Counts(2, 0, 0)
        await driver.send("there is room again")


@virtual_time
async def test_a_nearly_full_disk_takes_deletes_and_no_sends() -> None:
    async with running() as driver:
        await driver.send("hello")
        driver.log.is_nearly_full = True
        with pytest.raises(StorageNearlyFull):
            _ = driver.sending("more")

        outcomes = await driver.deleting(*await driver.receive())

        assert outcomes.outcomes == [Outcome.DONE]


# Life


@virtual_time
async def test_each_owner_raises_the_epoch() -> None:
    log = FaultyLog()
    for epoch in (1, 2, 3):
        async with running(log) as driver:
            assert driver.shard.state.epoch == epoch

    epochs = [
        event.epoch for events in driver.records() for event in events if isinstance(event, EpochStarted)
    ]
    assert epochs == [1, 2, 3]


@virtual_time
async def test_a_restarted_shard_goes_on_where_it_stopped() -> None:
    log = FaultyLog()
    async with running(log) as driver:
        await driver.send("in flight", "visible")
        [message] = await driver.receive(timeout_ms=10_000)
    async with running(log) as driver:
        assert await driver.counts() == Counts(1, 1, 0)
        assert await driver.texts() == ["visible"]
        await driver.deleting(message)
        await asyncio.sleep(30)
        assert await driver.texts() == ["visible"]


@virtual_time
async def test_a_shard_that_is_not_open_refuses_and_nothing_happens() -> None:
    log = FaultyLog()
    shard = Shard(0, log, BackendSettings())

    with pytest.raises(ShardUnavailable):
        _ = shard.submit(CreateQueue(QueueSettings("orders")))
    assert not shard.is_serving
    assert log.records == {}


@virtual_time
async def test_nobody_is_left_waiting_when_a_shard_stops() -> None:
    async with running() as driver:
        await driver.send("hello")
        polling = driver.shard.submit(CreateQueue(QueueSettings("other")))
        await polling
        driver.queue = 2
        polling = driver.receiving(wait_ms=20_000)
        driver.queue = 1
        driver.log.appends.shut()
        sending, receiving = driver.sending("more"), driver.receiving()
        await settle()
    for future in (polling, sending, receiving):
        assert isinstance(future.exception(), ShardUnavailable)
    with pytest.raises(ShardUnavailable, match="stopped"):
        _ = driver.sending("too late")


@virtual_time
async def test_a_refusal_of_a_shard_that_is_down_holds_on_to_nothing() -> None:
    """One error raised again and again would keep the stack of every request that it refused."""
    shard = Shard(0, FaultyLog(), BackendSettings())
    errors = []
    for _ in range(2):
        with pytest.raises(ShardUnavailable) as raised:
            _ = shard.submit(CountMessages(1))
        errors.append(raised.value)

    assert errors[0] is not errors[1]


# The cache, and reading back


@virtual_time
async def test_a_message_that_is_not_in_the_cache_is_read_from_the_log() -> None:
    async with running(cache_bytes=10) as driver:
        await driver.send("first message", "second message", "third")

        assert await driver.texts() == ["first message", "second message", "third"]


@virtual_time
async def test_a_message_that_is_received_again_is_read_from_the_log() -> None:
    async with running() as driver:
        await driver.send("hello")
        for _ in range(3):
            assert await driver.texts(timeout_ms=0) == ["hello"]


@virtual_time
async def test_a_message_that_was_purged_while_it_was_read_is_left_out_or_whole() -> None:
    async with running(cache_bytes=0) as driver:
        await driver.send("hello")
        driver.log.reads.shut()
        receiving = driver.receiving()
        await settle()
        assert driver.log.reads.waiting == 1
        await driver.purge()
        await driver.shard._housekeeper.tidy()
        driver.log.reads.release()

        assert (await receiving).messages == []
        assert driver.shard.is_serving
        await driver.send("goes on")
        assert await driver.texts() == ["goes on"]


@virtual_time
async def test_a_queue_that_was_deleted_while_its_message_was_read_leaves_the_shard_serving() -> None:
    async with running(cache_bytes=0) as driver:
        await driver.send("hello")
        driver.log.reads.shut()
        receiving = driver.receiving()
        await settle()
        await driver.shard.submit(DeleteQueue(1))
        driver.log.reads.release()

        assert texts_of((await receiving).messages) in (["hello"], [])
        assert await driver.create() == 2


@virtual_time
async def test_when_the_log_cannot_be_read_the_consumer_is_told_and_the_message_is_not_lost() -> None:
    async with running(cache_bytes=0) as driver:
        await driver.send("hello")
        driver.log.refused_reads = 1
        with pytest.raises(ShardUnavailable):
            await driver.receiving(timeout_ms=5_000)
        await driver.serves()
        await asyncio.sleep(5)

        assert await driver.texts() == ["hello"]


@virtual_time
async def test_events_are_logged_in_the_order_in_which_they_were_decided() -> None:
    async with running() as driver:
        position = driver.log.position
        sending, receiving = driver.sending("hello"), driver.receiving()
        await asyncio.gather(sending, receiving)

        [events] = driver.records(position)
        assert [type(event) for event in events] == [MessagesSent, MessagesReceived]
        assert driver.shard.submit(CreateQueue(QueueSettings("other"))).done() is False
        await settle()
        assert set(driver.shard.state.queues) == {1, 2}
        assert isinstance(driver, ShardDriver)
        assert (await driver.shard.submit(CreateQueue(QueueSettings("third")))) == QueueId(3)
