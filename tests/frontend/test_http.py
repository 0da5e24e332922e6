"""The HTTP server as well-behaved clients see it: persistence, pipelining, bodies, answers."""

from __future__ import annotations

import asyncio
import re
import socket
from email.utils import parsedate_to_datetime

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
from waystation.frontend.http import HttpServer, Request, Response
from waystation.frontend.settings import HttpSettings


@on_each_loop
async def test_one_connection_carries_many_requests() -> None:
    async with serving(echo) as server, connected(server) as client:
        for body in (b"one", b"", b"three"):
            client.send(post(body))
            answer = await client.answer()

            assert (answer.status, answer.body) == (200, body)
            assert "connection" not in answer.headers
        assert server.connections == 1


@on_each_loop
async def test_the_handler_gets_the_request_as_it_was_sent() -> None:
    requests: list[Request] = []

    async def keep(request: Request) -> Response:
        requests.append(request)
        return Response(200, b"", "text/plain")

    async with serving(keep) as server, connected(server) as client:
        client.send(
            post(
                b"body",
                "X-Amz-Target:  AmazonSQS.SendMessage \t",
                "X-Two: a",
                "x-two: b\xe9",
                target="/a%20b?x=1?y",
            )
        )
        await client.answer()

    [request] = requests
    assert (request.method, request.target) == ("POST", "/a%20b?x=1?y")
    assert (request.path, request.query) == ("/a%20b", "x=1?y")
    assert request.headers == {
        "host": "queue.test",
        "content-length": "4",
        "x-amz-target": "AmazonSQS.SendMessage",
        "x-two": "a,b\xe9",
    }
    assert request.body == b"body"
    assert not request.secure


@on_each_loop
async def test_an_absolute_target_names_the_host() -> None:
    """RFC 9112, section 3.2.2: it counts, whatever the Host header says."""
    requests: list[Request] = []

    async def keep(request: Request) -> Response:
        requests.append(request)
        return Response(200, b"", "text/plain")

    async with serving(keep) as server, connected(server) as client:
        for target in ("http://other.test:8080/q?a=b", "HTTP://other.test?a=b"):
            client.send(post(target=target))
            await client.answer()

    assert [request.headers["host"] for request in requests] == ["other.test:8080", "other.test"]
    assert [(request.path, request.query) for request in requests] == [("/q", "a=b"), ("/", "a=b")]


@on_each_loop
async def test_an_answer_carries_date_length_type_and_the_handlers_headers() -> None:
    async with serving(echo) as server, connected(server) as client:
        client.send(post(b"12345", target="/x"))
        answer = await client.answer()

    assert answer.headers["content-length"] == "5"
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["x-target"] == "/x"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["date"])
    assert parsedate_to_datetime(answer.headers["date"]).tzinfo is not None
    assert "server" not in answer.headers


@on_each_loop
async def test_an_answer_to_head_has_the_length_but_no_body() -> None:
    async with serving(constant) as server, connected(server) as client:
        client.send(head("HEAD / HTTP/1.1", "Host: queue.test") + post())
        first = await client.answer(with_body=False)
        second = await client.answer()

    assert first.headers["content-length"] == "8"
    assert second.body == b"constant"


async def constant(request: Request) -> Response:
    return Response(200, b"constant", "text/plain")


@on_each_loop
async def test_connection_close_is_honoured() -> None:
    async with serving(echo) as server, connected(server) as client:
        client.send(post(b"last", "Connection: close"))
        answer = await client.answer()

        assert (answer.body, answer.headers["connection"]) == (b"last", "close")
        assert await client.until_closed() == b""
        await until(lambda: server.connections == 0)


@on_each_loop
async def test_http_1_0_closes_unless_asked_to_keep_the_connection() -> None:
    async with serving(echo) as server, connected(server) as client:
        client.send(head("GET /1 HTTP/1.0", "Connection: keep-alive"))
        first = await client.answer()
        client.send(head("GET /2 HTTP/1.0", "Expect: 100-continue"))
        second = await client.answer()

        assert (first.status, first.headers["connection"]) == (200, "keep-alive")
        assert (second.status, second.headers["connection"]) == (200, "close")
        assert await client.until_closed() == b""


@on_each_loop
async def test_a_chunked_body_arrives_whole_and_its_trailers_are_dropped() -> None:
    requests: list[Request] = []

    async def keep(request: Request) -> Response:
        requests.append(request)
        return await echo(request)

    encoded = b"3;name=value\r\nabc\r\n1\r\nd\r\n0\r\nHost: trailer\r\nX-Late: 1\r\n\r\n"
    async with serving(keep) as server, connected(server) as client:
        client.send(head("POST / HTTP/1.1", "Host: queue.test", "Transfer-Encoding: Chunked") + encoded)
        assert (await client.answer()).body == b"abcd"
        client.send(post(b"next"))
        assert (await client.answer()).body == b"next"

    assert requests[0].body == b"abcd"
    assert type(requests[0].body) is bytes
    assert requests[0].headers == {"host": "queue.test", "transfer-encoding": "Chunked"}
    assert "x-late" not in requests[1].headers


@on_each_loop
async def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    poll = Poll()
    async with serving(poll) as server, connected(server) as client:
        client.send(post() + post() + post())
        for number in range(3):
            await until(lambda: len(poll.waiting) == 1)
            assert poll.begun == number + 1
            poll.answer(b"%d" % number)
            assert (await client.answer()).body == b"%d" % number


@on_each_loop
async def test_pipelined_requests_that_need_no_wait_are_answered_in_order() -> None:
    bodies = [b"%d" % number for number in range(5_000)]
    async with serving(echo) as server, connected(server) as client:
        client.send(b"".join(post(body) for body in bodies))

        assert [(await client.answer()).body for _ in bodies] == bodies


@on_each_loop
async def test_only_so_many_requests_are_read_ahead() -> None:
    """The rest stays with the client: its socket fills up."""
    poll, small = Poll(), post()
    async with serving(poll, pipelined_max=4, shutdown_grace_s=0.01) as server, connected(server) as client:
        client.writer.transport.set_write_buffer_limits(high=1)
        client.send(small * (16_000_000 // len(small)))
        await until(lambda: poll.begun == 1)
        for _ in range(200):
            await asyncio.sleep(0)

        assert client.writer.transport.get_write_buffer_size() > 0
        assert server.buffered_bytes < 1_000_000


@on_each_loop
async def test_a_large_body_arrives_whole() -> None:
    body = bytes(range(256)) * 12_000
    async with serving(echo) as server, connected(server) as client:
        client.send(post(body))
        assert (await client.answer()).body == body

        encoded = chunked(*(body[at : at + 70_000] for at in range(0, len(body), 70_000)))
        client.send(head("POST / HTTP/1.1", "Host: queue.test", "Transfer-Encoding: chunked") + encoded)
        assert (await client.answer()).body == body


@on_each_loop
async def test_continue_is_sent_when_the_head_is_accepted_and_the_body_held_back() -> None:
    async with serving(echo) as server, connected(server) as client:
        client.send(head("POST / HTTP/1.1", "Host: a", "Content-Length: 4", "Expect: 100-Continue"))
        assert (await client.answer()).status == 100
        client.send(b"body")
        assert (await client.answer()).body == b"body"

        # Who sends the body anyway needs no leave to.
        client.send(post(b"next", "Expect: 100-continue"))
        assert (await client.answer()).body == b"next"


@on_each_loop
async def test_continue_waits_for_the_answers_before_it() -> None:
    poll = Poll()
    async with serving(poll) as server, connected(server) as client:
        client.send(post() + head("POST / HTTP/1.1", "Host: a", "Content-Length: 4", "Expect: 100-continue"))
        await until(lambda: poll.begun == 1)
        poll.answer(b"first")

        assert (await client.answer()).body == b"first"
        assert (await client.answer()).status == 100


@on_each_loop
async def test_a_client_that_half_closes_is_still_answered() -> None:
    poll = Poll()
    async with serving(poll, half_closed_grace_s=60.0) as server, connected(server) as client:
        client.send(post() + post())
        client.writer.write_eof()
        for body in (b"one", b"two"):
            await until(lambda: len(poll.waiting) == 1)
            poll.answer(body)
            assert (await client.answer()).body == body

        assert await client.until_closed() == b""
        await until(lambda: server.connections == 0)


@on_each_loop
async def test_a_client_that_half_closes_in_the_middle_of_a_request_is_let_go() -> None:
    async with serving(echo) as server, connected(server) as client:
        client.send(post(b"whole") + post(b"cut off")[:-3])
        client.writer.write_eof()

        assert (await client.answer()).body == b"whole"
        assert await client.until_closed() == b""
        await until(lambda: server.connections == 0)


@on_each_loop
async def test_a_client_that_closes_at_once_leaves_nothing() -> None:
    async with serving(echo) as server:
        async with connected(server):
            await until(lambda: server.connections == 1)
        await until(lambda: server.connections == 0)


@on_each_loop
async def test_small_answers_are_not_delayed_by_nagle() -> None:
    """The event loops set TCP_NODELAY themselves; this holds them to it."""
    accepted: list[int] = []

    async def look(request: Request) -> Response:
        accepted.extend(
            each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for each in sockets_of(server)
        )
        return Response(200, b"", "text/plain")

    async with serving(look) as server, connected(server) as client:
        client.send(post())
        await client.answer()

    assert accepted == [1]


def sockets_of(server: HttpServer) -> list[socket.socket]:
    """The sockets of the server's connections."""
    return [connection._transport.get_extra_info("socket") for connection in server._state.connections]  # type: ignore[attr-defined]


@on_each_loop
async def test_a_taken_port_is_named() -> None:
    async with serving(echo) as server:
        second = HttpServer(HttpSettings(port=server.port), echo)

        with pytest.raises(
            OSError, match=rf"cannot listen on 127\.0\.0\.1:{server.port}: Address already in use"
        ):
            await second.start()


@on_each_loop
async def test_an_unknown_address_is_named() -> None:
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:0: Cannot assign requested address"):
        await HttpServer(HttpSettings(host="192.0.2.1", port=0), echo).start()


@on_each_loop
async def test_many_clients_are_served_at_once() -> None:
    poll = Poll()

    async def ask(number: int) -> None:
        async with connected(server) as client:
            client.send(post(b"%d" % number))
            assert (await client.answer()).status == 200

    async with serving(poll) as server, asyncio.TaskGroup() as clients:
        for number in range(100):
            clients.create_task(ask(number))
        await until(lambda: len(poll.waiting) == 100)
        while poll.waiting:
            poll.answer()
