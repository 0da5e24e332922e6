"""Frames and hellos: any chunking gives the same ones, and what no node would send is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.cluster.frames import (
    CALL,
    HEADER,
    Frame,
    FrameReader,
    FrameRefused,
    Hello,
    common_version,
    encode_frame,
    encode_hello,
)

FRAME_BYTES_MAX = 1_000

HELLO = Hello("node-1", "orders")

names = st.text(max_size=60).filter(lambda name: len(name.encode()) <= 255)
hellos = st.builds(
    lambda node, cluster, lowest, more: Hello(node, cluster, lowest, lowest + more),
    names,
    names,
    st.integers(0, 100),
    st.integers(0, 100),
)
frames = st.builds(
    Frame,
    kind=st.integers(0, 255),
    id=st.integers(0, 2**64 - 1),
    payload=st.binary(max_size=FRAME_BYTES_MAX),
    call_kind=st.integers(0, 2**16 - 1),
    deadline_ms=st.integers(0, 2**32 - 1),
)


def read_in_pieces(data: bytes, cuts: list[int]) -> tuple[Hello | None, list[Frame]]:
    reader = FrameReader(FRAME_BYTES_MAX)
    ends = [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    read: list[Frame] = []
    begin = 0
    for end in ends:
        read += reader.feed(data[begin:end])
        begin = end
    return reader.hello, read


@given(hellos, st.lists(frames, max_size=5), st.lists(st.integers(0, 10_000), max_size=20))
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    hello: Hello, sent: list[Frame], cuts: list[int]
) -> None:
    data = encode_hello(hello) + b"".join(map(encode_frame, sent))

    assert read_in_pieces(data, cuts) == (hello, sent)


@given(hellos, st.lists(frames, max_size=3))
def test_frames_come_out_one_byte_at_a_time(hello: Hello, sent: list[Frame]) -> None:
    data = encode_hello(hello) + b"".join(map(encode_frame, sent))

    assert read_in_pieces(data, list(range(len(data)))) == (hello, sent)


@given(st.binary(min_size=1), st.lists(st.integers(0, 1_000), max_size=5))
def test_garbage_is_refused_or_still_incomplete_and_nothing_else_happens(
    data: bytes, cuts: list[int]
) -> None:
    try:
        hello, read = read_in_pieces(data, cuts)
    except FrameRefused:
        assert not data.startswith(b"WSTN") or len(data) >= 12
    else:
        assert read == []
        assert hello is None
        assert len(data) < 12 or data.startswith(b"WSTN")


@given(st.binary(), st.lists(st.integers(0, 1_000), max_size=5))
def test_garbage_after_a_hello_is_refused_or_read_as_frames(data: bytes, cuts: list[int]) -> None:
    """Frames of unknown kinds are for the connection to refuse; the reader loses no byte of them."""
    try:
        _, read = read_in_pieces(encode_hello(HELLO) + data, cuts)
    except FrameRefused:
        return
    read_bytes = sum(HEADER.size + len(frame.payload) for frame in read)
    assert read_bytes <= len(data)
    assert len(data) - read_bytes < HEADER.size + FRAME_BYTES_MAX


def test_an_id_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(ValueError, match="at most 255 bytes"):
        encode_hello(Hello("ü" * 128, "orders"))


def test_another_protocol_is_refused_by_its_first_byte() -> None:
    with pytest.raises(FrameRefused, match="does not speak"):
        FrameReader(FRAME_BYTES_MAX).feed(b"G")


@pytest.mark.parametrize("extra_bytes", [1, 2**31])
def test_a_frame_over_the_limit_is_refused_before_it_has_come(extra_bytes: int) -> None:
    reader = FrameReader(FRAME_BYTES_MAX)
    reader.feed(encode_hello(HELLO))

    with pytest.raises(FrameRefused, match="at most 1000 are taken"):
        reader.feed(HEADER.pack(FRAME_BYTES_MAX + extra_bytes, CALL, 0, 0, 0, 1))


@pytest.mark.parametrize(
    "hello",
    [
        b"WSTN\xff\xff\x01\x00\x01\x00\x01\x01",
        b"WSTN\x01\x00\x01\x00\x01\x00\x01\x01",
        b"WSTN\x00\x00\x02\x00\x01\x00\x00\x00",
        b"WSTN\x01\x00\x01\x00\x01\x00\x01\x00\xff",
    ],
    ids=["too long", "names longer than it", "lowest over highest", "not UTF-8"],
)
def test_a_hello_that_cannot_be_is_refused(hello: bytes) -> None:
    with pytest.raises(FrameRefused):
        FrameReader(FRAME_BYTES_MAX).feed(hello)


def test_what_a_newer_release_adds_to_its_hello_is_ignored() -> None:
    data = bytearray(encode_hello(HELLO)) + b"and more"
    data[4] += len(b"and more")
    reader = FrameReader(FRAME_BYTES_MAX)

    assert reader.feed(bytes(data) + encode_frame(Frame(CALL, 7))) == [Frame(CALL, 7)]
    assert reader.hello == HELLO


def test_flags_that_are_not_known_are_ignored() -> None:
    reader = FrameReader(FRAME_BYTES_MAX)
    reader.feed(encode_hello(HELLO))

    assert reader.feed(HEADER.pack(2, CALL, 0xFF, 3, 4, 5) + b"hi") == [Frame(CALL, 5, b"hi", 3, 4)]


@pytest.mark.parametrize(
    ("ours", "theirs", "version"), [((1, 1), (1, 1), 1), ((1, 3), (2, 5), 3), ((2, 5), (1, 2), 2)]
)
def test_the_highest_version_that_both_speak_is_used(
    ours: tuple[int, int], theirs: tuple[int, int], version: int
) -> None:
    assert common_version(Hello("a", "c", *ours), Hello("b", "c", *theirs)) == version
    assert common_version(Hello("b", "c", *theirs), Hello("a", "c", *ours)) == version


def test_without_a_common_version_both_know_why_they_part() -> None:
    with pytest.raises(FrameRefused, match=r"node b speaks versions 3 to 4 .*, this one 1 to 2"):
        common_version(Hello("a", "c", 1, 2), Hello("b", "c", 3, 4))


def test_a_node_of_another_cluster_is_refused() -> None:
    with pytest.raises(FrameRefused, match="is of cluster invoices, not orders"):
        common_version(HELLO, Hello("node-2", "invoices"))
