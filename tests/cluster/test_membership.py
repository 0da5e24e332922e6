"""Leases on a real NATS server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.cluster.cluster_world import SETTINGS, Cluster, cluster_at, seen
from tests.log.asynchrony import async_test
from tests.test_architecture import imported_names
from waystation.cluster import membership
from waystation.cluster.membership import NODE_KEYS, NodeIdTaken, NodeRecord, decode
from waystation.metadata.store import Conflict


def lease(cluster: Cluster, observer: str, node: str) -> NodeRecord | None:
    return decode(NodeRecord, cluster.nodes[observer].bucket.entry(f"{NODE_KEYS}{node}").value)


@async_test
async def test_nodes_see_each_other_join_serve_and_leave(nats_url: str) -> None:
    async with cluster_at(nats_url) as cluster:
        await cluster.start("a")
        await cluster.start("b")
        now_s = asyncio.get_running_loop().time

        def state() -> str:
            nodes = cluster.nodes["a"].membership.nodes(now_s())
            return nodes["b"].state if "b" in nodes else "unknown"

        await seen(lambda: state() == "joining")
        await seen(lambda: state() == "serving")
        assert cluster.nodes["a"].membership.address_of("b") == "b:1"

        cluster.nodes["b"].membership.begin_to_leave()
        await seen(lambda: state() == "leaving", within_s=0.9)


@async_test
async def test_a_second_process_with_the_id_of_a_living_node_does_not_start(nats_url: str) -> None:
    async with cluster_at(nats_url) as cluster:
        first = await cluster.start("a")

        with pytest.raises(NodeIdTaken, match="is node a of this cluster already, at a:1"):
            await cluster.start("a")

        assert cluster.nodes["a"] is first
        assert not first.tasks[1].done()


@async_test
async def test_a_node_that_died_starts_again_once_its_lease_has_run_out(nats_url: str) -> None:
    async with cluster_at(nats_url) as cluster:
        first = await cluster.start("a")
        await cluster.kill("a")

        loop = asyncio.get_running_loop()
        began_s = loop.time()
        second = await cluster.start("a")

        assert loop.time() - began_s < SETTINGS.lease_ttl_s + 1.5
        assert second.membership.me.incarnation != first.membership.me.incarnation


@async_test
async def test_a_node_whose_lease_was_taken_meanwhile_ends(nats_url: str) -> None:
    """As after a pause so long that its id was given to another process."""
    async with cluster_at(nats_url) as cluster:
        node = await cluster.start("a")
        other = membership.encode(NodeRecord("a", "a", "elsewhere:1", "another", "serving", "0.0", 1, 0))
        key = f"{NODE_KEYS}a"
        for _ in range(20):
            try:
                await node.bucket.write(key, other, (await node.bucket.read(key)).revision)
                break
            except Conflict:
                continue

        with pytest.raises(NodeIdTaken, match="elsewhere:1"):
            await node.tasks[1]


@async_test
async def test_a_lease_that_has_run_out_is_taken_up_again(nats_url: str) -> None:
    async with cluster_at(nats_url) as cluster:
        node = await cluster.start("a")
        key = f"{NODE_KEYS}a"
        revision = 0
        for _ in range(20):
            try:
                revision = await node.bucket.write(key, None, (await node.bucket.read(key)).revision)
                break
            except Conflict:
                continue

        await seen(
            lambda: lease(cluster, "a", "a") is not None and node.bucket.entry(key).revision > revision
        )
        assert not node.tasks[1].done()


@async_test
async def test_a_node_that_leaves_gives_its_lease_back(nats_url: str) -> None:
    async with cluster_at(nats_url) as cluster:
        await cluster.start("a")
        await cluster.start("b")
        await seen(lambda: lease(cluster, "a", "b") is not None)

        await cluster.stop("b")

        await seen(lambda: lease(cluster, "a", "b") is None, within_s=3)
        await cluster.start("b")


def test_a_record_that_this_version_cannot_read_is_none() -> None:
    assert decode(NodeRecord, b"\xc1") is None
    assert decode(NodeRecord, b"\x80") is None
    assert decode(NodeRecord, None) is None


def test_no_decision_of_the_cluster_looks_at_a_wall_clock() -> None:
    """All ages are by the event loop's clock, so that no wrong clock makes a node seem dead."""
    package = Path(membership.__file__).parent
    names = ("bucket", "membership", "ownership", "placement", "routes")

    imported = {each for name in names for each in imported_names((package / f"{name}.py").read_text())}

    assert "asyncio" in imported
    assert {each.split(".")[0] for each in imported}.isdisjoint({"time", "datetime"})
