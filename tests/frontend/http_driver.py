"""Drives the HTTP server over real sockets, and checks that nothing is left behind."""

from __future__ import annotations

import asyncio
import functools
import inspect
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import pytest
import uvloop

from waystation.frontend.http import Handler, HttpServer, Request, Response
from waystation.frontend.settings import HttpSettings

Result = TypeVar("Result")

DEADLINE_S = 20.0
"""For anything that a test waits for; reached only when something hangs."""


def on_each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on uvloop and on asyncio's own event loop."""

    @functools.wraps(test)
    def run(new_loop: Callable[[], asyncio.AbstractEventLoop], **arguments: Any) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(within_deadline(test(**arguments)))

    signature = inspect.signature(test)
    new_loop = inspect.Parameter("new_loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[new_loop, *signature.parameters.values()]
    )
    loops = [uvloop.new_event_loop, asyncio.new_event_loop]
    parametrized = pytest.mark.parametrize("new_loop", loops, ids=["uvloop", "asyncio"])(run)
    return cast(Callable[..., None], parametrized)


async def within_deadline(work: Awaitable[Result]) -> Result:
    """Fail instead of hanging."""
    async with asyncio.timeout(DEADLINE_S):
        return await work


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition, which nothing announces, holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def echo(request: Request) -> Response:
    """Answers with what was asked."""
    return Response(
        200, request.body, "text/plain", (("x-method", request.method), ("x-target", request.target))
    )


class Poll:
    """A handler whose requests all wait until they are told to go on, like long polls."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self.waiting: list[asyncio.Future[bytes]] = []

    async def __call__(self, request: Request) -> Response:
        self.begun += 1
        future = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        try:
            return Response(200, await future, "text/plain")
        finally:
            self.ended += 1
            if future in self.waiting:
                self.waiting.remove(future)

    def answer(self, body: bytes = b"") -> None:
        """Let the oldest request go on."""
        self.waiting.pop(0).set_result(body)


@asynccontextmanager
async def serving(handler: Handler, **settings: Any) -> AsyncIterator[HttpServer]:
    """Run a server on a free port. Leaving fails if a task or a byte is left."""
    before = asyncio.all_tasks()
    settings.setdefault("shutdown_grace_s", 5.0)
    server = HttpServer(HttpSettings(port=0, **settings), handler)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
    assert server.connections == 0
    assert server.buffered_bytes == 0
    assert asyncio.all_tasks() == before


@dataclass
class Answer:
    """One HTTP answer as the client reads it."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """A client that sends what it is told, byte by byte, whether that is HTTP or not."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, with_body: bool = True) -> Answer:
        """Read exactly one answer; its body only if there should be one."""
        head = (await within_deadline(self._reader.readuntil(b"\r\n\r\n"))).decode("latin-1")
        status_line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = b""
        if with_body and "content-length" in headers:
            body = await within_deadline(self._reader.readexactly(int(headers["content-length"])))
        return Answer(int(status_line.split(" ")[1]), headers, body)

    async def until_closed(self) -> bytes:
        """What still comes before the server closes, orderly or not."""
        rest = b""
        try:
            while piece := await within_deadline(self._reader.read(65_536)):
                rest += piece
        except ConnectionError:
            pass
        return rest


@asynccontextmanager
async def connected(server: HttpServer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    """A client of the server, which is gone on leaving."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=tls)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


def post(body: bytes = b"", *headers: str, target: str = "/") -> bytes:
    """A request with a body of known length."""
    lines = ["Host: queue.test", f"Content-Length: {len(body)}", *headers]
    return head(f"POST {target} HTTP/1.1", *lines) + body


def head(*lines: str) -> bytes:
    """Request line and headers."""
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def chunked(*pieces: bytes) -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
