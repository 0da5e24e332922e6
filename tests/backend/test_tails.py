"""Backlogs beyond the window: loaded in time, never falsely empty, whatever happens meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from tests.backend.shard_driver import ShardDriver, running, texts_of
from tests.backend.virtual_time import settle, virtual_time
from tests.log.faulty import FaultyLog
from tests.queues.windows import small_windows, windowed
from waystation.backend.errors import ShardUnavailable
from waystation.protocol.errors import QueueDoesNotExist
from waystation.queues.commands import Counts, DeleteQueue

WINDOW = 8


@pytest.fixture(autouse=True)
def with_small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, WINDOW)


def numbered(first: int, last: int) -> list[str]:
    return [f"m{number}" for number in range(first, last + 1)]


async def empty_the_window(driver: ShardDriver) -> None:
    """Receive what is in the window, with the log's reads held, so that the tail waits to be loaded."""
    driver.log.reads.shut()
    assert await driver.texts() == numbered(1, WINDOW)
    await settle()
    assert driver.log.reads.waiting == 1


@virtual_time
async def test_a_backlog_is_received_whole_and_in_order_by_short_polls() -> None:
    async with running() as driver:
        await driver.send(*numbered(1, 100))
        received: list[str] = []
        while texts := await driver.texts(7):
            received += texts

        assert received == numbered(1, 100)
        assert await driver.counts() == Counts(0, 100, 0)


@virtual_time
async def test_a_short_poll_waits_for_the_tail_instead_of_being_told_that_nothing_is_there() -> None:
    async with running() as driver:
        await driver.send(*numbered(1, 20))
        await empty_the_window(driver)
        polls = [driver.receiving(3), driver.receiving(3)]
        await settle()
        assert [poll.done() for poll in polls] == [False, False]

        driver.log.reads.release()

        assert [texts_of((await poll).messages) for poll in polls] == [numbered(9, 11), numbered(12, 14)]


@virtual_time
async def test_a_short_poll_that_waited_for_the_tail_in_vain_is_answered() -> None:
    async with running() as driver:
        await driver.send(*numbered(1, 9))
        await empty_the_window(driver)
        first, second = driver.receiving(), driver.receiving()
        driver.log.reads.release()

        assert texts_of((await first).messages) == ["m9"]
        assert (await second).messages == []


@virtual_time
async def test_the_tail_is_loaded_before_the_window_is_empty() -> None:
    async with running() as driver:
        await driver.send(*numbered(1, 20))
        await driver.receive(5)
        await settle()

        assert windowed(driver.shard.state.queues[1]) >= WINDOW


@virtual_time
async def test_a_tail_whose_record_is_still_being_written_is_loaded_after_that() -> None:
    async with running() as driver:
        driver.log.appends.shut()
        sending = [driver.sending(*numbered(1, 8)), driver.sending(*numbered(9, 12))]
        first, second = driver.receiving(8), driver.receiving(8)
        await settle()
        assert not first.done()
        driver.log.appends.release()
        await asyncio.gather(*sending)

        assert texts_of((await first).messages) == numbered(1, 8)
        assert texts_of((await second).messages) == numbered(9, 12)


@virtual_time
async def test_loaded_messages_are_read_from_the_log_once() -> None:
    """They come with their envelopes, which then wait in the cache."""
    async with running() as driver:
        await driver.send(*numbered(1, 16))
        await driver.receive(8)
        await settle()
        driver.log.reads.shut()

        assert await driver.texts() == numbered(9, 16)


@virtual_time
async def test_a_purge_while_the_tail_is_loaded_leaves_nothing_and_the_shard_serving() -> None:
    async with running() as driver:
        await driver.send(*numbered(1, 20))
        await empty_the_window(driver)
        short, long = driver.receiving(), driver.receiving(wait_ms=20_000)
        await driver.purge()
        await driver.shard._housekeeper._snapshot_and_truncate()
        driver.log.reads.release()
        assert (await short).messages == []
        assert await driver.counts() == Counts(0, 0, 0)

        await driver.send("after the purge")

        assert texts_of((await long).messages) == ["after the purge"]


@virtual_time
async def test_a_relocation_while_the_tail_is_loaded_loses_nothing() -> None:
    async with running(garbage_bytes_max=0) as driver:
        await driver.send(*numbered(1, 20))
        await empty_the_window(driver)
        polling = driver.receiving(10)
        driver.log.reads.release()
        driver.log.appends.shut()
        await settle()
        driver.log.appends.release()
        await driver.shard._housekeeper._relocate()
        await driver.shard._housekeeper._snapshot_and_truncate()
        received = texts_of((await polling).messages)
        while texts := await driver.texts():
            received += texts

        assert received == numbered(9, 20)


@virtual_time
async def test_a_queue_deleted_while_its_tail_is_loaded_is_gone() -> None:
    async with running() as driver:
        await driver.send(*numbered(1, 20))
        await empty_the_window(driver)
        short, long = driver.receiving(), driver.receiving(wait_ms=20_000)
        await driver.shard.submit(DeleteQueue(1))
        driver.log.reads.release()
        for poll in (short, long):
            with pytest.raises(QueueDoesNotExist):
                await poll
        await settle()

        assert driver.shard.is_serving
        assert await driver.create() == 2


@virtual_time
async def test_when_the_tail_cannot_be_read_who_waits_is_told_and_it_is_tried_again() -> None:
    async with running() as driver:
        await driver.send(*numbered(1, 20))
        await empty_the_window(driver)
        polling = driver.receiving()
        driver.log.refused_reads = 1
        driver.log.reads.release()
        with pytest.raises(ShardUnavailable):
            await polling
        await driver.serves()
        received = [text for _ in range(3) for text in await driver.texts()]

        assert received == numbered(9, 20)


@virtual_time
async def test_a_drain_while_the_tail_is_loaded_answers_all() -> None:
    async with running() as driver:
        await driver.send(*numbered(1, 20))
        await empty_the_window(driver)
        polls = [driver.receiving(), driver.receiving(wait_ms=20_000)]
        driver.shard.drain()

        assert [poll.result().messages for poll in polls] == [[], []]


@virtual_time
async def test_a_tail_that_has_expired_does_not_keep_a_consumer_from_what_comes_after() -> None:
    async with running() as driver:
        await driver.configure(retention_ms=60_000)
        await driver.send(*numbered(1, 50))
        await asyncio.sleep(55)
        await driver.send("young")
        await asyncio.sleep(6)

        assert await driver.texts() == ["young"]


@virtual_time
async def test_a_receive_right_after_a_restart_loads_the_tail() -> None:
    log = FaultyLog()
    async with running(log) as driver:
        await driver.send(*numbered(1, 20))
        driver.log.reads.shut()
        await driver.receive(8)
        await driver.shard._housekeeper._snapshot_and_truncate()
    log.reads.release()
    async with running(log) as driver:
        assert await driver.texts() + await driver.texts() == numbered(9, 20)
        assert await driver.counts() == Counts(0, 20, 0)


@virtual_time
async def test_a_long_poll_that_meets_only_dead_and_expired_messages_finds_what_lives_behind_them() -> None:
    """
    The dead message of a group stands before a window of expired ones of another, and the only
    one that lives is in the tail behind these. Nothing else happens that could wake the poll.
    """
    async with running() as driver:
        await driver.create(fifo=True, retention_ms=60_000, receive_count_max=1, dead_letter_target="letters")
        await asyncio.sleep(5)  # so that nothing expires just before an idle shard is swept, every 10 s
        await driver.sending(*numbered(1, WINDOW), group="a")
        await asyncio.sleep(50)
        await driver.sending("dead", group="b")
        await driver.sending("alive", group="a")
        assert [await driver.texts(1, timeout_ms=0) for _ in range(3)] == [["m1"], ["dead"], ["m2"]]
        await asyncio.sleep(11)

        began_s = asyncio.get_running_loop().time()
        assert await driver.texts(wait_ms=20_000) == ["alive"]
        assert asyncio.get_running_loop().time() - began_s < 1
