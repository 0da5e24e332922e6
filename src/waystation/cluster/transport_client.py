"""The side that calls another node.

Each call ends in one of four ways: with its answer; refused by who serves it (`CallRefused`); `NotDone`, when
it is certain that nothing was done; `OutcomeUnknown`, when it was on its way and no answer came. Whoever
calls relies on the difference: what was not done can be done elsewhere, what is unknown may be done twice.

Invariant: a call is written only while `written` is false, and `NotDone` is said by this side only while it
still is.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast, overload

from waystation.backend.errors import NotDone as NotDone
from waystation.cluster.breaker import CircuitBreaker
from waystation.cluster.frames import (
    ANSWER,
    CALL,
    CANCEL,
    DEADLINE_MAX_MS,
    FAILED,
    GOING_AWAY,
    NOT_DONE,
    REFUSAL,
    Frame,
)
from waystation.cluster.transport_connection import CallRefused, Connection
from waystation.cluster.transport_settings import TransportSettings, client_tls, parse_address
from waystation.protocol.errors import Unavailable

Result = TypeVar("Result")

_FIRST_RETRY_S = 0.05
_SWEEP_S = 0.025
"""Between two looks for calls whose time is over: timers of their own would cost more than the calls."""
_ABANDONED_MAX = 4_096
"""Calls that nobody waits for any more and whose answers matter all the same. Most are never answered, as the
other side hears in time that nobody waits; those that are, are within the time of a round trip."""
_WRITE_BYTES = 262_144
"""Of calls handed to the event loop at once; the others stay where it is certain that they are not done."""

_logger = logging.getLogger(__name__)


class OutcomeUnknown(Unavailable):
    """The link broke, or the time was over, after the call was written: it may have been done, or will be."""


class Call(asyncio.Future[Any]):
    """A call on its way, and the future of its answer. Cancelling it tells the other side."""

    __slots__ = ("_link", "deadline_s", "id", "kind", "late", "payload", "read", "refuse", "written")

    def __init__(
        self,
        link: Link,
        call_id: int,
        kind: int,
        payload: bytes,
        deadline_s: float,
        read: Callable[[bytes], Any] | None,
        refuse: Callable[[bytes], Exception],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(loop=loop)
        self._link = link
        self.id = call_id
        self.kind = kind
        self.payload = payload
        self.deadline_s = deadline_s
        self.read = read
        self.refuse = refuse
        self.late: Callable[[Any], None] | None = None
        """Gets an answer that comes when nobody waits for it any more."""
        self.written = False

    def cancel(self, msg: Any | None = None) -> bool:
        """As any future; the call may be done all the same."""
        was_waiting = super().cancel(msg)
        if was_waiting:
            self._link.forget(self)
        return was_waiting


class Link:
    """Calls to one node, over one connection at a time.

    Lifecycle: build it (no I/O); the first call connects, and from then on it connects again by itself
    until `close`.
    """

    def __init__(self, address: str, settings: TransportSettings) -> None:
        self.address = address
        self._settings = settings
        self._breaker = CircuitBreaker(settings.breaker_failures, settings.breaker_open_s)
        self._calls: dict[int, Call] = {}
        self._abandoned: dict[int, Call] = {}
        self._unwritten: list[Call] = []
        self._unwritten_bytes = 0
        self._next_id = 1
        self._connection: _LinkConnection | None = None
        self._connecting = True
        """Whether it is worth waiting for a connection: not between two attempts."""
        self._was_lost = False
        """Told of in the log, once for each time that it is lost."""
        self._task: asyncio.Task[None] | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._heard_at_s = -math.inf
        self._why_not = "The node has not been connected to."
        self.is_refused = False
        """Whether nobody listened at the address when that was last tried, though its machine answered."""
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @overload
    def call(self, kind: int, payload: bytes, timeout_s: float) -> asyncio.Future[bytes]: ...

    @overload
    def call(
        self,
        kind: int,
        payload: bytes,
        timeout_s: float,
        read: Callable[[bytes], Result],
        refuse: Callable[[bytes], Exception],
        late: Callable[[Result], None] | None = None,
    ) -> asyncio.Future[Result]: ...

    def call(
        self,
        kind: int,
        payload: bytes,
        timeout_s: float,
        read: Callable[[bytes], Any] | None = None,
        refuse: Callable[[bytes], Exception] = CallRefused,
        late: Callable[[Any], None] | None = None,
    ) -> asyncio.Future[Any]:
        """Make a call. Nothing is raised: all errors are the future's.

        Args:
            kind: what the other side's handler tells calls apart by, below 65 536.
            payload: at most `frame_bytes_max`.
            timeout_s: until it fails, some 25 ms more; the other side does not begin after that.
            read: makes the result of the answer's bytes; without it, they are the result.
            refuse: makes the error of a refusal's bytes.
            late: gets the result, if it can still be had, when nobody waits for it any more.

        Errors: `CallRefused`, or what `refuse` makes; `NotDone`; `OutcomeUnknown`.
        """
        loop = self._loop or self._start()
        now_s = loop.time()
        call = Call(self, self._next_id, kind, payload, now_s + timeout_s, read, refuse, loop)
        call.late = late
        self._next_id += 1
        if reason := self._refusal(payload, now_s):
            call.set_exception(NotDone(reason))
            return call
        self._calls[call.id] = call
        self._unwritten.append(call)
        self._unwritten_bytes += len(payload)
        if self._connection is not None:
            self._connection.plan()
        if self._sweeping is None:
            self._sweeping = loop.call_later(_SWEEP_S, self._sweep)
        return call

    def _refusal(self, payload: bytes, now_s: float) -> str:
        """Why a call cannot even wait; empty when it can."""
        settings = self._settings
        if self._closed or (self._connection is None and not self._connecting):
            return self._why_not
        if self._connection is not None and self._connection.going_away:
            return "The node is about to stop."
        if len(payload) > settings.frame_bytes_max:
            return f"The call has {len(payload)} bytes; at most {settings.frame_bytes_max} can be sent."
        if len(self._calls) >= settings.connection_calls_max:
            return "Too many calls to the node are in progress."
        if self._unwritten_bytes + len(payload) > settings.unsent_bytes_max:
            return "Too much waits to be sent to the node."
        if not self._breaker.allows(now_s):
            return "The node has not answered for a while."
        return ""

    def connect(self) -> None:
        """Connect now, and not with the first call. Does nothing when that has begun."""
        if self._loop is None:
            self._start()

    def is_alive(self) -> bool:
        """Whether the node is connected, has been heard lately, and is not about to stop."""
        return self._connection is not None and not self._connection.going_away

    @property
    def last_heard_s(self) -> float:
        """Seconds since anything was heard of the node; infinite when nothing ever was."""
        if self._loop is None:
            return math.inf
        heard_at_s = self._heard_at_s if self._connection is None else self._connection.heard_at
        return self._loop.time() - heard_at_s

    @property
    def peer(self) -> str | None:
        """The id of the node at the other end; None while there is none."""
        connection = self._connection
        return None if connection is None or connection.peer is None else connection.peer.node

    async def close(self) -> None:
        """Disconnect, for good. Calls in progress fail."""
        self._closed = True
        self._why_not = "The link to the node is closed."
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        # Not by the task: one that is cancelled before its first step does nothing at all.
        self._fail_calls(self._why_not)
        if self._sweeping is not None:
            self._sweeping.cancel()

    # Connecting

    def _start(self) -> asyncio.AbstractEventLoop:
        # Kept, because asking asyncio for it costs a system call (getpid) each time.
        self._loop = asyncio.get_running_loop()
        if not self._closed:
            self._task = self._loop.create_task(self._stay_connected(), name=f"link-{self.address}")
        return self._loop

    async def _stay_connected(self) -> None:
        delay_s = _FIRST_RETRY_S
        while True:
            self._connecting = True
            if await self._live_once():
                delay_s = _FIRST_RETRY_S
            self._connecting = False
            # Spread, so that all who have lost the same node do not come back at once.
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311
            delay_s = min(2 * delay_s, self._settings.reconnect_delay_max_s)

    async def _live_once(self) -> bool:
        """Connect, and return when that has failed (False) or the connection is over (True)."""
        connection: _LinkConnection | None = None
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                connection = await self._connect()
                await connection.ready
        except (OSError, ValueError, TimeoutError) as error:
            if connection is not None:
                connection.fail(error)
            self.is_refused = isinstance(error, ConnectionRefusedError | FileNotFoundError)
            self._lose(f"cannot be reached: {str(error) or type(error).__name__}")
            return False
        except BaseException:
            if connection is not None:
                connection.fail(ConnectionAbortedError())
            raise
        self.is_refused = self._was_lost = False
        self._connection = connection
        self._breaker.try_again()
        connection.plan()
        try:
            while not connection.over.done():
                await asyncio.wait([connection.over], timeout=self._settings.ping_interval_s)
                connection.tick()
        finally:
            self._heard_at_s = connection.heard_at
            self._connection = None
            # Not closed: that would still write the calls that wait.
            connection.fail(ConnectionAbortedError("the link was closed"))
        self._lose(f"was lost: {connection.error or 'the other side has closed the connection'}")
        return True

    async def _connect(self) -> _LinkConnection:
        loop = asyncio.get_running_loop()
        context = client_tls(self._settings)
        where = parse_address(self.address)
        if isinstance(where, Path):
            _, connection = await loop.create_unix_connection(
                self._new_connection, str(where), ssl=context, server_hostname="" if context else None
            )
        else:
            _, connection = await loop.create_connection(self._new_connection, *where, ssl=context)
        return connection

    def _new_connection(self) -> _LinkConnection:
        return _LinkConnection(self, self._settings)

    def _lose(self, what: str) -> None:
        reason = f"The node at {self.address} {what}."
        if not self._was_lost:
            _logger.warning("node is not connected", extra={"address": self.address, "reason": reason})
        self._was_lost = True
        assert self._loop is not None
        self._breaker.failed(self._loop.time())
        self._why_not = reason
        self._fail_calls(reason)

    def _fail_calls(self, reason: str) -> None:
        calls, self._calls = self._calls, {}
        self._abandoned.clear()
        self._unwritten = []
        self._unwritten_bytes = 0
        for call in calls.values():
            call.set_exception(OutcomeUnknown(reason) if call.written else NotDone(reason))

    # Writing and reading

    def write(self, connection: _LinkConnection) -> bool:
        """Write calls that wait; returns whether there are more."""
        assert self._loop is not None
        now_s = self._loop.time()
        written_bytes = 0
        for count, call in enumerate(self._unwritten, 1):
            payload, call.payload = call.payload, b""
            self._unwritten_bytes -= len(payload)
            left_ms = int((call.deadline_s - now_s) * 1_000)
            if call.done() or left_ms <= 0:
                continue  # the sweep says that it was not done
            call.written = True
            connection.send(CALL, call.id, payload, call.kind, min(left_ms, DEADLINE_MAX_MS))
            written_bytes += len(payload)
            if written_bytes >= _WRITE_BYTES:
                del self._unwritten[:count]
                return bool(self._unwritten)
        self._unwritten.clear()
        return False

    def receive(self, connection: _LinkConnection, frames: list[Frame]) -> None:
        """Give answers to who waits for them."""
        for frame in frames:
            call = self._calls.pop(frame.id, None)
            if call is None:  # nobody waits any more, or it is no answer
                connection.going_away = connection.going_away or frame.kind == GOING_AWAY
                self._receive_late(frame)
                continue
            if self._breaker.failures:
                self._breaker.succeeded()
            if frame.kind == ANSWER:
                read = call.read
                if read is None:
                    call.set_result(frame.payload)
                else:
                    self._read(call, read, frame.payload)
            else:
                call.set_exception(_error(call, frame))

    def _read(self, call: Call, read: Callable[[bytes], Any], payload: bytes) -> None:
        try:
            result = read(payload)
        except ValueError as error:
            call.set_exception(OutcomeUnknown(f"The node's answer cannot be read: {error}"))
        else:
            call.set_result(result)

    def _receive_late(self, frame: Frame) -> None:
        call = self._abandoned.pop(frame.id, None)
        if call is not None and frame.kind == ANSWER and call.read is not None and call.late is not None:
            with suppress(ValueError):  # what cannot be read, nobody was waiting for
                call.late(call.read(frame.payload))

    def forget(self, call: Call) -> None:
        """Its caller waits no more."""
        if self._calls.pop(call.id, None) is None:
            return
        if call.written and self._connection is not None:
            self._connection.send(CANCEL, call.id)
            if call.late is not None:
                self._abandoned[call.id] = call
                if len(self._abandoned) > _ABANDONED_MAX:
                    del self._abandoned[next(iter(self._abandoned))]

    def _sweep(self) -> None:
        """End the calls whose time is over."""
        loop = cast(asyncio.AbstractEventLoop, self._loop)
        now_s = loop.time()
        late = [call for call in self._calls.values() if call.deadline_s <= now_s]
        for call in late:
            self.forget(call)
            if call.written:
                call.set_exception(OutcomeUnknown("The node has not answered in time."))
            else:
                call.set_exception(NotDone("The call could not be sent in time."))
        if late:
            self._breaker.failed(now_s)
        self._sweeping = loop.call_later(_SWEEP_S, self._sweep) if self._calls else None


def _error(call: Call, frame: Frame) -> Exception:
    text = frame.payload.decode(errors="replace")
    if frame.kind == REFUSAL:
        try:
            return call.refuse(frame.payload)
        except ValueError as error:
            return OutcomeUnknown(f"The node's refusal cannot be read: {error}")
    if frame.kind == NOT_DONE:
        return NotDone(text)
    return OutcomeUnknown(text if frame.kind == FAILED else "The node's answer is of an unknown kind.")


class _LinkConnection(Connection):
    """One connection of a link."""

    def __init__(self, link: Link, settings: TransportSettings) -> None:
        super().__init__(settings)
        self._link = link
        self.going_away = False
        self.ready: asyncio.Future[None] = self._loop.create_future()
        """Done when both have said hello; failed when the connection is over before."""
        self.over: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.say_hello()

    def opened(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def plan(self) -> None:
        """Have the link's calls written at the end of this turn."""
        if not self._flush_planned:
            self._plan_flush()

    def fill(self) -> None:
        if self.peer is not None and self._link.write(self):
            self._plan_flush()

    def receive(self, frames: list[Frame]) -> None:
        self._link.receive(self, frames)

    def closed(self) -> None:
        if not self.ready.done():
            self.ready.set_exception(self.error or ConnectionResetError("closed before it said hello"))
            self.ready.exception()  # nobody may wait for it any more, which asyncio would complain of
        if not self.over.done():
            self.over.set_result(None)
