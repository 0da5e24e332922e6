"""A connection without a socket: bytes are handed to it, and what it writes is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from waystation.frontend.http_connection import HttpConnection
from waystation.frontend.http_messages import Handler
from waystation.frontend.http_state import ServerState
from waystation.frontend.settings import HttpSettings


class FakeTransport(asyncio.Transport):
    """Keeps back what comes while reading is paused, as a socket does."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = False
        self._paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_reading(self) -> bool:
        return not self._paused

    def pause_reading(self) -> None:
        assert not self._paused, "paused twice"
        self._paused = True

    def resume_reading(self) -> None:
        assert self._paused, "resumed without a pause"
        self._paused = False

    def write(self, data: Any) -> None:
        assert not self.ended, "written after the end"
        self.written += bytes(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True


class Conversation:
    """A client's side of one connection."""

    def __init__(self, handler: Handler, **settings: Any) -> None:
        self.state = ServerState(HttpSettings(**settings), handler)
        self.state.set_time(0.0, 0.0)
        self.transport = FakeTransport()
        self.connection = HttpConnection(self.state)
        self.connection.connection_made(self.transport)
        self._kept_back: list[bytes] = []

    def send(self, pieces: Iterable[bytes]) -> None:
        """Hand over each piece as one read, as far as the connection reads."""
        self._kept_back.extend(piece for piece in pieces if piece)
        while self._kept_back and self.transport.is_reading():
            self.connection.data_received(self._kept_back.pop(0))

    def lose(self) -> None:
        """The connection is over; nothing may be left of it."""
        self.connection.connection_lost(None)
        assert self.state.connections == set()
        assert self.state.buffered_bytes == 0

    @property
    def written(self) -> bytes:
        return self.transport.written
