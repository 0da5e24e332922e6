"""The side that serves calls of other nodes.

What cannot be begun is refused as not done: too many calls in progress, no time left, a server that is
about to stop. A call whose caller has gone, or says that it does not wait any more, is cancelled: a long
poll must not take messages for nobody.

Backpressure: while the other side does not take its answers, no more calls are read from it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from waystation.cluster.frames import (
    ANSWER,
    CALL,
    CANCEL,
    FAILED,
    GOING_AWAY,
    NOT_DONE,
    PING,
    REFUSAL,
    Frame,
    FrameRefused,
    Hello,
    encode_hello,
)
from waystation.cluster.transport_connection import CallRefused, Connection
from waystation.cluster.transport_settings import TransportSettings, parse_address, server_tls

Handler = Callable[[int, bytes], Awaitable[bytes]]
"""Does one call, given its kind and payload. A future it returns costs less than a coroutine."""

_BACKLOG = 1_024
_STALE_S = 0.1
"""After a pause, for which what is read may have waited as long as the pause was."""
_CLOSE_S = 1.0

_logger = logging.getLogger(__name__)


class TransportServer:
    """Lifecycle: build it (no I/O), `start`, `drain` before what it serves stops, `stop`.

    Args:
        handler: raises, or fails with, `CallRefused`. Any other error is a bug: it is logged, and the
            caller learns that the outcome is unknown. When its future is cancelled, nobody waits for it.
        settings: where to listen, and what is bounded.
    """

    def __init__(self, handler: Handler, settings: TransportSettings) -> None:
        self.handler = handler
        self.settings = settings
        self.calls = 0
        """In progress, on all connections."""
        self.connections: set[_ServerConnection] = set()
        self.draining = False
        self.paused = Pause()
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tick_due_s = 0.0
        self._settled: asyncio.Event = asyncio.Event()

    @property
    def address(self) -> str:
        """Where it listens, with the port that was free."""
        assert self._server is not None
        name = self._server.sockets[0].getsockname()
        if isinstance(name, str):
            return f"unix:{name}"
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"

    async def start(self) -> None:
        """Listen. Raises `OSError` or `ValueError`: the address, an id or a TLS file cannot be used."""
        loop = asyncio.get_running_loop()
        encode_hello(Hello(self.settings.node, self.settings.cluster))  # fails now rather than later
        context = server_tls(self.settings)
        where = parse_address(self.settings.listen)
        handshake_s = None if context is None else self.settings.connect_timeout_s
        if isinstance(where, Path):
            self._server = await loop.create_unix_server(
                self._accept, str(where), backlog=_BACKLOG, ssl=context, ssl_handshake_timeout=handshake_s
            )
            where.chmod(0o600)
        else:
            self._server = await loop.create_server(
                self._accept, *where, backlog=_BACKLOG, ssl=context, ssl_handshake_timeout=handshake_s
            )
        self._plan_tick()

    def _accept(self) -> _ServerConnection:
        return _ServerConnection(self)

    def _plan_tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._tick_due_s = loop.time() + self.settings.ping_interval_s
        self._timer = loop.call_at(self._tick_due_s, self._tick)

    def _tick(self) -> None:
        now_s = asyncio.get_running_loop().time()
        self._notice_pause(now_s)
        for connection in list(self.connections):
            connection.tick()
        self._plan_tick()

    def _notice_pause(self, now_s: float) -> None:
        """Whether this process stood still: then what it reads next has waited as long."""
        late_s = now_s - self._tick_due_s
        if late_s > self.settings.ping_interval_s:
            self.paused.end(late_s, now_s)

    def late_ms(self, now_s: float) -> float:
        """How long what any connection reads now may have waited."""
        # Event loops may read before they look at timers.
        self._notice_pause(now_s)
        return self.paused.late_ms(now_s)

    async def drain(self) -> None:
        """Take no more calls, tell all callers, and let calls in progress end, for at most `drain_s`.

        Long polls should be ended by whoever serves them; this does not know them.
        """
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in self.connections:
            connection.say_going_away()
        if self.calls:
            self._settled.clear()
            try:
                async with asyncio.timeout(self.settings.drain_s):
                    await self._settled.wait()
            except TimeoutError:
                _logger.warning("calls are cut off", extra={"calls": self.calls})

    async def stop(self) -> None:
        """Close all connections; calls that are still in progress are cancelled."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close()
        try:
            await self._until_closed()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for connection in list(self.connections):
                connection.fail(ConnectionAbortedError("the server has stopped"))
            if self._server is not None:
                await self._until_closed()

    async def _until_closed(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_S):
                while self.connections:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            pass  # Whoever does not take the rest of its answers is cut off.

    def settle(self) -> None:
        """A connection is over, or the last call."""
        self._settled.set()


class Pause:
    """Remembers for a moment how long something was not read."""

    def __init__(self) -> None:
        self._length_s = 0.0
        self._until_s = 0.0

    def end(self, length_s: float, now_s: float) -> None:
        """It is over now."""
        self._length_s = length_s
        self._until_s = now_s + _STALE_S

    def late_ms(self, now_s: float) -> float:
        """How long what is read now may have waited."""
        return self._length_s * 1_000 if now_s < self._until_s else 0.0


class _ServerConnection(Connection):
    """One caller."""

    def __init__(self, server: TransportServer) -> None:
        super().__init__(server.settings)
        self._server = server
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._pause = Pause()
        self._paused_at_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        server = self._server
        if server.draining or len(server.connections) >= self.settings.connections_max:
            self.fail(ConnectionRefusedError("too many connections"))
        else:
            server.connections.add(self)

    def greeted(self) -> None:
        # Not before: who does not speak our protocol hears nothing of us. Before theirs is judged,
        # so that the other side can say why it is refused.
        self.say_hello()

    def opened(self) -> None:
        if self._server.draining:
            self.say_going_away()

    def say_going_away(self) -> None:
        """Tell the caller to make no more calls here; who has not said hello hears it then."""
        if self.peer is not None:
            self.send(GOING_AWAY)

    def fail(self, error: Exception) -> None:
        if isinstance(error, FrameRefused):
            _logger.warning("caller is refused", extra={"reason": str(error)})
            self.error = error
            self.close()  # not at once: it should hear our hello
        else:
            super().fail(error)

    def closed(self) -> None:
        self._server.connections.discard(self)
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.cancel()
        self._server.settle()

    def receive(self, frames: list[Frame]) -> None:
        now_s = self.heard_at
        late_ms = max(self._server.late_ms(now_s), self._pause.late_ms(now_s))
        for frame in frames:
            if frame.kind == CALL:
                self._begin(frame, late_ms)
            elif frame.kind == CANCEL:
                call = self._calls.get(frame.id)
                # What is done already cannot be cancelled: then the other side gets the answer all the same.
                if call is not None and call.cancel():
                    self._calls.pop(frame.id, None)
            elif frame.kind != PING:
                self.send(NOT_DONE, frame.id, b"Frames of this kind are not known here.")

    def _begin(self, frame: Frame, late_ms: float) -> None:
        server = self._server
        call_id = frame.id
        if reason := self._why_not(frame, late_ms):
            self.send(NOT_DONE, call_id, reason)
            return
        server.calls += 1
        try:
            awaitable = server.handler(frame.call_kind, frame.payload)
        except Exception as error:
            self._leave()
            self._answer_error(call_id, error)
            return
        call = awaitable if isinstance(awaitable, asyncio.Future) else asyncio.ensure_future(awaitable)
        self._calls[call_id] = call
        if call.done():
            self._end(call_id, call)
        else:
            call.add_done_callback(partial(self._end, call_id))

    def _why_not(self, frame: Frame, late_ms: float) -> bytes:
        """Why a call cannot be begun; empty when it can."""
        server = self._server
        if server.draining:
            return b"The node is about to stop."
        if len(self._calls) >= self.settings.connection_calls_max or server.calls >= self.settings.calls_max:
            return b"Too many calls are in progress."
        if frame.deadline_ms <= late_ms:
            return b"The call came too late."
        if frame.id in self._calls:
            return b"A call of this number is in progress."
        return b""

    def _end(self, call_id: int, call: asyncio.Future[Any]) -> None:
        self._leave()
        error = asyncio.CancelledError() if call.cancelled() else call.exception()
        if self._calls.pop(call_id, None) is None:
            return  # nobody waits for it any more
        if error is None and len(answer := call.result()) <= self.settings.frame_bytes_max:
            self.send(ANSWER, call_id, answer)
        else:
            self._answer_error(call_id, error or BufferError("the answer is too large to be sent"))
        if self.writing_paused and self.unsent_bytes() > self.settings.unsent_bytes_max:
            self.fail(BufferError("the other side does not take its answers"))

    def _leave(self) -> None:
        server = self._server
        server.calls -= 1
        if server.draining and not server.calls:
            server.settle()

    def _answer_error(self, call_id: int, error: BaseException) -> None:
        if isinstance(error, CallRefused):
            self.send(REFUSAL, call_id, error.payload)
            return
        if not isinstance(error, asyncio.CancelledError):
            _logger.error("call failed", exc_info=error)
        self.send(FAILED, call_id, b"The call has failed.")

    # Backpressure

    def pause_writing(self) -> None:
        super().pause_writing()
        self._paused_at_s = self._loop.time()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._paused_at_s is not None:
            now_s = self._loop.time()
            self._pause.end(now_s - self._paused_at_s, now_s)
            self._paused_at_s = None
            self._transport.resume_reading()

    def tick(self) -> None:
        if self._paused_at_s is None:
            super().tick()
        elif self._loop.time() - self._paused_at_s > self.settings.unsent_s_max:
            self.fail(TimeoutError("the other side does not take its answers"))
