"""Whatever bytes come, however they are cut: answered or closed, never a 500, nothing left behind."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable

import httptools
from hypothesis import example, given
from hypothesis import strategies as st

from tests.frontend.fake_transport import Conversation
from tests.frontend.http_driver import Answer, Poll, chunked, echo, head, post
from waystation.frontend.http_messages import Request, Response

TOKENS = st.text("abcXYZ019-_", min_size=1, max_size=12)
TARGETS = st.from_regex(r"/[a-z0-9%/._~-]{0,20}(\?[a-z=&]{0,10})?", fullmatch=True)
BODIES = st.binary(max_size=200) | st.integers(0, 70_000).map(bytes)


@st.composite
def valid_requests(draw: st.DrawFn) -> bytes:
    """One request that keeps the connection open and does not hold its body back."""
    lines = [
        f"{draw(st.sampled_from(['POST', 'GET', 'PUT', 'OPTIONS']))} {draw(TARGETS)} HTTP/1.1",
        "Host: a.test:1",
    ]
    names = draw(st.lists(TOKENS.map(lambda token: f"X-{token}"), max_size=4))
    lines += [f"{name}: {draw(TOKENS)}" for name in names]
    body = draw(BODIES)
    if draw(st.booleans()):
        return head(*lines, f"Content-Length: {len(body)}") + body
    pieces = [piece for piece in cut(body, draw(st.lists(st.integers(0, len(body)), max_size=4))) if piece]
    return head(*lines, "Transfer-Encoding: chunked") + chunked(*pieces)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data in pieces."""
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(ends)]


@st.composite
def mangled_streams(draw: st.DrawFn) -> bytes:
    """Requests of which some bytes are replaced, left out, doubled or foreign."""
    stream = b"".join(
        draw(st.lists(valid_requests() | st.sampled_from(ODD_REQUESTS), min_size=1, max_size=3))
    )
    for _ in range(draw(st.integers(1, 4))):
        # Mostly in heads: that is where the decisions are.
        at = draw(st.integers(0, min(len(stream), 400)))
        length = draw(st.integers(0, 5))
        other = draw(
            st.binary(max_size=4) | st.sampled_from([b"\r\n", b"\n", b": ", b"0", b",", b"\x00", b"\r\n\r\n"])
        )
        stream = stream[:at] + other + stream[at + length :]
    return stream


ODD_REQUESTS = [
    post(b"body", "Connection: close"),
    post(b"body", "Expect: 100-continue"),
    head("HEAD http://b.test/x HTTP/1.1", "Host: a"),
    head("GET / HTTP/1.0", "Connection: keep-alive"),
    head("OPTIONS * HTTP/1.1", "Host: a"),
    head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")
    + b"1;a=b\r\nx\r\n0\r\nX-Trailer: y\r\n\r\n",
    head("GET / HTTP/1.1", "Host: a", "Connection: upgrade", "Upgrade: h2c"),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]

PLACES = st.lists(st.integers(0, 1_000_000), max_size=12)


async def constant(request: Request) -> Response:
    """Repeats nothing, so that what is found in the answers is the server's own."""
    return Response(200, b"constant", "text/plain")


def answers(written: bytes) -> list[Answer]:
    """Parse everything the server wrote: it has to be well-formed answers, whole, one after the other."""
    found: list[Answer] = []

    class Collector:
        def on_message_begin(self) -> None:
            found.append(Answer(0, {}, b""))

        def on_header(self, name: bytes, value: bytes) -> None:
            found[-1].headers[name.decode().lower()] = value.decode("latin-1")

        def on_body(self, body: bytes) -> None:
            found[-1].body += body

        def on_message_complete(self) -> None:
            found[-1].status = parser.get_status_code()

    parser = httptools.HttpResponseParser(Collector())
    parser.feed_data(written)
    assert all(answer.status for answer in found), "the last answer is not whole"
    return found


@given(st.lists(valid_requests(), min_size=1, max_size=5), PLACES)
def test_requests_are_answered_alike_however_they_are_cut(requests: list[bytes], places: list[int]) -> None:
    stream = b"".join(requests)
    whole, in_pieces, in_bytes = (Conversation(echo) for _ in range(3))
    whole.send([stream])
    in_pieces.send(cut(stream, places))
    in_bytes.send([stream[:2_000][at : at + 1] for at in range(len(stream[:2_000]))])
    in_bytes.send([stream[2_000:]])

    assert len(answers(whole.written)) == len(requests)
    assert {answer.status for answer in answers(whole.written)} == {200}
    assert in_pieces.written == whole.written
    assert in_bytes.written == whole.written
    for conversation in (whole, in_pieces, in_bytes):
        assert not conversation.transport.ended
        conversation.lose()


def check_that_it_ends_well(stream: bytes, places: list[int], leave: Callable[[Conversation], None]) -> None:
    conversation = Conversation(constant, header_bytes_max=500, body_bytes_max=50_000)
    conversation.send(cut(stream, places))

    for answer in answers_to_any(conversation.written):
        assert answer < 500 or answer in (501, 505)
    if not conversation.transport.ended:
        # It waits for the client, and not for ever.
        assert conversation.transport.is_reading()
        assert conversation.connection.deadline < math.inf
        leave(conversation)
    conversation.lose()


def answers_to_any(written: bytes) -> list[int]:
    """The statuses of all answers; those to HEAD have a length but no body, so no parser finds them."""
    return [int(piece[:3]) for piece in written.split(b"HTTP/1.1 ")[1:]]


def expire(conversation: Conversation) -> None:
    """The client stays silent."""
    conversation.connection.expire()
    assert conversation.transport.ended


def half_close(conversation: Conversation) -> None:
    """The client says that no more will come."""
    assert not conversation.connection.eof_received()
    assert conversation.transport.ended


LEAVE = st.sampled_from([expire, half_close])


@given(st.binary(max_size=2_000), PLACES, LEAVE)
def test_any_bytes_end_well(stream: bytes, places: list[int], leave: Callable[[Conversation], None]) -> None:
    check_that_it_ends_well(stream, places, leave)


@given(mangled_streams(), PLACES, LEAVE)
@example(head("POST / HTTP/1.1", "Host: a", "Content-Length: 00000000000000000000001") + b"x", [], expire)
@example(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n", [], half_close)
def test_mangled_requests_end_well(
    stream: bytes, places: list[int], leave: Callable[[Conversation], None]
) -> None:
    check_that_it_ends_well(stream, places, leave)


@given(mangled_streams(), PLACES)
def test_mangled_requests_are_answered_alike_however_they_are_cut(stream: bytes, places: list[int]) -> None:
    """What a proxy in front of us and we ourselves make of a stream cannot depend on timing."""
    whole, in_pieces = Conversation(constant), Conversation(constant)
    whole.send([stream])
    in_pieces.send(cut(stream, places))

    # Leave to send a body is given only to those who wait for it, which is a matter of timing.
    leave = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert in_pieces.written.replace(leave, b"") == whole.written.replace(leave, b"")
    assert in_pieces.transport.ended == whole.transport.ended
    assert in_pieces.connection._reader.stage == whole.connection._reader.stage


@given(st.lists(valid_requests(), min_size=1, max_size=8), PLACES, st.data())
def test_a_client_may_vanish_at_any_moment(
    requests: list[bytes], places: list[int], data: st.DataObject
) -> None:
    """With handlers that wait: answers come in order, and vanishing ends every handler."""

    async def converse() -> None:
        poll = Poll()
        conversation = Conversation(poll, pipelined_max=2)
        conversation.send(cut(b"".join(requests), places))
        for number in range(data.draw(st.integers(0, len(requests)))):
            assert len(poll.waiting) == 1
            poll.answer(b"%d" % number)
            await asyncio.sleep(0)
            conversation.send([])
            assert answers(conversation.written)[-1].body == b"%d" % number
        conversation.lose()

        assert poll.begun == poll.ended
        assert poll.waiting == []

    asyncio.run(converse())
