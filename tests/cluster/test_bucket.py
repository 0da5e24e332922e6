"""The cluster's bucket on a real NATS server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any

import pytest

from tests.cluster.cluster_world import seen
from tests.log.asynchrony import async_test
from waystation.cluster.bucket import ClusterBucket
from waystation.cluster.membership import create_cluster_bucket, load_cluster
from waystation.log.nats import NatsConnection, NoAnswer
from waystation.log.settings import NatsSettings
from waystation.metadata.store import Conflict, MetadataUnavailable


class LosingConnection(NatsConnection):
    """Loses as many answers to writes as it is told to; the writes are done."""

    to_lose = 0

    async def publish(self, subject: str, *arguments: Any, **options: Any) -> int:
        revision = await super().publish(subject, *arguments, **options)
        if self.to_lose:
            self.to_lose -= 1
            raise NoAnswer("lost by the test")
        return revision


@asynccontextmanager
async def opened(url: str, prefix: str) -> AsyncIterator[tuple[LosingConnection, ClusterBucket]]:
    connection = LosingConnection(NatsSettings(servers=url, prefix=prefix))
    await connection.open()
    try:
        bucket = ClusterBucket(connection, prefix, poll_s=3_600)
        await bucket.create(1)
        yield connection, bucket
    finally:
        await connection.close()


def new_prefix() -> str:
    return f"test-{token_hex(6)}"


@async_test
async def test_of_two_writers_who_saw_the_same_the_first_succeeds(nats_url: str) -> None:
    async with opened(nats_url, new_prefix()) as (_, bucket):
        first = await bucket.write("key", b"one", 0)

        with pytest.raises(Conflict):
            await bucket.write("key", b"two", 0)

        assert (await bucket.read("key"))[:2] == (b"one", first)
        await bucket.write("key", b"two", first)
        assert bucket.entry("key").value == b"two"


@async_test
async def test_a_write_whose_answer_was_lost_is_known_again(nats_url: str) -> None:
    async with opened(nats_url, new_prefix()) as (connection, bucket):
        connection.to_lose = 1

        revision = await bucket.write("key", b"mine", 0)

        assert await bucket.read("key") == bucket.entry("key")
        assert bucket.entry("key")[:2] == (b"mine", revision)


@async_test
async def test_a_value_with_a_time_to_live_goes_by_itself_and_the_watch_sees_it(nats_url: str) -> None:
    """Each write says the time anew: the last one here does not, and stays."""
    async with opened(nats_url, new_prefix()) as (_, bucket):
        running = asyncio.create_task(bucket.run())
        first = await bucket.write("goes", b"value", 0, ttl_s=1)
        await bucket.write("goes", b"value again", first, ttl_s=1)
        await bucket.write("stays", b"value", await bucket.write("stays", b"first", 0, ttl_s=1))

        await seen(lambda: bucket.entry("goes").value is None)

        gone = await bucket.read("goes")
        assert gone.value is None
        assert (await bucket.read("stays")).value == b"value"
        assert await bucket.write("goes", b"back", gone.revision) > gone.revision
        running.cancel()


@async_test
async def test_a_deleted_key_can_be_written_again(nats_url: str) -> None:
    async with opened(nats_url, new_prefix()) as (_, bucket):
        deleted = await bucket.write("key", None, await bucket.write("key", b"value", 0))

        assert bucket.entry("key")[:2] == (None, deleted)
        assert (await bucket.read("key"))[:2] == (None, deleted)
        await bucket.write("key", b"again", deleted)


@async_test
async def test_what_was_there_before_is_loaded_and_what_comes_is_watched(nats_url: str) -> None:
    prefix = new_prefix()
    async with opened(nats_url, prefix) as (_, writer), opened(nats_url, prefix) as (_, reader):
        first = await writer.write("node.a", b"one", 0)
        await reader.load()
        assert reader.entry("node.a").value == b"one"

        heard: list[str] = []
        reader.listen(heard.append)
        running = asyncio.create_task(reader.run())
        await writer.write("node.a", b"two", first)
        await writer.write("shard.0", b"new", 0)

        await seen(lambda: reader.entry("node.a").value == b"two" and "shard.0" in heard)
        assert sorted(reader.keys("")) == ["node.a", "shard.0"]
        running.cancel()


@async_test
async def test_a_poll_finds_what_no_watch_has_brought(nats_url: str) -> None:
    prefix = new_prefix()
    async with opened(nats_url, prefix) as (_, writer), opened(nats_url, prefix) as (connection, reader):
        first = await writer.write("key", b"one", 0)
        await reader.load()
        await writer.write("key", None, first)
        await connection.api(f"STREAM.PURGE.KV_{prefix}-cluster", {"filter": f"$KV.{prefix}-cluster.key"})
        await writer.write("other", b"value", 0)

        await reader.load()

        assert reader.entry("key").value is None
        assert reader.entry("other").value == b"value"


@async_test
async def test_whether_a_server_is_there_is_known_without_the_bucket(nats_url: str) -> None:
    connection = NatsConnection(NatsSettings(servers=nats_url))
    await connection.open()
    bucket = ClusterBucket(connection, new_prefix())
    with pytest.raises(MetadataUnavailable):
        await bucket.read("key")
    bucket.reached_s = float("-inf")

    await bucket.reach()

    assert bucket.reached_s > 0
    assert bucket.answered_s == float("-inf")
    await connection.close()


@async_test
async def test_a_cluster_is_made_once(nats_url: str) -> None:
    settings = NatsSettings(servers=nats_url, prefix=new_prefix())
    connection = NatsConnection(settings)
    await connection.open()
    with pytest.raises(MetadataUnavailable):
        await load_cluster(connection, settings)

    made = await create_cluster_bucket(connection, settings, shards=4, replicas=1)

    assert made.shards == 4
    assert await create_cluster_bucket(connection, settings, shards=8, replicas=1) == made
    assert await load_cluster(connection, settings) == made
    await connection.close()
