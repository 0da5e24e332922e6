"""Calls over real sockets: how each can end, what is bounded, and what happens to who has gone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.cluster.transport_driver import (
    COROUTINE,
    ECHO,
    FAIL,
    LARGE,
    LATER,
    NEVER,
    QUICK,
    REFUSE,
    TIMEOUT_S,
    Node,
    linked,
    node_process,
    serving,
    stranger_to,
)
from tests.frontend.http_driver import on_each_loop, until
from waystation.cluster import transport_server
from waystation.cluster.frames import (
    ANSWER,
    CALL,
    CANCEL,
    GOING_AWAY,
    NOT_DONE,
    PING,
    Frame,
    Hello,
)
from waystation.cluster.transport_client import Link, NotDone, OutcomeUnknown
from waystation.cluster.transport_connection import CallRefused
from waystation.cluster.transport_settings import TransportSettings


@on_each_loop
async def test_calls_are_answered_each_with_its_own_answer() -> None:
    async with serving(Node()) as server, linked(server.address) as link:
        kinds = [ECHO, LATER, COROUTINE]
        payloads = [str(number).encode() for number in range(300)]
        calls = [link.call(kinds[len(each) % 3], each, TIMEOUT_S) for each in payloads]

        assert await asyncio.gather(*calls) == payloads
        assert link.is_alive()
        assert link.peer == "server"
        assert link.last_heard_s < TIMEOUT_S


@on_each_loop
async def test_a_payload_of_the_greatest_size_goes_both_ways() -> None:
    payload = bytes(TransportSettings().frame_bytes_max)
    async with serving(Node()) as server, linked(server.address) as link:
        assert await link.call(ECHO, payload, TIMEOUT_S) == payload
        with pytest.raises(NotDone, match=f"at most {len(payload)} can be sent"):
            await link.call(ECHO, payload + b"x", TIMEOUT_S)


@on_each_loop
async def test_calls_go_over_a_unix_socket_that_others_cannot_use() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "node"
        async with serving(Node(), listen=f"unix:{path}") as server, linked(server.address) as link:
            assert await link.call(ECHO, b"hello", TIMEOUT_S) == b"hello"
            assert path.stat().st_mode & 0o077 == 0


@on_each_loop
async def test_a_refusal_comes_back_with_its_payload() -> None:
    async with serving(Node()) as server, linked(server.address) as link:
        with pytest.raises(CallRefused) as refused:
            await link.call(REFUSE, b"why", TIMEOUT_S)

        assert refused.value.payload == b"no: why"


@on_each_loop
async def test_a_bug_of_the_handler_leaves_the_outcome_open(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Node()) as server, linked(server.address) as link:
        with pytest.raises(OutcomeUnknown, match="The call has failed"):
            await link.call(FAIL, b"", TIMEOUT_S)

    [logged] = [record for record in caplog.records if record.name.endswith("transport_server")]
    assert logged.exc_info is not None
    assert isinstance(logged.exc_info[1], LookupError)


# Cancelling, and deadlines


@on_each_loop
async def test_a_call_that_is_cancelled_is_cancelled_at_the_other_side() -> None:
    node = Node()
    async with serving(node) as server, linked(server.address) as link:
        call = link.call(NEVER, b"", TIMEOUT_S)
        await until(lambda: len(node.waiting) == 1)
        call.cancel()

        await until(lambda: node.cancelled == 1)
        assert await link.call(ECHO, b"still here", TIMEOUT_S) == b"still here"


@on_each_loop
async def test_a_call_that_is_cancelled_before_it_is_written_is_never_begun() -> None:
    node = Node()
    async with serving(node) as server, linked(server.address) as link:
        link.call(ECHO, b"first", TIMEOUT_S).cancel()

        assert await link.call(ECHO, b"second", TIMEOUT_S) == b"second"
        assert node.begun == [b"second"]


@on_each_loop
async def test_calls_of_who_has_gone_are_cancelled() -> None:
    """So that a long poll gives the messages back that nobody is there to take."""
    node = Node()
    async with serving(node) as server:
        async with linked(server.address) as link:
            call = link.call(NEVER, b"", TIMEOUT_S)
            await until(lambda: len(node.waiting) == 1)

        with pytest.raises(OutcomeUnknown, match="closed"):
            await call
        await until(lambda: node.cancelled == 1)


@on_each_loop
async def test_the_outcome_of_a_call_that_takes_too_long_is_unknown_and_it_is_cancelled() -> None:
    node = Node()
    async with serving(node) as server, linked(server.address) as link:
        await link.call(ECHO, b"", TIMEOUT_S)
        with pytest.raises(OutcomeUnknown, match="in time"):
            await link.call(NEVER, b"", 0.05)

        await until(lambda: node.cancelled == 1)


@on_each_loop
async def test_a_call_that_comes_too_late_is_not_begun() -> None:
    node = Node()
    async with serving(node) as server, stranger_to(server.address) as stranger:
        stranger.say_hello()
        stranger.send(Frame(CALL, 1, b"", ECHO, deadline_ms=0), Frame(CALL, 2, b"", ECHO, deadline_ms=1))

        assert (await stranger.hear()).kind == NOT_DONE
        assert await stranger.hear() == Frame(ANSWER, 2)
        assert node.begun == [b""]


@on_each_loop
async def test_nothing_is_begun_for_a_caller_that_has_waited_for_too_long_already() -> None:
    """The process stood still, and what was sent to it meanwhile has waited just as long."""
    node = Node()
    async with serving(node, **QUICK) as server, stranger_to(server.address) as stranger:
        stranger.say_hello()
        assert (await stranger.hear()).kind == PING
        server.paused.end(3.0, asyncio.get_running_loop().time())
        stranger.send(Frame(CALL, 1, b"late", ECHO, 2_900), Frame(CALL, 2, b"in time", ECHO, 3_100))

        answers = {frame.id: frame.kind for frame in [await stranger.hear(), await stranger.hear()]}
        assert answers == {1: NOT_DONE, 2: ANSWER}
        assert node.begun == [b"in time"]


# Limits


@on_each_loop
async def test_calls_beyond_the_limit_of_a_connection_are_certain_not_to_be_done() -> None:
    node = Node()
    async with serving(node, connection_calls_max=3) as server, linked(server.address) as link:
        calls = [link.call(NEVER, b"", TIMEOUT_S) for _ in range(3)]
        await until(lambda: len(node.begun) == 3)

        with pytest.raises(NotDone, match="Too many calls"):
            await link.call(ECHO, b"", TIMEOUT_S)
        assert len(node.begun) == 3
        assert not any(call.done() for call in calls)


@on_each_loop
async def test_calls_beyond_the_limit_of_a_node_are_certain_not_to_be_done() -> None:
    node = Node()
    async with (
        serving(node, calls_max=3) as server,
        linked(server.address) as one,
        linked(server.address) as other,
    ):
        calls = [each.call(NEVER, b"", TIMEOUT_S) for each in (one, other, one)]
        await until(lambda: len(node.begun) == 3)
        with pytest.raises(NotDone, match="Too many calls"):
            await other.call(ECHO, b"", TIMEOUT_S)

        calls[0].cancel()
        await until(lambda: server.calls == 2)
        assert await other.call(ECHO, b"again", TIMEOUT_S) == b"again"


@on_each_loop
async def test_a_link_takes_no_more_calls_than_it_may() -> None:
    node = Node()
    async with serving(node) as server, linked(server.address, connection_calls_max=2) as link:
        calls = [link.call(NEVER, b"", TIMEOUT_S) for _ in range(2)]

        with pytest.raises(NotDone, match="Too many calls"):
            await link.call(ECHO, b"", TIMEOUT_S)
        assert not any(call.done() for call in calls)


@on_each_loop
async def test_a_link_holds_no_more_bytes_than_it_may() -> None:
    async with serving(Node()) as server, linked(server.address, unsent_bytes_max=1_000) as link:
        first = link.call(ECHO, bytes(900), TIMEOUT_S)
        with pytest.raises(NotDone, match="Too much waits"):
            await link.call(ECHO, bytes(200), TIMEOUT_S)

        assert len(await first) == 900
        assert len(await link.call(ECHO, bytes(200), TIMEOUT_S)) == 200


@on_each_loop
async def test_a_connection_too_many_is_closed() -> None:
    async with serving(Node(), connections_max=1) as server, linked(server.address) as link:
        await link.call(ECHO, b"", TIMEOUT_S)
        async with stranger_to(server.address) as stranger:
            stranger.say_hello()
            assert await stranger.until_closed() == b""

        assert await link.call(ECHO, b"still here", TIMEOUT_S) == b"still here"


@on_each_loop
async def test_who_does_not_take_its_answers_is_not_read_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it has sent meanwhile is as old as the pause was long."""
    monkeypatch.setattr(transport_server, "_STALE_S", 60.0)
    node = Node()
    size = str(1_000_000).encode()
    async with serving(node, unsent_bytes_high=100_000) as server, stranger_to(server.address) as stranger:
        stranger.say_hello()
        for number in range(30):
            stranger.send(Frame(CALL, number, size, LARGE, 60_000))
            await asyncio.sleep(0)
        await until(lambda: any(connection.writing_paused for connection in server.connections))
        begun = len(node.begun)
        stranger.send(Frame(CALL, 998, b"", ECHO, 5), Frame(CALL, 999, b"", ECHO, 60_000))
        end = asyncio.get_running_loop().time() + 0.01
        await until(lambda: asyncio.get_running_loop().time() > end)

        assert len(node.begun) == begun
        answers = {(answer := await stranger.hear()).id: answer.kind for _ in range(32)}
        assert (answers[998], answers[999]) == (NOT_DONE, ANSWER)
        assert set(answers) == {*range(30), 998, 999}


@on_each_loop
async def test_who_never_takes_its_answers_is_cut_off_and_its_calls_are_cancelled() -> None:
    node = Node()
    limits = {"unsent_bytes_high": 100_000, "unsent_s_max": 0.1}
    async with serving(node, **limits, **QUICK) as server, stranger_to(server.address) as stranger:
        stranger.say_hello()
        stranger.send(Frame(CALL, 1, b"", NEVER, 60_000))
        stranger.send(*(Frame(CALL, number, b"8000000", LARGE, 60_000) for number in range(2, 6)))

        await until(lambda: node.cancelled == 1)
        await until(lambda: not server.connections)


# The other side


@on_each_loop
async def test_a_silent_caller_is_cut_off_and_its_calls_are_cancelled() -> None:
    node = Node()
    async with serving(node, **QUICK) as server, stranger_to(server.address) as stranger:
        stranger.say_hello()
        stranger.send(Frame(CALL, 1, b"", NEVER, 60_000))

        assert (await stranger.hear()).kind == PING
        await until(lambda: node.cancelled == 1)


@on_each_loop
async def test_an_idle_link_lives_on() -> None:
    async with serving(Node(), **QUICK) as server, linked(server.address, **QUICK) as link:
        await link.call(ECHO, b"", TIMEOUT_S)
        [connection] = server.connections
        for _ in range(6):
            heard_at = connection.heard_at
            await until(lambda: connection.heard_at > heard_at)  # noqa: B023

        assert link.is_alive()
        assert server.connections == {connection}


@on_each_loop
async def test_who_never_says_hello_is_cut_off() -> None:
    async with serving(Node(), **QUICK) as server, stranger_to(server.address) as stranger:
        assert await stranger.until_closed() == b""


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(500), bytes(100_000)])
def test_garbage_is_cut_off_and_does_not_disturb_others(garbage: bytes) -> None:
    @on_each_loop
    async def test() -> None:
        async with (
            serving(Node()) as server,
            linked(server.address) as link,
            stranger_to(server.address) as stranger,
        ):
            stranger.writer.write(garbage)

            assert await stranger.until_closed() == b""
            assert await link.call(ECHO, b"still here", TIMEOUT_S) == b"still here"

    test(asyncio.new_event_loop)


@on_each_loop
async def test_a_frame_that_is_too_large_ends_the_connection() -> None:
    async with serving(Node(), frame_bytes_max=1_000) as server, stranger_to(server.address) as stranger:
        stranger.say_hello()
        stranger.send(Frame(CALL, 1, bytes(1_001), ECHO, 60_000))

        await stranger.until_closed()
        await until(lambda: not server.connections)


@on_each_loop
async def test_a_frame_of_a_kind_that_is_not_known_is_answered_as_not_done() -> None:
    async with serving(Node()) as server, stranger_to(server.address) as stranger:
        stranger.say_hello()
        stranger.send(Frame(200, 5, b"of a newer release"), Frame(CANCEL, 99), Frame(CALL, 6, b"x", ECHO, 9))

        unknown = await stranger.hear()
        assert (unknown.kind, unknown.id) == (NOT_DONE, 5)
        assert await stranger.hear() == Frame(ANSWER, 6, b"x")


@on_each_loop
async def test_a_caller_of_another_version_hears_which_ones_are_spoken_here() -> None:
    async with serving(Node()) as server, stranger_to(server.address) as stranger:
        stranger.say_hello(Hello("newer", "waystation", 7, 9))

        assert b"server" in await stranger.until_closed()


@on_each_loop
async def test_a_call_to_a_node_of_another_cluster_says_so() -> None:
    async with serving(Node(), cluster="invoices") as server, linked(server.address) as link:
        with pytest.raises(NotDone, match="is of cluster invoices, not waystation"):
            await link.call(ECHO, b"", TIMEOUT_S)


@on_each_loop
async def test_calls_to_where_nobody_listens_are_not_done_until_somebody_does() -> None:
    async with serving(Node()) as server:
        address = server.address
    async with linked(address, **QUICK) as link:
        with pytest.raises(NotDone, match="cannot be reached"):
            await link.call(ECHO, b"", TIMEOUT_S)
        assert not link.is_alive()

        async with serving(Node(), listen=address):
            await until(link.is_alive)
            assert await link.call(ECHO, b"hello", TIMEOUT_S) == b"hello"


def test_the_outcome_is_unknown_when_the_other_process_is_killed_and_certain_afterwards() -> None:
    async def test() -> None:
        with node_process() as process:
            async with linked(process.address, **QUICK) as link:
                await link.call(ECHO, b"", TIMEOUT_S)
                call = link.call(NEVER, b"", TIMEOUT_S)
                await link.call(ECHO, b"", TIMEOUT_S)
                process.kill()

                with pytest.raises(OutcomeUnknown, match="was lost"):
                    await call
                with pytest.raises(NotDone):
                    await link.call(ECHO, b"", TIMEOUT_S)

    asyncio.run(test())


def test_a_process_that_is_stopped_is_noticed_and_comes_back() -> None:
    async def test() -> None:
        with node_process() as process:
            async with linked(process.address, **QUICK) as link:
                await link.call(ECHO, b"", TIMEOUT_S)
                process.stop()
                with pytest.raises(OutcomeUnknown, match="is silent"):
                    await link.call(ECHO, b"", TIMEOUT_S)
                assert not link.is_alive()

                process.go_on()
                await until(link.is_alive)
                assert await link.call(ECHO, b"hello", TIMEOUT_S) == b"hello"

    asyncio.run(test())


# Stopping


@on_each_loop
async def test_a_server_that_drains_lets_calls_end_and_takes_no_more() -> None:
    node = Node()
    async with serving(node) as server, linked(server.address) as link:
        call = link.call(NEVER, b"", TIMEOUT_S)
        await until(lambda: len(node.waiting) == 1)
        draining = asyncio.create_task(server.drain())
        await until(lambda: not link.is_alive())

        with pytest.raises(NotDone, match="about to stop"):
            await link.call(ECHO, b"", TIMEOUT_S)
        assert not draining.done()
        node.waiting[0].set_result(b"the last answer")
        assert await call == b"the last answer"
        await draining


@on_each_loop
async def test_a_server_that_drains_does_not_wait_for_ever() -> None:
    node = Node()
    async with serving(node, drain_s=0.02) as server, linked(server.address) as link:
        call = link.call(NEVER, b"", TIMEOUT_S)
        await until(lambda: len(node.waiting) == 1)
        await server.drain()
        await server.stop()

        with pytest.raises(OutcomeUnknown, match="was lost"):
            await call
        assert node.cancelled == 1


@on_each_loop
async def test_who_connects_to_a_server_that_drains_is_told_to_go_away() -> None:
    node = Node()
    async with serving(node) as server, stranger_to(server.address) as stranger:
        await until(lambda: len(server.connections) == 1)
        await server.drain()
        stranger.say_hello()
        stranger.send(Frame(CALL, 1, b"", ECHO, 60_000))

        assert [(await stranger.hear()).kind, (await stranger.hear()).kind] == [GOING_AWAY, NOT_DONE]
        assert node.begun == []


@on_each_loop
async def test_a_link_that_is_closed_makes_no_calls() -> None:
    link = Link("127.0.0.1:1", TransportSettings())
    await link.close()

    with pytest.raises(NotDone, match="closed"):
        await link.call(ECHO, b"", TIMEOUT_S)


# The circuit breaker


@on_each_loop
async def test_a_node_that_does_not_answer_in_time_is_left_alone_for_a_while() -> None:
    node = Node()
    limits = {"breaker_failures": 2, "breaker_open_s": 0.2}
    async with serving(node) as server, linked(server.address, **limits) as link:
        await link.call(ECHO, b"well", TIMEOUT_S)
        for _ in range(2):
            with pytest.raises(OutcomeUnknown):
                await link.call(NEVER, b"", 0.05)
        with pytest.raises(NotDone, match="has not answered for a while"):
            await link.call(ECHO, b"", TIMEOUT_S)

        async with asyncio.timeout(TIMEOUT_S):
            while True:
                try:
                    await link.call(ECHO, b"a try", TIMEOUT_S)
                except NotDone:
                    continue
                break
        assert await link.call(ECHO, b"closed again", TIMEOUT_S) == b"closed again"
        assert node.begun == [b"well", b"", b"", b"a try", b"closed again"]
