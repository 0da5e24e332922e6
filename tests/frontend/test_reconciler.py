"""What becomes of queues that a shard and the catalogue do not agree on, while others are at work as well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from tests.backend.virtual_time import settle, virtual_time
from tests.frontend.move_world import ACCOUNT, MoveWorld, moving
from waystation.frontend.reconciler import GRACE_S, Reconciler
from waystation.frontend.stored_queues import StoredQueues
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.queues import QueueRecord
from waystation.queues.commands import ConfigureQueue, CreateQueue, DeleteQueue, QueueSettings

_SOON_S = 11.0
"""Until the next look, and a bit more."""


@asynccontextmanager
async def reconciling(*names: str) -> AsyncIterator[tuple[MoveWorld, Reconciler]]:
    """A node with these queues that follows its first shard."""
    async with moving(*names) as world:
        reconciler = Reconciler(world.catalogue, StoredQueues(world.store), world.backend)
        reconciler.follow(0)
        await settle()
        yield world, reconciler
        await reconciler.stop()


def in_shard(world: MoveWorld) -> list[str]:
    return [queue.settings.name for queue in world.backend.shards[0].state.queues.values()]


async def create_half(world: MoveWorld, name: str) -> int:
    """The shard's part of a creation; returns the queue's number."""
    made = await world.backend.submit(0, CreateQueue(QueueSettings(name)))
    return int(made.queue)  # type: ignore[union-attr]


@virtual_time
async def test_a_queue_that_nobody_finished_creating_goes_after_a_time_of_grace() -> None:
    async with reconciling("orders") as (world, _):
        await create_half(world, "half-created")
        await asyncio.sleep(GRACE_S - 1)
        assert in_shard(world) == ["orders", "half-created"]
        await asyncio.sleep(2 * _SOON_S)
        assert in_shard(world) == ["orders"]


@virtual_time
async def test_a_queue_that_somebody_is_just_creating_stays() -> None:
    async with reconciling() as (world, _):
        number = await create_half(world, "orders")
        await asyncio.sleep(GRACE_S - 5)
        await world.catalogue.create(QueueRecord("orders", ACCOUNT, 1, 1, 0, number))
        bodies = await world.send("orders", 3)
        await asyncio.sleep(10 * GRACE_S)

        assert await world.bodies("orders") == bodies


@virtual_time
async def test_a_queue_that_this_process_has_not_heard_of_stays_however_long_that_takes() -> None:
    """Its watch is silent, and others have created the queue and sent to it."""
    async with reconciling() as (world, _):
        await world.catalogue.stop()
        number = await create_half(world, "orders")
        others = Catalogue(world.store)
        await others.start()
        await others.create(QueueRecord("orders", ACCOUNT, 1, 1, 0, number))
        await others.stop()
        await asyncio.sleep(10 * GRACE_S)

        assert world.catalogue.find(ACCOUNT, "orders") is None
        assert in_shard(world) == ["orders"]


@virtual_time
async def test_a_queue_of_which_this_process_has_not_heard_that_it_is_deleted_is_not_called_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with reconciling("orders") as (world, _):
        queue = world.queue("orders")
        await world.catalogue.stop()
        others = Catalogue(world.store)
        await others.start()
        await others.delete(queue)
        await others.stop()
        await world.backend.submit(0, DeleteQueue(queue.number))
        await asyncio.sleep(_SOON_S)

        assert world.catalogue.find(ACCOUNT, "orders") is not None
        assert in_shard(world) == []
        assert "lost" not in caplog.text


@virtual_time
async def test_a_queue_that_is_lost_works_again_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async with reconciling("orders") as (world, _):
        await world.backend.submit(0, DeleteQueue(world.queue("orders").number))
        await asyncio.sleep(_SOON_S)

        assert "queue is missing in its shard, so its messages are lost" in caplog.text
        bodies = await world.send("orders", 1)
        assert await world.bodies("orders") == bodies


@virtual_time
async def test_a_deletion_whose_shard_did_not_answer_is_made_good() -> None:
    async with reconciling("orders", "others") as (world, _):
        await world.catalogue.delete(world.queue("orders"))
        await asyncio.sleep(GRACE_S + 2 * _SOON_S)

        assert in_shard(world) == ["others"]


@virtual_time
async def test_settings_that_the_shard_has_not_heard_of_are_brought_up_to_date() -> None:
    async with reconciling("orders") as (world, _):
        await world.catalogue.update(
            world.queue("orders"), lambda record: replace(record, attributes={"MessageRetentionPeriod": "60"})
        )
        await asyncio.sleep(_SOON_S)

        assert world.backend.shards[0].state.queues[1].settings.retention_ms == 60_000


@virtual_time
async def test_settings_that_are_newer_than_what_this_process_knows_stay() -> None:
    async with reconciling("orders") as (world, reconciler):
        queue = world.queue("orders")
        newer = replace(queue.settings(), retention_ms=60_000, revision=queue.revision + 1)
        await world.backend.submit(0, ConfigureQueue(queue.number, newer))
        await asyncio.sleep(_SOON_S)
        assert world.backend.shards[0].state.queues[1].settings == newer

        # But when nobody else is there, the catalogue is right, were it an older one put back.
        await reconciler.reconcile(0)
        assert world.backend.shards[0].state.queues[1].settings == queue.settings()


@virtual_time
async def test_nothing_is_dropped_while_the_store_does_not_answer_and_all_goes_on_after_that() -> None:
    async with reconciling("orders") as (world, _):
        await create_half(world, "half-created")
        world.store.is_out_of_order = True
        await asyncio.sleep(10 * GRACE_S)
        assert in_shard(world) == ["orders", "half-created"]
        world.store.is_out_of_order = False
        await asyncio.sleep(_SOON_S)

        assert in_shard(world) == ["orders"]


@virtual_time
async def test_a_shard_that_has_gone_is_left_alone_and_begins_a_new_time_of_grace_when_it_is_back() -> None:
    async with reconciling() as (world, reconciler):
        await create_half(world, "half-created")
        await asyncio.sleep(GRACE_S - 5)
        reconciler.leave(0)
        await asyncio.sleep(10 * GRACE_S)
        assert in_shard(world) == ["half-created"]
        reconciler.follow(0)
        await asyncio.sleep(GRACE_S - 5)
        assert in_shard(world) == ["half-created"]
        await asyncio.sleep(2 * _SOON_S)

        assert in_shard(world) == []
