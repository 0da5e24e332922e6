"""A shard's state as bytes, without any envelope, and back.

A field may be added at the end with a default; snapshots of version 1, from before there
were message groups, can be read still.
"""

from __future__ import annotations

from itertools import chain

import msgspec

from waystation.queues.attempts import Attempt, Attempts
from waystation.queues.commands import QueueSettings
from waystation.queues.deduplication import Deduplication
from waystation.queues.fifo import FifoQueue
from waystation.queues.message import READY, Message
from waystation.queues.send_times import SendTimes
from waystation.queues.state import Queue, ShardState, new_queue
from waystation.queues.tail import Tail

SNAPSHOT_VERSION = 2
_READABLE = (1, 2)


class _SavedFifo(msgspec.Struct, array_like=True):
    """What only a FIFO queue has."""

    times_ms: bytes
    time_sequences: bytes
    digests: bytes
    digest_sequences: bytes
    attempts: list[Attempt]


class _SavedQueue(msgspec.Struct, array_like=True):
    number: int
    settings: QueueSettings
    next_sequence: int
    purged_at_ms: int
    expired_before_ms: int
    live_bytes: int
    messages: list[Message]
    tail_first_sequences: bytes = b""
    """Of the messages without a group, as is the next."""
    tail_locations: bytes = b""
    arrived: list[tuple[int, int, list[int]]] = []
    aside_targets: dict[int, str] = {}
    expired_before_sequence: int | None = None
    """None in snapshots of older versions, where it holds for all that are there."""
    tails: list[tuple[str, bytes, bytes]] = []
    """By group, also the empty one: first sequences and locations."""
    fifo: _SavedFifo | None = None


class _Snapshot(msgspec.Struct, array_like=True):
    version: int
    now_ms: int
    epoch: int
    next_queue: int
    queues: list[_SavedQueue]


def to_snapshot(state: ShardState) -> bytes:
    """The whole state, for `from_snapshot`."""
    queues = [_save(queue) for queue in state.queues.values()]
    return msgspec.msgpack.encode(
        _Snapshot(SNAPSHOT_VERSION, state.now_ms, state.epoch, state.next_queue, queues)
    )


def _save(queue: Queue) -> _SavedQueue:
    return _SavedQueue(
        number=queue.number,
        settings=queue.settings,
        next_sequence=queue.next_sequence,
        purged_at_ms=queue.purged_at_ms,
        expired_before_ms=queue.expired_before_ms,
        live_bytes=queue.live_bytes,
        messages=_messages(queue),
        arrived=[(*source, sorted(known)) for source, known in queue.arrived.items()],
        aside_targets=queue.aside_targets,
        expired_before_sequence=queue.expired_before_sequence,
        tails=[(group, *line.tail.to_bytes()) for group, line in queue.lines.items() if line.tail.messages],
        fifo=_save_fifo(queue) if isinstance(queue, FifoQueue) else None,
    )


def _messages(queue: Queue) -> list[Message]:
    """Every message object: the visible ones in their order, then the others."""
    visible = chain.from_iterable(line.objects() for line in queue.lines.values())
    return [*visible, *(message for message in queue.messages.values() if message.state != READY)]


def _save_fifo(queue: FifoQueue) -> _SavedFifo:
    return _SavedFifo(*queue.send_times.to_bytes(), *queue.deduplication.to_bytes(), queue.attempts.saved())


def from_snapshot(payload: bytes) -> ShardState:
    """What `to_snapshot` gave. Raises `ValueError` for another version or damaged bytes."""
    snapshot = msgspec.msgpack.decode(payload, type=_Snapshot)
    if snapshot.version not in _READABLE:
        raise ValueError(f"snapshot version {snapshot.version} is unknown to this program")
    state = ShardState()
    state.now_ms, state.epoch, state.next_queue = snapshot.now_ms, snapshot.epoch, snapshot.next_queue
    for saved in snapshot.queues:
        state.queues[saved.number] = _restore(saved, snapshot.now_ms)
    return state


def _restore(saved: _SavedQueue, now_ms: int) -> Queue:
    queue = new_queue(saved.number, saved.settings)
    queue.next_sequence = saved.next_sequence
    queue.purged_at_ms = saved.purged_at_ms
    queue.expired_before_ms = saved.expired_before_ms
    sequence = saved.expired_before_sequence
    queue.expired_before_sequence = saved.next_sequence if sequence is None else sequence
    queue.live_bytes = saved.live_bytes
    tails = saved.tails
    if saved.tail_locations:
        tails = [*tails, ("", saved.tail_first_sequences, saved.tail_locations)]
    queue.restore(saved.messages, ((group, Tail.from_bytes(*arrays)) for group, *arrays in tails), now_ms)
    queue.arrived = {(shard, number): set(known) for shard, number, known in saved.arrived}
    queue.aside_targets = saved.aside_targets
    if isinstance(queue, FifoQueue) and saved.fifo is not None:
        fifo = saved.fifo
        queue.send_times = SendTimes.from_bytes(fifo.times_ms, fifo.time_sequences)
        queue.deduplication = Deduplication.from_bytes(fifo.digests, fifo.digest_sequences)
        queue.attempts = Attempts(fifo.attempts)
    return queue
