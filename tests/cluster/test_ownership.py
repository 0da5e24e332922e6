"""Shards change hands between nodes that share a real NATS server."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from tests.cluster.cluster_world import SETTINGS, Cluster, all_started, cluster_at, seen
from tests.log.asynchrony import async_test
from tests.nats_server import NatsServer, nats_servers, urls
from waystation.log.errors import LogDamaged, LogUnavailable


async def stays_for(cluster: Cluster, length_s: float) -> None:
    """Nothing moves meanwhile, and all shards are served."""
    takes = cluster.logs.takes
    loop = asyncio.get_running_loop()
    end_s = loop.time() + length_s
    while loop.time() < end_s:
        assert cluster.is_all_served()
        assert cluster.logs.takes == takes
        await asyncio.sleep(0.02)


@async_test
async def test_nodes_that_start_together_share_the_shards_and_none_is_taken_twice(nats_url: str) -> None:
    async with cluster_at(nats_url, shards=16) as cluster:
        await all_started(cluster, "a", "b", "c")

        assert cluster.counts() == [5, 5, 6]
        assert cluster.logs.takes == 16
        assert all(node.shards.opening_most <= SETTINGS.takes_max for node in cluster.nodes.values())
        for node in cluster.nodes.values():
            assert sorted(node.taken) == sorted(node.ownership.serving)
            assert node.lost == []


@async_test
async def test_the_shards_of_a_dead_process_are_served_again_within_five_seconds(nats_url: str) -> None:
    async with cluster_at(nats_url) as cluster:
        await all_started(cluster, "a", "b", "c")
        takes = cluster.logs.takes

        await cluster.kill("c")
        outages = await cluster.outages(cluster.is_known_to_all)

        assert cluster.counts() == [3, 3]
        assert cluster.logs.takes == takes + 2
        assert len(outages) == 2
        assert max(outages.values()) < 5


@async_test
async def test_a_planned_stop_costs_each_shard_less_than_half_a_second(nats_url: str) -> None:
    async with cluster_at(nats_url) as cluster:
        await all_started(cluster, "a", "b", "c")
        leaving = cluster.nodes["c"]

        stopping = asyncio.create_task(cluster.stop("c"))
        outages = await cluster.outages(lambda: stopping.done() and cluster.is_known_to_all())

        assert cluster.counts() == [3, 3]
        assert sorted(leaving.lost) == sorted(leaving.taken)
        assert leaving.shards.here == {}
        assert max(outages.values()) < 0.5
        await stays_for(cluster, SETTINGS.lease_s + 1)


@async_test
async def test_the_last_node_stops_without_waiting_and_the_next_one_takes_all(nats_url: str) -> None:
    async with cluster_at(nats_url) as cluster:
        await all_started(cluster, "a")
        loop = asyncio.get_running_loop()
        began_s = loop.time()

        await cluster.stop("a")

        assert loop.time() - began_s < 2
        await all_started(cluster, "b")
        assert cluster.counts() == [6]


@async_test
async def test_a_node_that_joins_is_handed_its_share(nats_url: str) -> None:
    async with cluster_at(nats_url) as cluster:
        await all_started(cluster, "a", "b")
        takes = cluster.logs.takes

        await cluster.start("c")
        outages = await cluster.outages(lambda: cluster.counts() == [2, 2, 2] and cluster.is_known_to_all())

        assert cluster.logs.takes == takes + 2
        assert max(outages.values()) < 0.5


@async_test
async def test_nothing_moves_while_a_node_is_silent_or_its_lease_is_missing(nats_url: str) -> None:
    """Each alone is no death: a broken link, and a node that does not come to renew its lease."""
    async with cluster_at(nats_url) as cluster:
        await all_started(cluster, "a", "b", "c")

        cluster.links.cut("b")
        cluster.nodes["c"].tasks[1].cancel()

        await stays_for(cluster, SETTINGS.lease_ttl_s + 2)


@async_test
async def test_a_node_that_dies_again_and_again_is_not_given_shards_again(nats_url: str) -> None:
    async with cluster_at(nats_url) as cluster:
        await all_started(cluster, "a", "b")
        await cluster.kill("b")
        await seen(cluster.is_known_to_all)
        takes = cluster.logs.takes

        await cluster.start("b")
        await stays_for(cluster, SETTINGS.settle_s)
        await cluster.kill("b")
        await stays_for(cluster, SETTINGS.lease_s + 1)

        assert cluster.logs.takes == takes


@async_test
async def test_nobody_is_declared_dead_while_nats_stands_still(tmp_path: Path) -> None:
    with nats_servers(tmp_path) as [server]:
        async with cluster_at(server.url) as cluster:
            await all_started(cluster, "a", "b", "c")

            server.pause()
            await stays_for(cluster, 5)
            server.resume()
            await stays_for(cluster, SETTINGS.lease_s + 1)

            assert not any(task.done() for node in cluster.nodes.values() for task in node.tasks)
            assert cluster.is_known_to_all()


def test_the_shards_of_a_dead_machine_are_served_again_within_fifteen_seconds(tmp_path: Path) -> None:
    """With it dies the NATS server that leads the bucket: there are no leases to be seen for seconds."""

    async def lose_a_machine(servers: list[NatsServer]) -> None:
        async with asyncio.timeout(80), cluster_at(urls(servers), replicas=3) as cluster:
            await all_started(cluster, "a", "b", "c")
            takes = cluster.logs.takes
            node = cluster.nodes["a"]
            bucket = await node.connection.api(f"STREAM.INFO.KV_{cluster.settings.prefix}-cluster")

            next(server for server in servers if server.name == bucket["cluster"]["leader"]).kill()
            await cluster.kill("c", refused=False)
            outages = await cluster.outages(cluster.is_known_to_all)

            assert max(outages.values()) < 15
            assert cluster.logs.takes == takes + 2
            await stays_for(cluster, 3)

    with nats_servers(tmp_path, 3) as servers:
        asyncio.run(lose_a_machine(servers))


@async_test
async def test_a_shard_that_was_fenced_is_dropped_and_found_again(nats_url: str) -> None:
    async with cluster_at(nats_url) as cluster:
        await all_started(cluster, "a", "b")
        node = cluster.nodes["a"]
        number = min(node.ownership.serving)

        cluster.logs.epochs[number] += 1
        node.shards.append(number)
        await seen(lambda: node.lost == [number])
        assert number not in node.shards.here

        await seen(cluster.is_known_to_all)
        assert cluster.counts() == [3, 3]


@async_test
async def test_of_two_who_took_a_shard_the_later_one_keeps_it(nats_url: str) -> None:
    """The log knows which one that is; the other is told by the record, before it appends anything."""
    async with cluster_at(nats_url) as cluster:
        await all_started(cluster, "a", "b")
        first, second = cluster.nodes["a"], cluster.nodes["b"]
        number = min(first.ownership.serving)

        second.ownership._begin(number)

        await seen(lambda: first.lost == [number] and cluster.is_known_to_all())
        assert cluster.owners()[number] == "b"
        assert first.shards.here.keys() == first.ownership.serving.keys()


@async_test
async def test_a_shard_that_cannot_be_opened_now_is_tried_again(nats_url: str) -> None:
    async with cluster_at(nats_url) as cluster:
        cluster.logs.failures[2] = LogUnavailable("no leader")
        await cluster.start("a")
        await seen(lambda: cluster.counts() == [5])

        del cluster.logs.failures[2]

        await seen(cluster.is_known_to_all)


@async_test
async def test_a_damaged_shard_is_not_served_and_an_error_says_so_once(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with cluster_at(nats_url) as cluster:
        cluster.logs.failures[2] = LogDamaged("record 7 is missing")
        await cluster.start("a")
        await seen(lambda: cluster.counts() == [5])

        await asyncio.sleep(2)

        errors = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert [record.getMessage() for record in errors] == ["a shard is not served: its log is damaged"]
        assert cluster.nodes["a"].routes.address_of(2) is None
        assert cluster.counts() == [5]


@async_test
async def test_a_node_that_is_cancelled_leaves_nothing_open(nats_url: str) -> None:
    async with cluster_at(nats_url) as cluster:
        await all_started(cluster, "a")
        node = cluster.nodes["a"]

        node.tasks[2].cancel()
        await asyncio.gather(node.tasks[2], return_exceptions=True)

        assert node.shards.here == {}
        assert sorted(node.lost) == sorted(node.taken)
