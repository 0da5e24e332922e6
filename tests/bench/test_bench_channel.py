"""The load generator's awaited calls: a connection that is kept, closed, or refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from bench.channel import Channel
from bench.connection import Meter
from bench.signing import Signer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}"

Talk = Callable[[Channel, "Peer"], Awaitable[None]]


class Peer:
    """Answers each request with the next of its answers."""

    def __init__(self, *answers: bytes, closes: bool = False) -> None:
        self._answers = iter(answers)
        self._closes = closes
        self.conversations: list[asyncio.Task[None]] = []

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.conversations.append(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # the client has closed
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split(b"\r")[0]))
                writer.write(next(self._answers))
                if self._closes:
                    break
        writer.close()
        await writer.wait_closed()


def talk(make_peer: Callable[[], Peer], conversation: Talk, *, is_kept: bool = True) -> int:
    """Returns how many connections there were."""

    async def run() -> int:
        peer = make_peer()
        async with await asyncio.start_server(peer.accept, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            host = f"127.0.0.1:{port}"
            channel = Channel(f"http://{host}", Signer(host, "id", "secret"), Meter(), is_kept=is_kept)
            await conversation(channel, peer)
            channel.close()
            await asyncio.gather(*peer.conversations)
        return len(peer.conversations)

    return asyncio.run(run())


async def two_calls(channel: Channel, _: Peer) -> None:
    for _number in range(2):
        assert await channel.call("SendMessage", {"MessageBody": "hello"}) == b"{}"


def test_calls_share_a_connection_that_is_kept() -> None:
    assert talk(lambda: Peer(OK, OK), two_calls) == 1


def test_each_call_has_a_connection_of_its_own_where_none_is_kept() -> None:
    assert talk(lambda: Peer(OK, OK), two_calls, is_kept=False) == 2


def test_a_connection_that_the_server_has_closed_is_opened_anew() -> None:
    """A server closes what has been idle for long."""

    async def call_before_and_after(channel: Channel, peer: Peer) -> None:
        await channel.call("SendMessage", {})
        await asyncio.gather(*peer.conversations)
        while channel.is_open:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await channel.call("SendMessage", {})

    assert talk(lambda: Peer(OK, OK, closes=True), call_before_and_after) == 2


def test_any_answer_but_200_is_an_error_and_the_next_call_has_a_new_connection() -> None:
    async def be_refused(channel: Channel, _: Peer) -> None:
        with pytest.raises(RuntimeError, match=r"SendMessage was answered with HTTP.* 503"):
            await channel.call("SendMessage", {})
        await channel.call("SendMessage", {})

    assert talk(lambda: Peer(BUSY, OK), be_refused) == 2
