"""One node of a cluster: a FrontEnd, the shards that are placed on it, and its ways to the other nodes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Coroutine
from dataclasses import replace
from secrets import token_hex
from typing import Any

from waystation import __version__
from waystation.backend.backend import Backend
from waystation.backend.interface import Shards
from waystation.cli.data_directory import lock
from waystation.cli.errors import CannotStart
from waystation.cli.node import authenticator, url_of
from waystation.cli.settings import Settings
from waystation.cluster.bucket import ClusterBucket, NoCluster
from waystation.cluster.codec import shard_handler
from waystation.cluster.links import Links
from waystation.cluster.membership import (
    PROTOCOL_VERSION,
    ClusterRecord,
    Membership,
    NodeIdTaken,
    NodeRecord,
    load_cluster,
)
from waystation.cluster.ownership import Ownership
from waystation.cluster.router import Router
from waystation.cluster.routes import Routes
from waystation.cluster.transport_server import TransportServer
from waystation.frontend.access_keys import RootKeyError
from waystation.frontend.auth import AccessKey
from waystation.frontend.data_plane import DataPlane
from waystation.frontend.http import HttpServer
from waystation.frontend.shared_key import load_or_create_shared_key
from waystation.log.errors import LogDamaged
from waystation.log.jetstream import JetStreamLog
from waystation.log.nats import NatsConnection
from waystation.log.nats_checks import ServersUnchecked, ServersUnsafe, check_servers
from waystation.metadata.nats import NatsMetadataStore
from waystation.protocol.errors import Unavailable

_LOOK_S = 0.05
_NATS_S_MAX = 60.0
"""For NATS servers that start at the same time, as after a power failure, to find each other."""
_NATS_RETRY_S = 0.5
_SERVED_S_MAX = 30.0
"""For all shards to have an owner, before a node that starts answers clients all the same."""

_logger = logging.getLogger(__name__)


class ClusterNode:
    """Lifecycle: build it (no I/O), `start`, and `stop`, also after a start that failed or was cancelled."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.root_key: AccessKey | None = None
        self.root_key_created = False
        self.port = 0
        self._lock: int | None = None
        self._connection = NatsConnection(settings.nats)
        self._links = Links(settings.transport, self._address_of)
        self._transport: TransportServer | None = None
        self._membership: Membership | None = None
        self._ownership: Ownership | None = None
        self._plane: DataPlane | None = None
        self._server: HttpServer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._is_stopping = False
        self.failure: str | None = None

    @property
    def url(self) -> str:
        """Where clients on this machine reach it."""
        return url_of(self._settings.http, self.port)

    def _address_of(self, node: str) -> str | None:
        return None if self._membership is None else self._membership.address_of(node)

    # Starting

    async def start(self) -> None:
        """Join the cluster and serve.

        Raises:
            CannotStart: with one sentence on what is wrong.
            OSError: an address cannot be listened on, or the directory not be written.
        """
        try:
            await self._start()
        except (RootKeyError, LogDamaged, NodeIdTaken, Unavailable, ValueError) as error:
            raise CannotStart(str(error)) from error

    async def _start(self) -> None:
        settings = self._settings
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = lock(settings.data_dir)
        await self._connection.open()
        cluster = await self._find_cluster()
        bucket = ClusterBucket(self._connection, settings.nats.prefix, settings.cluster.poll_s)
        routes = Routes(bucket)
        await bucket.load()
        self._run(bucket.run(), "cluster-bucket")
        store = NatsMetadataStore(self._connection, settings.nats)
        await store.open()
        await self._find_root_key(store)
        node = settings.node_id or socket.gethostname()
        transport = replace(settings.transport, node=node, cluster=cluster.id)
        self._links = Links(transport, self._address_of)
        plane = self._plane = DataPlane(
            settings.service,
            settings.backend,
            store,
            lambda _: [
                JetStreamLog(self._connection, settings.nats, number) for number in range(cluster.shards)
            ],
            route=lambda here: self._route(here, cluster.shards, routes),
        )
        await plane.start(authenticator(settings, self.root_key))
        assert plane.backend is not None, "it has started"
        self._transport = TransportServer(shard_handler(plane.backend.submit), transport)
        await self._transport.start()
        me = NodeRecord(
            node,
            socket.gethostname(),
            self._transport.address,
            token_hex(8),
            "joining",
            __version__,
            PROTOCOL_VERSION,
            time.time_ns() // 1_000_000,
        )
        membership = self._membership = Membership(
            bucket, me, settings.cluster, self._links.heard_s, self._links.is_refused
        )
        await membership.join()
        self._run(membership.run(), "membership")
        self._ownership = Ownership(
            bucket,
            membership,
            plane.backend,
            cluster.shards,
            settings.cluster,
            plane.shard_taken,
            plane.shard_lost,
        )
        self._run(self._ownership.run(), "ownership")
        await self._until_served(routes, cluster.shards)
        self._server = HttpServer(settings.http, plane.handle)
        await self._server.start()
        self.port = self._server.port

    async def _find_cluster(self) -> ClusterRecord:
        """Check the NATS servers, and read what the cluster is like; wait while they are just starting."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + _NATS_S_MAX
        while True:
            try:
                await check_servers(self._connection, self._settings.nats)
                return await load_cluster(self._connection, self._settings.nats)
            except (ServersUnsafe, ServersUnchecked, NoCluster):
                raise
            except Unavailable as error:
                if loop.time() > deadline_s:
                    raise
                _logger.warning("waiting for the NATS servers", extra={"reason": str(error)})
            await asyncio.sleep(_NATS_RETRY_S)

    def _route(self, here: Backend, shards: int, routes: Routes) -> Shards:
        return Router(self._settings.routing, shards, here, routes, self._links.to, self._is_useful)

    def _is_useful(self) -> bool:
        """Whether a load balancer should send requests here: not because some shard has no owner just now."""
        now_s = asyncio.get_running_loop().time()
        is_member = self._membership is not None and self._membership.reaches_nats(now_s)
        knows_queues = self._plane is not None and self._plane.catalogue.is_fresh()
        return is_member and knows_queues and not self._is_stopping

    async def _find_root_key(self, store: NatsMetadataStore) -> None:
        settings = self._settings
        if settings.auth.enabled:
            self.root_key, self.root_key_created = await load_or_create_shared_key(
                store,
                settings.service.account,
                settings.root.access_key_id,
                settings.root.secret_access_key,
            )

    async def _until_served(self, routes: Routes, shards: int) -> None:
        """Wait until every shard has an owner: a load balancer should not send clients here before."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + _SERVED_S_MAX
        while alone := [shard for shard in range(shards) if routes.address_of(shard) is None]:
            if loop.time() > deadline_s:
                _logger.warning("some shards have no owner yet", extra={"shards": alone})
                return
            await asyncio.sleep(_LOOK_S)

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._note_end)
        self._tasks.append(task)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        """A part that is to run as long as the node has ended: without it the node is of no use."""
        if self._is_stopping or task.cancelled():
            return
        self.failure = str(task.exception() or f"{task.get_name()} has ended")
        _logger.critical("node has to stop", extra={"part": task.get_name(), "reason": self.failure})
        signal.raise_signal(signal.SIGTERM)

    # Stopping

    async def stop(self) -> None:
        """Hand over all shards, answer what can be answered, then stop."""
        self._is_stopping = True
        if self._plane is not None:
            self._plane.drain()
        if self._ownership is not None:
            await self._ownership.leave()
        if self._server is not None:
            await self._server.stop()
        if self._transport is not None:
            await self._transport.drain()
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._membership is not None and self._ownership is not None:
            await self._membership.leave()
        if self._transport is not None:
            await self._transport.stop()
        await self._links.close()
        if self._plane is not None:
            await self._plane.stop()
        await self._connection.close()
        if self._lock is not None:
            os.close(self._lock)
        self._server = self._plane = self._transport = self._ownership = self._membership = self._lock = None
