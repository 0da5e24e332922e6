"""One client's connection: reads requests, has them answered in order, writes, and knows when to stop.

One request is at the handler at a time; the next are parsed ahead, up to a limit. Reading stops
while there is enough to do, answering stops while the client does not take its answers.
Three ways out: after an answer that said `Connection: close`; after a refusal, lingering so that
the client can read it; or at once, when the client has gone or lets us wait too long.
Invariant: `_settle` runs after everything that happens, and is the only place
where reading is switched and, while the connection is open, deadlines are set.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import cast

from waystation.frontend.http_calls import Call, begin
from waystation.frontend.http_messages import (
    CLOSE,
    CONTINUE,
    HttpRefusal,
    Request,
    Response,
    render,
)
from waystation.frontend.http_reader import NOTHING, RequestReader, Stage
from waystation.frontend.http_state import NEVER, ServerState

_SLICE_BYTES = 32_768
"""Parsed at a time. llhttp cannot be stopped between two requests, so this bounds how far a
read of small pipelined requests goes beyond `pipelined_max`."""

_EMPTY = memoryview(b"")

_LINGER_S = 2.0
"""For a client to read why it was refused. Closing with unread input would reset the connection,
and a reset discards what the client has not read yet (RFC 9112, section 9.6)."""


class HttpConnection(asyncio.Protocol):
    """One client.

    Lifecycle: made by the listening socket, over with `connection_lost`. Nothing survives that:
    a handler still at work is cancelled (`http_calls` says how).
    """

    __slots__ = (
        "_call",
        "_closing",
        "_current",
        "_half_closed",
        "_held_bytes",
        "_reader",
        "_reading",
        "_refusal",
        "_state",
        "_timed_stage",
        "_transport",
        "_unparsed",
        "_writing_paused",
        "deadline",
    )

    _reader: RequestReader
    _transport: asyncio.Transport

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self.deadline = NEVER
        self._call: Call | None = None
        self._current: tuple[Request, str] | None = None  # what `_call` answers
        self._refusal: HttpRefusal | None = None  # due once the requests before it are answered
        self._unparsed = _EMPTY  # received, but there is enough to do already
        self._held_bytes = 0  # what `ServerState.buffered_bytes` knows of
        self._reading = True
        self._writing_paused = False
        self._half_closed = False
        self._closing = False  # input is discarded from now on
        self._timed_stage: Stage | None = NOTHING  # whose deadline is running

    # What the event loop tells us.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        state = self._state
        self._transport = cast(asyncio.Transport, transport)
        secure = transport.get_extra_info("sslcontext") is not None
        self._reader = RequestReader(state.settings, secure=secure)
        if state.stopping or len(state.connections) >= state.settings.connections_max:
            self._closing = True
            self._transport.abort()
            return
        state.connections.add(self)
        self.deadline = state.after(state.settings.idle_timeout_s)

    def data_received(self, data: bytes) -> None:
        if self._closing or self._refusal is not None:
            return
        if self._unparsed:
            self._unparsed = memoryview(bytes(self._unparsed) + data)
        elif len(data) > _SLICE_BYTES:
            self._unparsed = memoryview(data)
        else:
            self._parse(data)
        self._go_on()

    def eof_received(self) -> bool:
        """The client sends no more, and may or may not wait for answers; over TLS it cannot."""
        if self._closing:
            return False
        if self._reader.secure or not (self._unanswered() or self._unparsed):
            self._close()
            return False
        self._half_closed = True
        self.deadline = self._state.after(self._state.settings.half_closed_grace_s)
        return True

    def pause_writing(self) -> None:
        self._writing_paused = True
        if not self._closing:
            self.deadline = self._state.after(self._state.settings.write_timeout_s)

    def resume_writing(self) -> None:
        self._writing_paused = False
        if not self._closing:
            self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.forget(self)
        self._let_go()
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    # What the server tells us.

    def expire(self) -> None:
        waits_for_client = not (self._closing or self._writing_paused or self._half_closed)
        if waits_for_client and self._reader.stage is NOTHING:
            self._close()
        elif waits_for_client:
            self._refuse(
                HttpRefusal(
                    HTTPStatus.REQUEST_TIMEOUT,
                    "RequestTimeoutException",
                    "The rest of the request did not arrive in time.",
                )
            )
        else:
            self.abort()

    def drain(self) -> None:
        begun = self._unanswered() or self._unparsed or self._reader.stage is not NOTHING
        if not begun and not self._closing:
            self._close()

    def abort(self) -> None:
        self._let_go()
        self._transport.abort()

    def reconsider_reading(self) -> None:
        if not self._closing:
            self._go_on()

    # The work.

    def _parse(self, data: bytes | memoryview) -> None:
        try:
            self._reader.feed(data)
        except HttpRefusal as refusal:
            self._refusal = refusal
            self._unparsed = _EMPTY

    def _go_on(self) -> None:
        """Answer and parse until there is nothing to do or something to wait for."""
        self._serve()
        while self._unparsed and self._may_read():
            piece = self._unparsed[:_SLICE_BYTES]
            self._unparsed = self._unparsed[_SLICE_BYTES:]
            self._parse(piece)
            self._serve()
        if not self._closing:
            self._settle()

    def _serve(self) -> None:
        """Answer the requests that are whole, in order, until one has to wait."""
        requests = self._reader.requests
        while requests and self._call is None and not self._writing_paused:
            self._current = requests.popleft()
            outcome = begin(self._state.handler, self._current[0], self._called_back)
            if isinstance(outcome, Call):
                self._call = outcome
            else:
                self._answer(outcome)

    def _called_back(self, response: Response) -> None:
        """The handler that had to wait is through."""
        self._call = None
        self._answer(response)
        if not self._closing:
            self._go_on()

    def _answer(self, response: Response) -> None:
        """Write the answer to the current request."""
        assert self._current is not None
        request, persistence = self._current
        self._current = None
        if self._closing:
            return
        if self._state.stopping and not self._reader.requests:
            persistence = CLOSE
        with_body = request.method != "HEAD"
        self._transport.write(render(response, self._state.date_line, persistence, with_body=with_body))
        self._reader.held_bytes -= len(request.body)
        self._timed_stage = None
        if persistence is CLOSE:
            self._close()

    def _settle(self) -> None:
        """Decide what to wait for now: the handler, the client, or memory."""
        reader = self._reader
        unanswered = self._unanswered()
        if not unanswered:
            if self._refusal is not None:
                return self._refuse(self._refusal)
            if self._half_closed and not self._unparsed:
                return self._close()
            if reader.continue_wanted:
                reader.continue_wanted = False
                self._transport.write(CONTINUE)
        may_read = self._may_read() and not self._unparsed
        if may_read is not self._reading and not self._half_closed:
            self._reading = may_read
            if may_read:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()
        self._set_deadline(unanswered)

    def _set_deadline(self, unanswered: bool) -> None:
        if self._writing_paused or self._half_closed:
            return  # Since that began, its own deadline runs.
        state, stage = self._state, self._reader.stage
        if unanswered:
            self.deadline = NEVER  # The handler's time is the handler's business.
            self._timed_stage = None
        elif stage is not self._timed_stage:
            # Once per pause, per head and per body, however slowly their bytes drip in.
            settings = state.settings
            seconds = settings.idle_timeout_s if stage is NOTHING else settings.read_timeout_s
            self.deadline = state.after(seconds)
            self._timed_stage = stage

    def _unanswered(self) -> bool:
        """Whether a whole request is at the handler or before it."""
        return self._call is not None or bool(self._reader.requests)

    def _may_read(self) -> bool:
        """Whether more input is welcome. Tells the server how much this connection holds."""
        state, reader = self._state, self._reader
        held_bytes = reader.held_bytes + len(self._unparsed)
        if held_bytes != self._held_bytes:
            state.hold(held_bytes - self._held_bytes)
            self._held_bytes = held_bytes
        if self._refusal is not None or len(reader.requests) >= state.settings.pipelined_max:
            return False
        if reader.stage is NOTHING and not self._unparsed:
            # Reads even when memory is short, or we would not learn that the client has gone.
            state.stop_waiting(self)
            return True
        return state.may_read(self)

    # Ways out.

    def _refuse(self, refusal: HttpRefusal) -> None:
        """Answer with an error, then discard input until the client has closed too, or for a while."""
        self._let_go()
        self.deadline = self._state.after(_LINGER_S)
        self._transport.write(render(refusal.response(), self._state.date_line, CLOSE, with_body=True))
        if self._half_closed:
            self._transport.close()
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        if not self._reading:
            self._transport.resume_reading()

    def _close(self) -> None:
        """Close once the client has taken what is written; `expire` ends it if it never does."""
        self._let_go()
        self.deadline = self._state.after(self._state.settings.write_timeout_s)
        self._transport.close()

    def _let_go(self) -> None:
        """Take no more input, and give back the memory of what has come and will not be answered."""
        self._closing = True
        self._unparsed = _EMPTY
        self._reader.close()
        self._state.hold(-self._held_bytes)
        self._held_bytes = 0
        self._state.stop_waiting(self)
