"""Where a FrontEnd finds shards."""

from __future__ import annotations

import asyncio

from tests.cluster.cluster_world import all_started, cluster_at
from tests.log.asynchrony import async_test
from waystation.cluster.bucket import ClusterBucket
from waystation.cluster.membership import ShardRecord, encode
from waystation.cluster.ownership import shard_key
from waystation.cluster.routes import Routes
from waystation.log.nats import NatsConnection


def owned(node: str, epoch: int) -> bytes:
    return encode(ShardRecord(node, f"{node}:1", node, epoch, "serving"))


@async_test
async def test_a_wait_ends_when_a_shard_has_another_owner_and_not_before(nats_url: str) -> None:
    async with cluster_at(nats_url) as cluster:
        await all_started(cluster, "a")
        node = cluster.nodes["a"]
        loop = asyncio.get_running_loop()

        began_s = loop.time()
        await node.routes.changed(3, 0.2)
        assert loop.time() - began_s >= 0.2

        waiting = asyncio.create_task(node.routes.changed(3, 10))
        await asyncio.sleep(0)
        await cluster.kill("a")  # which closes the routes, too
        await waiting


@async_test
async def test_a_wrong_address_is_read_again_although_no_watch_has_told(nats_url: str) -> None:
    async with cluster_at(nats_url) as cluster:
        connection = NatsConnection(cluster.settings)
        await connection.open()
        bucket, other = (ClusterBucket(connection, cluster.settings.prefix) for _ in range(2))
        routes = Routes(bucket)
        first = await other.write(shard_key(3), owned("a", 1), 0)
        await bucket.load()
        assert routes.address_of(3) == "a:1"
        assert routes.address_of(4) is None
        await other.write(shard_key(3), owned("b", 2), first)

        routes.note_wrong(3, "elsewhere:1")
        routes.note_wrong(3, "a:1")
        await routes.changed(3, 5)

        assert routes.address_of(3) == "b:1"
        await routes.close()
        await connection.close()


@async_test
async def test_a_released_shard_is_nowhere(nats_url: str) -> None:
    async with cluster_at(nats_url) as cluster:
        connection = NatsConnection(cluster.settings)
        await connection.open()
        bucket = ClusterBucket(connection, cluster.settings.prefix)
        routes = Routes(bucket)
        revision = await bucket.write(shard_key(3), owned("a", 1), 0)
        assert routes.address_of(3) == "a:1"

        released = encode(ShardRecord("a", "a:1", "a", 1, "released", "b"))
        await bucket.write(shard_key(3), released, revision)

        assert routes.address_of(3) is None
        await connection.close()
