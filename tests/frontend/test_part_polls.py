"""Long polls over several shards: nobody sleeps while messages wait, and who loses one keeps none."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest

from tests.backend.virtual_time import now_ms, settle, virtual_time
from tests.frontend.parts_world import PartsWorld, bodies, parts_world
from waystation.protocol.errors import QueueDoesNotExist, Unavailable
from waystation.queues.commands import Counts, DeleteQueue, ReceiveMessages


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("seed", [None, 1])
def test_a_poll_is_woken_by_a_message_in_any_part(part: int, seed: int | None) -> None:
    @virtual_time
    async def test() -> None:
        async with parts_world(seed=seed) as world:
            polling = world.begin()
            await asyncio.sleep(5)
            assert not polling.done()
            sent_ms = now_ms()
            await world.send_to(part, "hello")

            assert bodies(await polling) == ["hello"]
            assert now_ms() - sent_ms <= 20
            await asyncio.sleep(1)
            assert world.waiting() == 0

    test()


@virtual_time
async def test_a_poll_ends_with_nothing_when_its_time_is_over_and_not_before() -> None:
    async with parts_world() as world:
        began_ms = now_ms()

        assert await world.receive(wait_s=20) == []
        assert now_ms() - began_ms == 20_000
        assert world.waiting() == 0


@pytest.mark.parametrize("part", range(4))
def test_a_poll_is_woken_when_a_message_becomes_visible(part: int) -> None:
    @virtual_time
    async def test() -> None:
        async with parts_world() as world:
            await world.send_to(part, "hello")
            assert bodies(await world.receive(timeout_ms=3_000)) == ["hello"]
            began_ms = now_ms()

            assert bodies(await world.receive(wait_s=20)) == ["hello"]
            assert now_ms() - began_ms == 3_000

    test()


@virtual_time
async def test_messages_of_several_parts_join_one_answer_when_there_is_room() -> None:
    async with parts_world() as world:
        polling = world.begin(max_messages=10)
        await settle()
        for log in world.logs:
            log.appends.shut()
        sending = [asyncio.create_task(world.send_to(part, f"to {part}")) for part in range(4)]
        await settle()
        for log in world.logs:
            log.appends.release()
        await asyncio.gather(*sending)
        found = bodies(await polling)
        await settle()

        assert len(found) >= 1
        counts = await world.counts()
        assert (counts.visible, counts.in_flight) == (4 - len(found), len(found))


@virtual_time
async def test_messages_that_come_to_all_parts_at_once_wake_as_many_who_wait() -> None:
    async with parts_world() as world:
        polls = [world.begin() for _ in range(4)]
        await settle()
        await asyncio.gather(*(world.send_to(part, f"to {part}") for part in range(4)))
        await settle()

        found = [await poll for poll in polls]
        assert sorted(body for each in found for body in bodies(each)) == [f"to {part}" for part in range(4)]
        assert all(message.receive_count == 1 for each in found for _, message in each)


@pytest.mark.parametrize("seed", range(2))
def test_a_thousand_who_wait_cost_a_bounded_number_of_receives_for_each_message(seed: int) -> None:
    @virtual_time
    async def test() -> None:
        async with parts_world(seed=seed) as world:
            polls = [world.begin() for _ in range(1_000)]
            await asyncio.sleep(1)
            for first in range(0, 400, 50):
                await asyncio.gather(*(world.send(f"message {first + each}") for each in range(50)))
            await asyncio.sleep(1)
            found = [poll.result() for poll in polls if poll.done()]

            assert Counter(body for each in found for body in bodies(each)) == {
                f"message {number}": 1 for number in range(400)
            }
            receives = sum(message.receive_count for each in found for _, message in each)
            assert receives <= 440
            for poll in polls:
                poll.cancel()

    test()


@pytest.mark.parametrize("seed", range(12))
def test_fewer_who_wait_than_messages_get_them_all_soon(seed: int) -> None:
    """Who has got more than fits gives the rest back, and whoever waits next is woken by that at once."""

    @virtual_time
    async def test() -> None:
        async with parts_world(seed=seed) as world:
            random = Random(seed)
            found: list[str] = []

            async def consume() -> None:
                while len(found) < 40:
                    received = await world.receive(1, wait_s=20)
                    await world.delete(received)
                    found.extend(bodies(received))

            consumers = [asyncio.create_task(consume()) for _ in range(3)]
            await asyncio.sleep(1)
            began_ms = now_ms()
            for number in range(40):
                await world.send(f"message {number}")
                await asyncio.sleep(random.uniform(0, 0.004))
            while len(found) < 40:
                await asyncio.sleep(0.01)
                assert now_ms() - began_ms < 5_000, sorted(found)

            assert sorted(found) == sorted(f"message {number}" for number in range(40))
            for consumer in consumers:
                consumer.cancel()

    test()


@pytest.mark.parametrize("seed", range(30))
def test_a_poll_that_is_abandoned_at_any_moment_takes_no_message_along(seed: int) -> None:
    @virtual_time
    async def test() -> None:
        async with parts_world(seed=seed) as world:
            random = Random(seed)
            polling = world.begin(max_messages=random.choice([1, 10]))
            sending = asyncio.create_task(world.send("hello"))
            await asyncio.sleep(random.uniform(0, 0.02))
            polling.cancel()
            await asyncio.sleep(1)

            if not polling.cancelled():
                assert bodies(polling.result()) == ["hello"]
            else:
                assert await world.counts() == Counts(1, 0, 0)
            await sending

    test()


@virtual_time
async def test_who_waits_is_served_while_one_part_is_down_and_also_by_that_once_it_is_well() -> None:
    async with parts_world() as world:
        log = world.logs[2]
        log.refused_appends = log.refused_opens = 1_000
        with pytest.raises(Unavailable):
            await world.send_to(2, "lost")
        polling = world.begin()
        await asyncio.sleep(1)
        await world.send_to(1, "hello")
        found = await polling
        assert bodies(found) == ["hello"]
        await world.delete(found)

        polling = world.begin(wait_s=200)
        await asyncio.sleep(1)
        log.refused_appends = log.refused_opens = 0
        await asyncio.sleep(60)
        assert world.backend.shards[2].is_serving
        await world.send_to(2, "well again")
        sent_ms = now_ms()
        assert bodies(await polling) == ["well again"]
        assert now_ms() - sent_ms <= 1_000


@virtual_time
async def test_a_part_where_nobody_more_may_wait_ends_no_poll() -> None:
    async with parts_world(waiting_max=2) as world:
        place = world.queue.places[2]
        alone = [
            world.backend.submit(place.shard, ReceiveMessages(place.number, 1, 30_000, 10_000))
            for _ in range(2)
        ]
        polls = [world.begin() for _ in range(2)]
        await asyncio.sleep(5)
        assert not any(poll.done() for poll in polls)
        await world.send_to(3, "hello")
        await settle()
        assert [poll.done() for poll in polls].count(True) == 1

        await asyncio.gather(*alone)
        await asyncio.sleep(2)
        await world.send_to(2, "there is room again")
        found = [body for poll in polls for body in bodies(await poll)]
        assert sorted(found) == ["hello", "there is room again"]


@virtual_time
async def test_polls_end_when_all_shards_stop_or_their_queue_is_deleted() -> None:
    async with parts_world() as world:
        polling = world.begin()
        await settle()
        world.backend.drain()
        assert await polling == []

    async with parts_world() as world:
        polling = world.begin()
        await settle()
        await world.parts.ask_all(world.queue, DeleteQueue)
        with pytest.raises(QueueDoesNotExist):
            await polling


async def _leave(world: PartsWorld) -> None:
    await asyncio.sleep(1)
    assert world.waiting() == 0


@virtual_time
async def test_a_poll_with_an_attempt_waits_as_any_other() -> None:
    async with parts_world(fifo=True) as world:
        polling = asyncio.create_task(world.receive(10, wait_s=20, attempt=b"a" * 16))
        await asyncio.sleep(1)
        await world.send("hello", group="a")

        assert bodies(await polling) == ["hello"]
        await _leave(world)
