"""A node to which shards come and from which they go, with all that clients use it for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.backend.shared_log import SharedDisk, SharedLog
from tests.backend.virtual_time import now_ms, settle, virtual_time
from tests.frontend.app_driver import ACCOUNT, request_of
from tests.frontend.move_world import InstantStore
from waystation.backend.backend import Backend
from waystation.backend.interface import Shards
from waystation.backend.settings import BackendSettings
from waystation.frontend.auth import Authenticator, Caller
from waystation.frontend.data_plane import DataPlane
from waystation.frontend.settings import AuthSettings, ServiceSettings
from waystation.queues.commands import CreateQueue, QueueSettings

EVERYBODY = Authenticator(AuthSettings(enabled=False), lambda _: None, anonymous=Caller(ACCOUNT, "anonymous"))


class Member:
    """One node of a cluster of one, with two shards."""

    def __init__(self) -> None:
        self.store = InstantStore()
        self.disks = [SharedDisk(), SharedDisk()]
        self.plane: DataPlane

    async def start(self) -> None:
        def route(here: Backend) -> Shards:
            return here

        logs = [SharedLog(disk) for disk in self.disks]
        self.plane = DataPlane(
            ServiceSettings(account=ACCOUNT, name_reuse_s=0),
            BackendSettings(),
            self.store,
            lambda _: logs,
            now_ms,
            route,
        )
        await self.plane.start(EVERYBODY)

    @property
    def backend(self) -> Backend:
        assert self.plane.backend is not None
        return self.plane.backend

    async def take(self, shard: int) -> None:
        await self.backend.take(shard)
        self.plane.shard_taken(shard)

    async def release(self, shard: int) -> None:
        await self.backend.release(shard)
        self.plane.shard_lost(shard)

    async def stop(self) -> None:
        self.plane.drain()
        await self.plane.stop()

    async def call(self, operation: str, **members: Any) -> tuple[int, dict[str, Any]]:
        response = await self.plane.handle(request_of(operation, json.dumps(members).encode()))
        return response.status, json.loads(response.body or b"{}")


@asynccontextmanager
async def member() -> AsyncIterator[Member]:
    before = asyncio.all_tasks()
    node = Member()
    await node.start()
    try:
        yield node
    finally:
        await node.stop()
    assert asyncio.all_tasks() == before, "a task was left behind"


def arn(name: str) -> str:
    return f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}"


@virtual_time
async def test_a_node_answers_for_the_shards_that_have_come_and_503_for_others() -> None:
    async with member() as node:
        assert not node.backend.shards
        status, _ = await node.call("CreateQueue", QueueName="orders")
        assert status == 503
        for shard in range(2):
            await node.take(shard)
        assert (await node.call("CreateQueue", QueueName="orders"))[0] == 200
        assert (await node.call("SendMessage", QueueUrl="orders", MessageBody="hello"))[0] == 200
        [queue] = node.plane.catalogue.queues()
        await node.release(queue.shard)
        status, _ = await node.call("ReceiveMessage", QueueUrl="orders")
        assert status == 503

        await node.take(queue.shard)
        _, answer = await node.call("ReceiveMessage", QueueUrl="orders")
        assert [message["Body"] for message in answer["Messages"]] == ["hello"]


@virtual_time
async def test_a_shard_that_has_come_is_compared_with_the_catalogue_until_it_goes() -> None:
    async with member() as node:
        for shard in range(2):
            await node.take(shard)
            await node.backend.submit(shard, CreateQueue(QueueSettings("half-created")))
        await settle()
        await node.release(1)
        await asyncio.sleep(300)
        await node.take(1)

        assert [len(shard.state.queues) for shard in node.backend.shards] == [0, 1]


@virtual_time
async def test_a_move_rests_while_its_shard_is_not_here() -> None:
    async with member() as node:
        for shard in range(2):
            await node.take(shard)
        await node.call("CreateQueue", QueueName="letters")
        policy = json.dumps({"deadLetterTargetArn": arn("letters"), "maxReceiveCount": 1})
        await node.call("CreateQueue", QueueName="orders", Attributes={"RedrivePolicy": policy})
        for number in range(20):
            await node.call("SendMessage", QueueUrl="letters", MessageBody=str(number))
        letters = node.plane.catalogue.find(ACCOUNT, "letters")
        assert letters is not None
        status, _ = await node.call(
            "StartMessageMoveTask",
            SourceArn=arn("letters"),
            DestinationArn=arn("orders"),
            MaxNumberOfMessagesPerSecond=1,
        )
        assert status == 200
        await asyncio.sleep(5)
        await node.release(letters.shard)
        await asyncio.sleep(600)
        _, listed = await node.call("ListMessageMoveTasks", SourceArn=arn("letters"))
        assert [task["Status"] for task in listed["Results"]] == ["RUNNING"]

        await node.take(letters.shard)
        await asyncio.sleep(30)
        _, listed = await node.call("ListMessageMoveTasks", SourceArn=arn("letters"))
        assert [task["Status"] for task in listed["Results"]] == ["COMPLETED"]
        _, shown = await node.call(
            "GetQueueAttributes", QueueUrl="orders", AttributeNames=["ApproximateNumberOfMessages"]
        )
        assert shown["Attributes"] == {"ApproximateNumberOfMessages": "20"}
