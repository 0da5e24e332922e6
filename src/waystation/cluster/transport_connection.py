"""One end of a connection between two nodes: what the side that calls and the side that serves share.

Whoever connects says hello first; the other side answers with its own. Frames that are sent in one turn of
the event loop leave in one write. A side that has had nothing to say for an interval says that it is
alive, so that silence means a dead peer, also while a large frame is on its way in the other direction.

Always: after `connection_lost`, and after `abort`, nothing is sent and no frame is reported.
"""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from waystation.cluster.frames import (
    HEADER,
    PING,
    Frame,
    FrameReader,
    FrameRefused,
    Hello,
    common_version,
    encode_hello,
)
from waystation.cluster.transport_settings import TransportSettings

_HEADER_BYTES = HEADER.size
_JOINED_BYTES = 8_192
"""Of what is sent in one turn, on average: smaller pieces are joined, as each write, and each record of TLS,
costs something; of larger ones the copy would cost more."""

_logger = logging.getLogger(__name__)


class CallRefused(Exception):
    """The other side refuses a call; `payload` says how, in whatever words both sides know."""

    def __init__(self, payload: bytes) -> None:
        super().__init__(payload)
        self.payload = payload


class Connection(asyncio.Protocol):
    """Lifecycle: made by the event loop for a socket, over with `connection_lost`.

    Subclasses do something in `opened`, `receive`, `closed`, and maybe `fill`. Who made it calls `tick`
    every `ping_interval_s`.
    """

    _transport: asyncio.Transport

    def __init__(self, settings: TransportSettings) -> None:
        self.settings = settings
        self.peer: Hello | None = None
        """The other side, once both have said hello; None again when the connection is over."""
        self.heard_at = 0.0
        """By the event loop's clock."""
        self.version = 0
        """Of the protocol, once both have said hello."""
        self.writing_paused = False
        self.error: Exception | None = None
        """Why the connection was or could not be used, if that is known."""
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(settings.frame_bytes_max)
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._flush_planned = False
        self._closing = False
        self._silent_ticks = 0
        self._has_sent = False

    # What subclasses do.

    def opened(self) -> None:
        """Both have said hello: frames can be sent."""

    def receive(self, frames: list[Frame]) -> None:
        """Frames have come; at least one."""

    def fill(self) -> None:
        """Last chance to `send` something with this write."""

    def closed(self) -> None:
        """The connection is over."""

    # What the event loop tells us.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self.settings.unsent_bytes_high)

    def say_hello(self) -> None:
        """The first thing to be sent."""
        self._transport.write(encode_hello(Hello(self.settings.node, self.settings.cluster)))

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self.heard_at = self._loop.time()
        try:
            frames = self._reader.feed(data)
            if self.peer is None and not self._greet():
                return  # and it stays silent, as far as `tick` knows
        except FrameRefused as refused:
            self.fail(refused)
            return
        self._silent_ticks = 0
        if frames:
            self.receive(frames)

    def _greet(self) -> bool:
        """Whether the other side has said hello."""
        theirs = self._reader.hello
        if theirs is None:
            return False
        self.greeted()
        self.version = common_version(Hello(self.settings.node, self.settings.cluster), theirs)
        self.peer = theirs
        self.opened()
        return True

    def greeted(self) -> None:
        """The other side's hello has come, and may be one that we refuse."""

    def pause_writing(self) -> None:
        self.writing_paused = True

    def resume_writing(self) -> None:
        self.writing_paused = False
        self._plan_flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = self.error or exc
        self._closing = True
        self._outbox = []
        self.peer = None
        self.closed()

    # Sending

    def send(
        self, kind: int, call_id: int = 0, payload: bytes = b"", call_kind: int = 0, deadline_ms: int = 0
    ) -> None:
        """Have a frame written at the end of this turn of the loop, or when the other side takes more."""
        payload_bytes = len(payload)
        self._outbox += (HEADER.pack(payload_bytes, kind, 0, call_kind, deadline_ms, call_id), payload)
        self._outbox_bytes += payload_bytes + _HEADER_BYTES
        if not self._flush_planned:
            self._plan_flush()

    def _plan_flush(self) -> None:
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        if self.writing_paused or self._closing:
            return
        self._write()

    def _write(self) -> None:
        self.fill()
        outbox = self._outbox
        if outbox:
            outbox_bytes = self._outbox_bytes
            self._has_sent = True
            self._outbox = []
            self._outbox_bytes = 0
            if outbox_bytes > _JOINED_BYTES * len(outbox):
                self._transport.writelines(outbox)
            else:
                self._transport.write(b"".join(outbox))

    def unsent_bytes(self) -> int:
        """Bytes that the other side has not taken yet, beyond what the operating system holds."""
        return self._outbox_bytes + self._transport.get_write_buffer_size()

    # Life and death

    def tick(self) -> None:
        """An interval is over: say that we are alive, or notice that the other side is not.

        Counted in intervals, not in seconds, so that a pause of this process is not taken for the
        other side's silence.
        """
        self._silent_ticks += 1
        if self._silent_ticks >= self.settings.pings_lost_max:
            self.fail(TimeoutError("the other side is silent"))
        elif self.peer is not None and not self._has_sent and not self.writing_paused:
            self.send(PING)
        self._has_sent = False

    def fail(self, error: Exception) -> None:
        """Break the connection at once; what it is good for is in doubt."""
        self.error = self.error or error
        self._closing = True
        self._transport.abort()

    def close(self) -> None:
        """Send what is to be sent, then close."""
        if not self._closing:
            self._write()
            self._closing = True
            self._transport.close()
