"""A node that is split: this process is the backend, and FrontEnds are processes of their own.

So the cores of one machine are used: parsing, signatures and codecs cost more than queues do. All FrontEnds
listen on the one port, and the kernel shares connections out among them. They reach this process, which
alone has the data directory, through a Unix socket that only its user can open.

A FrontEnd that ends by itself is started again. When this process ends, however it does, so do they.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeAlias

from waystation.backend.backend import Backend
from waystation.cli.errors import CannotStart
from waystation.cli.frontend_process import (
    COMMAND,
    IS_SERVING,
    LISTENING,
    Orders,
    encode_orders,
    transport_settings,
)
from waystation.cli.node import Node
from waystation.cli.settings import Settings
from waystation.cluster.codec import SHARD_COMMAND, shard_handler
from waystation.cluster.metadata_calls import METADATA_CALL, MetadataServer
from waystation.cluster.transport_server import TransportServer
from waystation.frontend.data_plane import DataPlane
from waystation.frontend.http import cannot_listen
from waystation.frontend.settings import HttpSettings

SOCKET_NAME = "backend.sock"
_SOCKET_PATH_BYTES_MAX = 107
"""Of a Unix socket on Linux."""

_PORT_TAKEN_S = 1.0
"""For FrontEnds of a node that was killed just now to notice it, and free the port."""
_LOOK_S = 0.02
_START_S = 30.0
"""For a FrontEnd to listen. It takes half a second, and many times as long on a machine that is busy."""
_STOP_S = 3.0
"""For a FrontEnd to end, beside the time that its clients are given."""
_FIRST_PAUSE_S = 0.1
_PAUSE_MAX_S = 5.0
_STEADY_S = 30.0
"""A FrontEnd that has run for so long is started again, when it ends, as soon as the first time."""

_logger = logging.getLogger(__name__)

_Address: TypeAlias = tuple[socket.AddressFamily, tuple[Any, ...]]


class SplitNode(Node):
    """As `Node`, but that HTTP is served by `settings.frontends` other processes."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._held: list[socket.socket] = []
        self._metadata: MetadataServer | None = None
        self._transport: TransportServer | None = None
        self._socket: Path | None = None
        self._front_ends: FrontEnds | None = None

    async def _let_clients_in(self, plane: DataPlane) -> int:
        settings = self._settings
        assert plane.backend is not None, "it has started"
        assert self._store is not None, "so has this"
        # Held also while no FrontEnd runs; to find out now if somebody else has it.
        self._held = await hold_port(settings.http)
        port: int = self._held[0].getsockname()[1]
        self._metadata = MetadataServer(self._store)
        self._metadata.start()
        self._socket = socket_path(settings.data_dir)
        installation = token_hex(8)
        self._transport = TransportServer(
            BackendCalls(plane.backend, self._metadata),
            transport_settings("backend", installation, settings.http, f"unix:{self._socket}"),
        )
        await self._transport.start()
        orders = Orders(
            replace(settings, http=replace(settings.http, port=port)),
            self.root_key,
            self._transport.address,
            installation,
            len(plane.backend.shards),
        )
        self._front_ends = FrontEnds(settings.frontends, orders)
        await self._front_ends.start()
        for shard in plane.backend.shards:
            # One that is killed may leave a queue half made or half deleted, and nobody starts anew then.
            plane.shard_taken(shard.number)
        return port

    async def _see_clients_out(self) -> None:
        if self._front_ends is not None:
            await self._front_ends.stop()
        if self._transport is not None:
            await self._transport.stop()
        if self._metadata is not None:
            await self._metadata.stop()
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)
            if self._socket.parent != self._settings.data_dir.absolute():
                shutil.rmtree(self._socket.parent, ignore_errors=True)
        for held in self._held:
            held.close()
        self._front_ends = self._transport = self._metadata = self._socket = None
        self._held = []


class BackendCalls:
    """The calls that FrontEnds make, each given to who answers it."""

    def __init__(self, backend: Backend, metadata: MetadataServer) -> None:
        self._backend = backend
        self._metadata = metadata
        self._commands = shard_handler(backend.submit)

    def __call__(self, kind: int, payload: bytes) -> Awaitable[bytes]:
        if kind == SHARD_COMMAND:
            return self._commands(kind, payload)
        if kind == METADATA_CALL:
            return self._metadata.handle(payload)
        if kind == IS_SERVING:
            return self._is_serving()
        return self._commands(kind, payload)  # which says that it is not known

    async def _is_serving(self) -> bytes:
        return bytes([self._backend.is_serving()])


async def hold_port(http: HttpSettings) -> list[socket.socket]:
    """Sockets bound to the addresses of the settings, all with one port, which others can then share.

    They do not listen, so they get no connections. Raises `OSError` with what is wrong: also when
    somebody listens there who would share the port with us.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + _PORT_TAKEN_S
    while True:
        try:
            found = await loop.getaddrinfo(
                http.host, http.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            return _bind([(family, address) for family, _, _, _, address in found], http.port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or loop.time() >= deadline_s:
                raise cannot_listen(http, error) from error
        await asyncio.sleep(_LOOK_S)


def _bind(addresses: list[_Address], port: int) -> list[socket.socket]:
    held: list[socket.socket] = []
    try:
        for family, (host, _, *more) in addresses:
            made = socket.socket(family, socket.SOCK_STREAM)
            held.append(made)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind((host, port, *more))
            # Not before: this one was not to share it with whoever has it already.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            port = made.getsockname()[1]
    except OSError:
        for each in held:
            each.close()
        raise
    return held


def socket_path(data_dir: Path) -> Path:
    """Where to listen for FrontEnds: in the data directory, or in a new one where its path is too long."""
    path = data_dir.absolute() / SOCKET_NAME
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES_MAX:
        return path
    return Path(tempfile.mkdtemp(prefix="waystation-")) / SOCKET_NAME


class FrontEnds:
    """So many FrontEnd processes, each started again when it ends by itself.

    Lifecycle: build it (no I/O), `start`, and `stop`, also after a start that failed or was cancelled.
    """

    def __init__(self, number: int, orders: Orders) -> None:
        self._number = number
        self._orders = encode_orders(orders)
        self._grace_s = orders.settings.http.shutdown_grace_s + _STOP_S
        self._processes: set[Process] = set()
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Return once all listen. Raises `CannotStart` or `OSError`."""
        starting = [asyncio.create_task(self._run_one()) for _ in range(self._number)]
        try:
            processes = await asyncio.gather(*starting)
        finally:
            for each in starting:
                each.cancel()
        self._keepers = [asyncio.create_task(self._keep(process)) for process in processes]

    async def _run_one(self) -> Process:
        """Start one, and return once it listens. Raises `CannotStart` or `OSError`."""
        # Not by multiprocessing, which would also run a process of its own to track resources, and
        # hide these behind a command line that says nothing.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "waystation", COMMAND, stdin=PIPE, stdout=PIPE
        )
        self._processes.add(process)
        said = await self._give_orders(process)
        if said != LISTENING:
            with suppress(ProcessLookupError):
                process.kill()
            self._processes.discard(process)
            raise CannotStart(said or "a FrontEnd process has ended before it listened")
        _logger.info("FrontEnd process listens", extra={"pid": process.pid})
        return process

    async def _give_orders(self, process: Process) -> str:
        """What it says then; empty if that is nothing."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_START_S):
                process.stdin.write(self._orders)
                await process.stdin.drain()
                return (await process.stdout.readline()).decode(errors="replace").strip()
        except ConnectionError:
            return ""
        except TimeoutError:
            return f"a FrontEnd process does not listen after {_START_S:.0f} s"

    async def _keep(self, process: Process) -> None:
        """Start it again whenever it has ended, until cancelled."""
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while True:
            began_s = loop.time()
            code = await process.wait()
            self._processes.discard(process)
            _logger.error("FrontEnd process has ended", extra={"pid": process.pid, "exit_code": code})
            if loop.time() - began_s >= _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            while True:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_MAX_S)
                try:
                    process = await self._run_one()
                    break
                except (CannotStart, OSError) as error:
                    _logger.error("FrontEnd process does not start", extra={"reason": str(error)})

    async def stop(self) -> None:
        """Let all answer what they have, and end; those that take too long are killed."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers = []
        self._signal_all(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._grace_s):
                await self._until_all_ended()
        except TimeoutError:
            _logger.warning("FrontEnd processes are killed", extra={"processes": len(self._processes)})
        finally:
            self._signal_all(signal.SIGKILL)
        await self._until_all_ended()

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):  # it has ended
                process.send_signal(number)

    async def _until_all_ended(self) -> None:
        for process in list(self._processes):
            await process.wait()
            self._processes.discard(process)
