"""The processes: whole nodes, FrontEnds, and owners of shards. Each can be started, killed and started again.

A killed process does nothing more: its logs and its store are dead before its tasks are cancelled, and its
connections are closed. What it had on disk is there for its successor.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import copy_context
from typing import Any
from zlib import crc32

from tests.simulation.disk import LogDisk, SimulatedLog
from tests.simulation.network import Network
from tests.simulation.store import SimulatedStore, StoreDisk
from waystation.backend.backend import Backend
from waystation.backend.errors import ShardUnavailable
from waystation.backend.settings import BackendSettings
from waystation.frontend.app import App
from waystation.frontend.auth import Authenticator, Caller
from waystation.frontend.data_plane import DataPlane, build_app
from waystation.frontend.http_messages import Request, Response
from waystation.frontend.settings import AuthSettings, ServiceSettings
from waystation.log.interface import Log
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.move_register import MoveRegister
from waystation.protocol.errors import Unavailable
from waystation.queues.commands import Answer, Command

ACCOUNT = "000000000000"
SERVICE = ServiceSettings(account=ACCOUNT, purge_interval_s=0, name_reuse_s=0)
EVERYBODY = Authenticator(AuthSettings(enabled=False), lambda _: None, anonymous=Caller(ACCOUNT, "anonymous"))

_CALL_S = 5.0
"""How long a FrontEnd waits for an owner that does not answer, besides what the call itself may take."""
_GRACE_S, _GRACE_TURNS = 5.0, 10
"""For requests in progress to be answered after a stop has been asked for, looked at so often."""
_RESTART_S = 0.5
"""Between two attempts to start."""


class Machine(ABC):
    """One process. `is_up` while it serves."""

    outlived_s = 0.0
    doubt_s = 0.0
    store: SimulatedStore

    def __init__(self, name: str, network: Network) -> None:
        self.name = name
        self.context = copy_context()
        self.is_up = False
        self._network = network
        self._life: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to start; it tries again and again while its storage fails."""
        if self._life is None:
            self._life = asyncio.get_running_loop().create_task(self._start(), context=self.context)

    async def _start(self) -> None:
        while True:
            try:
                await self.build()
            except Unavailable:
                await self.kill_parts()
                await asyncio.sleep(_RESTART_S)
            else:
                self.is_up = True
                return

    async def kill(self) -> None:
        """End it without a word."""
        self.is_up = False
        life, self._life = self._life, None
        self.die()
        self._network.reset(self.name)
        if life is not None:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
        await self.kill_parts()

    async def stop(self) -> None:
        """End it as an operator would: no new requests, an answer to those that are there, then the rest."""
        self.is_up = False
        self.drain()
        for _ in range(_GRACE_TURNS):
            if self._network.is_idle(self.name):
                break
            await asyncio.sleep(_GRACE_S / _GRACE_TURNS)
        await self.kill()

    def failure(self) -> BaseException | None:
        """Why it could not start at all, if so."""
        life = self._life
        return life.exception() if life is not None and life.done() and not life.cancelled() else None

    @property
    @abstractmethod
    def catalogue(self) -> Catalogue | None:
        """None while it is down."""

    @abstractmethod
    async def build(self) -> None:
        """Make all parts anew, and start them."""

    @abstractmethod
    def drain(self) -> None:
        """Let nobody wait for messages any more."""

    @abstractmethod
    def die(self) -> None:
        """From now on, nothing that it does has any effect."""

    @abstractmethod
    async def kill_parts(self) -> None:
        """Clear away all parts; they are dead."""


class Owner(Machine):
    """Owns all shards: takes commands from FrontEnds; as a whole node, also requests of clients."""

    def __init__(
        self,
        name: str,
        network: Network,
        store: StoreDisk,
        disks: list[LogDisk],
        settings: BackendSettings,
        clock_ms: Callable[[], int],
    ) -> None:
        super().__init__(name, network)
        self._store_disk = store
        self._disks = disks
        self._settings = settings
        self._clock_ms = clock_ms
        self._logs: list[SimulatedLog] = []
        self.store = SimulatedStore(store)
        self.plane: DataPlane | None = None

    async def build(self) -> None:
        self._logs = [SimulatedLog(disk) for disk in self._disks]
        self.store = SimulatedStore(self._store_disk)
        logs: list[Log] = list(self._logs)
        self.plane = DataPlane(SERVICE, self._settings, self.store, lambda _: logs, self._clock_ms)
        await self.plane.start(EVERYBODY)

    async def handle(self, request: Request) -> Response:
        assert self.plane is not None, "it is up"
        return await self.plane.handle(request)

    def drain(self) -> None:
        if self.plane is not None:
            self.plane.drain()

    def die(self) -> None:
        self.store.die()
        for log in self._logs:
            log.die()

    async def kill_parts(self) -> None:
        self.die()
        if self.plane is not None:
            await self.plane.stop()
        self.plane = None

    @property
    def catalogue(self) -> Catalogue | None:
        return None if self.plane is None else self.plane.catalogue

    @property
    def backend(self) -> Backend | None:
        return None if self.plane is None else self.plane.backend


class DistantShards:
    """Implements `Shards`, as a FrontEnd has them: calls over the network to the owner of all."""

    def __init__(self, name: str, network: Network, owner: Owner, shards: int) -> None:
        self._name = name
        self._network = network
        self._owner = owner
        self._number = shards

    @property
    def count(self) -> int:
        return self._number

    def place(self, name: str) -> int:
        return crc32(name.encode()) % self._number

    def is_serving(self) -> bool:
        return True

    def submit(self, shard: int, command: Command) -> asyncio.Future[Answer]:
        loop = asyncio.get_running_loop()
        outside: asyncio.Future[Answer] = loop.create_future()
        wait_s = _CALL_S + getattr(command, "wait_ms", 0) / 1_000
        timer = loop.call_later(wait_s, self._refuse, outside, "The owner does not answer.")
        outside.add_done_callback(lambda _: timer.cancel())
        if not self._network.loses(self._name, self._owner.name):
            loop.call_later(self._network.delay_s(), self._arrive, shard, command, outside)
        return outside

    def _refuse(self, outside: asyncio.Future[Answer], reason: str) -> None:
        if not outside.done():
            outside.set_exception(ShardUnavailable(reason))

    def _arrive(self, shard: int, command: Command, outside: asyncio.Future[Answer]) -> None:
        backend = self._owner.backend
        if not self._owner.is_up or backend is None:
            self._refuse(outside, "The owner is down.")
            return
        try:
            inside = backend.submit(shard, command)
        except Exception as error:
            inside = asyncio.get_running_loop().create_future()
            inside.set_exception(error)
        inside.add_done_callback(lambda done: self._answer(done, outside))
        # Who has gone does not wait any more: the owner is told, as the connection is closed.
        outside.add_done_callback(lambda done: inside.cancel() if done.cancelled() else None)

    def _answer(self, inside: asyncio.Future[Answer], outside: asyncio.Future[Answer]) -> None:
        error = None if inside.cancelled() else inside.exception()
        if not self._network.loses(self._owner.name, self._name):
            loop = asyncio.get_running_loop()
            loop.call_later(self._network.delay_s(), self._return, inside, error, outside)

    def _return(
        self, inside: asyncio.Future[Answer], error: BaseException | None, outside: asyncio.Future[Answer]
    ) -> None:
        if outside.done():
            return
        if inside.cancelled():
            self._refuse(outside, "The owner has died.")
        elif error is not None:
            outside.set_exception(error)
        else:
            outside.set_result(inside.result())


class FrontEnd(Machine):
    """Answers clients, with a catalogue of its own, and no shards."""

    outlived_s = _CALL_S

    def __init__(
        self, name: str, network: Network, store: StoreDisk, owner: Owner, shards: int, clock_ms: Any
    ) -> None:
        super().__init__(name, network)
        self._store_disk = store
        self._owner = owner
        self._shards = shards
        self._clock_ms = clock_ms
        self._app: App | None = None
        self._catalogue: Catalogue | None = None
        self._distant: DistantShards | None = None
        self.store = SimulatedStore(store)

    async def build(self) -> None:
        self.store = SimulatedStore(self._store_disk)
        catalogue = self._catalogue = Catalogue(self.store)
        self._distant = DistantShards(self.name, self._network, self._owner, self._shards)
        await self.store.open()
        await catalogue.start()
        register = MoveRegister(self.store)
        self._app = build_app(SERVICE, EVERYBODY, catalogue, self._distant, register, self._clock_s)

    @property
    def catalogue(self) -> Catalogue | None:
        return self._catalogue

    def _clock_s(self) -> float:
        return float(self._clock_ms() / 1_000)

    async def handle(self, request: Request) -> Response:
        assert self._app is not None, "it is up"
        return await self._app.handle(request)

    def drain(self) -> None:
        """Who waits is waiting at the owner."""

    def die(self) -> None:
        self.store.die()

    async def kill_parts(self) -> None:
        self.die()
        if self._catalogue is not None:
            await self._catalogue.stop()
        self._catalogue = self._app = self._distant = None
