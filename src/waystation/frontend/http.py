"""The HTTP server of the data plane: a listening socket, its connections and one sweep.

It knows HTTP and nothing of queues: complete requests go to one handler, whose
answers go back. See `http_connection` for what a connection does, and
`docs/decisions/0002-own-http-protocol-class.md` for why it is our own.

Always holds: no request costs a task or a timer, nothing is unlimited, and a
client's mistake never gives a 500.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time

from waystation.frontend.http_connection import HttpConnection
from waystation.frontend.http_messages import Handler, Request, Response
from waystation.frontend.http_state import ServerState
from waystation.frontend.settings import HttpSettings

__all__ = ["Handler", "HttpServer", "Request", "Response"]

_BACKLOG = 1_024
"""Connections the kernel holds for us, for a fleet of consumers that all reconnect at once."""

_TLS_CLOSE_S = 0.5
"""For a TLS client to confirm that the connection ends; one that is idle in a pool never does."""

_ABORT_S = 1.0
"""For the event loop to take note of aborted connections; one turn of it, really."""


class HttpServer:
    """Serves `handler` on one address.

    Lifecycle: build it (no I/O), `await start()` once, `await stop()` once, both in the
    same event loop. With `shares_port`, others may listen on the same port, and get their
    share of the connections.
    """

    port: int
    """The port it listens on, once started."""

    def __init__(self, settings: HttpSettings, handler: Handler, *, shares_port: bool = False) -> None:
        self._settings = settings
        self._shares_port = shares_port
        self._state = ServerState(settings, handler)
        self._server: asyncio.Server | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """How many clients are connected now. TLS handshakes that still run are not counted."""
        return len(self._state.connections)

    @property
    def buffered_bytes(self) -> int:
        """Bytes of bodies, whole or in part, that wait to be answered."""
        return self._state.buffered_bytes

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken, unknown or not allowed, or the TLS files
                cannot be used; the text says which and why.
        """
        settings = self._settings
        context = _tls_context(settings)
        loop = asyncio.get_running_loop()
        self._sweep()
        try:
            self._server = await loop.create_server(
                lambda: HttpConnection(self._state),
                settings.host,
                settings.port,
                backlog=_BACKLOG,
                reuse_port=self._shares_port,
                ssl=context,
                ssl_handshake_timeout=settings.read_timeout_s if context else None,
                ssl_shutdown_timeout=_TLS_CLOSE_S if context else None,
            )
        except OSError as error:
            self._stop_sweeping()
            raise cannot_listen(settings, error) from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close, answering first what is in progress.

        Stops accepting, closes idle connections and marks the last answer of every other with
        `Connection: close`. What is still open after `shutdown_grace_s` is aborted, its handler
        cancelled. Handlers that wait long (polls) should be ended by their service meanwhile:
        this does not know them. Cancelling it aborts everything at once.
        """
        self._state.stopping = True
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.drain()
        try:
            await self._until_all_are_closed(self._settings.shutdown_grace_s)
        finally:
            for connection in list(self._state.connections):
                connection.abort()
            self._stop_sweeping()
        # An aborted connection is over one turn of the loop later; its handler with it.
        await self._until_all_are_closed(_ABORT_S)

    async def _until_all_are_closed(self, seconds: float) -> None:
        if self._state.connections:
            self._state.none_left = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._state.none_left], timeout=seconds)

    def _sweep(self) -> None:
        """Tell all connections the time, and those whose deadline has passed that it has."""
        loop = asyncio.get_running_loop()
        state = self._state
        now = loop.time()
        state.set_time(now, time.time())
        for connection in list(state.connections):
            if connection.deadline <= now:
                connection.expire()
        self._sweep_timer = loop.call_later(state.sweep_interval_s, self._sweep)

    def _stop_sweeping(self) -> None:
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()


def cannot_listen(settings: HttpSettings, error: OSError) -> OSError:
    """The same error, which says where and why in words that are the same everywhere."""
    # Event loops word it differently; the operating system's own words are clear.
    number = error.errno or 0  # negative for names that do not resolve
    reason = os.strerror(number) if number > 0 else error.strerror or str(error)
    return OSError(error.errno, f"cannot listen on {settings.host}:{settings.port}: {reason}")


def _tls_context(settings: HttpSettings) -> ssl.SSLContext | None:
    """The context for the certificate, `None` without one. Raises `OSError` with what is wrong."""
    if settings.tls_certificate is None:
        if settings.tls_key is not None:
            raise OSError("tls_key is given without tls_certificate")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    for path in filter(None, (settings.tls_certificate, settings.tls_key)):
        path.open("rb").close()  # OpenSSL's own error would not name the file.
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        key = settings.tls_key or settings.tls_certificate
        raise OSError(
            f"the TLS certificate {settings.tls_certificate} and key {key} cannot be used: {error}"
        ) from error
    return context


def _no_password() -> str:
    """Without this, OpenSSL asks on the terminal."""
    raise ValueError("the key is protected by a password; a server needs it without")
