"""What clients see when the log fails, and that the shard gets over it by itself."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.backend.shard_driver import running, texts_of
from tests.backend.virtual_time import settle, virtual_time
from tests.log.faulty import FaultyLog
from waystation.backend.errors import ShardUnavailable
from waystation.backend.settings import BackendSettings
from waystation.backend.shard import Shard
from waystation.queues.commands import Counts, Sent
from waystation.queues.events import EpochStarted
from waystation.queues.standard import StandardQueue


@virtual_time
async def test_everybody_who_waits_is_told_when_an_append_fails() -> None:
    async with running() as driver:
        await driver.send("hello")
        polling = driver.receiving(10, wait_ms=20_000)
        assert texts_of((await polling).messages) == ["hello"]
        polling = driver.receiving(wait_ms=20_000)
        driver.log.appends.shut()
        first = driver.sending("in the failing record", delay_ms=60_000)
        await settle()
        second = driver.sending("in the record after it", delay_ms=60_000)
        driver.log.refused_appends = 1
        driver.log.appends.release()

        for future in (first, second, polling):
            with pytest.raises(ShardUnavailable):
                await future
        assert not driver.shard.is_serving
        with pytest.raises(ShardUnavailable, match="recovering"):
            _ = driver.sending("too early")


@virtual_time
async def test_what_was_not_written_has_not_happened_and_what_was_acknowledged_has() -> None:
    async with running() as driver:
        await driver.send("acknowledged")
        driver.log.refused_appends = 1
        with pytest.raises(ShardUnavailable):
            await driver.sending("refused")
        await driver.serves()

        assert await driver.counts() == Counts(1, 0, 0)
        assert await driver.sending("next") == Sent([2])
        assert await driver.texts() == ["acknowledged", "next"]


@virtual_time
async def test_an_append_that_landed_though_it_seemed_to_fail_is_found_again() -> None:
    async with running() as driver:
        driver.log.lost_answers = 1
        with pytest.raises(ShardUnavailable):
            await driver.sending("landed")
        await driver.serves()

        assert await driver.texts() == ["landed"]
        assert await driver.sending("next") == Sent([2])


@virtual_time
async def test_a_receive_that_landed_though_it_seemed_to_fail_hides_its_message() -> None:
    """Its consumer was told nothing, and still nobody else gets the message within its timeout."""
    async with running() as driver:
        await driver.send("hello")
        driver.log.lost_answers = 1
        with pytest.raises(ShardUnavailable):
            await driver.receiving(timeout_ms=10_000)
        await driver.serves()
        assert await driver.texts() == []

        assert await driver.texts(wait_ms=20_000) == ["hello"]


@virtual_time
async def test_a_delete_that_failed_is_not_forgotten_to_have_failed() -> None:
    async with running() as driver:
        await driver.send("hello")
        messages = await driver.receive(timeout_ms=5_000)
        driver.log.refused_appends = 1
        with pytest.raises(ShardUnavailable):
            await driver.deleting(*messages)
        await driver.serves()

        assert await driver.texts(wait_ms=20_000) == ["hello"]


@virtual_time
async def test_service_resumes_by_itself_once_the_log_works_again(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as driver:
        await driver.send("hello")
        driver.log.refused_appends, driver.log.refused_opens = 1, 5
        with pytest.raises(ShardUnavailable):
            await driver.sending("refused")
        await driver.serves()

        assert driver.log.refused_opens == 0
        assert driver.shard.state.epoch == 2
        assert await driver.texts() == ["hello"]
    messages = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert messages == [*["log is unavailable"] * 6, "shard serves again"]


@virtual_time
async def test_it_is_tried_again_soon_and_then_less_often() -> None:
    async with running(retry_delay_max_s=0.4) as driver:
        driver.log.refused_appends, driver.log.refused_opens = 1, 6
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        with pytest.raises(ShardUnavailable):
            await driver.sending("refused")
        await driver.serves()

        waited_s = 0.05 + 0.1 + 0.2 + 4 * 0.4
        assert waited_s - 0.35 <= loop.time() - began_s <= waited_s + 0.05


@virtual_time
async def test_a_new_owner_that_cannot_append_its_epoch_tries_again() -> None:
    async with running() as driver:
        driver.log.refused_appends = 4
        with pytest.raises(ShardUnavailable):
            await driver.sending("refused")
        await driver.serves()

        assert driver.log.refused_appends == 0
        last = driver.records()[-1]
        assert [type(event) for event in last] == [EpochStarted]
        await driver.send("serves")


@virtual_time
async def test_a_snapshot_that_fails_costs_a_recovery_and_nothing_else() -> None:
    async with running(snapshot_events=5) as driver:
        driver.log.refused_snapshots = 1
        await driver.sending(*"abcdef")
        await settle()
        assert not driver.shard.is_serving
        await driver.serves()

        assert await driver.texts() == list("abcdef")


@virtual_time
async def test_a_damaged_record_stops_the_shard_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async with running(cache_bytes=0) as driver:
        await driver.send("hello")
        record = driver.log.records[driver.log.position]
        driver.log.records[driver.log.position] = record[:-1] + bytes([record[-1] ^ 1])
        with pytest.raises(ShardUnavailable):
            await driver.receiving()
        await settle()

        assert not driver.shard.is_serving
        with pytest.raises(ShardUnavailable, match="stopped"):
            _ = driver.sending("refused")
        [critical] = [record for record in caplog.records if record.levelno == logging.CRITICAL]
        assert critical.exc_info is not None
        assert "record 3 does not match its checksum" in str(critical.exc_info[1])


@virtual_time
async def test_a_broken_invariant_makes_the_shard_read_its_state_back() -> None:
    async with running() as driver:
        await driver.send("hello")
        await driver.receive(timeout_ms=5_000)
        polling = driver.receiving(wait_ms=20_000)
        del driver.shard.state.queues[1].settings
        sending = driver.sending("refused")
        for future in (sending, polling):
            with pytest.raises(ShardUnavailable):
                await future
        await driver.serves()

        assert await driver.texts(wait_ms=20_000) == ["hello"]


@virtual_time
async def test_a_shard_stops_also_while_it_recovers() -> None:
    async with running() as driver:
        driver.log.refused_appends, driver.log.refused_opens = 1, 1_000
        with pytest.raises(ShardUnavailable):
            await driver.sending("refused")
        await asyncio.sleep(3)
        assert not driver.shard.is_serving


@virtual_time
async def test_a_shard_that_cannot_be_opened_says_why() -> None:
    log = FaultyLog()
    log.refused_opens = 1
    shard = Shard(0, log, BackendSettings())

    with pytest.raises(Exception, match="refused by the test"):
        await shard.open()
    assert not shard.is_serving


@virtual_time
async def test_a_bug_while_applying_stops_the_shard_before_anything_of_it_is_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A half-applied event leaves a state that is not what the log says, so it is thrown away."""
    async with running() as driver:
        await driver.send("before")
        position = driver.log.position
        with monkeypatch.context() as patch:
            patch.setattr(StandardQueue, "apply_sent", _raise_a_bug)
            with pytest.raises(ShardUnavailable):
                await driver.sending("meets a bug")
            with pytest.raises(ShardUnavailable):
                await driver.sending("too early")
            await settle()

            assert driver.log.position == position
        await driver.serves()
        assert await driver.texts() == ["before"]


def _raise_a_bug(*_: object) -> None:
    raise KeyError("a bug")
