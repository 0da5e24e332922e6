"""A connection of the load generator for one call at a time, awaited like any other coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from time import perf_counter
from urllib.parse import urlsplit

import msgspec

from bench.connection import Connection, Meter
from bench.signing import Signer
from bench.workload import Call

CALL_TIMEOUT_S = 60.0


class Channel:
    """Opens its connection with the first call, and anew when the server has closed it or a call failed.

    Lifecycle: build it (no I/O), `call` from one task at a time, `close` at the end.
    """

    def __init__(self, url: str, signer: Signer, meter: Meter, *, is_kept: bool = True) -> None:
        """With `is_kept` false, each call has a connection of its own."""
        address = urlsplit(url)
        if address.hostname is None or address.port is None:
            raise ValueError(f"{url} has no host and port")
        self._address = (address.hostname, address.port)
        self._signer = signer
        self._meter = meter
        self._is_kept = is_kept
        self._connection: Connection | None = None
        self._answered: asyncio.Future[bytes] | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None and self._connection.is_open

    async def call(self, operation: str, arguments: dict[str, object], due: float | None = None) -> bytes:
        """The body of the answer. Latency counts from `due`, by `perf_counter`, or from now.

        Raises:
            RuntimeError: any answer but 200.
            OSError: there is no connection, or none any more.
            TimeoutError: no answer came. Like the other two, it may have happened all the same.
        """
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answered = answered

        def task() -> Generator[Call, bytes, None]:
            body = yield Call(operation, msgspec.json.encode(arguments))
            if not answered.done():
                answered.set_result(body)

        due = perf_counter() if due is None else due
        is_over = False
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                if self._connection is None or not self.is_open:
                    self._connection = await self._open()
                self._connection.run(task(), due)
                body = await answered
            is_over = True
        finally:
            if not (is_over and self._is_kept):
                self.close()
        return body

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _open(self) -> Connection:
        connection = Connection(self._signer, self._meter, lambda _: None, self._failed)
        await asyncio.get_running_loop().create_connection(lambda: connection, *self._address)
        return connection

    def _failed(self, error: BaseException) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)
