"""A move at its work: how fast, how far, and what it leaves behind however it ends."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from tests.backend.virtual_time import now_ms, virtual_time
from tests.frontend.move_world import arn, moving, moving_to
from waystation.frontend.dead_letters import NO_QUEUE, NO_SOURCE
from waystation.frontend.move_runner import OUR_FAULT, TOO_LONG, Pace
from waystation.metadata.move_tasks import MoveStatus
from waystation.protocol import limits
from waystation.protocol.errors import InvalidParameterValue, OverLimit
from waystation.queues.commands import PurgeQueue

# How fast


@pytest.mark.parametrize("rate", [1, 3, 10, 15, 99, 500])
def test_in_the_long_run_no_more_go_than_may(rate: int) -> None:
    pace = Pace(rate, 0.0)
    now_s, gone = 0.0, 0
    for _ in range(1_000):
        ready = pace.ready(now_s)
        assert ready <= pace.burst
        pace.spend(ready)
        gone += ready
        assert gone <= rate * now_s + pace.burst + 1e-3
        now_s += pace.wait_s()

    assert gone >= rate * now_s - pace.burst


def test_whoever_looks_early_finds_only_what_the_time_since_the_last_look_allows() -> None:
    pace = Pace(100, 0.0)
    pace.spend(pace.ready(0.0))

    assert pace.ready(0.03) == 3
    pace.spend(3)
    assert pace.ready(0.05) == 2
    assert pace.wait_s() == pytest.approx(0.08)


def test_what_was_not_used_is_not_saved_up_for_later() -> None:
    pace = Pace(100, 0.0)
    assert pace.ready(0.0) == 10
    assert pace.ready(60.0) == 10
    pace.spend(4)
    assert pace.ready(60.0) == 6


@virtual_time
async def test_a_move_keeps_to_its_rate_at_every_moment_and_is_not_much_slower() -> None:
    async with moving_to("far-orders", 100, rate_max=20) as world:
        began_ms = now_ms()
        while (await world.saved()).is_active:
            arrived = await world.total("far-orders")
            assert arrived <= 20 * (now_ms() - began_ms) / 1_000 + 2
            await asyncio.sleep(0.01)

        assert 4_800 <= now_ms() - began_ms <= 5_500
        assert await world.bodies("far-orders") == world.sent


@virtual_time
async def test_a_move_of_one_message_a_second_moves_one_each_second() -> None:
    async with moving_to("orders", 4, rate_max=1) as world:
        seen = []
        for _ in range(4):
            await asyncio.sleep(0.5)
            seen.append(await world.total("orders"))
            await asyncio.sleep(0.5)

        assert seen == [1, 2, 3, 4]
        assert (await world.ended()).status is MoveStatus.COMPLETED


@virtual_time
async def test_a_move_without_a_rate_is_as_fast_as_the_fastest() -> None:
    async with moving_to("orders", 2_000) as world:
        began_ms = now_ms()
        await world.ended()

        assert 3_800 <= now_ms() - began_ms <= 4_500
        assert await world.total("orders") == 2_000


@virtual_time
async def test_no_more_is_on_its_way_than_moves_in_a_tenth_of_a_second() -> None:
    async with moving("letters", "far-orders") as world:
        await world.send("letters", 300)
        world.logs[1].appends.shut()
        await world.begin(destination="far-orders", rate_max=100)
        for _ in range(300):
            await asyncio.sleep(0.01)
            assert world.on_their_way() <= 10
        assert (await world.saved()).moved == 0

        world.logs[1].appends.release()
        assert (await world.ended()).moved == 300


# What is told of it


@virtual_time
async def test_progress_is_saved_once_a_second_and_at_the_end() -> None:
    async with moving_to("orders", 1_000, rate_max=100) as world:
        writes = world.store.writes
        for _ in range(95):
            await asyncio.sleep(0.1)
            assert world.move().task.moved - (await world.saved()).moved <= 130
        assert world.store.writes - writes <= 10

        task = await world.ended()
        assert (task.status, task.to_move, task.moved) == (MoveStatus.COMPLETED, 1_000, 1_000)
        assert world.runner.move_of(world.queue("letters")) is None


@virtual_time
async def test_an_empty_queue_is_moved_at_once() -> None:
    async with moving("letters", "orders") as world:
        began_ms = now_ms()
        await world.begin(destination="orders")

        assert (await world.ended()).status is MoveStatus.COMPLETED
        assert now_ms() - began_ms <= 200


@virtual_time
async def test_only_what_is_moved_counts_as_moved() -> None:
    """Its source may have dead letters of its own."""
    policy = json.dumps({"deadLetterTargetArn": arn("morgue"), "maxReceiveCount": 1})
    async with moving("morgue", "orders") as world:
        await world.create("letters", RedrivePolicy=policy)
        await world.send("letters", 30)
        assert len(await world.bodies("letters", timeout_ms=1_000)) == 30
        await world.send("letters", 10)
        await world.begin(destination="orders", rate_max=5)
        await asyncio.sleep(1)
        await world.bodies("letters")

        assert (await world.ended()).moved == await world.total("orders")
        assert await world.total("morgue") > 0


@virtual_time
async def test_what_is_sent_while_a_move_runs_is_moved_too() -> None:
    async with moving_to("orders", 20, rate_max=10) as world:
        await asyncio.sleep(1)
        await world.send("letters", 5)

        assert (await world.ended()).moved == 25


@virtual_time
async def test_a_backlog_that_is_not_in_memory_is_moved_to_its_end() -> None:
    async with moving("letters", "far-orders") as world:
        bodies = []
        for _ in range(40):
            bodies += await world.send("letters", 100)
        await world.begin(destination="far-orders")

        assert (await world.ended()).moved == 4_000
        assert await world.bodies("far-orders") == bodies
        assert await world.total("letters") == 0


# Where messages go


@virtual_time
async def test_without_a_destination_each_message_goes_back_to_where_it_came_from() -> None:
    async with moving("letters", "orders", "far-bills") as world:
        orders = await world.send("letters", 5, source="orders")
        bills = await world.send("letters", 5, source="far-bills")
        await world.begin()

        assert (await world.ended()).status is MoveStatus.COMPLETED
        assert await world.bodies("orders") == orders
        assert await world.bodies("far-bills") == bills


@virtual_time
async def test_a_queue_that_does_not_answer_holds_up_no_message_of_another() -> None:
    async with moving("letters", "orders", "far-bills") as world:
        await world.send("letters", 2, source="far-bills")
        orders = await world.send("letters", 2, source="orders")
        world.logs[1].refused_appends = 1_000_000
        await world.begin(rate_max=100)
        await asyncio.sleep(5)
        assert await world.bodies("orders") == orders
        assert await world.total("letters") == 2

        world.logs[1].refused_appends = 0
        assert (await world.ended()).moved == 4


@virtual_time
async def test_a_destination_does_not_remember_for_long_what_has_come() -> None:
    async with moving_to("far-orders", 500, rate_max=100) as world:
        await world.ended()

        [known] = world.backend.shards[1].state.queues[1].arrived.values()
        assert len(known) <= 10


@virtual_time
async def test_a_message_that_came_from_no_queue_ends_the_move_and_stays() -> None:
    async with moving("letters", "orders") as world:
        sent = await world.send("letters", 3)
        dead = await world.send("letters", 3, source="orders")
        await world.begin()
        task = await world.ended()

        assert (task.status, task.failure, task.moved) == (MoveStatus.FAILED, NO_SOURCE, 3)
        assert await world.bodies("orders") == dead
        assert await world.bodies("letters") == sent


@virtual_time
async def test_a_message_whose_queue_is_gone_ends_the_move_and_stays() -> None:
    async with moving("letters", "orders") as world:
        bodies = await world.send("letters", 3, source="deleted")
        await world.begin()
        task = await world.ended()

        assert (task.status, task.failure, task.moved) == (MoveStatus.FAILED, NO_QUEUE, 0)
        assert await world.bodies("letters") == bodies


# How it ends otherwise


@virtual_time
async def test_a_move_that_is_cancelled_leaves_the_rest_where_it_was() -> None:
    async with moving_to("orders", 100, rate_max=10) as world:
        await asyncio.sleep(2.05)
        await world.cancel()
        task = await world.ended()

        assert task.status is MoveStatus.CANCELLED
        moved = await world.bodies("orders")
        assert len(moved) == task.moved
        assert 20 <= task.moved <= 22
        assert sorted(moved + await world.bodies("letters")) == world.sent


@virtual_time
async def test_a_move_is_cancelled_once_what_was_on_its_way_has_arrived() -> None:
    async with moving("letters", "far-orders") as world:
        await world.send("letters", 100)
        world.logs[1].appends.shut()
        await world.begin(destination="far-orders", rate_max=100)
        await asyncio.sleep(0.05)
        assert world.on_their_way() == 10
        await world.cancel()
        assert (await world.saved()).status is MoveStatus.CANCELLING
        await asyncio.sleep(5)
        assert (await world.saved()).status is MoveStatus.CANCELLING

        world.logs[1].appends.release()
        task = await world.ended()
        assert (task.status, task.moved) == (MoveStatus.CANCELLED, 10)
        assert (await world.counts("letters")).visible == 90


@virtual_time
async def test_a_slow_move_is_cancelled_at_once() -> None:
    async with moving_to("orders", 100, rate_max=1) as world:
        await asyncio.sleep(0.5)
        await world.cancel()
        cancelled_ms = now_ms()

        assert (await world.ended()).status is MoveStatus.CANCELLED
        assert now_ms() - cancelled_ms <= 100


@virtual_time
async def test_a_move_fails_when_its_destination_is_deleted_and_nothing_more_is_lost() -> None:
    async with moving_to("far-orders", 100, rate_max=50) as world:
        await asyncio.sleep(1)
        moved = await world.bodies("far-orders")
        await world.delete("far-orders")
        task = await world.ended()

        assert (task.status, task.failure) == (MoveStatus.FAILED, NO_QUEUE)
        left = await world.bodies("letters")
        assert 40 <= len(left) <= 60
        assert not set(left) & set(moved)
        assert set(left) <= set(world.sent)


@virtual_time
async def test_what_is_on_its_way_to_a_queue_that_is_deleted_is_shown_again_before_the_move_ends() -> None:
    async with moving("letters", "far-orders") as world:
        bodies = await world.send("letters", 30)
        world.logs[1].refused_appends = 1_000_000
        await world.begin(destination="far-orders", rate_max=100)
        await asyncio.sleep(5)
        world.logs[1].refused_appends = 0
        await world.catalogue.delete(world.queue("far-orders"))
        task = await world.ended()

        assert (task.status, task.failure, task.moved) == (MoveStatus.FAILED, NO_QUEUE, 0)
        assert await world.bodies("letters") == bodies


@virtual_time
async def test_a_move_fails_when_its_source_is_deleted_even_if_its_shard_has_not_heard_of_it() -> None:
    async with moving_to("orders", 100, rate_max=10) as world:
        await asyncio.sleep(1.05)
        await world.catalogue.delete(world.queue("letters"))

        task = await world.ended()
        assert (task.status, task.failure) == (MoveStatus.FAILED, NO_QUEUE)
        assert await world.total("orders") == task.moved == 11


@virtual_time
async def test_a_move_fails_when_its_source_is_deleted_while_messages_are_on_their_way() -> None:
    async with moving("letters", "far-orders") as world:
        await world.send("letters", 100)
        world.logs[1].appends.shut()
        await world.begin(destination="far-orders", rate_max=10)
        await asyncio.sleep(1.05)
        await world.delete("letters")
        world.logs[1].appends.release()

        task = await world.ended()
        assert (task.status, task.failure) == (MoveStatus.FAILED, NO_QUEUE)


@virtual_time
async def test_a_queue_that_is_created_in_the_place_of_a_source_is_not_moved() -> None:
    async with moving_to("orders", 100, rate_max=10) as world:
        await asyncio.sleep(1.05)
        await world.catalogue.delete(world.queue("letters"))
        await world.create("letters")
        bodies = await world.send("letters", 5)

        assert (await world.ended()).status is MoveStatus.FAILED
        assert await world.bodies("letters") == bodies
        await world.begin(destination="orders")
        assert (await world.ended()).status is MoveStatus.COMPLETED


@virtual_time
async def test_a_source_that_is_purged_is_empty() -> None:
    async with moving_to("orders", 100, rate_max=10) as world:
        await asyncio.sleep(1.05)
        queue = world.queue("letters")
        await world.backend.submit(queue.shard, PurgeQueue(queue.number, 0))

        task = await world.ended()
        assert (task.status, task.moved) == (MoveStatus.COMPLETED, 11)


def test_a_move_is_stopped_after_its_longest_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOVE_TASK_S_MAX", 60)

    @virtual_time
    async def run_on() -> None:
        async with moving_to("orders", 100, rate_max=1) as world:
            began_ms = now_ms()
            task = await world.ended()

            assert (task.status, task.failure) == (MoveStatus.FAILED, TOO_LONG)
            assert 60_000 <= now_ms() - began_ms <= 62_000
            assert (await world.counts("letters")).visible == 100 - task.moved

    run_on()
    assert TOO_LONG == "The task was stopped after 36 hours."


def test_a_bug_ends_its_own_move_only_and_does_not_block_the_queue(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @virtual_time
    async def fail() -> None:
        async with moving("letters", "others", "orders") as world:
            await world.send("letters", 10)
            await world.send("others", 10)
            with monkeypatch.context() as patched:
                move = await world.begin(destination="orders", rate_max=1)
                patched.setattr(move, "_trouble", lambda: 1 / 0)
                await world.begin("others", "orders")
                task = await world.ended()
                assert (task.status, task.failure) == (MoveStatus.FAILED, OUR_FAULT)
                assert (await world.ended("others")).status is MoveStatus.COMPLETED
            await world.begin(destination="orders")
            await world.ended()
            assert await world.total("orders") == 20

    with caplog.at_level(logging.ERROR):
        fail()
    assert "a move was ended by a bug" in caplog.text


# How many


@virtual_time
async def test_a_queue_has_one_move_at_a_time() -> None:
    async with moving("letters", "others", "orders") as world:
        await world.send("letters", 10)
        first, second = await asyncio.gather(
            world.begin(destination="orders"), world.begin(destination="orders"), return_exceptions=True
        )
        assert isinstance(second, InvalidParameterValue)
        assert not isinstance(first, BaseException)
        with pytest.raises(InvalidParameterValue, match="There is already a task running"):
            await world.begin()
        await world.begin("others", "orders")

        await world.ended()
        await world.ended("others")
        await world.begin(destination="orders")
        assert len(await world.tasks.of("000000000001", "letters")) == 2


@virtual_time
async def test_an_account_has_a_hundred_moves_at_a_time_also_when_all_come_at_once() -> None:
    names = [f"letters-{number}" for number in range(105)]
    async with moving("orders", *names) as world:
        for name in names:
            await world.send(name, 5)
        begun = await asyncio.gather(
            *(world.begin(name, "orders", rate_max=1) for name in names), return_exceptions=True
        )
        assert sum(isinstance(each, OverLimit) for each in begun) == 5
        refused = next(name for name, each in zip(names, begun, strict=True) if isinstance(each, OverLimit))
        await world.ended(names[0])

        assert (await world.begin(refused, "orders")).task.source == refused
