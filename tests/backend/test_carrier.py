"""Dead letters on their way from queue to queue, through every failure: each in one place, once."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from tests.backend.post_driver import FailingAt, posting
from tests.backend.shard_driver import texts_of
from tests.backend.virtual_time import now_ms, settle, virtual_time
from waystation.backend.errors import ShardUnavailable, StorageNearlyFull
from waystation.queues.commands import AcceptMessages, Arrival, DeliveryOutdated
from waystation.queues.events import Event, MessagesArrived, MessagesReleased, MessagesSetAside

TEXTS = [f"poison {number}" for number in range(5)]


@virtual_time
async def test_dead_letters_go_to_their_target_as_old_and_as_often_received_as_they_are() -> None:
    async with posting() as post:
        await post.lose(*TEXTS)
        began_ms = now_ms()
        assert await post.source.texts() == []
        messages = await post.target.receive(10, wait_ms=20_000)

        assert texts_of(messages) == TEXTS
        assert now_ms() == began_ms, "they went at once, and woke who waited for them"
        assert {message.receive_count for message in messages} == {2}
        assert all(message.sent_at_ms <= began_ms - 1_000 for message in messages)
        assert {message.first_received_at_ms for message in messages} == {began_ms}
        await post.nothing_is_left()


@virtual_time
async def test_more_letters_than_go_at_once_all_arrive_and_what_is_settled_is_forgotten() -> None:
    async with posting() as post:
        texts = [f"poison {number:03}" for number in range(200)]
        await post.source.sending(*texts)
        for _ in range(20):
            await post.source.texts(timeout_ms=1_000)
        await asyncio.sleep(1)
        assert await post.source.texts() == []
        await settle(200)

        assert await post.in_target() == texts
        await post.nothing_is_left()
        [known] = post.backend.shards[1].state.queues[1].arrived.values()
        assert len(known) <= 64, "no more than those of the last delivery"


@pytest.mark.parametrize("how", ["refused_appends", "lost_answers"])
@pytest.mark.parametrize("step", [MessagesSetAside, MessagesArrived, MessagesReleased])
def test_whichever_step_fails_each_letter_arrives_once(how: str, step: type[Event]) -> None:
    @virtual_time
    async def fail() -> None:
        async with posting() as post:
            await post.lose(*TEXTS)
            log = post.target.log if step is MessagesArrived else post.source.log
            assert isinstance(log, FailingAt)
            log.at, log.how = step, how
            opens = log.opens
            await post.poll_source()

            assert log.opens > opens, "the step did not fail"
            assert await post.in_target() == TEXTS
            await post.nothing_is_left()

    fail()


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 25])
def test_a_node_that_stops_at_any_moment_carries_on_when_it_starts_again(at: int) -> None:
    @virtual_time
    async def stop() -> None:
        logs = [FailingAt(), FailingAt()]
        async with posting(logs) as post:
            await post.lose(*TEXTS)
            receiving = post.source.receiving(10)
            await settle(at)
            receiving.cancel()
        async with posting(logs) as post:
            await post.poll_source(3)

            assert await post.in_target() == TEXTS
            await post.nothing_is_left()

    stop()


@virtual_time
async def test_nothing_is_delivered_before_it_is_durable_that_nobody_receives_it_any_more() -> None:
    async with posting() as post:
        await post.lose(*TEXTS)
        post.source.log.appends.shut()
        assert await post.source.texts() == []
        await asyncio.sleep(30)
        assert post.parcels == []

        post.source.log.appends.release()
        await settle()
        assert await post.in_target() == TEXTS


@virtual_time
async def test_letters_wait_for_a_target_that_is_missing_and_go_when_it_is_there() -> None:
    async with posting(targets=()) as post:
        await post.lose(*TEXTS)
        assert await post.source.texts() == []
        await asyncio.sleep(60)
        counts = await post.source.counts()
        assert (counts.visible, counts.in_flight) == (0, 5)

        await post.add_target("letters")
        await asyncio.sleep(2)
        assert await post.in_target() == TEXTS
        await post.nothing_is_left()


@virtual_time
async def test_letters_wait_for_a_target_that_does_not_answer() -> None:
    async with posting() as post:
        await post.lose(*TEXTS)
        post.target.log.refused_appends = 3
        post.target.log.refused_opens = 5
        with pytest.raises(ShardUnavailable):
            await post.target.sending("makes it fail")
        assert await post.source.texts() == []
        await post.target.serves()
        await asyncio.sleep(60)

        assert await post.in_target() == TEXTS


@virtual_time
async def test_a_target_that_takes_its_time_holds_up_nobody_at_the_source() -> None:
    async with posting() as post:
        await post.lose(*TEXTS)
        post.target.log.appends.shut()
        assert await post.source.texts() == []
        await settle()

        await post.source.send("alive")
        assert await post.source.texts() == ["alive"]
        post.target.log.appends.release()
        await settle()
        assert await post.in_target() == TEXTS


@virtual_time
async def test_what_cannot_be_delivered_is_tried_once_a_second_however_many_more_come() -> None:
    async with posting(targets=()) as post:
        await post.lose("first")
        await post.source.texts()
        for number in range(100):
            await post.source.send(f"poison {number}")
            await post.source.texts(timeout_ms=50)
            await asyncio.sleep(0.1)
        tried_at_ms = [at_ms for at_ms, _ in post.parcels]

        assert len(tried_at_ms) < 30
        gaps = {later - earlier for earlier, later in pairwise(tried_at_ms)}
        assert min(gaps) >= 1_000


@virtual_time
async def test_a_message_that_was_delivered_goes_to_no_other_queue_when_the_policy_changes() -> None:
    """Its release fails; by then the queue has another target, or none."""
    for target in ("elsewhere", ""):
        async with posting(targets=("letters", "elsewhere")) as post:
            await post.lose(*TEXTS)
            post.source.log.at, post.source.log.how = MessagesReleased, "refused_appends"  # type: ignore[attr-defined]
            await post.source.texts()
            await settle(100)
            await post.source.serves()
            await post.source.configure(receive_count_max=1, dead_letter_target=target)
            await asyncio.sleep(5)

            assert await post.in_target("letters") == TEXTS
            assert await post.in_target("elsewhere") == []
            await post.nothing_is_left()


@virtual_time
async def test_letters_for_a_queue_that_is_gone_go_to_the_one_that_the_policy_names_now() -> None:
    logs = [FailingAt(), FailingAt()]
    async with posting(logs, targets=("elsewhere",)) as post:
        await post.lose(*TEXTS)
        await post.source.texts()
        await asyncio.sleep(5)
        await post.source.configure(receive_count_max=1, dead_letter_target="elsewhere")
        await asyncio.sleep(5)

        assert await post.in_target("elsewhere") == TEXTS
        await post.nothing_is_left()


@virtual_time
async def test_letters_for_a_target_that_is_there_do_not_wait_for_those_of_one_that_is_not() -> None:
    async with posting(targets=("elsewhere",)) as post:
        await post.lose("for nobody")
        await post.source.texts()
        await asyncio.sleep(5)
        await post.source.configure(receive_count_max=0, dead_letter_target="")
        await post.source.configure(receive_count_max=1, dead_letter_target="elsewhere")
        await post.lose(*TEXTS)
        await post.source.texts()
        await asyncio.sleep(5)

        assert await post.in_target("elsewhere") == sorted(["for nobody", *TEXTS])


@virtual_time
async def test_messages_that_are_moved_do_not_wait_because_dead_letters_have_to() -> None:
    async with posting(targets=("elsewhere",)) as post:
        await post.lose("for nobody")
        await post.source.texts()
        await settle()
        began_ms = now_ms()
        await post.move("elsewhere 1")
        await settle()
        await post.move("elsewhere 2")
        await settle()

        assert await post.in_target("elsewhere") == ["elsewhere 1", "elsewhere 2"]
        assert now_ms() == began_ms


@virtual_time
async def test_a_queue_that_is_deleted_or_purged_while_it_waits_for_its_target_ends_the_trying() -> None:
    async with posting(targets=()) as post:
        await post.lose(*TEXTS)
        await post.source.texts()
        await asyncio.sleep(5)
        await post.source.purge()
        await asyncio.sleep(5)
        tried = len(post.parcels)
        await asyncio.sleep(60)

        assert len(post.parcels) == tried
        await post.nothing_is_left()


@pytest.mark.parametrize("by", ["the same owner", "an owner that was left behind"])
def test_a_delivery_that_comes_after_its_messages_are_settled_brings_none_of_them_back(by: str) -> None:
    """A copy that was on its way all the time, or that an owner sends who does not know of its successor."""

    @virtual_time
    async def deliver_late() -> None:
        async with posting() as post:
            await post.lose(*TEXTS)
            await post.source.texts()
            await settle(200)
            if by == "an owner that was left behind":
                post.source.log.refused_appends = 1
                with pytest.raises(ShardUnavailable):
                    await post.source.sending("makes it fail")
                await post.source.serves()
            for text in ("next", "last"):
                await post.lose(text)
                await post.source.texts()
                await settle(200)
            with pytest.raises(DeliveryOutdated):
                await post.backend.submit(1, post.accepting[0])

            assert await post.in_target() == sorted([*TEXTS, "next", "last"])
            await post.nothing_is_left()

    deliver_late()


@virtual_time
async def test_letters_wait_while_the_disk_of_their_target_is_nearly_full() -> None:
    async with posting() as post:
        await post.lose(*TEXTS)
        post.target.log.is_nearly_full = True
        with pytest.raises(StorageNearlyFull):
            await post.backend.submit(1, AcceptMessages(1, 9, 9, [Arrival(1, 1, 1, b"")], []))
        await post.source.texts()
        await asyncio.sleep(10)
        assert await post.in_target() == []

        post.target.log.is_nearly_full = False
        await asyncio.sleep(2)
        assert await post.in_target() == TEXTS


@virtual_time
async def test_relocation_of_what_is_on_its_way_takes_nothing_with_it() -> None:
    async with posting(targets=()) as post:
        await post.lose(*TEXTS)
        await post.source.texts()
        for _ in range(3):
            await post.source.shard._housekeeper._relocate()
            await post.source.shard._housekeeper._snapshot_and_truncate()
            await asyncio.sleep(1.5)
        await post.add_target("letters")
        await asyncio.sleep(2)

        assert await post.in_target() == TEXTS
        await post.nothing_is_left()


@virtual_time
async def test_a_long_poll_on_dead_messages_only_waits_for_one_that_lives() -> None:
    async with posting() as post:
        await post.lose(*TEXTS)
        polling = post.source.receiving(10, wait_ms=20_000)
        await asyncio.sleep(5)
        assert not polling.done()

        await post.source.send("alive")
        assert texts_of((await polling).messages) == ["alive"]
        assert await post.in_target() == TEXTS
