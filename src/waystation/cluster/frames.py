"""The frames that nodes exchange: bytes to frames and back, in whatever pieces the bytes come.

Each side first says hello: who it is, and the lowest and the highest version of the frames that it
speaks. From then on both use the highest version that both speak, or part. So nodes of two releases can
work together while a cluster is upgraded, one node after the other.

A frame is a header of fixed length, little-endian, and a payload that is not looked into:

    payload's length (4) | kind (1) | flags (1) | kind of call (2) | time left in ms (4) | id (8)

To stay compatible: flags that are not known are ignored; a call of a kind that is not known is answered
`NOT_DONE`, as is a whole frame of such a kind; what a longer hello says at its end is ignored.

Pure: no I/O and no clock.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import msgspec

VERSION_LOWEST: Final = 1
VERSION_HIGHEST: Final = 1

CALL: Final = 1
"""Do something: has an id, a kind of call, the milliseconds left to begin with it, and a payload."""
ANSWER: Final = 2
"""It is done, and this is the result."""
REFUSAL: Final = 3
"""Whoever handles calls has refused this one; the payload says how."""
CANCEL: Final = 4
"""Nobody waits for the answer any more."""
PING: Final = 5
"""I am alive; sent by each side when it has had nothing else to say. No answer is due."""
GOING_AWAY: Final = 6
"""Make no more calls on this connection; those that were made will be answered."""
NOT_DONE: Final = 7
"""The call was not begun; the payload is the reason, in UTF-8."""
FAILED: Final = 8
"""The call was begun and has failed; nobody knows how much of it was done. Payload as above."""

_MAGIC: Final = b"WSTN"
_HELLO: Final = Struct("<4sHHHBB")
"""Magic, bytes that follow, lowest and highest version, bytes of the node's and the cluster's id."""
_HELLO_REST_MAX: Final = 2_048
_ID_BYTES_MAX: Final = 255

HEADER: Final = Struct("<IBBHIQ")
DEADLINE_MAX_MS: Final = 2**32 - 1


class FrameRefused(ValueError):
    """What came is not what a node of ours would send: the connection is of no more use."""


class Hello(msgspec.Struct, frozen=True):
    """Who is at the other end, and what it speaks. Ids have at most 255 bytes of UTF-8."""

    node: str
    cluster: str
    lowest: int = VERSION_LOWEST
    highest: int = VERSION_HIGHEST


class Frame(msgspec.Struct, gc=False):
    """One frame. `call_kind` and `deadline_ms`, the time left, are only those of a call."""

    kind: int
    id: int
    payload: bytes = b""
    call_kind: int = 0
    deadline_ms: int = 0


def encode_hello(hello: Hello) -> bytes:
    """The first bytes that either side sends. Raises `ValueError`: an id is too long."""
    node, cluster = hello.node.encode(), hello.cluster.encode()
    if len(node) > _ID_BYTES_MAX or len(cluster) > _ID_BYTES_MAX:
        raise ValueError(f"the ids of node and cluster have at most {_ID_BYTES_MAX} bytes of UTF-8")
    rest = node + cluster
    return _HELLO.pack(_MAGIC, len(rest), hello.lowest, hello.highest, len(node), len(cluster)) + rest


def encode_frame(frame: Frame) -> bytes:
    """Header and payload."""
    return (
        HEADER.pack(len(frame.payload), frame.kind, 0, frame.call_kind, frame.deadline_ms, frame.id)
        + frame.payload
    )


def common_version(ours: Hello, theirs: Hello) -> int:
    """The version that both will use. Raises `FrameRefused` when there is none, or the cluster is another."""
    if theirs.cluster != ours.cluster:
        raise FrameRefused(f"node {theirs.node} is of cluster {theirs.cluster}, not {ours.cluster}")
    version = min(ours.highest, theirs.highest)
    if version < max(ours.lowest, theirs.lowest):
        raise FrameRefused(
            f"node {theirs.node} speaks versions {theirs.lowest} to {theirs.highest} of the protocol "
            f"between nodes, this one {ours.lowest} to {ours.highest}"
        )
    return version


class FrameReader:
    """Takes bytes as they come, and gives the frames that are whole.

    Holds the pieces of at most one frame that is not whole, so never more than about `frame_bytes_max`
    beyond what it was last fed. After `FrameRefused` it is of no more use.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self.hello: Hello | None = None
        """What the other side said first; None until that is whole."""
        self._frame_bytes_max = frame_bytes_max
        self._pieces: list[bytes | memoryview] = []
        self._held_bytes = 0
        self._needed_bytes = _HELLO.size

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now, in order. Raises `FrameRefused`."""
        frames: list[Frame] = []
        position = 0
        while self._pieces:
            # Of large frames every copy counts: only what the one that was cut lacks is joined to it.
            end = position + self._needed_bytes - self._held_bytes
            if end > len(data):
                break
            joined = b"".join([*self._pieces, memoryview(data)[position:end]])
            position = end
            self._pieces = []
            self._keep(joined, self._read(joined, 0, frames))
        else:
            position = self._read(data, position, frames)
        self._keep(data, position)
        return frames

    def _keep(self, data: bytes, position: int) -> None:
        """Hold the bytes from there on, until more come."""
        held_bytes = len(data) - position
        if not held_bytes:
            return
        if not self._pieces:
            self._held_bytes = 0
        self._held_bytes += held_bytes
        # A view spares a copy, but keeps all of the data alive.
        is_most = held_bytes * 2 > len(data)
        self._pieces.append(memoryview(data)[position:] if is_most else data[position:])

    def _read(self, data: bytes, position: int, frames: list[Frame]) -> int:
        """Returns where the first begins that is not whole, be it a frame or the hello."""
        if self.hello is None:
            position = self._read_hello(data)
            if self.hello is None:
                return position
        return self._read_frames(data, position, frames)

    def _read_frames(self, data: bytes, position: int, frames: list[Frame]) -> int:
        """Returns where the first frame begins that is not whole."""
        end = len(data)
        header_bytes = HEADER.size
        unpack = HEADER.unpack_from
        needed_bytes = header_bytes
        while (begin := position + header_bytes) <= end:
            length, kind, _, call_kind, deadline_ms, call_id = unpack(data, position)
            if length > self._frame_bytes_max:
                raise FrameRefused(f"a frame of {length} bytes; at most {self._frame_bytes_max} are taken")
            after = begin + length
            if after > end:
                needed_bytes = header_bytes + length
                break
            frames.append(Frame(kind, call_id, data[begin:after], call_kind, deadline_ms))
            position = after
        self._needed_bytes = needed_bytes
        return position

    def _read_hello(self, data: bytes) -> int:
        """Returns where the first frame begins, or 0 while the hello is not whole."""
        if not data.startswith(_MAGIC[: len(data)]):
            raise FrameRefused("the other side does not speak the protocol between nodes")
        if len(data) < _HELLO.size:
            return 0
        rest_bytes: int
        _, rest_bytes, lowest, highest, node_bytes, cluster_bytes = _HELLO.unpack_from(data)
        if rest_bytes > _HELLO_REST_MAX or node_bytes + cluster_bytes > rest_bytes or lowest > highest:
            raise FrameRefused("the other side says hello in a way that cannot be")
        end = _HELLO.size + rest_bytes
        if len(data) < end:
            self._needed_bytes = end
            return 0
        node_end = _HELLO.size + node_bytes
        try:
            node = data[_HELLO.size : node_end].decode()
            cluster = data[node_end : node_end + cluster_bytes].decode()
        except UnicodeDecodeError as error:
            raise FrameRefused("the other side's name is not UTF-8") from error
        self.hello = Hello(node, cluster, lowest, highest)
        self._needed_bytes = HEADER.size
        return end
