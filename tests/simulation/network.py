"""The network between clients, FrontEnds and owners: it delays, loses and doubles what it carries.

A request of a client is told of its fate as a TCP connection would tell: refused when nobody listens, closed
when the process dies, and nothing at all when packets are lost, until the client has waited long enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextvars import Context
from dataclasses import dataclass
from math import inf
from random import Random
from typing import Protocol

from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from tests.histories.history import Act
from waystation.frontend.http_messages import Request, Response


@dataclass(kw_only=True)
class NetworkWeather:
    """How the network behaves now."""

    delay_s: float = 0.001
    """Each way, up to twice as long."""
    slow: float = 0.0
    """Share of messages that take up to a thousand times as long."""
    lost: float = 0.0
    """Share of messages that never arrive, each way."""
    doubled: float = 0.0
    """Share of requests that arrive twice; nobody hears the answer to the second."""


class Listener(Protocol):
    """A process that answers requests."""

    name: str
    is_up: bool
    outlived_s: float
    """What it has asked others to do may be done for so long after its death."""
    doubt_s: float
    """The same, after it has said that it does not know what becomes of it."""
    context: Context
    """In which it works."""

    def handle(self, request: Request) -> Awaitable[Response]:
        """Answer one request."""


class Network:
    """All links. `cut` holds pairs of names between which nothing passes."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.weather = NetworkWeather()
        self.cut: set[tuple[str, str]] = set()
        self.stopped: set[str] = set()
        """Processes that do nothing for a while."""
        self.lost = 0
        """Messages that were, because of what is cut."""
        self._requests: dict[str, set[Exchange]] = {}
        self._exchanges = 0

    def number(self) -> int:
        """Of a new exchange: they are told of a death in the order in which they began."""
        self._exchanges += 1
        return self._exchanges

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is on its way to a process or worked on by one."""
        return not any(self._requests.values())

    def is_idle(self, name: str) -> bool:
        """Whether nothing is on its way to a process or worked on by it."""
        return not self._requests.get(name)

    def delay_s(self) -> float:
        random, weather = self.random.random, self.weather
        delay_s = weather.delay_s * 2 * random()
        return delay_s * 1_000 * random() if weather.slow and random() < weather.slow else delay_s

    def is_cut(self, one: str, other: str) -> bool:
        """Whether nothing passes between these two."""
        return bool(self.cut) and ((one, other) in self.cut or (other, one) in self.cut)

    def is_stopped(self, name: str) -> bool:
        """Whether a process does nothing for a while."""
        return name in self.stopped

    def loses(self, one: str, other: str) -> bool:
        """Whether a message between these two gets lost now."""
        if self.is_cut(one, other):
            self.lost += 1
            return True
        return self.weather.lost > 0 and self.random.random() < self.weather.lost

    async def request(
        self, client: str, server: Listener, request: Request, acts: list[Act], wait_s: float
    ) -> tuple[Response, Act]:
        """Send a request and wait for its answer. Adds an act for each time that it has arrived.

        Raises what botocore raises: `EndpointConnectionError` (nobody has heard it),
        `ConnectionClosedError` and `ReadTimeoutError` (nobody knows).
        """
        exchange = Exchange(self, client, server, request, acts)
        exchange.send(self.delay_s())
        if self.weather.doubled and self.random.random() < self.weather.doubled:
            Exchange(self, client, server, request, acts).send(self.delay_s() + self.delay_s() * 100)
        return await exchange.wait(wait_s)

    def expect(self, exchange: Exchange) -> None:
        self._requests.setdefault(exchange.server.name, set()).add(exchange)

    def forget(self, exchange: Exchange) -> None:
        self._requests[exchange.server.name].discard(exchange)

    def reset(self, name: str) -> None:
        """A process has died: its connections are closed, and what it worked on ends now."""
        for exchange in sorted(self._requests.get(name, ()), key=lambda each: each.number):
            exchange.reset()


class Exchange:
    """One request on its way, worked on, and its answer on the way back."""

    def __init__(
        self, network: Network, client: str, server: Listener, request: Request, acts: list[Act]
    ) -> None:
        self.number = network.number()
        self.server = server
        self._network = network
        self._client = client
        self._request = request
        self._acts = acts
        self._act: Act | None = None
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[tuple[Response, Act]] = self._loop.create_future()
        self._work: asyncio.Task[None] | None = None
        self._is_awaited = False

    def send(self, delay_s: float) -> None:
        if not self._network.loses(self._client, self.server.name):
            self._network.expect(self)
            self._loop.call_later(delay_s, self._arrive)

    async def wait(self, wait_s: float) -> tuple[Response, Act]:
        self._is_awaited = True
        timer = self._loop.call_later(wait_s, self._give_up)
        try:
            return await self._answer
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        if self._answer.done():
            return
        self._answer.set_exception(ReadTimeoutError(endpoint_url=self.server.name))
        # Half of the time the server notices that nobody is there any more, before it has answered.
        if self._work is not None and self._network.random.random() < 0.5:
            self._work.cancel()

    def _arrive(self) -> None:
        if not self.server.is_up:
            self._network.forget(self)
            self._fail(EndpointConnectionError(endpoint_url=self.server.name))
            return
        self._act = Act(self._loop.time())
        self._acts.append(self._act)
        self._work = self._loop.create_task(self._serve(self._act), context=self.server.context)
        self._work.add_done_callback(self._note_end)

    def _note_end(self, work: asyncio.Task[None]) -> None:
        """One that is cancelled before its first step, while its process hangs, has done nothing at all."""
        assert self._act is not None, "it has arrived"
        self._network.forget(self)
        if self._act.ended_s == inf:
            self._act.ended_s = self._loop.time()

    async def _serve(self, act: Act) -> None:
        try:
            response = await self.server.handle(self._request)
            act.ended_s = self._loop.time() + (self.server.doubt_s if response.status == 503 else 0)
        except asyncio.CancelledError:
            act.ended_s = self._loop.time() + self.server.outlived_s
            raise
        finally:
            self._network.forget(self)
        if not self._network.loses(self.server.name, self._client):
            self._loop.call_later(self._network.delay_s(), self._return, response, act)

    def _return(self, response: Response, act: Act) -> None:
        if not self._answer.done():
            self._answer.set_result((response, act))

    def reset(self) -> None:
        if self._act is None:
            return  # still on its way: it will find whoever is there then
        if self._work is not None:
            self._work.cancel()
        self._act.ended_s = self._loop.time() + self.server.outlived_s
        self._network.forget(self)
        self._fail(ConnectionClosedError(endpoint_url=self.server.name))

    def _fail(self, error: Exception) -> None:
        if self._is_awaited and not self._answer.done():
            self._answer.set_exception(error)
