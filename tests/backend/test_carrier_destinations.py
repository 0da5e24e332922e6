"""Messages whose target leaves it to each of them where it goes, and those that go nowhere."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from tests.backend.post_driver import EACH, FailingAt, posting
from tests.backend.virtual_time import settle, virtual_time
from waystation.backend.errors import ShardUnavailable
from waystation.queues.commands import DeleteQueue, MoveMessages
from waystation.queues.events import (
    Event,
    MessagesArrived,
    MessagesReleased,
    MessagesReturned,
    MessagesSetAside,
)


@virtual_time
async def test_messages_of_one_target_go_each_to_its_own_destination() -> None:
    async with posting(targets=("a", "b")) as post:
        await post.move("a 1", "b 1", "a 2", "b 2")
        await settle(100)

        assert await post.in_target("a") == ["a 1", "a 2"]
        assert await post.in_target("b") == ["b 1", "b 2"]
        await post.nothing_is_left()


@virtual_time
async def test_what_has_no_destination_is_shown_again_where_it_was_and_the_rest_goes() -> None:
    async with posting(targets=("a",)) as post:
        await post.move("a 1", "nobody 1", "a 2")
        await asyncio.sleep(5)

        assert await post.in_target("a") == ["a 1", "a 2"]
        counts = await post.source.counts()
        assert (counts.visible, counts.in_flight) == (1, 0)
        assert await post.source.texts() == ["nobody 1"]


@virtual_time
async def test_a_destination_that_does_not_answer_is_tried_again_and_holds_up_no_other() -> None:
    async with posting(targets=("a", "b")) as post:
        post.silent = "a"
        await post.move("a 1", "b 1", "nobody 1", "a 2", "b 2")
        await asyncio.sleep(5)
        assert await post.in_target("b") == ["b 1", "b 2"]
        assert await post.in_target("a") == []
        assert await post.source.texts() == ["nobody 1"]
        tried = len(post.parcels)
        await asyncio.sleep(10)
        assert len(post.parcels) <= tried + 11, "it is tried more often than once a second"

        post.silent = ""
        await asyncio.sleep(2)
        assert await post.in_target("a") == ["a 1", "a 2"]


@virtual_time
async def test_each_destination_forgets_what_is_settled_for_it_when_it_next_gets_something() -> None:
    async with posting(targets=("a", "b")) as post:
        await post.move("a 1", "b 1")
        await settle(100)
        await post.move("a 2")
        await settle(100)
        await post.move("a 3", "b 3")
        await settle(100)
        known = {name: post.backend.shards[1].state.queues[at].arrived for name, at in post.places.items()}

        assert known == {"a": {(0, 1): {4}}, "b": {(0, 1): {5}}}


@virtual_time
async def test_what_is_settled_is_forgotten_with_its_queue() -> None:
    async with posting(targets=("a",)) as post:
        await post.move("a 1")
        await settle(100)
        await post.backend.submit(0, DeleteQueue(1))
        await post.source.create(receive_count_max=1, dead_letter_target="a")
        await post.lose("poison")
        await post.source.texts()
        await settle(100)

        assert set(post.source.shard._carrier._settled) == {post.source.queue}


@pytest.mark.parametrize("how", ["refused_appends", "lost_answers"])
@pytest.mark.parametrize("step", [MessagesSetAside, MessagesArrived, MessagesReleased, MessagesReturned])
def test_whichever_step_fails_each_message_arrives_once_or_is_shown_again(
    how: str, step: type[Event]
) -> None:
    @virtual_time
    async def fail() -> None:
        async with posting(targets=("a", "b")) as post:
            log = post.target.log if step is MessagesArrived else post.source.log
            assert isinstance(log, FailingAt)
            log.at, log.how = step, how
            opens = log.opens
            with suppress(ShardUnavailable):
                await post.move("a 1", "b 1", "nobody 1", "a 2")
            await asyncio.sleep(5)
            await post.source.shard.submit(MoveMessages(1, EACH, 10))
            await asyncio.sleep(5)

            assert log.opens > opens, "the step did not fail"
            assert await post.in_target("a") == ["a 1", "a 2"]
            assert await post.in_target("b") == ["b 1"]
            assert await post.source.texts() == ["nobody 1"]

    fail()
