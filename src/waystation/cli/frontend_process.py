"""One FrontEnd as a process of its own: HTTP, signatures and codecs, over the backend of another process.

It is started by `SplitNode`, which writes its orders to standard input, secrets among them, and hears on
standard output that it listens, or why it does not. That input stays open for as long as the other process
lives: its end is the end of this one, too.

Nothing is kept here: a FrontEnd that is killed loses the requests in it, whose clients ask again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

import msgspec
import uvloop

from waystation.backend.clock import wall_clock_ms
from waystation.cli.errors import ExitCode, UsageError
from waystation.cli.node import authenticator
from waystation.cli.rules import FRONTENDS_MAX
from waystation.cli.serve import reason
from waystation.cli.settings import Settings
from waystation.cluster.codec import ShardLink
from waystation.cluster.metadata_calls import RemoteMetadataStore
from waystation.cluster.transport_client import Link
from waystation.cluster.transport_settings import TransportSettings
from waystation.frontend.auth import AccessKey
from waystation.frontend.data_plane import build_app
from waystation.frontend.http import HttpServer
from waystation.frontend.settings import HttpSettings
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.move_register import MoveRegister
from waystation.protocol.errors import Unavailable
from waystation.queues.commands import Answer, Command, ReceiveMessages
from waystation.telemetry.logs import configure_logs

COMMAND = "frontend-process"
LISTENING = "listening"

IS_SERVING = 3
"""The kind of call that asks whether all shards serve; the answer is one byte."""
_LOOK_S = 0.5
"""Between two such calls: as old as an answer to a health check may be."""

_COMMAND_S = 30.0
"""For a shard to answer, beside what a long poll waits: more than a disk that will recover needs, and less
than the 60 s for which SDKs wait."""

_SILENT_S = 10.0
"""Until a backend that says nothing is taken for dead. One that has died is noticed at once, as its sockets
close with it; so this is for one that is stopped or much too busy, and may well go on."""
_PING_S = 0.5

_OTHER_CALLS = 1_024
"""Of a FrontEnd, in progress for nobody or for clients that have just gone."""

_LENGTH_BYTES = 4


class Orders(msgspec.Struct, frozen=True):
    """All that a FrontEnd process has to know."""

    settings: Settings
    """Of the node; with the port that was found."""
    root_key: AccessKey | None
    backend: str
    """Address of the backend's transport."""
    installation: str
    """Names this run of the node: a FrontEnd that a dead one has left behind does not fit the next."""
    shards: int


def encode_orders(orders: Orders) -> bytes:
    """What `read_orders` reads."""
    data = msgspec.msgpack.encode(orders, enc_hook=str)  # paths are all that it does not know
    return len(data).to_bytes(_LENGTH_BYTES) + data


def read_orders(stream: BinaryIO) -> Orders | None:
    """None when there are none. Raises `ValueError` for what nobody has encoded."""
    length = int.from_bytes(stream.read(_LENGTH_BYTES))
    data = stream.read(length)
    return msgspec.msgpack.decode(data, type=Orders, dec_hook=_as_path) if data else None


def _as_path(kind: type, value: Any) -> Path:
    assert kind is Path, "the other kinds are MessagePack's own"
    return Path(value)


def transport_settings(
    node: str, installation: str, http: HttpSettings, listen: str = ""
) -> TransportSettings:
    """Of either end of the connection between a FrontEnd and its backend."""
    # Each connection of a client waits for one call at a time: the limit on those is the limit.
    calls_max = http.connections_max + _OTHER_CALLS
    return TransportSettings(
        node=node,
        cluster=installation,
        listen=listen,
        connection_calls_max=calls_max,
        calls_max=calls_max * FRONTENDS_MAX,
        ping_interval_s=_PING_S,
        pings_lost_max=round(_SILENT_S / _PING_S),
    )


class RemoteShards:
    """Implements `Shards`: all of them are in the process at the other end of a link.

    Lifecycle: build it (no I/O), `start`, use, `stop`.
    """

    def __init__(self, link: Link, shards: int) -> None:
        self._link = link
        self._shards = ShardLink(link)
        self._number = shards
        self._all_serve = False
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look at them for the first time."""
        await self._look()
        self._looking = asyncio.create_task(self._keep_looking(), name="look-at-backend")

    async def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    @property
    def count(self) -> int:
        """How many there are in all."""
        return self._number

    def place(self, name: str) -> int:
        """The shard for a new queue of that name."""
        return crc32(name.encode()) % self._number

    def submit(self, shard: int, command: Command) -> asyncio.Future[Answer]:
        """Give a command to a shard: see `ShardLink.submit`."""
        wait_ms = command.wait_ms if isinstance(command, ReceiveMessages) else 0
        return self._shards.submit(shard, command, _COMMAND_S + wait_ms / 1_000)

    def is_serving(self) -> bool:
        """Whether the backend is there, and every shard of it can be expected to answer."""
        return self._all_serve and self._link.is_alive()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await self._look()

    async def _look(self) -> None:
        try:
            self._all_serve = await self._link.call(IS_SERVING, b"", _SILENT_S) == b"\1"
        except Unavailable:  # the link has said why
            self._all_serve = False


class FrontEnd:
    """Lifecycle: build it (no I/O), `start`, and `stop`, once it has started."""

    def __init__(self, orders: Orders) -> None:
        settings = self._settings = orders.settings
        node = f"frontend-{os.getpid()}"
        self._link = Link(orders.backend, transport_settings(node, orders.installation, settings.http))
        self._store = RemoteMetadataStore(self._link)
        self._catalogue = Catalogue(self._store)
        self._shards = RemoteShards(self._link, orders.shards)
        self._authenticator = authenticator(settings, orders.root_key)
        self._server: HttpServer | None = None

    async def start(self) -> None:
        """Return once it listens. Raises `OSError` or `Unavailable`."""
        await self._store.open()
        await self._catalogue.start()
        await self._shards.start()
        app = build_app(
            self._settings.service,
            self._authenticator,
            self._catalogue,  # whose secret is known by now
            self._shards,
            MoveRegister(self._store),
            lambda: wall_clock_ms() / 1_000,
        )
        self._server = HttpServer(self._settings.http, app.handle, shares_port=True)
        await self._server.start()

    async def stop(self) -> None:
        """Take no more connections, answer what is in progress, then stop."""
        if self._server is not None:
            await self._server.stop()
        await self._shards.stop()
        await self._catalogue.stop()
        await self._store.close()
        await self._link.close()


def run_frontend_process() -> int:
    """Serve until SIGTERM, or until the process that has started this one ends.

    Raises `UsageError` when nobody gives it orders.
    """
    # Ctrl-C in a terminal reaches all processes in it; the one that has started this one says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders = read_orders(sys.stdin.buffer)
    if orders is None:
        raise UsageError(f"command {COMMAND} is for `waystation serve --frontends` to start")
    configure_logs(orders.settings.telemetry)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(FrontEnd(orders)))


async def _run(front_end: FrontEnd) -> ExitCode:
    loop = asyncio.get_running_loop()
    stop_asked = asyncio.Event()
    # Any number of times: an init system may tell all processes of a service at once.
    loop.add_signal_handler(signal.SIGTERM, stop_asked.set)
    loop.add_reader(sys.stdin.fileno(), _end)
    try:
        await front_end.start()
    except (OSError, Unavailable) as error:
        print(reason(error), flush=True)
        return ExitCode.FAILED
    print(LISTENING, flush=True)
    await stop_asked.wait()
    await front_end.stop()
    return ExitCode.STOPPED


def _end() -> None:
    """Nothing more comes from there but its end. Without a backend there is nothing to tidy up."""
    os._exit(ExitCode.FAILED)
