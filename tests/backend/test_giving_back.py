"""Messages that were handed out to nobody are shown again at once, unless who has an attempt comes back."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.backend.shard_driver import ShardDriver, running
from tests.backend.virtual_time import settle, virtual_time
from waystation.backend.errors import ShardUnavailable
from waystation.backend.giving_back import give_back, give_back_if_answered
from waystation.queues.commands import Answer, Command, Received


def visible(driver: ShardDriver) -> int:
    return driver.shard.state.queues[1].counts(driver.shard.now_ms()).visible


@virtual_time
async def test_messages_are_visible_again_and_wake_who_waits() -> None:
    async with running() as driver:
        await driver.send("hello")
        received = await driver.receiving()
        waiting = driver.receiving(wait_ms=20_000)
        await settle()
        assert not waiting.done()
        give_back(lambda _, command: driver.shard.submit(command), 0, received)

        assert [message.envelope for message in (await waiting).messages] == [b"hello"]


@virtual_time
async def test_messages_of_an_attempt_stay_for_who_asks_again() -> None:
    async with running() as driver:
        await driver.send("hello")
        received = await driver.receiving()
        of_attempt = Received(received.queue, received.messages, attempt=b"a" * 16)
        give_back(lambda _, command: driver.shard.submit(command), 0, of_attempt)
        await settle()

        assert visible(driver) == 0


@virtual_time
async def test_only_an_answer_that_has_come_is_given_back() -> None:
    async with running() as driver:

        def submit(_: int, command: Command) -> asyncio.Future[Answer]:
            return driver.shard.submit(command)

        await driver.send("hello")
        driver.log.appends.shut()
        receiving = driver.receiving()
        give_back_if_answered(submit, 0, receiving)
        driver.log.appends.release()
        await receiving
        await settle()
        assert visible(driver) == 0
        give_back_if_answered(submit, 0, receiving)
        await settle()

        assert visible(driver) == 1


@virtual_time
async def test_a_shard_that_does_not_answer_leaves_messages_hidden_and_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as driver:
        await driver.send("hello")
        received = await driver.receiving()

        def refuse(_: int, command: Command) -> asyncio.Future[Answer]:
            raise ShardUnavailable("not now")

        async def fail(_: int, command: Command) -> Answer:
            raise ShardUnavailable("not now")

        give_back(refuse, 0, received)
        give_back(fail, 0, received)
        await settle()

        assert visible(driver) == 0
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
