"""What happened to the queues of a shard: the only thing its log holds.

An event is decided once and applied many times: while serving, on replay, in
the simulation. It therefore carries every time and number that was chosen, and
applying it needs nothing else. `at_ms` is when it was decided, Unix time.

The encoding is MessagePack arrays with a number as tag. A field may be added
at the end with a default; tags and the order of fields are never changed, as
logs written by older versions have to be read.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from waystation.queues.commands import Arrival, Entry, QueueSettings


class EpochStarted(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """An owner has taken the shard over: the first event of each owner's records.

    `owner` is like that of nobody else, so that no two owners ever write the same record:
    one whose append was left in doubt tells by the bytes whether what it finds is its own.
    """

    at_ms: int
    epoch: int
    owner: str = ""


class QueueCreated(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """A queue came to be, empty."""

    at_ms: int
    queue: int
    settings: QueueSettings


class QueueConfigured(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A queue's settings were replaced."""

    at_ms: int
    queue: int
    settings: QueueSettings


class QueueDeleted(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A queue and its messages are gone for good."""

    at_ms: int
    queue: int


class QueuePurged(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """All messages that a queue held at this time are gone."""

    at_ms: int
    queue: int


class MessagesSent(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Messages were accepted; their sequences run from `first_sequence`."""

    at_ms: int
    queue: int
    first_sequence: int
    entries: list[Entry]


class MessagesReceived(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """One consumer got these messages; nobody else gets them before `visible_at_ms`.

    `groups` are their message groups, one each, or empty when none has one: a replay
    finds the messages by them. `attempt` is as in `ReceiveMessages`.
    """

    at_ms: int
    queue: int
    visible_at_ms: int
    sequences: list[int]
    groups: list[str] = []
    attempt: bytes = b""


class MessagesDeleted(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """A consumer was done with these messages."""

    at_ms: int
    queue: int
    sequences: list[int]


class VisibilityChanged(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Received messages come back at another time: pairs of sequence and `visible_at_ms`."""

    at_ms: int
    queue: int
    changes: list[tuple[int, int]]


class Relocated(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message as it is written again.

    `held` is true for one that was sent with a delay or has been received, and
    therefore is never part of a tail, whoever applies this event. `receive_count`
    is that with which it came to this queue.
    """

    sequence: int
    sent_at_ms: int
    held: bool
    envelope: bytes
    receive_count: int = 0
    group: str = ""


class MessagesRelocated(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """Live messages were written again in this record, so that older records can go.

    Nothing else about them changes.
    """

    at_ms: int
    queue: int
    messages: list[Relocated]


class MessagesSetAside(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Nobody receives these messages here any more, and `target` is to take them.

    They were received too often, or are to be moved. `groups` are as in `MessagesReceived`.
    It holds for them whatever the queue's settings say later: the target may have them already.
    Once it does not exist any more, they may be set aside again, for another.
    """

    at_ms: int
    queue: int
    sequences: list[int]
    target: str
    groups: list[str] = []


class MessagesArrived(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Messages of another queue were taken over; their sequences here run from `first_sequence`.

    From now on it is known that they have come, until they are in the `settled` of a later event;
    and no earlier `delivery` is taken any more.
    """

    at_ms: int
    queue: int
    first_sequence: int
    source_shard: int
    source_queue: int
    arrivals: list[Arrival]
    settled: list[int]
    delivery: tuple[int, int] = (0, 0)


class MessagesReleased(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """Messages that were set aside are in another queue now, and gone from this one."""

    at_ms: int
    queue: int
    sequences: list[int]


class ReceiveRepeated(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """The consumer of an earlier `attempt` asked again, and has its messages until `visible_at_ms`."""

    at_ms: int
    queue: int
    visible_at_ms: int
    attempt: bytes


class MessagesReturned(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """Messages that were set aside found no queue to take them, and are visible again."""

    at_ms: int
    queue: int
    sequences: list[int]


class NumbersSkipped(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """The shard was restored from a backup: numbers that may have been given out since are used no more.

    Message ids, sequence numbers and receipt handles follow from them. Epochs and deliveries begin anew.
    """

    at_ms: int
    sequences: int
    """Skipped in every queue."""
    queues: int


QueueEvent: TypeAlias = (
    QueueConfigured
    | QueueDeleted
    | QueuePurged
    | MessagesSent
    | MessagesReceived
    | MessagesDeleted
    | VisibilityChanged
    | MessagesRelocated
    | MessagesSetAside
    | MessagesArrived
    | MessagesReleased
    | ReceiveRepeated
    | MessagesReturned
)
Event: TypeAlias = EpochStarted | NumbersSkipped | QueueCreated | QueueEvent

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Event])


def encode_events(events: list[Event]) -> bytes:
    """The payload of one log record."""
    return _encoder.encode(events)


def decode_events(payload: bytes) -> list[Event]:
    """The events of one log record. Raises `msgspec.MsgspecError` for what is not one."""
    return _decoder.decode(payload)
