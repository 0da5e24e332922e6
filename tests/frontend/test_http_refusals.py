"""What the HTTP server refuses: no HTTP, too much of it, or what it does not do. Never with a 500."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.frontend.http_driver import (
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
from waystation.frontend.http import Request, Response

HOST = "Host: queue.test"
POST = "POST / HTTP/1.1"

REFUSED: dict[str, tuple[bytes, int]] = {
    "no HTTP at all": (b"hello\r\n\r\n", 400),
    "a TLS handshake": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "an unknown method": (head("BREW / HTTP/1.1", HOST), 400),
    "no target": (head("GET HTTP/1.1", HOST), 400),
    "bytes beyond ASCII in the target": (head("GET /\xff HTTP/1.1", HOST), 400),
    "bare line feeds": (b"GET / HTTP/1.1\nHost: queue.test\n\n", 400),
    "a space before a colon": (head(POST, HOST, "Content-Length : 0"), 400),
    "a folded header": (head(POST, HOST, "X: a\r\n b"), 400),
    "a zero byte in a header": (head(POST, HOST, "X: a\x00b"), 400),
    "no Host": (head(POST, "Content-Length: 0"), 400),
    "two Hosts": (head(POST, HOST, "Host: other.test"), 400),
    "twice the same Host": (head(POST, HOST, HOST), 400),
    "a Host that is none": (head(POST, 'Host: queue.test/"><script>'), 400),
    "a user in the target's host": (head("GET http://me@queue.test/ HTTP/1.1", HOST), 400),
    "two lengths": (head(POST, HOST, "Content-Length: 1", "Content-Length: 2") + b"xx", 400),
    "twice the same length": (head(POST, HOST, "Content-Length: 1", "Content-Length: 1") + b"x", 400),
    "a list of lengths": (head(POST, HOST, "Content-Length: 1, 1") + b"x", 400),
    "a negative length": (head(POST, HOST, "Content-Length: -1"), 400),
    "a length in hexadecimal": (head(POST, HOST, "Content-Length: 0x1") + b"x", 400),
    "an empty length": (head(POST, HOST, "Content-Length:"), 400),
    "a length of 30 digits": (head(POST, HOST, f"Content-Length: {'9' * 30}"), 400),
    "length and chunks": (
        head(POST, HOST, "Content-Length: 1", "Transfer-Encoding: chunked") + chunked(b"x"),
        400,
    ),
    "chunks and length": (
        head(POST, HOST, "Transfer-Encoding: chunked", "Content-Length: 1") + chunked(b"x"),
        400,
    ),
    "chunks in HTTP/1.0": (head("POST / HTTP/1.0", "Transfer-Encoding: chunked") + chunked(b"x"), 400),
    "chunked twice": (head(POST, HOST, "Transfer-Encoding: chunked, chunked") + chunked(b"x"), 400),
    "chunks and then compression": (head(POST, HOST, "Transfer-Encoding: chunked, gzip"), 400),
    "compression and then chunks": (head(POST, HOST, "Transfer-Encoding: gzip, chunked"), 501),
    "a chunk size that is none": (head(POST, HOST, "Transfer-Encoding: chunked") + b"xyz\r\n", 400),
    "a chunk longer than its size": (
        head(POST, HOST, "Transfer-Encoding: chunked") + b"1\r\nab\r\n",
        400,
    ),
    "a length of 1000 zeros": (head(POST, HOST, f"Content-Length: {'0' * 1_000}"), 413),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04", 505),
    "HTTP/2.0 by name": (head("POST / HTTP/2.0", HOST, "Connection: keep-alive"), 505),
    "HTTP/0.9 by name": (head("GET / HTTP/0.9", HOST), 505),
    "HTTP/3.0 by name": (head("GET / HTTP/3.0", HOST), 505),
    "a tunnel": (head("CONNECT other.test:443 HTTP/1.1", HOST), 501),
    "a switch to HTTP/2": (
        head(POST, HOST, "Connection: upgrade", "Upgrade: h2c", "Content-Length: 1") + b"x",
        501,
    ),
    "a switch to web sockets": (
        head("GET / HTTP/1.1", HOST, "Connection: Upgrade", "Upgrade: websocket"),
        501,
    ),
    "another expectation": (head(POST, HOST, "Expect: 200-ok", "Content-Length: 1"), 417),
    "a long target": (head(f"GET /{'x' * 1_100} HTTP/1.1", HOST), 414),
    "a target without an end": (b"GET /" + b"x" * 1_100, 414),
    "a large head": (head(POST, HOST, *(f"X-{number}: {'x' * 100}" for number in range(30))), 431),
    "a header without an end": (head(POST, HOST).removesuffix(b"\r\n") + b"X: " + b"x" * 50_000, 431),
    "a large head and a body with it": (
        head(POST, HOST, f"X: {'x' * 3_000}", "Content-Length: 5") + b"hello",
        431,
    ),
    "large trailers": (
        head(POST, HOST, "Transfer-Encoding: chunked") + b"0\r\n" + b"X: abc\r\n" * 300 + b"\r\n",
        431,
    ),
    "endless trailers": (
        head(POST, HOST, "Transfer-Encoding: chunked") + b"0\r\n" + b"X: y\r\n" * 10_000,
        431,
    ),
    "an endless chunk extension": (
        head(POST, HOST, "Transfer-Encoding: chunked") + b"5;" + b"x" * 50_000,
        431,
    ),
    "a large body, before it comes": (head(POST, HOST, "Content-Length: 10001"), 413),
    "a large body, that waits for leave": (
        head(POST, HOST, "Content-Length: 10001", "Expect: 100-continue"),
        413,
    ),
    "a large chunk": (head(POST, HOST, "Transfer-Encoding: chunked") + chunked(b"x" * 10_001), 413),
    "too many chunks": (head(POST, HOST, "Transfer-Encoding: chunked") + chunked(*[b"xy"] * 5_001), 413),
}
LIMITS = {"header_bytes_max": 2_000, "target_bytes_max": 1_000, "body_bytes_max": 10_000}

ERRORS = {408: "RequestTimeoutException", 413: "RequestEntityTooLargeException"}


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
@on_each_loop
async def test_it_is_refused_and_the_connection_closed(sent: bytes, status: int) -> None:
    """The client can read why, in the form of AWS's errors, although it has not read before."""
    async with serving(echo, **LIMITS) as server, connected(server) as client:
        client.send(sent)
        answer = await client.answer()

        assert answer.status == status
        assert answer.headers["connection"] == "close"
        error = ERRORS.get(status, "MalformedHttpRequestException")
        assert json.loads(answer.body)["__type"] == f"com.amazonaws.sqs#{error}"
        assert json.loads(answer.body)["message"]
        assert await client.until_closed() == b""
        client.writer.close()
        await until(lambda: server.connections == 0)


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
@on_each_loop
async def test_requests_before_the_refused_one_are_answered_first(sent: bytes, status: int) -> None:
    poll = Poll()
    async with serving(poll, **LIMITS) as server, connected(server) as client:
        client.send(post() + post() + sent)
        for _ in range(2):
            await until(lambda: len(poll.waiting) == 1)
            poll.answer()
            assert (await client.answer()).status == 200

        assert (await client.answer()).status == status
        assert poll.begun == 2


@on_each_loop
async def test_limits_are_exact() -> None:
    target = "/" + "x" * (LIMITS["target_bytes_max"] - 1)
    async with serving(echo, **LIMITS) as server, connected(server) as client:
        client.send(post(b"x" * LIMITS["body_bytes_max"], target=target))
        answer = await client.answer()

        assert (answer.status, len(answer.body)) == (200, LIMITS["body_bytes_max"])
        assert answer.headers["x-target"] == target


@on_each_loop
async def test_a_refused_client_that_goes_on_sending_can_still_read_why() -> None:
    """Closing while input is unread would reset the connection, and the answer would be lost."""
    async with serving(echo, **LIMITS) as server, connected(server) as client:
        client.send(head(POST, HOST, "Content-Length: 3000000"))
        assert (await client.answer()).status == 413
        for _ in range(30):
            client.send(bytes(100_000))
            await client.writer.drain()  # fails once the connection is reset

        assert await client.until_closed() == b""


@on_each_loop
async def test_a_refused_client_that_never_closes_is_cut_off() -> None:
    async with serving(echo) as server, connected(server) as client:
        client.send(b"hello\r\n\r\n")
        assert (await client.answer()).status == 400

        await until(lambda: server.connections == 0)


@on_each_loop
async def test_one_connection_more_than_allowed_is_closed_at_once() -> None:
    async with serving(echo, connections_max=2) as server:
        async with connected(server) as first, connected(server) as second:
            await until(lambda: server.connections == 2)
            async with connected(server) as third:
                assert await third.until_closed() == b""
            for client in (first, second):
                client.send(post(b"still served"))
                assert (await client.answer()).body == b"still served"
        await until(lambda: server.connections == 0)

        async with connected(server) as fourth:
            fourth.send(post(b"room again"))
            assert (await fourth.answer()).body == b"room again"


@on_each_loop
async def test_a_handler_that_fails_gives_a_500_without_a_trace(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: Request) -> Response:
        if request.target == "/later":
            await asyncio.sleep(0)
        raise ValueError("a secret")

    async with serving(fail) as server, connected(server) as client:
        for target in ("/now", "/later"):
            client.send(post(target=target))
            answer = await client.answer()

            assert answer.status == 500
            assert json.loads(answer.body)["__type"] == "com.amazonaws.sqs#InternalFailure"
            assert b"secret" not in answer.body
            assert "connection" not in answer.headers

    assert [record.getMessage() for record in caplog.records] == ["handler failed"] * 2
    assert all(record.levelname == "ERROR" and record.exc_info for record in caplog.records)
