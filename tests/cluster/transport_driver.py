"""Servers and links for tests of the transport, in this process and in others, and what to have them do.

Run as a program, with an address, it is a node that serves `obey` until it is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvloop

from tests.frontend.http_driver import until
from waystation.cluster.frames import Frame, FrameReader, Hello, encode_frame, encode_hello
from waystation.cluster.transport_client import Link
from waystation.cluster.transport_connection import CallRefused
from waystation.cluster.transport_server import Handler, TransportServer
from waystation.cluster.transport_settings import TransportSettings, parse_address

QUICK: dict[str, Any] = {"ping_interval_s": 0.1, "reconnect_delay_max_s": 0.05}
"""For tests that wait for a silence to be noticed."""

ECHO = 1
NEVER = 2
REFUSE = 3
FAIL = 4
LATER = 5
COROUTINE = 6
LARGE = 7
"""Kinds of calls: what `Node` does with each."""

TIMEOUT_S = 10.0


class Node:
    """A handler that does what the kind of a call says, and remembers what was begun."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.waiting: list[asyncio.Future[bytes]] = []
        """Calls of the kind `NEVER`."""

    def __call__(self, kind: int, payload: bytes) -> Awaitable[bytes]:
        self.begun.append(payload)
        loop = asyncio.get_running_loop()
        if kind == REFUSE:
            raise CallRefused(b"no: " + payload)
        if kind == FAIL:
            raise LookupError("a bug of the handler")
        if kind == COROUTINE:
            return self._echo(payload)
        future: asyncio.Future[bytes] = loop.create_future()
        if kind == NEVER:
            self.waiting.append(future)
        elif kind == LATER:
            loop.call_later(0.002, _answer, future, payload)
        else:
            future.set_result(payload if kind == ECHO else bytes(int(payload)))
        return future

    async def _echo(self, payload: bytes) -> bytes:
        await asyncio.sleep(0)
        return payload

    @property
    def cancelled(self) -> int:
        """How many calls that never end have been cancelled."""
        return sum(future.cancelled() for future in self.waiting)


def _answer(future: asyncio.Future[bytes], payload: bytes) -> None:
    if not future.done():
        future.set_result(payload)


@asynccontextmanager
async def serving(handler: Handler, **settings: Any) -> AsyncIterator[TransportServer]:
    """A server on a free port. Leaving fails if a call or a connection is left."""
    server = TransportServer(handler, TransportSettings(node="server", **settings))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
    assert server.connections == set()
    await until(lambda: server.calls == 0)


@asynccontextmanager
async def linked(address: str, **settings: Any) -> AsyncIterator[Link]:
    """A link, which is closed on leaving."""
    link = Link(address, TransportSettings(node="caller", **settings))
    try:
        yield link
    finally:
        await link.close()


class Stranger:
    """The other end of a connection, byte by byte, whether that is our protocol or not."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._frames = FrameReader(2**30)
        self._read: list[Frame] = []

    def say_hello(self, hello: Hello | None = None) -> None:
        self.writer.write(encode_hello(hello or Hello("stranger", "waystation")))

    def send(self, *frames: Frame) -> None:
        self.writer.write(b"".join(map(encode_frame, frames)))

    async def hear(self) -> Frame:
        """The next frame."""
        while not self._read:
            data = await self.reader.read(65_536)
            assert data, "the other side has closed"
            self._read += self._frames.feed(data)
        return self._read.pop(0)

    async def until_closed(self) -> bytes:
        """What still comes before the other side closes, orderly or not."""
        rest = b""
        try:
            while piece := await self.reader.read(65_536):
                rest += piece
        except ConnectionError:
            pass
        return rest


@asynccontextmanager
async def stranger_to(address: str) -> AsyncIterator[Stranger]:
    """A connection to a server."""
    where = parse_address(address)
    assert isinstance(where, tuple)
    reader, writer = await asyncio.open_connection(*where)
    try:
        yield Stranger(reader, writer)
    finally:
        writer.transport.abort()


class Process:
    """A `Node` as a process of its own."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self._process = process
        self.address = address

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop it for a while: its sockets stay open. Returns once it stands still."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def node_process() -> Iterator[Process]:
    """Runs while the context lasts."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.transport_driver"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield Process(process, process.stdout.readline().strip())
        finally:
            process.kill()


async def _serve() -> None:
    server = TransportServer(Node(), TransportSettings(node="process", **QUICK))
    await server.start()
    print(server.address, flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(_serve())
