"""A move whose node crashes, whose shards fail, and whose client or store goes away."""

from __future__ import annotations

import asyncio

import pytest

from tests.backend.virtual_time import settle, virtual_time
from tests.frontend.move_world import moving, moving_to
from tests.log.faulty import Gate
from waystation.metadata.move_register import MoveEntry
from waystation.metadata.move_tasks import MoveStatus
from waystation.metadata.store import MetadataUnavailable
from waystation.protocol.errors import Unavailable


@pytest.mark.parametrize("after_s", [0.0, 0.03, 0.1, 0.55, 1.0, 2.13, 4.99])
@pytest.mark.parametrize("how", ["stop", "crash"])
def test_a_move_goes_on_when_its_node_starts_again(how: str, after_s: float) -> None:
    @virtual_time
    async def restart() -> None:
        async with moving_to("far-orders", 100, rate_max=20) as world:
            await asyncio.sleep(after_s)
            await getattr(world, how)()
            await world.start()
            task = await world.ended()

            assert task.status is MoveStatus.COMPLETED
            assert await world.bodies("far-orders") == world.sent
            assert await world.total("letters") == 0
            if how == "stop":
                assert task.moved == 100
            assert task.moved >= 100 - 22

    restart()


@virtual_time
async def test_a_move_that_was_being_cancelled_in_a_crash_stays_so() -> None:
    async with moving("letters", "far-orders") as world:
        bodies = await world.send("letters", 100)
        world.logs[1].appends.shut()
        await world.begin(destination="far-orders", rate_max=20)
        await world.cancel()
        world.logs[1].appends.release()
        await world.crash()
        await world.start()

        assert (await world.ended()).status is MoveStatus.CANCELLED
        assert sorted(await world.bodies("letters") + await world.bodies("far-orders")) == bodies


@virtual_time
async def test_a_task_that_has_ended_does_not_begin_again() -> None:
    async with moving("letters", "orders") as world:
        await world.begin(destination="orders")
        await world.ended()
        bodies = await world.send("letters", 5)
        await world.stop()
        await world.start()
        await asyncio.sleep(5)

        assert await world.bodies("letters") == bodies


@pytest.mark.parametrize("how", ["refused_appends", "lost_answers"])
@pytest.mark.parametrize("shard", [0, 1])
@pytest.mark.parametrize("at_s", [0.0, 0.1, 0.23, 0.5])
def test_a_move_outlives_the_failures_of_both_queues(how: str, shard: int, at_s: float) -> None:
    @virtual_time
    async def fail() -> None:
        async with moving_to("far-orders", 50, rate_max=20) as world:
            await asyncio.sleep(at_s)
            opens = world.logs[shard].opens
            setattr(world.logs[shard], how, 2)
            task = await world.ended()

            assert world.logs[shard].opens > opens
            assert task.status is MoveStatus.COMPLETED
            await world.serves()
            assert await world.bodies("far-orders") == world.sent
            assert await world.total("letters") == 0

    fail()


@virtual_time
async def test_a_move_does_not_take_a_source_that_is_recovering_for_an_empty_one() -> None:
    async with moving("letters", "far-orders") as world:
        bodies = await world.send("letters", 2)
        world.logs[1].appends.shut()
        await world.begin(destination="far-orders", rate_max=20)
        await asyncio.sleep(0.5)
        world.logs[0].refused_appends, world.logs[0].refused_opens = 1, 20
        with pytest.raises(Unavailable):
            await world.send("letters")
        await asyncio.sleep(5)
        assert not world.backend.is_serving()
        assert (await world.saved()).is_active

        world.logs[1].appends.release()
        assert (await world.ended()).status is MoveStatus.COMPLETED
        assert await world.bodies("far-orders") == bodies


@virtual_time
async def test_a_store_that_is_out_of_order_holds_a_move_up_and_does_not_end_it() -> None:
    async with moving_to("orders", 100, rate_max=20) as world:
        await asyncio.sleep(1.5)
        world.store.is_out_of_order = True
        await asyncio.sleep(60)
        assert await world.total("orders") < 100
        world.store.is_out_of_order = False

        assert (await world.ended()).status is MoveStatus.COMPLETED
        assert await world.bodies("orders") == world.sent


@virtual_time
async def test_an_end_that_cannot_be_saved_is_saved_later() -> None:
    async with moving_to("orders", 5, rate_max=20) as world:
        world.store.is_out_of_order = True
        await asyncio.sleep(60)
        world.store.is_out_of_order = False
        assert (await world.saved()).status is MoveStatus.RUNNING

        assert (await world.ended()).moved == 5


@virtual_time
async def test_a_move_whose_task_cannot_be_saved_does_not_begin() -> None:
    async with moving("letters", "orders") as world:
        bodies = await world.send("letters", 10)
        world.store.is_out_of_order = True
        with pytest.raises(MetadataUnavailable):
            await world.begin(destination="orders")
        world.store.is_out_of_order = False
        await asyncio.sleep(60)

        assert await world.bodies("letters") == bodies
        assert await world.tasks.active() == []


@virtual_time
async def test_a_move_goes_on_whose_client_has_gone_before_it_was_told_of_it() -> None:
    async with moving("letters", "orders") as world:
        await world.send("letters", 10)
        gate, looking = Gate(), world.tasks.entries
        looks = 0

        async def look_slowly() -> list[MoveEntry]:
            nonlocal looks
            looks += 1
            if looks == 2:  # it is written by now
                gate.shut()
            await gate.passing()
            return await looking()

        world.tasks.entries = look_slowly  # type: ignore[method-assign]
        beginning = asyncio.ensure_future(world.begin(destination="orders"))
        await settle()
        beginning.cancel()
        await settle()
        gate.release()
        await settle()

        assert beginning.cancelled()
        assert (await world.ended()).moved == 10
