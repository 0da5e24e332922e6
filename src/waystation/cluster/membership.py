"""Who is in the cluster: each node's lease, and what this node sees of the others.

A lease is a key that goes by itself unless its node renews it. What others conclude from that is
theirs: `placement` does not believe in a death until the node's link is silent, too. All ages are
by this process's monotonic clock; no wall clock is compared with anything.

What always holds: of two processes with the id of one node, at most one holds the lease.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from secrets import token_hex
from typing import Any, Literal, TypeVar

import msgspec

from waystation.cluster.bucket import ClusterBucket, NoCluster
from waystation.cluster.placement import NodeSeen, NodeState
from waystation.cluster.settings import ClusterSettings
from waystation.log.nats import NatsConnection
from waystation.log.settings import NatsSettings
from waystation.metadata.store import Conflict, MetadataUnavailable

FORMAT_VERSION = 1
PROTOCOL_VERSION = 1
"""Of the records here and of the calls between nodes; a node tells it with its lease."""

CLUSTER_KEY = "cluster"
NODE_KEYS = "node."
SHARD_KEYS = "shard."

_DECODED_MAX = 4_096
"""Records that are kept decoded: they are looked at many times before they change."""
_FORGET_S = 600.0
_LOOK_S = 0.25
_PAUSE_S = 0.05

_logger = logging.getLogger(__name__)

_Record = TypeVar("_Record", bound=msgspec.Struct)


class NodeIdTaken(Exception):
    """Another process holds the lease of this node's id."""

    def __init__(self, node: str, address: str) -> None:
        super().__init__(
            f"Another process is node {node} of this cluster already, at {address}. Each node needs an id "
            f"of its own; if that process has just died, its lease ends by itself within seconds."
        )


class NodeRecord(msgspec.Struct, frozen=True):
    """A lease: what a node says of itself. Unknown fields are those of a newer version, and left alone."""

    id: str
    name: str
    address: str
    """Where its transport listens."""
    incarnation: str
    """Random, and another one each time the node starts."""
    state: Literal["joining", "serving", "leaving"]
    software: str
    protocol: int
    started_ms: int
    """Unix time by the node's own clock, for people to read."""


class ShardRecord(msgspec.Struct, frozen=True):
    """Who owns a shard, or has released it."""

    owner: str
    address: str
    incarnation: str
    epoch: int
    """Of the owner's epoch record in the shard's log: it tells which of two owners is the later one."""
    state: Literal["serving", "released"]
    to: str = ""
    """The node that a released shard is meant for; empty if there was none."""


class ClusterRecord(msgspec.Struct, frozen=True):
    """The facts that never change."""

    id: str
    shards: int
    format: int


def encode(record: msgspec.Struct) -> bytes:
    """For the bucket."""
    return msgspec.msgpack.encode(record)


def decode(kind: type[_Record], value: bytes | None) -> _Record | None:
    """A record; None if there is none, or none that this version can read."""
    record: _Record | None = None if value is None else _decoded(kind, value)
    return record


@lru_cache(_DECODED_MAX)
def _decoded(kind: type[Any], value: bytes) -> Any:
    try:
        return msgspec.msgpack.decode(value, type=kind)
    except msgspec.MsgspecError as error:
        _logger.warning("a record of the cluster cannot be read", extra={"reason": str(error)})
        return None


async def create_cluster_bucket(
    connection: NatsConnection, settings: NatsSettings, *, shards: int = 16, replicas: int = 3
) -> ClusterRecord:
    """Make the bucket of a new cluster. Done again, it changes nothing and returns what is there.

    Raises `MetadataUnavailable`.
    """
    bucket = ClusterBucket(connection, settings.prefix)
    await bucket.create(replicas)
    try:
        await bucket.write(CLUSTER_KEY, encode(ClusterRecord(token_hex(8), shards, FORMAT_VERSION)), 0)
    except Conflict:
        _logger.info("the cluster exists already", extra={"prefix": settings.prefix})
    return await load_cluster(connection, settings)


async def load_cluster(connection: NatsConnection, settings: NatsSettings) -> ClusterRecord:
    """The facts of the cluster. Raises `MetadataUnavailable` when there is none that can be read."""
    entry = await ClusterBucket(connection, settings.prefix).read(CLUSTER_KEY)
    record = decode(ClusterRecord, entry.value)
    if record is None:
        raise NoCluster(
            f"There is no cluster {settings.prefix} on these NATS servers: make it with "
            f"`waystation cluster init`."
        )
    if record.format != FORMAT_VERSION:
        raise NoCluster(
            f"The cluster {settings.prefix} has format {record.format}; this program reads {FORMAT_VERSION}."
        )
    return record


class Membership:
    """The lease of this node, and its view of the others.

    Lifecycle: build it (no I/O), load the bucket, `join`, `run` as a task; `leave` when the node has handed
    over its shards, or cancel `run` and let the lease run out.

    Args:
        me: what this node says of itself; its state is kept here from now on.
        heard_s: seconds since the link to a node last answered; None if it never has.
        is_refused: whether nobody listens any more at a node's address.
    """

    def __init__(
        self,
        bucket: ClusterBucket,
        me: NodeRecord,
        settings: ClusterSettings,
        heard_s: Callable[[str], float | None],
        is_refused: Callable[[str], bool],
    ) -> None:
        self._bucket = bucket
        self._me = me
        self._key = f"{NODE_KEYS}{me.id}"
        self._settings = settings
        self._heard_s = heard_s
        self._is_refused = is_refused
        self._revision = 0
        self._known: dict[str, NodeRecord] = {}
        """The last lease of each node: one that has run out still says who had it."""
        self._began_s = float("-inf")
        self._due = asyncio.Event()

    @property
    def me(self) -> NodeRecord:
        """What this node says of itself now."""
        return self._me

    # The lease

    async def join(self) -> None:
        """Take the lease of this node's id, waiting for that of a dead process to run out.

        Raises `NodeIdTaken`, or `MetadataUnavailable`.
        """
        loop = asyncio.get_running_loop()
        entry = await self._bucket.read(self._key)
        give_up_s = loop.time() + 2 * self._settings.lease_ttl_s + 1
        seen = entry.revision
        while entry.value is not None:
            other = decode(NodeRecord, entry.value)
            if entry.revision != seen or loop.time() >= give_up_s:
                raise NodeIdTaken(self._me.id, other.address if other else "an unknown address")
            await asyncio.sleep(_LOOK_S)
            entry = await self._bucket.read(self._key)
        try:
            await self._renew(entry.revision)
        except Conflict as conflict:
            raise NodeIdTaken(self._me.id, "an unknown address") from conflict
        self._began_s = loop.time()
        _logger.info("joined the cluster", extra={"node": self._me.id, "incarnation": self._me.incarnation})

    async def run(self) -> None:
        """Renew the lease until cancelled. Raises `NodeIdTaken` once another process has it."""
        loop = asyncio.get_running_loop()
        fails = False
        while True:
            began_s = loop.time()
            if self._me.state == "joining" and began_s - self._began_s >= self._settings.settle_s:
                self._me = msgspec.structs.replace(self._me, state="serving")
            try:
                await self._renew_or_regain()
                fails = False
            except MetadataUnavailable as error:
                if not fails:
                    _logger.warning("the lease cannot be renewed", extra={"reason": str(error)})
                fails = True
                await self._bucket.reach()
            await wait_for(self._due, max(began_s + self._settings.renew_s - loop.time(), _PAUSE_S))

    async def _renew(self, expected: int) -> None:
        self._revision = await self._bucket.write(
            self._key, encode(self._me), expected, self._settings.lease_ttl_s, self._settings.renew_s
        )

    async def _renew_or_regain(self) -> None:
        with suppress(Conflict):
            await self._renew(self._revision)
            return
        # The lease has run out meanwhile, or an earlier renewal was done after all, or it is another's.
        entry = await self._bucket.read(self._key)
        other = decode(NodeRecord, entry.value)
        if other is not None and other.incarnation != self._me.incarnation:
            raise NodeIdTaken(self._me.id, other.address)
        with suppress(Conflict):  # then the next time tells whose it is
            await self._renew(entry.revision)

    def begin_to_leave(self) -> None:
        """Tell the others that this node takes no shards any more; at once, if `run` runs."""
        self._me = msgspec.structs.replace(self._me, state="leaving")
        self._due.set()

    async def leave(self) -> None:
        """Give the lease back. `run` has ended before."""
        try:
            entry = await self._bucket.read(self._key)
            mine = decode(NodeRecord, entry.value)
            if mine is not None and mine.incarnation == self._me.incarnation:
                await self._bucket.write(self._key, None, entry.revision)
        except (Conflict, MetadataUnavailable) as error:
            # Then it runs out by itself.
            _logger.warning("the lease could not be given back", extra={"reason": str(error)})

    # The view

    def reaches_nats(self, now_s: float) -> bool:
        """Whether a NATS server has answered lately, if not the bucket."""
        return now_s - self._bucket.reached_s < self._settings.reach_s

    def nodes(self, now_s: float) -> dict[str, NodeSeen]:
        """All nodes by id, this one and those that still own shards among them."""
        self._learn()
        return {node: self._seen(node, record, now_s) for node, record in self._known.items()}

    def address_of(self, node: str) -> str | None:
        """Where a node's transport listens; None if it is not known."""
        record = self._known.get(node)
        return None if record is None else record.address

    def _learn(self) -> None:
        """Note who is new; forget who has long been gone, and owns nothing."""
        now_s = asyncio.get_running_loop().time()
        owners = dict(self._owners())
        for key in self._bucket.keys(NODE_KEYS):
            entry = self._bucket.entry(key)
            record = decode(NodeRecord, entry.value)
            if record is not None:
                self._known[record.id] = record
            elif now_s - entry.seen_s >= _FORGET_S:
                node = key.removeprefix(NODE_KEYS)
                self._bucket.forget(key)
                if node not in owners:
                    self._known.pop(node, None)
        for node, shard in owners.items():
            if node not in self._known:
                # It had died before this node came. What is known of it is what it owned.
                self._known[node] = NodeRecord(
                    node, node, shard.address, shard.incarnation, "serving", "", PROTOCOL_VERSION, 0
                )
        self._known[self._me.id] = self._me

    def _owners(self) -> list[tuple[str, ShardRecord]]:
        entries = (self._bucket.entry(key) for key in self._bucket.keys(SHARD_KEYS))
        records = (decode(ShardRecord, entry.value) for entry in entries)
        return [(record.owner, record) for record in records if record is not None]

    def _seen(self, node: str, record: NodeRecord, now_s: float) -> NodeSeen:
        state: NodeState = record.state
        if node == self._me.id:
            return NodeSeen(record.incarnation, state, 0.0, None, 0.0)
        entry = self._bucket.entry(f"{NODE_KEYS}{node}")
        age_s = now_s - max(entry.seen_s, self._began_s)
        answers = now_s - self._bucket.answered_s < self._settings.reach_s
        absent_s = age_s if entry.value is None and answers else None
        heard_s, is_refused = self._heard_s(node), self._is_refused(node)
        return NodeSeen(record.incarnation, state, age_s, absent_s, heard_s, is_refused)


async def wait_for(event: asyncio.Event, timeout_s: float) -> None:
    """Until it is set, or the time is over. It is not set afterwards."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
    event.clear()
