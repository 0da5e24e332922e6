"""Failures, stops, slow disks and odd clocks at the moments when they hurt most."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from tests.backend.shard_driver import ShardDriver, running, texts_of
from tests.backend.virtual_time import now_ms, settle, virtual_time
from tests.log.faulty import FaultyLog
from waystation.backend.backend import Backend
from waystation.backend.errors import ShardUnavailable
from waystation.backend.settings import BackendSettings
from waystation.backend.shard import Shard
from waystation.protocol.errors import Unavailable
from waystation.queues.commands import CreateQueue, QueueSettings, Received, ReceiveMessages
from waystation.queues.standard import StandardQueue

DAY_MS = 86_400_000


@pytest.mark.parametrize("turns", range(12))
def test_a_stop_ends_although_an_append_fails_at_that_moment(turns: int) -> None:
    """A task group forgets that it was cancelled when one of its own tasks fails just then."""

    @virtual_time
    async def stop() -> None:
        log = FaultyLog()
        backend = Backend(lambda _: log, 1, BackendSettings(), now_ms)
        await backend.start()
        log.refused_appends = 1
        creating = backend.submit(0, CreateQueue(QueueSettings("orders")))
        for _ in range(turns):
            await asyncio.sleep(0)

        async with asyncio.timeout(30):
            await backend.stop()
        with suppress(ShardUnavailable):
            await creating
        assert not backend.is_serving()

    stop()


@virtual_time
async def test_a_receive_while_the_shard_fails_is_refused_and_nothing_else() -> None:
    async with running() as driver:
        await driver.sending(*(str(number) for number in range(3_000)))
        driver.log.reads.shut()
        driver.log.refused_appends = 1
        failing = driver.sending("x")
        receiving = []
        for _ in range(30):
            with suppress(Unavailable):
                receiving.append(driver.receiving(10))
            await asyncio.sleep(0)
        driver.log.reads.release()
        await driver.serves()

        with pytest.raises(ShardUnavailable):
            await failing
        for each in await asyncio.gather(*receiving, return_exceptions=True):
            assert isinstance(each, ShardUnavailable)


@virtual_time
async def test_a_bug_while_answering_leaves_nobody_of_the_batch_without_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("a bug")

    async with running() as driver:
        await driver.send("a")
        driver.log.appends.shut()
        gone = driver.receiving()
        waiting = driver.sending("later in the batch", delay_ms=1_000)
        await settle()
        gone.cancel()
        with monkeypatch.context() as patch:
            patch.setattr(StandardQueue, "apply_visibility", fail)
            driver.log.appends.release()
            with pytest.raises(ShardUnavailable):
                await asyncio.wait_for(waiting, 60)
        await driver.serves()


@virtual_time
async def test_timeouts_end_although_the_clock_was_a_day_ahead_for_one_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log, ahead_ms = FaultyLog(), 0
    shard = Shard(0, log, BackendSettings(), lambda: now_ms() + ahead_ms)
    await shard.open()
    task = asyncio.create_task(shard.run())
    await settle()
    driver = ShardDriver(log, shard)
    await driver.create()
    await driver.send("a")
    ahead_ms = DAY_MS
    await driver.send("b")
    ahead_ms = 0

    assert await driver.texts(timeout_ms=1_000) == ["a", "b"]
    began_ms = now_ms()
    assert await driver.texts(wait_ms=20_000) != []
    assert 900 <= now_ms() - began_ms <= 1_100
    assert caplog.text.count("clock is behind the newest event") == 1
    shard.end()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await log.close()


@virtual_time
async def test_a_receive_that_took_longer_than_its_timeout_hands_nothing_out() -> None:
    """Q5: by then the message is visible, and another consumer may have it."""
    async with running() as driver:
        await driver.send("a")
        driver.log.appends.shut()
        first = driver.receiving(timeout_ms=1_000)
        await asyncio.sleep(2)
        second = driver.receiving(timeout_ms=1_000)
        driver.log.appends.release()

        assert (await first).messages == []
        assert len((await second).messages) == 1


@virtual_time
async def test_a_long_poll_has_its_whole_timeout_although_an_append_was_slow() -> None:
    async with running() as driver:
        driver.log.appends.shut()
        sending = driver.sending("first"), driver.receiving(wait_ms=20_000)
        await settle()
        polling = driver.receiving(timeout_ms=10_000, wait_ms=20_000)
        later = driver.sending("second")
        await asyncio.sleep(5)
        driver.log.appends.release()
        await asyncio.gather(*sending, later)

        [message] = (await polling).messages
        held = driver.shard.state.queues[1].messages[message.sequence]
        assert held.visible_at_ms - now_ms() > 9_900


@virtual_time
async def test_messages_that_nobody_can_process_do_not_keep_the_others_from_being_received() -> None:
    """More than a window of them comes back at once, again and again, with a tail behind."""
    async with running() as driver:
        await driver.sending(*(f"message {number}" for number in range(1_100)))
        seen: set[int] = set()
        for _ in range(500):
            seen |= {message.sequence for message in await driver.receive(10, timeout_ms=0)}

        assert len(seen) == 1_100


@virtual_time
async def test_a_repeated_attempt_keeps_its_messages_although_its_first_consumer_has_gone() -> None:
    """Both are decided while the disk is slow: what the first was given is not shown to others again."""
    async with running() as driver:
        driver.queue = (await driver.shard.submit(CreateQueue(QueueSettings("a.fifo", fifo=True)))).queue  # type: ignore[union-attr]
        await driver.sending("hello", group="a")
        receive = ReceiveMessages(driver.queue, 1, 30_000, 0, b"attempt")
        driver.log.appends.shut()
        first = driver.shard.submit(receive)
        await settle()
        first.cancel()
        again = driver.shard.submit(receive)
        driver.log.appends.release()

        repeated = await again
        assert isinstance(repeated, Received)
        assert texts_of(repeated.messages) == ["hello"]
        assert await driver.texts() == []
        await asyncio.sleep(30)
        assert await driver.texts() == ["hello"]
