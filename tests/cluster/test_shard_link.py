"""A shard that is used over a link: the same answers and errors as beside it, and no message for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.backend.shard_driver import ShardDriver, running
from tests.backend.virtual_time import now_ms
from tests.cluster.transport_driver import TIMEOUT_S, linked, serving
from tests.frontend.http_driver import on_each_loop, until
from tests.log.faulty import FaultyLog
from waystation.backend.errors import ShardUnavailable
from waystation.backend.settings import BackendSettings
from waystation.backend.shard import Shard
from waystation.cluster.codec import ShardLink, shard_handler, was_not_done
from waystation.cluster.transport_client import Link, OutcomeUnknown
from waystation.protocol.errors import QueueDoesNotExist
from waystation.queues.commands import (
    Answer,
    Command,
    CountMessages,
    Counts,
    DeleteMessages,
    Entry,
    Outcome,
    Outcomes,
    Receipt,
    Received,
    ReceiveMessages,
    SendMessages,
    Sent,
)

SEND = SendMessages(1, [Entry(b"hello")])
RECEIVE = ReceiveMessages(1, 10, 30_000)
WAIT = ReceiveMessages(1, 10, 30_000, wait_ms=20_000)


class FarShard(ShardLink):
    """Shard 3 of another node."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self.answers: list[asyncio.Future[Answer]] = []
        """What that node waits for, of each command."""


@asynccontextmanager
async def far_shard() -> AsyncIterator[tuple[ShardDriver, FarShard]]:
    """A shard that serves queue 1, and the way to it from another node."""
    async with running() as driver:

        def submit(number: int, command: Command) -> asyncio.Future[Answer]:
            assert number == 3
            far.answers.append(driver.shard.submit(command))
            return far.answers[-1]

        async with serving(shard_handler(submit)) as server, linked(server.address) as link:
            far = FarShard(link)
            yield driver, far


@on_each_loop
async def test_a_message_is_sent_received_and_deleted_over_a_link() -> None:
    async with far_shard() as (_, far):
        assert await far.submit(3, SEND, TIMEOUT_S) == Sent([1])
        received = await far.submit(3, RECEIVE, TIMEOUT_S)
        assert isinstance(received, Received)
        [message] = received.messages
        assert message.envelope == b"hello"

        receipt = Receipt(message.sequence, message.receive_count)
        deleted = await far.submit(3, DeleteMessages(1, [receipt]), TIMEOUT_S)
        assert deleted == Outcomes([Outcome.DONE])
        assert await far.submit(3, CountMessages(1), TIMEOUT_S) == Counts(0, 0, 0)


@on_each_loop
async def test_a_refusal_is_the_same_over_a_link() -> None:
    async with far_shard() as (_, far):
        with pytest.raises(QueueDoesNotExist) as refused:
            await far.submit(3, CountMessages(99), TIMEOUT_S)

        assert refused.value.message == "The specified queue does not exist."
        assert was_not_done(refused.value)


@on_each_loop
async def test_what_a_shard_refuses_at_once_is_certain_not_to_be_done() -> None:
    shard = Shard(0, FaultyLog(), BackendSettings(), now_ms)

    def submit(_: int, command: Command) -> asyncio.Future[Answer]:
        return shard.submit(command)

    async with serving(shard_handler(submit)) as server, linked(server.address) as link:
        with pytest.raises(ShardUnavailable, match="has not been opened") as refused:
            await ShardLink(link).submit(0, SEND, TIMEOUT_S)

    assert was_not_done(refused.value)


@on_each_loop
async def test_what_waited_for_an_append_that_failed_may_have_been_done() -> None:
    async with far_shard() as (driver, far):
        driver.log.lost_answers = 1
        with pytest.raises(ShardUnavailable) as refused:
            await far.submit(3, SEND, TIMEOUT_S)

        assert not was_not_done(refused.value)
        await until(lambda: driver.shard.is_serving)
        assert await far.submit(3, CountMessages(1), TIMEOUT_S) == Counts(1, 0, 0)


@on_each_loop
async def test_a_long_poll_over_a_link_is_answered_when_a_message_comes() -> None:
    async with far_shard() as (driver, far):
        polling = far.submit(3, WAIT, TIMEOUT_S)
        await until(lambda: len(far.answers) == 1)
        assert not far.answers[0].done()
        await driver.send("hello")

        received = await polling
        assert isinstance(received, Received)
        assert [message.envelope for message in received.messages] == [b"hello"]


@pytest.mark.parametrize("how", ["cancelled", "gone"])
def test_a_long_poll_that_nobody_waits_for_takes_no_message(how: str) -> None:
    @on_each_loop
    async def test() -> None:
        async with far_shard() as (driver, far):
            polling = far.submit(3, WAIT, TIMEOUT_S)
            await until(lambda: len(far.answers) == 1)
            if how == "cancelled":
                polling.cancel()
            else:
                await far.link.close()
                with pytest.raises(OutcomeUnknown):
                    await polling
            await until(far.answers[0].cancelled)
            await driver.send("hello")

            assert await driver.texts() == ["hello"]

    test(asyncio.new_event_loop)


@on_each_loop
async def test_messages_of_a_receive_whose_caller_goes_during_the_append_are_given_back() -> None:
    async with far_shard() as (driver, far):
        await driver.send("hello")
        driver.log.appends.shut()
        receiving = far.submit(3, RECEIVE, TIMEOUT_S)
        await until(lambda: driver.log.appends.waiting == 1)
        receiving.cancel()
        await until(far.answers[-1].cancelled)
        driver.log.appends.release()

        await until(lambda: visible(driver) == 1)


def visible(driver: ShardDriver) -> int:
    return driver.shard.state.queues[1].counts(driver.shard.now_ms()).visible


@on_each_loop
async def test_a_bug_of_the_shard_leaves_the_outcome_open() -> None:
    def submit(_: int, command: Command) -> asyncio.Future[Answer]:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        answer.set_exception(AssertionError("a broken invariant"))
        return answer

    async with serving(shard_handler(submit)) as server, linked(server.address) as link:
        with pytest.raises(OutcomeUnknown):
            await ShardLink(link).submit(0, SEND, TIMEOUT_S)


@on_each_loop
async def test_an_answer_of_a_newer_release_leaves_the_outcome_open() -> None:
    async def answer(kind: int, payload: bytes) -> bytes:
        return b"\x92\x63\x01"

    async with serving(answer) as server, linked(server.address) as link:
        with pytest.raises(OutcomeUnknown, match="answer cannot be read"):
            await ShardLink(link).submit(0, SEND, TIMEOUT_S)


@on_each_loop
async def test_messages_whose_receive_is_cancelled_while_its_answer_is_on_the_way_are_given_back() -> None:
    async with far_shard() as (driver, far):
        await driver.send("hello")
        driver.log.appends.shut()
        receiving = far.submit(3, RECEIVE, TIMEOUT_S)
        await until(lambda: driver.log.appends.waiting == 1)
        # Behind what sends the answer: both are on their way at once, and pass each other.
        far.answers[-1].add_done_callback(lambda _: receiving.cancel())
        driver.log.appends.release()
        await until(receiving.cancelled)

        await until(lambda: visible(driver) == 1)


@on_each_loop
async def test_messages_that_come_after_their_receive_was_given_up_are_given_back() -> None:
    async with far_shard() as (driver, far):
        await driver.send("hello")
        driver.log.appends.shut()
        with pytest.raises(OutcomeUnknown, match="not answered in time"):
            await far.submit(3, RECEIVE, 0.05)
        driver.log.appends.release()

        await until(lambda: visible(driver) == 1)
