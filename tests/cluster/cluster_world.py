"""Several nodes in one process over a real NATS server: real leases and records, made-up shards and links."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from secrets import token_hex
from typing import TypeVar

from waystation.cluster.bucket import ClusterBucket
from waystation.cluster.membership import Membership, NodeRecord, create_cluster_bucket
from waystation.cluster.ownership import Ownership
from waystation.cluster.routes import Routes
from waystation.cluster.settings import ClusterSettings
from waystation.log.errors import Fenced
from waystation.log.nats import NatsConnection
from waystation.log.settings import NatsSettings

SETTINGS = ClusterSettings(settle_s=1.5, join_s=0.5)

Value = TypeVar("Value")


class Logs:
    """What all nodes share: the last epoch in the log of each shard."""

    def __init__(self) -> None:
        self.epochs: dict[int, int] = {}
        self.takes = 0
        self.replay_s = 0.02
        self.failures: dict[int, Exception] = {}
        """What opening a shard raises."""


class FakeShards:
    """The shards of one node. Implements `LocalShards`."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self.here: dict[int, int] = {}
        self._ends: dict[int, asyncio.Future[None]] = {}
        self.opening_most = 0
        self._opening = 0

    async def take(self, number: int) -> int:
        assert number not in self.here
        self._opening += 1
        self.opening_most = max(self.opening_most, self._opening)
        try:
            await asyncio.sleep(self._logs.replay_s)
            if number in self._logs.failures:
                raise self._logs.failures[number]
        finally:
            self._opening -= 1
        self._logs.takes += 1
        epoch = self._logs.epochs[number] = self._logs.epochs.get(number, 0) + 1
        self.here[number] = epoch
        self._ends[number] = asyncio.get_running_loop().create_future()
        return epoch

    async def ended(self, number: int) -> None:
        if number in self._ends:
            await asyncio.shield(self._ends[number])

    async def release(self, number: int) -> None:
        await asyncio.sleep(self._logs.replay_s)
        await self.drop(number)

    async def drop(self, number: int) -> None:
        self.here.pop(number, None)
        end = self._ends.pop(number, None)
        if end is not None and not end.done():
            end.set_result(None)

    def append(self, number: int) -> None:
        """As a command would: who has been fenced learns it now."""
        if self._logs.epochs[number] != self.here[number] and not self._ends[number].done():
            self._ends[number].set_exception(Fenced("another owner"))


class Links:
    """Which nodes answer the others."""

    def __init__(self) -> None:
        self.silent_since_s: dict[str, float] = {}
        self.refused: set[str] = set()

    def heard_s(self, node: str) -> float | None:
        since_s = self.silent_since_s.get(node)
        return 0.1 if since_s is None else asyncio.get_running_loop().time() - since_s

    def is_refused(self, node: str) -> bool:
        return node in self.refused

    def cut(self, node: str, *, refused: bool = False) -> None:
        self.silent_since_s[node] = asyncio.get_running_loop().time()
        if refused:
            self.refused.add(node)

    def mend(self, node: str) -> None:
        self.silent_since_s.pop(node, None)
        self.refused.discard(node)


@dataclass
class Node:
    id: str
    connection: NatsConnection
    bucket: ClusterBucket
    membership: Membership
    ownership: Ownership
    shards: FakeShards
    routes: Routes
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)


class Cluster:
    """Nodes by id. `close` it in the end."""

    def __init__(self, settings: NatsSettings, shards: int) -> None:
        self.settings = settings
        self.shards = shards
        self.logs = Logs()
        self.links = Links()
        self.nodes: dict[str, Node] = {}

    async def start(self, name: str, *, started_ms: int = 0) -> Node:
        """Raises what `Membership.join` raises."""
        connection = NatsConnection(self.settings)
        await connection.open()
        try:
            bucket = ClusterBucket(connection, self.settings.prefix, SETTINGS.poll_s)
            routes = Routes(bucket)
            await bucket.load()
            record = NodeRecord(name, name, f"{name}:1", token_hex(8), "joining", "0.0", 1, started_ms)
            membership = Membership(bucket, record, SETTINGS, self.links.heard_s, self.links.is_refused)
            await membership.join()
        except BaseException:
            await connection.close()
            raise
        taken: list[int] = []
        lost: list[int] = []
        shards = FakeShards(self.logs)
        ownership = Ownership(bucket, membership, shards, self.shards, SETTINGS, taken.append, lost.append)
        runs = [bucket.run(), membership.run(), ownership.run()]
        tasks = [asyncio.create_task(run) for run in runs]
        node = Node(name, connection, bucket, membership, ownership, shards, routes, tasks, taken, lost)
        self.nodes[name] = node
        self.links.mend(name)
        return node

    async def kill(self, name: str, *, refused: bool = True) -> None:
        """End its process, and with `refused=False` its machine."""
        node = self.nodes.pop(name)
        self.links.cut(name, refused=refused)
        await self._end(node)

    async def stop(self, name: str) -> None:
        """A planned stop."""
        node = self.nodes[name]
        await node.ownership.leave()
        for task in node.tasks[1:]:
            task.cancel()
        await asyncio.gather(*node.tasks[1:], return_exceptions=True)
        await node.membership.leave()
        del self.nodes[name]
        self.links.cut(name, refused=True)
        await self._end(node)

    async def _end(self, node: Node) -> None:
        for task in node.tasks:
            task.cancel()
        await asyncio.gather(*node.tasks, return_exceptions=True)
        await node.routes.close()
        await node.connection.close()

    async def close(self) -> None:
        for name in list(self.nodes):
            await self._end(self.nodes.pop(name))

    # What there is to see

    def owners(self) -> dict[int, str]:
        """Who can write to each shard now."""
        return {
            number: name
            for name, node in self.nodes.items()
            for number, epoch in node.ownership.serving.items()
            if self.logs.epochs[number] == epoch
        }

    def counts(self) -> list[int]:
        return sorted(len(node.ownership.serving) for node in self.nodes.values())

    def is_all_served(self) -> bool:
        return len(self.owners()) == self.shards

    def leads(self, name: str) -> bool:
        """Whether the FrontEnd of a node knows the way to every shard."""
        routes = self.nodes[name].routes
        owners = self.owners()
        return len(owners) == self.shards and all(
            routes.address_of(number) == f"{owner}:1" for number, owner in owners.items()
        )

    def is_known_to_all(self) -> bool:
        return all(self.leads(name) for name in self.nodes)

    async def outages(self, until: Callable[[], bool], within_s: float = 20.0) -> dict[int, float]:
        """For how many seconds each shard had no owner that a FrontEnd finds, until something holds."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + within_s
        longest: dict[int, float] = {}
        since_s: dict[int, float] = {}
        while not until():
            assert loop.time() < deadline_s, f"not within {within_s} s"
            owners = self.owners()
            front_end = next(iter(self.nodes.values()))
            for number in range(self.shards):
                owner = owners.get(number)
                if owner is not None and front_end.routes.address_of(number) == f"{owner}:1":
                    since_s.pop(number, None)
                else:
                    began_s = since_s.setdefault(number, loop.time())
                    longest[number] = max(longest.get(number, 0.0), loop.time() - began_s)
            await asyncio.sleep(0.005)
        return longest


async def seen(look: Callable[[], Value], within_s: float = 20.0) -> Value:
    """Look until there is something to see, and return it; fails when there is nothing in time."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + within_s
    while not (found := look()):
        assert loop.time() < deadline_s, f"nothing was seen within {within_s} s"
        await asyncio.sleep(0.02)
    return found


@asynccontextmanager
async def cluster_at(url: str, shards: int = 6, replicas: int = 1) -> AsyncIterator[Cluster]:
    """A cluster with a bucket of its own, without nodes yet."""
    settings = NatsSettings(servers=url, prefix=f"test-{token_hex(6)}", replicas=replicas)
    connection = NatsConnection(settings)
    await connection.open()
    try:
        await create_cluster_bucket(connection, settings, shards=shards, replicas=replicas)
    finally:
        await connection.close()
    cluster = Cluster(settings, shards)
    try:
        yield cluster
    finally:
        await cluster.close()


async def all_started(cluster: Cluster, *names: str) -> None:
    """Start nodes together, and return once each has its share and is known to all."""
    await asyncio.gather(*(cluster.start(name) for name in names))

    def is_settled() -> bool:
        states = {node.membership.me.state for node in cluster.nodes.values()}
        counts = cluster.counts()
        return states == {"serving"} and cluster.is_known_to_all() and counts[-1] - counts[0] <= 1

    await seen(is_settled)
