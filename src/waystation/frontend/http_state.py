"""What all connections of one HTTP server share: who is there, what time it is, how much memory is left.

No I/O. Time is coarse: the server's sweep sets it a few times a second, so that
a request costs neither a clock reading nor a timer.
"""

from __future__ import annotations

import asyncio
import math
from email.utils import formatdate
from typing import Protocol

from waystation.frontend.http_messages import Handler
from waystation.frontend.settings import HttpSettings

NEVER = math.inf

_SWEEP_INTERVAL_MAX_S = 0.5
"""The Date header and all timeouts are this coarse. A sweep of 8 000 connections takes a millisecond."""

_SWEEP_INTERVAL_MIN_S = 0.01


class Connection(Protocol):
    """What the server asks of a connection."""

    deadline: float
    """When `expire` is due, in the time of `ServerState.now`; `NEVER` for no time."""

    def expire(self) -> None:
        """The deadline has passed."""

    def drain(self) -> None:
        """The server stops: close if nothing is in progress, otherwise with the last answer."""

    def abort(self) -> None:
        """Close at once, whatever is in progress."""

    def reconsider_reading(self) -> None:
        """There may be memory again to read a request into."""


class ServerState:
    """Shared by the connections of one server; only the event loop's thread touches it."""

    def __init__(self, settings: HttpSettings, handler: Handler) -> None:
        self.settings = settings
        self.handler = handler
        self.connections: set[Connection] = set()
        self.stopping = False
        self.none_left: asyncio.Future[None] | None = None
        """Done when the last connection has gone; made by whoever waits for that."""
        self.now = 0.0
        """Seconds on the event loop's clock at the last sweep."""
        self.date_line = ""
        """The Date header of every answer until the next sweep."""
        self.buffered_bytes = 0
        """Bodies of all requests that are not answered, whole or in part."""
        # Those that may not read on for lack of memory, longest waiting first.
        self._waiting: dict[Connection, None] = {}
        timeouts = (settings.idle_timeout_s, settings.read_timeout_s, settings.write_timeout_s)
        shortest = min(*timeouts, settings.half_closed_grace_s)
        self.sweep_interval_s = max(_SWEEP_INTERVAL_MIN_S, min(_SWEEP_INTERVAL_MAX_S, shortest / 4))

    def set_time(self, now: float, unix_s: float) -> None:
        """Take over the time of a sweep."""
        self.now = now
        self.date_line = f"Date: {formatdate(unix_s, usegmt=True)}\r\n"

    def forget(self, connection: Connection) -> None:
        """The connection is over."""
        self.connections.discard(connection)
        if self.none_left is not None and not self.connections and not self.none_left.done():
            self.none_left.set_result(None)

    def after(self, seconds: float) -> float:
        """The deadline of something that may take so long: never early, late by up to two sweeps."""
        return self.now + self.sweep_interval_s + seconds

    def hold(self, more_bytes: int) -> None:
        """Count bytes that a connection holds in addition, or fewer."""
        self.buffered_bytes += more_bytes
        if more_bytes < 0 and self._waiting:
            self._wake()

    def may_read(self, connection: Connection) -> bool:
        """Whether an unfinished request may be read on.

        If not, `reconsider_reading` will be called. The one that has waited longest
        may always: with all memory in unfinished requests, nothing would move again.
        """
        if self.buffered_bytes <= self.settings.buffered_bytes_max:
            return True
        self._waiting.setdefault(connection)
        return next(iter(self._waiting)) is connection

    def stop_waiting(self, connection: Connection) -> None:
        """The connection has a whole request, or is closing."""
        if connection in self._waiting:
            del self._waiting[connection]
            self._wake()

    def _wake(self) -> None:
        awake = list(self._waiting)
        if self.buffered_bytes > self.settings.buffered_bytes_max:
            awake = awake[:1]
        for connection in awake:
            # Not from here: we may be in the middle of that very connection's work.
            asyncio.get_running_loop().call_soon(connection.reconsider_reading)
