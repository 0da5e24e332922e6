"""Slow, silent, greedy and vanishing clients, and how the server stops. Nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from tests.frontend.http_driver import (
    Client,
    Poll,
    chunked,
    connected,
    echo,
    head,
    on_each_loop,
    post,
    serving,
    until,
)
from waystation.frontend.http import HttpServer, Request, Response
from waystation.frontend.settings import HttpSettings

SHORT_S = 0.2


@on_each_loop
async def test_an_idle_connection_is_closed() -> None:
    async with serving(echo, idle_timeout_s=SHORT_S) as server, connected(server) as client:
        client.send(post())
        assert (await client.answer()).status == 200
        began = time.monotonic()

        assert await client.until_closed() == b""
        assert time.monotonic() - began >= SHORT_S


@on_each_loop
async def test_a_connection_that_never_asks_is_closed() -> None:
    async with serving(echo, idle_timeout_s=SHORT_S) as server, connected(server) as client:
        assert await client.until_closed() == b""


@on_each_loop
async def test_line_breaks_do_not_keep_an_idle_connection_open() -> None:
    """They may stand before a request (RFC 9112, section 2.2), but are none."""
    async with serving(echo, idle_timeout_s=SHORT_S) as server, connected(server) as client:
        closed = asyncio.ensure_future(client.until_closed())
        while not closed.done():
            client.send(b"\r\n")
            await asyncio.sleep(0.001)

        assert await closed == b""


@pytest.mark.parametrize(
    "begun",
    [
        b"P",
        b"POST / HTTP/1.1\r\nHo",
        head("POST / HTTP/1.1", "Host: a", "Content-Length: 9") + b"x",
        head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked") + chunked(b"x")[:-2],
    ],
    ids=["method", "head", "body", "chunks"],
)
@on_each_loop
async def test_a_request_that_drips_in_is_given_up(begun: bytes) -> None:
    """Slowloris: each byte comes in time for an idle connection, and the last one never."""
    async with serving(echo, read_timeout_s=SHORT_S) as server, connected(server) as client:
        client.send(post(b"in time") + begun)
        assert (await client.answer()).body == b"in time"
        assert (await client.answer()).status == 408
        assert await client.until_closed() == b""


@on_each_loop
async def test_the_time_to_read_is_not_extended_by_each_byte() -> None:
    async with serving(echo, read_timeout_s=SHORT_S) as server, connected(server) as client:
        answer = asyncio.ensure_future(client.answer())
        client.send(b"POST / HTTP/1.1\r\nX: ")
        while not answer.done():
            client.send(b"x")
            await asyncio.sleep(0.001)

        assert (await answer).status == 408


@on_each_loop
async def test_the_time_to_read_begins_anew_with_each_request() -> None:
    async with serving(echo, read_timeout_s=SHORT_S) as server, connected(server) as client:
        request = post(b"body")
        client.send(request[:20])
        began = time.monotonic()
        while time.monotonic() - began < 4 * SHORT_S:
            # Every read ends one request and begins the next.
            client.send(request[20:] + request[:20])
            assert (await client.answer()).status == 200
            await asyncio.sleep(0.01)


@on_each_loop
async def test_a_request_that_waits_at_the_handler_has_all_the_time_it_needs() -> None:
    poll = Poll()
    async with (
        serving(poll, read_timeout_s=0.05, idle_timeout_s=0.05, write_timeout_s=0.05) as server,
        connected(server) as client,
        connected(server) as idle,
    ):
        client.send(post())
        await until(lambda: poll.begun == 1)
        assert await idle.until_closed() == b""
        poll.answer(b"at last")

        assert (await client.answer()).body == b"at last"


@on_each_loop
async def test_a_client_that_does_not_take_its_answer_is_cut_off() -> None:
    body = bytes(8_000_000)

    async def large(request: Request) -> Response:
        return Response(200, body, "text/plain")

    async with serving(large, write_timeout_s=SHORT_S) as server:
        with unread_socket(server) as client:
            client.sendall(post())
            await until(lambda: server.connections == 1)
            await until(lambda: server.connections == 0)


@on_each_loop
async def test_closing_does_not_wait_for_ever_for_a_client_that_does_not_read() -> None:
    body = bytes(8_000_000)

    async def large(request: Request) -> Response:
        return Response(200, body, "text/plain")

    async with serving(large, write_timeout_s=SHORT_S) as server:
        with unread_socket(server) as client:
            client.sendall(post(b"", "Connection: close"))
            await until(lambda: server.connections == 1)
            await until(lambda: server.connections == 0)


@on_each_loop
async def test_nothing_more_is_answered_while_the_client_does_not_take_its_answers() -> None:
    calls = 0
    body = bytes(8_000_000)

    async def large(request: Request) -> Response:
        nonlocal calls
        calls += 1
        return Response(200, body, "text/plain")

    async with serving(large) as server:
        with unread_socket(server) as client:
            client.sendall(post() * 5)
            await until(lambda: calls == 1)
            for _ in range(100):
                await asyncio.sleep(0)
            assert calls == 1

            reader, writer = await asyncio.open_connection(sock=client)
            slow = Client(reader, writer)
            for number in range(5):
                assert (await slow.answer()).body == body
                assert calls <= number + 2
            writer.close()


@contextlib.contextmanager
def unread_socket(server: HttpServer) -> Iterator[socket.socket]:
    """A client that reads nothing by itself, with little room for what it is sent."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(("127.0.0.1", server.port))
        yield client


@pytest.mark.parametrize("how", ["reset", "close"])
@on_each_loop
async def test_a_client_that_goes_while_its_request_waits_leaves_nothing(how: str) -> None:
    """The handler's `finally` has run, and the future it waited on says that nobody waits."""
    poll = Poll()
    async with serving(poll, half_closed_grace_s=0.05) as server:
        async with connected(server) as client:
            client.send(post(b"poll"))
            await until(lambda: poll.begun == 1)
            [future] = poll.waiting
            assert server.buffered_bytes == 4
            if how == "close":
                client.writer.close()
                await client.writer.wait_closed()
            else:
                client.writer.transport.abort()
        await until(lambda: server.connections == 0)

        assert poll.ended == 1
        assert future.cancelled()
        assert server.buffered_bytes == 0
        assert len(asyncio.all_tasks()) == 1


@on_each_loop
async def test_clients_with_unfinished_bodies_do_not_take_more_than_the_memory_for_all() -> None:
    """They get their turn one by one, and all are served in the end."""
    poll, body = Poll(), bytes(1_000_000)
    async with (
        serving(poll, buffered_bytes_max=2_000_000, body_bytes_max=1_000_000) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        clients = [await stack.enter_async_context(connected(server)) for _ in range(12)]
        for client in clients:
            client.send(post(body)[:-1])
        most = 0
        for _ in range(300):
            await asyncio.sleep(0)
            most = max(most, server.buffered_bytes)
        # Each may go beyond by what one read of its socket brings, and one by a body.
        assert most <= 2_000_000 + 1_000_000 + 12 * 262_144
        assert most < 12 * 900_000

        for client in clients:
            client.send(body[-1:])
        for _ in clients:
            await until(lambda: len(poll.waiting) > 0)
            poll.answer()
        for client in clients:
            assert (await client.answer()).status == 200
        assert server.buffered_bytes == 0


@on_each_loop
async def test_stopping_answers_what_is_in_progress_and_closes_what_is_idle() -> None:
    poll = Poll()
    async with serving(poll) as server, connected(server) as busy, connected(server) as idle:
        busy.send(post() + post())
        await until(lambda: poll.begun == 1 and server.connections == 2)
        stopping = asyncio.ensure_future(server.stop())

        assert await idle.until_closed() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)
        poll.answer(b"one")
        first = await busy.answer()
        await until(lambda: len(poll.waiting) == 1)
        assert not stopping.done()
        poll.answer(b"two")
        second = await busy.answer()

        assert "connection" not in first.headers
        assert second.headers["connection"] == "close"
        assert await busy.until_closed() == b""
        await stopping


@on_each_loop
async def test_stopping_lets_a_request_that_has_begun_arrive() -> None:
    async with serving(echo) as server, connected(server) as client:
        request = post(b"body")
        client.send(post() + request[:-2])
        assert (await client.answer()).status == 200
        stopping = asyncio.ensure_future(server.stop())
        await asyncio.sleep(0)
        client.send(request[-2:])

        assert (await client.answer()).body == b"body"
        await stopping


@on_each_loop
async def test_stopping_aborts_what_takes_longer_than_the_grace() -> None:
    poll = Poll()
    async with serving(poll, shutdown_grace_s=0.05) as server, connected(server) as client:
        client.send(post())
        await until(lambda: poll.begun == 1)
        await server.stop()

        assert (server.connections, poll.ended) == (0, 1)
        assert await client.until_closed() == b""


@on_each_loop
async def test_a_cancelled_stop_aborts_at_once() -> None:
    poll = Poll()
    async with serving(poll, shutdown_grace_s=60.0) as server, connected(server) as client:
        client.send(post())
        await until(lambda: poll.begun == 1)
        stopping = asyncio.ensure_future(server.stop())
        await asyncio.sleep(0)
        stopping.cancel()

        assert await client.until_closed() == b""
        await until(lambda: server.connections == 0 and poll.ended == 1)


def test_a_server_that_was_never_started_can_be_stopped() -> None:
    server = HttpServer(HttpSettings(), echo)

    asyncio.run(server.stop())

    assert server.connections == 0
