"""Nodes of a cluster: each a FrontEnd, and the owner of some of the shards; all of that the program's own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

from tests.backend.virtual_time import VirtualTimeLoop, _Handle
from tests.simulation.connections import SimulatedConnection, SimulatedLinks
from tests.simulation.machines import EVERYBODY, SERVICE, Machine
from tests.simulation.nats import Nats
from tests.simulation.network import Network
from tests.simulation.store import SimulatedStore, StoreDisk
from waystation.backend.backend import Backend
from waystation.backend.settings import BackendSettings
from waystation.cluster.bucket import ClusterBucket
from waystation.cluster.codec import shard_handler
from waystation.cluster.membership import PROTOCOL_VERSION, Membership, NodeIdTaken, NodeRecord
from waystation.cluster.ownership import Ownership
from waystation.cluster.router import Router
from waystation.cluster.routes import Routes
from waystation.cluster.settings import ClusterSettings, RoutingSettings
from waystation.frontend.data_plane import DataPlane
from waystation.frontend.http_messages import Request, Response
from waystation.log.jetstream import JetStreamLog
from waystation.log.settings import NatsSettings
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.store import MetadataUnavailable

PREFIX = "waystation"
# As few looks as the promises need: they are most of what a run costs.
CLUSTER = ClusterSettings(tick_s=1.0, poll_s=5.0, renew_s=1.4)
ROUTING = RoutingSettings()
NATS = NatsSettings(prefix=PREFIX)
_LOOK_S = 0.2
_SERVED_S_MAX = 30.0
DOUBT_S = 45.0
"""After a client was told that nobody knows, until what it had asked for can have been done at the latest: a
request that comes late, an append that is tried again, and a process that is stopped meanwhile."""

NODE: ContextVar[str] = ContextVar("node", default="")
"""Whose work it is that goes on."""


class ClusterLoop(VirtualTimeLoop):
    """Time passes for all; the work of a node that is stopped waits until it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, list[_Handle]] = {}

    def _call(self, handle: _Handle) -> None:
        if self.held:
            held = self.held.get(handle.context.get(NODE) or "")
            if held is not None:
                held.append(handle)
                return
        super()._call(handle)

    def stop_node(self, name: str) -> None:
        """As SIGSTOP would."""
        self.held.setdefault(name, [])

    def go_on(self, name: str) -> None:
        """As SIGCONT would: what has come meanwhile is there, and what was to be waited for is over."""
        self._ready.extend(self.held.pop(name, ()))


class ReachedStore(SimulatedStore):
    """The metadata store, as far as its NATS servers can be reached."""

    def __init__(self, disk: StoreDisk, connection: SimulatedConnection) -> None:
        super().__init__(disk)
        self._connection = connection

    async def _answers(self) -> None:
        if self._connection.is_cut:
            await asyncio.sleep(1.0)
            raise MetadataUnavailable("nobody answers")
        await super()._answers()

    def _hear(self, change: Any) -> None:
        if self._connection.is_cut:
            self.cut_off()  # a feed notices that it has missed something
        else:
            super()._hear(change)


class Node(Machine):
    """One node. The same name is the same node, whose processes come and go."""

    outlived_s = DOUBT_S
    doubt_s = DOUBT_S

    def __init__(
        self,
        name: str,
        network: Network,
        nats: Nats,
        store: StoreDisk,
        shards: int,
        settings: BackendSettings,
        skew_s: float,
        peers: dict[str, Node],
    ) -> None:
        super().__init__(name, network)
        self.context.run(NODE.set, name)
        self.waits = False
        """It joins later."""
        self.life = 0
        self.handler: Any = None
        self.plane: DataPlane | None = None
        self.routes: Routes | None = None
        self.connection: SimulatedConnection | None = None
        self.ended = ""
        """Why a part that should run for ever does not."""
        self.store = SimulatedStore(store)
        self._nats, self._store_disk, self._shards = nats, store, shards
        self._settings, self._skew_s, self._peers = settings, skew_s, peers
        self._links: SimulatedLinks | None = None
        self._ownership: Ownership | None = None
        self._membership: Membership | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def clock_ms(self) -> int:
        return int((asyncio.get_running_loop().time() + self._skew_s) * 1_000)

    async def build(self) -> None:
        try:
            await self._build()
        except NodeIdTaken as taken:
            raise MetadataUnavailable(str(taken)) from taken

    async def _build(self) -> None:
        self.life += 1
        connection = self.connection = SimulatedConnection(self.name, self._nats, self._network)
        bucket = ClusterBucket(connection, PREFIX, CLUSTER.poll_s)
        routes = self.routes = Routes(bucket)
        await bucket.load()
        self._run(bucket.run())
        self.store = ReachedStore(self._store_disk, connection)
        links = self._links = SimulatedLinks(self, self._peers, self._network)

        def route(here: Backend) -> Router:
            return Router(ROUTING, self._shards, here, routes, links.to, lambda: self.is_up)

        plane = self.plane = DataPlane(
            SERVICE,
            self._settings,
            self.store,
            lambda _: [JetStreamLog(connection, NATS, number) for number in range(self._shards)],
            self.clock_ms,
            route,
        )
        await plane.start(EVERYBODY)
        backend = plane.backend
        assert backend is not None, "it has started"
        self.handler = shard_handler(backend.submit)
        incarnation = f"{self._nats.random.getrandbits(64):016x}"
        me = NodeRecord(
            self.name, self.name, self.name, incarnation, "joining", "0", PROTOCOL_VERSION, self.clock_ms()
        )
        membership = self._membership = Membership(bucket, me, CLUSTER, links.heard_s, links.is_refused)
        await membership.join()
        self._run(membership.run())
        self._ownership = Ownership(
            bucket, membership, backend, self._shards, CLUSTER, plane.shard_taken, plane.shard_lost
        )
        self._run(self._ownership.run())
        await self._until_served(routes)

    async def _until_served(self, routes: Routes) -> None:
        for _ in range(int(_SERVED_S_MAX / _LOOK_S)):
            if all(routes.address_of(shard) is not None for shard in range(self._shards)):
                return
            await asyncio.sleep(_LOOK_S)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, context=self.context)
        task.add_done_callback(self._note_end)
        self._tasks.append(task)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task in self._tasks:
            self.ended = f"a part of {self.name} has ended: {task.exception()!r}"

    async def handle(self, request: Request) -> Response:
        assert self.plane is not None, "it is up"
        return await self.plane.handle(request)

    async def stop(self) -> None:
        """As `ClusterNode.stop`: hand everything over, answer what can be answered, then end."""
        if self._life is not None and not self._life.done():
            await self.kill()
            return
        self.is_up = False
        self.drain()
        if self._ownership is not None and self._membership is not None:
            await self._ownership.leave()
            self.handler = None
            tasks, self._tasks = self._tasks, []
            for task in reversed(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._membership.leave()
        await super().stop()

    def drain(self) -> None:
        if self.plane is not None:
            self.plane.drain()

    def die(self) -> None:
        if self.connection is not None:
            self.connection.die()
        if self.plane is not None:
            self.store.die()
        self.handler = None
        for peer in self._peers.values():
            if peer._links is not None:
                peer._links.peer_died(self.name)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ClusterLoop)
        loop.go_on(self.name)

    async def kill_parts(self) -> None:
        self.die()
        tasks, self._tasks = self._tasks, []
        for task in reversed(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._links is not None:
            self._links.close()
        if self.routes is not None:
            await self.routes.close()
        if self.plane is not None:
            await self.plane.stop()
        self.plane = self._links = self._ownership = self._membership = self.routes = None

    @property
    def catalogue(self) -> Catalogue | None:
        return None if self.plane is None else self.plane.catalogue

    @property
    def backend(self) -> Backend | None:
        return None if self.plane is None else self.plane.backend

    def serves(self, shard: int) -> bool:
        return self.backend is not None and self.backend.serves(shard)
