"""Long polls wake when there is something for them, in the order in which they came, and leave nothing."""

from __future__ import annotations

import asyncio

import pytest

from tests.backend.shard_driver import ShardDriver, running, texts_of
from tests.backend.virtual_time import VirtualTimeLoop, now_ms, settle, virtual_time
from waystation.protocol.errors import QueueDoesNotExist
from waystation.queues.commands import Counts, DeleteQueue, Received, ReceiveMessages


def waiting(driver: ShardDriver) -> int:
    """Receives that wait, on any queue."""
    return len(driver.shard._receiver._polls._waiting)


def timers() -> int:
    """Timers of the running loop that are not cancelled."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop.timers()


@virtual_time
async def test_a_long_poll_is_answered_at_once_when_something_is_there() -> None:
    async with running() as driver:
        await driver.send("hello")
        at_ms = now_ms()

        assert await driver.texts(wait_ms=20_000) == ["hello"]
        assert now_ms() == at_ms


@virtual_time
async def test_a_long_poll_waits_its_time_and_not_longer() -> None:
    async with running() as driver:
        at_ms = now_ms()

        assert await driver.texts(wait_ms=20_000) == []
        assert now_ms() == at_ms + 20_000


@virtual_time
async def test_a_long_poll_wakes_when_a_message_is_sent() -> None:
    async with running() as driver:
        polling = driver.receiving(wait_ms=20_000)
        await asyncio.sleep(7)
        at_ms = now_ms()
        position = driver.log.position
        await driver.send("hello")

        assert texts_of((await polling).messages) == ["hello"]
        assert now_ms() == at_ms
        assert driver.log.position == position + 1, "the receive went into the record of the send"


@virtual_time
async def test_a_long_poll_wakes_when_a_delay_is_over() -> None:
    async with running() as driver:
        at_ms = now_ms()
        await driver.send("hello", delay_ms=5_000)

        assert await driver.texts(wait_ms=20_000) == ["hello"]
        assert now_ms() == at_ms + 5_000


@virtual_time
async def test_a_long_poll_wakes_when_a_visibility_timeout_is_over() -> None:
    async with running() as driver:
        at_ms = now_ms()
        await driver.send("hello")
        await driver.receive(timeout_ms=3_000)

        assert await driver.texts(wait_ms=20_000) == ["hello"]
        assert now_ms() == at_ms + 3_000


@virtual_time
async def test_a_long_poll_follows_a_timeout_that_is_changed_while_it_waits() -> None:
    async with running() as driver:
        await driver.send("sooner", "later")
        sooner, later = await driver.receive(2, timeout_ms=10_000)
        at_ms = now_ms()
        polling = driver.receiving(wait_ms=20_000)
        await driver.changing(later, timeout_ms=15_000)
        await driver.changing(sooner, timeout_ms=4_000)

        assert texts_of((await polling).messages) == ["sooner"]
        assert now_ms() == at_ms + 4_000
        assert await driver.texts(wait_ms=20_000) == ["later"]
        assert now_ms() == at_ms + 15_000


@virtual_time
async def test_a_long_poll_wakes_on_time_also_when_the_log_is_slow() -> None:
    """The timer runs from now, and not from when the last command came."""
    async with running() as driver:
        await driver.send("hello")
        [message] = await driver.receive()
        polling = driver.receiving(wait_ms=20_000)
        driver.log.appends.shut()
        in_the_way = driver.sending("delayed", delay_ms=60_000)
        await settle()
        at_ms = now_ms()
        changing = driver.changing(message, timeout_ms=3_000)
        await asyncio.sleep(2)
        driver.log.appends.release()
        await asyncio.gather(in_the_way, changing)

        assert texts_of((await polling).messages) == ["hello"]
        assert now_ms() == at_ms + 3_000


@virtual_time
async def test_who_has_waited_longest_is_served_first() -> None:
    async with running() as driver:
        polls = [driver.receiving(wait_ms=20_000) for _ in range(5)]
        await driver.send("a", "b", "c")
        await settle()

        assert [poll.done() for poll in polls] == [True, True, True, False, False]
        assert [texts_of(poll.result().messages) for poll in polls[:3]] == [["a"], ["b"], ["c"]]


@virtual_time
async def test_a_long_poll_takes_as_many_as_it_asked_for() -> None:
    async with running() as driver:
        polls = [driver.receiving(2, wait_ms=20_000), driver.receiving(10, wait_ms=20_000)]
        await driver.sending("a", "b", "c")

        assert [texts_of((await poll).messages) for poll in polls] == [["a", "b"], ["c"]]


@virtual_time
async def test_queues_do_not_wait_for_each_other() -> None:
    async with running() as driver:
        first = driver.receiving(wait_ms=20_000)
        await driver.create()
        second = driver.receiving(wait_ms=20_000)
        await driver.send("for the second")

        assert texts_of((await second).messages) == ["for the second"]
        assert not first.done()


@virtual_time
async def test_a_long_poll_whose_time_ends_while_its_message_is_written_gets_it() -> None:
    async with running() as driver:
        polling = driver.receiving(wait_ms=1_000)
        driver.log.appends.shut()
        sending = driver.sending("hello")
        await asyncio.sleep(5)
        driver.log.appends.release()
        await sending

        assert texts_of((await polling).messages) == ["hello"]


@virtual_time
async def test_a_long_poll_whose_client_goes_away_leaves_nothing_behind() -> None:
    async with running() as driver:
        before = timers()
        gone, stays = (driver.receiving(wait_ms=20_000) for _ in range(2))
        gone.cancel()
        await settle()
        assert waiting(driver) == 1

        await driver.send("hello")

        assert texts_of((await stays).messages) == ["hello"]
        assert waiting(driver) == 0
        assert timers() == before


@virtual_time
async def test_a_timer_of_a_queue_on_which_nobody_waits_any_more_wakes_nobody() -> None:
    async with running() as driver:
        await driver.send("hello", delay_ms=5_000)
        driver.receiving(wait_ms=1_000).cancel()
        position = driver.log.position
        await asyncio.sleep(6)

        assert driver.log.position == position
        assert await driver.texts() == ["hello"]


@virtual_time
async def test_past_the_limit_a_receive_does_not_wait() -> None:
    async with running(waiting_max=2) as driver:
        polls = [driver.receiving(wait_ms=20_000) for _ in range(2)]

        assert driver.receiving(wait_ms=20_000).result() == Received(1, [])
        assert waiting(driver) == 2
        polls[0].cancel()
        await settle()
        assert not driver.receiving(wait_ms=20_000).done()


@virtual_time
async def test_a_drain_answers_all_and_lets_none_wait() -> None:
    async with running() as driver:
        await driver.send("hello", delay_ms=5_000)
        polls = [driver.receiving(wait_ms=20_000) for _ in range(3)]
        before = timers()
        driver.shard.drain()

        assert [poll.result() for poll in polls] == [Received(1, [])] * 3
        assert driver.receiving(wait_ms=20_000).result() == Received(1, [])
        await settle()
        assert timers() == before - 4, "three deadlines and the delay"
        await driver.send("still serving")


@virtual_time
async def test_a_drain_lets_those_finish_whose_message_is_being_written() -> None:
    async with running() as driver:
        polling = driver.receiving(wait_ms=20_000)
        driver.log.appends.shut()
        sending = driver.sending("hello")
        await settle()
        driver.shard.drain()
        driver.log.appends.release()
        await sending

        assert texts_of((await polling).messages) == ["hello"]


@virtual_time
async def test_who_waits_on_a_queue_that_is_deleted_is_told() -> None:
    async with running() as driver:
        polls = [driver.receiving(wait_ms=20_000) for _ in range(3)]
        await driver.shard.submit(DeleteQueue(1))
        for poll in polls:
            with pytest.raises(QueueDoesNotExist):
                await poll

        assert waiting(driver) == 0
        with pytest.raises(QueueDoesNotExist):
            _ = driver.shard.submit(ReceiveMessages(1, 1, 0, 20_000))


@virtual_time
async def test_a_purge_leaves_long_polls_waiting() -> None:
    async with running() as driver:
        polling = driver.receiving(wait_ms=20_000)
        await driver.purge()
        await settle()
        assert not polling.done()

        await driver.send("hello")

        assert texts_of((await polling).messages) == ["hello"]


@virtual_time
async def test_past_the_in_flight_limit_a_long_poll_waits_until_something_is_deleted() -> None:
    async with running() as driver:
        await driver.configure(in_flight_max=1)
        await driver.send("a", "b")
        [a] = await driver.receive(timeout_ms=40_000)
        polling = driver.receiving(wait_ms=20_000)
        await asyncio.sleep(5)
        assert not polling.done()

        await driver.deleting(a)

        assert texts_of((await polling).messages) == ["b"]
        assert await driver.counts() == Counts(0, 1, 0)


@virtual_time
async def test_a_message_that_expires_wakes_nobody() -> None:
    async with running() as driver:
        await driver.configure(retention_ms=60_000)
        await driver.send("hello", delay_ms=70_000)
        await asyncio.sleep(50)
        at_ms = now_ms()

        assert await driver.texts(wait_ms=20_000) == []
        assert now_ms() == at_ms + 20_000


@virtual_time
async def test_long_polls_with_no_visibility_timeout_are_each_served_once() -> None:
    async with running() as driver:
        polls = [driver.receiving(wait_ms=20_000, timeout_ms=0) for _ in range(3)]
        await driver.send("hello")

        assert [texts_of((await poll).messages) for poll in polls] == [["hello"]] * 3
        assert await driver.counts() == Counts(1, 0, 0)
