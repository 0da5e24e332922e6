"""Whatever callers, nodes and networks do: a call ends once, and what is said of it is true."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cluster.transport_driver import (
    COROUTINE,
    ECHO,
    LATER,
    NEVER,
    REFUSE,
    Node,
    linked,
    serving,
)
from tests.frontend.http_driver import until, within_deadline
from waystation.cluster.transport_client import Link, NotDone, OutcomeUnknown
from waystation.cluster.transport_connection import CallRefused
from waystation.cluster.transport_server import TransportServer

LIMITS: dict[str, Any] = {"connection_calls_max": 6, "breaker_failures": 1_000, "reconnect_delay_max_s": 0.01}
PADDING = bytes(20_000)
"""Of some calls, so that not all of them leave in one write."""

steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("call"),
            st.sampled_from([ECHO, LATER, COROUTINE, REFUSE, NEVER]),
            st.sampled_from([b"", PADDING]),
            st.sampled_from([0.0, 0.001, 0.01, 5.0]),
        ),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("wait"), st.integers(0, 5)),
        st.tuples(st.just("connect")),
        st.tuples(st.sampled_from(["break there", "break here"])),
    ),
    max_size=30,
)


@given(steps, st.booleans())
@settings(max_examples=60)
def test_every_call_ends_once_and_what_is_said_of_it_is_true(
    steps: list[tuple[Any, ...]], is_patient: bool
) -> None:
    async def run() -> None:
        node = Node()
        async with serving(node, unsent_bytes_high=50_000, **LIMITS) as server:
            async with linked(server.address, unsent_bytes_high=50_000, **LIMITS) as link:
                assert await link.call(ECHO, b"connected", 5.0) == b"connected"
                calls = [each async for each in made(steps, server, link)]
                if is_patient and calls:
                    await asyncio.wait([call for call, _ in calls], timeout=0.01)
            # The link is closed: nothing waits any more.
            assert all(call.done() for call, _ in calls)
        for call, payload in calls:
            check(call, payload, node)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(within_deadline(run()))


async def made(steps: list[tuple[Any, ...]], server: TransportServer, link: Link) -> Any:
    """The calls of the steps, each with its payload, which no other one has."""
    calls: list[asyncio.Future[bytes]] = []
    for name, *arguments in steps:
        if name == "call":
            kind, padding, timeout_s = arguments
            payload = b"%d " % len(calls) + padding
            calls.append(link.call(kind, payload, timeout_s))
            yield calls[-1], payload
        elif name == "cancel" and calls:
            calls[arguments[0] % len(calls)].cancel()
        elif name == "wait":
            for _ in range(arguments[0]):
                await asyncio.sleep(0)
        elif name == "connect":
            await until(link.is_alive)
        elif name == "break there":
            for connection in list(server.connections):
                connection.fail(ConnectionResetError("the network"))
        elif name == "break here" and link._connection is not None:
            link._connection.fail(ConnectionResetError("the network"))


def check(call: asyncio.Future[bytes], payload: bytes, node: Node) -> None:
    begun = node.begun.count(payload)
    assert begun <= 1, "a call was made twice"
    if call.cancelled():
        return
    error = call.exception()
    if error is None:
        assert call.result() == payload
        assert begun == 1
    elif isinstance(error, CallRefused):
        assert error.payload == b"no: " + payload
        assert begun == 1
    elif isinstance(error, NotDone):
        assert begun == 0
    else:
        assert isinstance(error, OutcomeUnknown)
