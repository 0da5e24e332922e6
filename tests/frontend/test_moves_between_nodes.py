"""Moves in a cluster: each runs where its source's shard is, and goes on with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from tests.backend.shared_log import SharedDisk, SharedLog
from tests.backend.virtual_time import now_ms, virtual_time
from tests.frontend.move_world import ACCOUNT, InstantStore, arn
from waystation.backend.backend import Backend
from waystation.backend.errors import NotOwner
from waystation.backend.settings import BackendSettings
from waystation.frontend.dead_letters import DeadLetterDelivery
from waystation.frontend.envelope import Envelope, decode_envelope, encode_envelope
from waystation.frontend.handles import Handles
from waystation.frontend.move_runner import MoveRunner
from waystation.frontend.stored_queues import StoredQueues
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.move_register import MoveRegister
from waystation.metadata.move_tasks import MoveStatus, MoveTask
from waystation.metadata.queues import Queue, QueueRecord, shard_settings
from waystation.metadata.store import Watch
from waystation.queues import commands
from waystation.queues.commands import Answer, Command

LETTERS, ORDERS = 0, 1
"""The shards of the two queues."""


class Node:
    """What a node of a cluster has to do with moves."""

    def __init__(self, cluster: Cluster) -> None:
        self.backend = Backend(
            lambda number: SharedLog(cluster.disks[number]), len(cluster.disks), BackendSettings(), now_ms
        )
        self.catalogue = Catalogue(cluster.store)
        self.register = MoveRegister(cluster.store)
        self._cluster = cluster
        self.runner: MoveRunner

    async def start(self) -> None:
        await self.catalogue.start()
        stored = StoredQueues(self._cluster.store)
        handles = Handles(self.catalogue.secret)
        delivery = DeadLetterDelivery(self.catalogue, stored, self._cluster, handles, _now_s)
        self.runner = MoveRunner(
            self.register, self.catalogue, stored, self.backend, delivery.deliver, _now_s
        )
        self.backend.carry_with(self.runner.deliver)
        await self.runner.start()

    async def take(self, shard: int) -> None:
        await self.backend.take(shard)
        self.runner.take(shard)

    async def release(self, shard: int) -> None:
        await self.backend.release(shard)
        self.runner.leave(shard)

    async def stop(self) -> None:
        await self.runner.stop()
        await self.backend.stop()
        await self.runner.save()
        await self.catalogue.stop()


class Cluster:
    """Two nodes. Implements `Shards`: every shard is where it serves."""

    def __init__(self) -> None:
        self.disks = [SharedDisk(), SharedDisk()]
        self.store = InstantStore()
        self.nodes = [Node(self), Node(self)]
        self.queues: dict[str, Queue] = {}
        self.bodies: list[str] = []

    @property
    def count(self) -> int:
        return len(self.disks)

    def place(self, name: str) -> int:
        raise AssertionError("nobody creates a queue")

    def is_serving(self) -> bool:
        return True

    def submit(self, shard: int, command: Command) -> Awaitable[Answer]:
        for node in self.nodes:
            if node.backend.serves(shard):
                return node.backend.submit(shard, command)
        raise NotOwner(f"nobody has shard {shard}")

    async def start(self) -> None:
        await self.store.open()
        for node in self.nodes:
            await node.start()
        await self.nodes[0].take(LETTERS)
        await self.nodes[1].take(ORDERS)
        for name, shard in (("letters", LETTERS), ("orders", ORDERS)):
            record = QueueRecord(name, ACCOUNT, 1, 1, shard, 0)
            made: Any = await self.submit(shard, commands.CreateQueue(shard_settings(record, 0)))
            self.queues[name] = await self.nodes[0].catalogue.create(replace(record, number=made.queue))

    async def send(self, count: int) -> None:
        self.bodies = [f"letter {number:03}" for number in range(count)]
        entries = [commands.Entry(encode_envelope(Envelope(body, "md5", ACCOUNT))) for body in self.bodies]
        await self.submit(LETTERS, commands.SendMessages(self.queues["letters"].number, entries))

    async def received(self, name: str) -> list[str]:
        """Everything that is visible in a queue, once for each time that it is there."""
        queue = self.queues[name]
        found: list[str] = []
        while True:
            receive = commands.ReceiveMessages(queue.number, 10, 43_200_000)
            received: Any = await self.submit(queue.shard, receive)
            if not received.messages:
                return sorted(found)
            found += [decode_envelope(message.envelope).body for message in received.messages]

    async def begin(self, node: Node, rate_max: int | None = None) -> MoveTask:
        letters = self.queues["letters"]
        task = MoveTask(
            "task", ACCOUNT, "letters", LETTERS, letters.number, now_ms(), 0, arn("orders"), rate_max
        )
        await node.register.begin(task)
        return task

    async def task(self) -> MoveTask:
        return (await self.nodes[0].register.of(ACCOUNT, "letters"))[0]

    async def ended(self) -> MoveTask:
        while (task := await self.task()).is_active:  # noqa: ASYNC110 (the time is virtual)
            await asyncio.sleep(0.01)
        return task

    def at_work(self) -> list[bool]:
        """Which nodes have a move of the letters."""
        return [node.runner.move_of(self.queues["letters"]) is not None for node in self.nodes]


def _now_s() -> float:
    return now_ms() / 1_000


@asynccontextmanager
async def clustered(messages: int = 100) -> AsyncIterator[Cluster]:
    """A cluster that serves; with so many dead letters on its first node, whose way is to the second."""
    before = asyncio.all_tasks()
    cluster = Cluster()
    await cluster.start()
    await cluster.send(messages)
    try:
        yield cluster
    finally:
        for node in cluster.nodes:
            await node.stop()
        assert asyncio.all_tasks() == before, "a task was left behind"


@pytest.mark.parametrize("asked", [0, 1])
def test_a_move_runs_where_its_source_is_whichever_node_was_asked(asked: int) -> None:
    @virtual_time
    async def move() -> None:
        async with clustered() as cluster:
            await cluster.begin(cluster.nodes[asked], rate_max=100)
            assert (await cluster.task()).status is MoveStatus.RUNNING
            await asyncio.sleep(0.5)
            assert cluster.at_work() == [True, False]

            task = await cluster.ended()
            assert (task.status, task.moved) == (MoveStatus.COMPLETED, 100)
            assert await cluster.received("orders") == cluster.bodies

    move()


@virtual_time
async def test_a_move_is_cancelled_from_another_node() -> None:
    async with clustered() as cluster:
        task = await cluster.begin(cluster.nodes[1], rate_max=10)
        await asyncio.sleep(2.05)
        cancelled = await cluster.nodes[1].register.cancel(task)
        assert cancelled is not None
        began_ms = now_ms()
        task = await cluster.ended()

        assert task.status is MoveStatus.CANCELLED
        assert now_ms() - began_ms < 500
        moved = await cluster.received("orders")
        assert len(moved) == task.moved
        assert sorted(moved + await cluster.received("letters")) == cluster.bodies


@pytest.mark.parametrize("at_s", [0.0, 0.05, 0.1, 0.33, 2.0])
def test_a_move_goes_on_at_the_next_owner_of_its_source(at_s: float) -> None:
    @virtual_time
    async def hand_over() -> None:
        async with clustered() as cluster:
            first, second = cluster.nodes
            await cluster.begin(first, rate_max=20)
            await asyncio.sleep(at_s)
            await first.release(LETTERS)
            await asyncio.sleep(5)
            assert cluster.at_work() == [False, False]
            assert (await cluster.task()).status is MoveStatus.RUNNING
            await second.take(LETTERS)
            await asyncio.sleep(1)
            assert cluster.at_work() == [False, True]

            task = await cluster.ended()
            assert task.status is MoveStatus.COMPLETED
            assert 100 - 22 <= task.moved <= 100
            assert await cluster.received("orders") == cluster.bodies
            assert await cluster.received("letters") == []

    hand_over()


@virtual_time
async def test_a_move_goes_on_at_a_node_that_has_taken_its_source_by_force() -> None:
    """The node before does not know it yet, and can neither move anything twice nor undo the end."""
    async with clustered() as cluster:
        first, second = cluster.nodes
        await cluster.begin(first, rate_max=20)
        await asyncio.sleep(1.5)
        await second.take(LETTERS)
        task = await cluster.ended()
        assert cluster.at_work()[0] is False or not first.backend.serves(LETTERS)
        await first.backend.drop(LETTERS)
        first.runner.leave(LETTERS)
        await asyncio.sleep(30)

        assert (await cluster.task()) == task
        assert task.status is MoveStatus.COMPLETED
        assert await cluster.received("orders") == cluster.bodies


@virtual_time
async def test_a_task_is_begun_and_cancelled_although_no_watch_tells_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with clustered() as cluster:
        monkeypatch.setattr(Watch, "notify", lambda _watch, _change: None)
        task = await cluster.begin(cluster.nodes[1], rate_max=1)
        await asyncio.sleep(11)
        assert cluster.at_work() == [True, False]
        await cluster.nodes[1].register.cancel(task)
        await asyncio.sleep(11)

        assert (await cluster.task()).status is MoveStatus.CANCELLED


@virtual_time
async def test_a_destination_of_which_the_owner_of_the_source_has_not_heard_is_found() -> None:
    async with clustered(messages=5) as cluster:
        first = cluster.nodes[0]
        await first.catalogue.stop()
        del first.catalogue._queues[ACCOUNT, "orders"]
        await cluster.begin(cluster.nodes[1])

        task = await cluster.ended()
        assert (task.status, task.moved) == (MoveStatus.COMPLETED, 5)
