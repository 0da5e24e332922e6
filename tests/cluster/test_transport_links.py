"""A link whose other side is not what it should be: too old, too new, silent, slow, or of another mind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.cluster.transport_driver import (
    ECHO,
    LARGE,
    QUICK,
    TIMEOUT_S,
    Node,
    linked,
    node_process,
    serving,
    stranger_to,
)
from tests.frontend.http_driver import on_each_loop, until
from waystation.cluster.frames import ANSWER, CALL, NOT_DONE, PING, Frame, Hello, encode_frame, encode_hello
from waystation.cluster.transport_client import NotDone, OutcomeUnknown
from waystation.cluster.transport_settings import parse_address

Say = Callable[[asyncio.StreamWriter], None]


@asynccontextmanager
async def strange_server(say: Say) -> AsyncIterator[str]:
    """Its address. It says something to each caller who has said hello, then nothing more."""
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read(1_000)
        say(writer)

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            for writer in writers:
                writer.transport.abort()


def hello(lowest: int = 1, highest: int = 1) -> bytes:
    return encode_hello(Hello("strange", "waystation", lowest, highest))


@on_each_loop
async def test_a_call_to_a_node_that_speaks_only_newer_versions_says_so() -> None:
    async with (
        strange_server(lambda writer: writer.write(hello(7, 9))) as address,
        linked(address) as link,
    ):
        with pytest.raises(NotDone, match=r"node strange speaks versions 7 to 9 .* this one 1 to 1"):
            await link.call(ECHO, b"", TIMEOUT_S)


@on_each_loop
async def test_a_node_that_also_speaks_newer_versions_is_called() -> None:
    def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(hello(1, 9) + encode_frame(Frame(ANSWER, 1, b"of a newer release")))

    async with strange_server(answer) as address, linked(address) as link:
        assert await link.call(ECHO, b"", TIMEOUT_S) == b"of a newer release"


@on_each_loop
async def test_a_call_to_what_is_no_node_is_not_done() -> None:
    async with (
        strange_server(lambda writer: writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as address,
        linked(address) as link,
    ):
        with pytest.raises(NotDone, match="does not speak the protocol between nodes"):
            await link.call(ECHO, b"", TIMEOUT_S)


@on_each_loop
async def test_a_link_connects_before_its_first_call_when_told_to() -> None:
    async with serving(Node()) as server, linked(server.address) as link:
        link.connect()
        await until(link.is_alive)

        assert not link.is_refused
        assert await link.call(ECHO, b"hello", TIMEOUT_S) == b"hello"


@on_each_loop
async def test_where_nobody_listens_is_told_from_where_nobody_answers() -> None:
    async with serving(Node()) as server:
        address = server.address
    async with (
        strange_server(lambda writer: None) as silent,
        linked(address) as refused,
        linked(silent, connect_timeout_s=0.05) as waiting,
    ):
        for link in (refused, waiting):
            with pytest.raises(NotDone, match="cannot be reached"):
                await link.call(ECHO, b"", TIMEOUT_S)

        assert (refused.is_refused, waiting.is_refused) == (True, False)


@on_each_loop
async def test_a_call_to_who_never_says_hello_is_not_done() -> None:
    async with (
        strange_server(lambda writer: None) as address,
        linked(address, connect_timeout_s=0.05) as link,
    ):
        with pytest.raises(NotDone, match="cannot be reached: TimeoutError"):
            await link.call(ECHO, b"", TIMEOUT_S)


@on_each_loop
async def test_an_answer_of_a_kind_that_is_not_known_leaves_the_outcome_open() -> None:
    async with (
        strange_server(lambda writer: writer.write(hello() + encode_frame(Frame(99, 1)))) as address,
        linked(address) as link,
    ):
        with pytest.raises(OutcomeUnknown, match="unknown kind"):
            await link.call(ECHO, b"", TIMEOUT_S)


@on_each_loop
async def test_an_answer_that_is_too_large_leaves_the_outcome_open_and_the_link_whole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        serving(Node(), frame_bytes_max=1_000) as server,
        linked(server.address, frame_bytes_max=1_000) as link,
    ):
        other = link.call(LARGE, b"1000", TIMEOUT_S)
        with pytest.raises(OutcomeUnknown):
            await link.call(LARGE, b"1001", TIMEOUT_S)

        assert len(await other) == 1_000
        assert link.is_alive()
    assert "the answer is too large" in caplog.text


def test_what_a_stopped_process_was_not_sent_is_certain_not_to_be_done() -> None:
    """Once the buffers between both are full, calls wait here, and may be made elsewhere."""

    async def test() -> None:
        with node_process() as process:
            async with linked(process.address, unsent_bytes_high=100_000, **QUICK) as link:
                assert await link.call(ECHO, b"hello", TIMEOUT_S) == b"hello"
                process.stop()
                calls = [link.call(ECHO, bytes(1_000_000), TIMEOUT_S) for _ in range(60)]
                await asyncio.wait(calls)

                errors = [type(call.exception()) for call in calls]
                written = errors.count(OutcomeUnknown)
                assert 0 < written < 60
                assert errors == [OutcomeUnknown] * written + [NotDone] * (60 - written)

    asyncio.run(test())


def test_a_process_that_stood_still_does_not_begin_what_has_waited_for_too_long() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        with node_process() as process:
            async with stranger_to(process.address) as stranger:
                stranger.say_hello()
                assert (await stranger.hear()).kind == PING
                process.stop()
                stranger.send(Frame(CALL, 1, b"", ECHO, 100), Frame(CALL, 2, b"", ECHO, 60_000))
                end = loop.time() + 0.5
                await until(lambda: loop.time() > end)
                process.go_on()

                answers = [await stranger.hear() for _ in range(2)]
                assert {answer.id: answer.kind for answer in answers} == {1: NOT_DONE, 2: ANSWER}

    asyncio.run(test())


@on_each_loop
async def test_what_could_not_be_sent_in_time_is_certain_not_to_be_done() -> None:
    async with (
        strange_server(lambda writer: writer.transport.pause_reading() or writer.write(hello())) as address,  # type: ignore[func-returns-value, attr-defined]
        linked(address, unsent_bytes_high=100_000) as link,
    ):
        calls = [link.call(ECHO, bytes(1_000_000), 0.3) for _ in range(60)]
        await asyncio.wait(calls)

        assert isinstance(calls[0].exception(), OutcomeUnknown)
        assert isinstance(calls[-1].exception(), NotDone)


@on_each_loop
async def test_answers_that_nobody_asked_for_are_ignored() -> None:
    def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(hello() + b"".join(encode_frame(Frame(ANSWER, number)) for number in (99, 1)))

    async with strange_server(answer) as address, linked(address) as link:
        assert await link.call(ECHO, b"", TIMEOUT_S) == b""
        await until(link.is_alive)


@pytest.mark.parametrize("address", ["", "nowhere", "host:", ":1", "host:x", "host:70000"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is neither host:port nor unix:path"):
        parse_address(address)


def test_addresses_are_of_three_kinds() -> None:
    assert parse_address("10.0.0.1:7000") == ("10.0.0.1", 7000)
    assert parse_address("[::1]:7000") == ("::1", 7000)
    assert parse_address("unix:/run/node") == Path("/run/node")
