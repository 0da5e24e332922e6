"""A shard's state as bytes, without any envelope, and back.

A field may be added at the end with a default. Older snapshots can be read still: those of
version 1 are from before there were message groups, those of version 2 from before runs
were packed into blocks.

Thousands of queues may be saved while every client waits, so what is made for each is no
work for the garbage collector, and one that is at rest is saved without a look into it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import msgspec

from waystation.queues.attempts import Attempt, Attempts
from waystation.queues.commands import QueueSettings
from waystation.queues.deduplication import Deduplication
from waystation.queues.fifo import FifoQueue
from waystation.queues.message import READY, Message
from waystation.queues.runs import Block, Runs
from waystation.queues.send_times import SendTimes
from waystation.queues.state import Queue, ShardState, new_queue
from waystation.queues.tail import Tail

SNAPSHOT_VERSION = 3
_READABLE = (1, 2, 3)


class _SavedFifo(msgspec.Struct, array_like=True, gc=False):
    """What only a FIFO queue has."""

    times_ms: bytes
    time_sequences: bytes
    digests: bytes
    digest_sequences: bytes
    attempts: list[Attempt]


class _SavedTails(msgspec.Struct, array_like=True, gc=False):
    """All tails of a queue in a few large pieces, as there may be a hundred thousand of them."""

    groups: list[str]
    """One may be the empty one."""
    counts: bytes
    """Of each group's runs that are in no block, little-endian 32-bit."""
    first_sequences: bytes
    locations: bytes
    """Of these runs of all groups, as `Runs.to_bytes` gives them."""
    blocks: dict[str, list[Block]]
    """By group, of those that have any."""


class _SavedQueue(msgspec.Struct, array_like=True, gc=False):
    number: int
    settings: QueueSettings
    next_sequence: int
    purged_at_ms: int
    expired_before_ms: int
    live_bytes: int
    messages: list[Message]
    tail_first_sequences: bytes = b""
    """Version 1: of the messages without a group, as is the next."""
    tail_locations: bytes = b""
    arrived: list[tuple[int, int, list[int]]] = []
    aside_targets: dict[int, str] = {}
    expired_before_sequence: int | None = None
    """None in snapshots of older versions, where it holds for all that are there."""
    old_tails: list[tuple[str, bytes, bytes]] = []
    """Version 2: by group, also the empty one, first sequences and locations."""
    fifo: _SavedFifo | None = None
    tails: _SavedTails | None = None
    deliveries: list[tuple[int, int, int, int]] = []
    """Source shard and queue, then epoch and count."""


_NO_MESSAGES: list[Message] = []
_NONE_ARRIVED: list[tuple[int, int, list[int]]] = []
_NO_DELIVERIES: list[tuple[int, int, int, int]] = []
"""Shared by all queues at rest."""


class _Snapshot(msgspec.Struct, array_like=True):
    version: int
    now_ms: int
    epoch: int
    next_queue: int
    queues: list[_SavedQueue]
    owner: str = ""


def to_snapshot(state: ShardState) -> bytes:
    """The whole state, for `from_snapshot`."""
    queues = [_save(queue) for queue in state.queues.values()]
    return msgspec.msgpack.encode(
        _Snapshot(SNAPSHOT_VERSION, state.now_ms, state.epoch, state.next_queue, queues, state.owner)
    )


def _save(queue: Queue) -> _SavedQueue:
    if queue.at_rest:
        return _SavedQueue(
            queue.number,
            queue.settings,
            queue.next_sequence,
            queue.purged_at_ms,
            queue.expired_before_ms,
            0,
            _NO_MESSAGES,
            arrived=_arrived(queue) if queue.arrived else _NONE_ARRIVED,
            aside_targets=queue.aside_targets,
            expired_before_sequence=queue.expired_before_sequence,
            deliveries=_deliveries(queue) if queue.deliveries else _NO_DELIVERIES,
        )
    return _SavedQueue(
        number=queue.number,
        settings=queue.settings,
        next_sequence=queue.next_sequence,
        purged_at_ms=queue.purged_at_ms,
        expired_before_ms=queue.expired_before_ms,
        live_bytes=queue.live_bytes,
        messages=_messages(queue),
        arrived=_arrived(queue),
        aside_targets=queue.aside_targets,
        expired_before_sequence=queue.expired_before_sequence,
        tails=_save_tails(queue),
        fifo=_save_fifo(queue) if isinstance(queue, FifoQueue) else None,
        deliveries=_deliveries(queue),
    )


def _deliveries(queue: Queue) -> list[tuple[int, int, int, int]]:
    return [(*source, *latest) for source, latest in queue.deliveries.items()]


def _arrived(queue: Queue) -> list[tuple[int, int, list[int]]]:
    return [(*source, sorted(known)) for source, known in queue.arrived.items()]


def _messages(queue: Queue) -> list[Message]:
    """Every message object: the visible ones in their order, then the others."""
    found: list[Message] = []
    for line in queue.lines.values():
        found += line.window.values()
        found += line.back.values()
    found += [message for message in queue.messages.values() if message.state != READY]
    return found


def _save_tails(queue: Queue) -> _SavedTails:
    groups, counts, loose, blocks = list[str](), array("I"), Runs(), dict[str, list[Block]]()
    for group, line in queue.lines.items():
        if line.tail.messages:
            before = len(loose)
            packed = line.tail.save(loose)
            groups.append(group)
            counts.append(len(loose) - before)
            if packed:
                blocks[group] = packed
    return _SavedTails(groups, counts.tobytes(), *loose.to_bytes(), blocks)


def _restore_tails(saved: _SavedQueue) -> Iterator[tuple[str, Tail]]:
    if saved.tail_locations:
        yield "", Tail.restored(Runs.from_bytes(saved.tail_first_sequences, saved.tail_locations), [])
    for group, first_sequences, locations in saved.old_tails:
        yield group, Tail.restored(Runs.from_bytes(first_sequences, locations), [])
    if saved.tails is not None:
        loose = Runs.from_bytes(saved.tails.first_sequences, saved.tails.locations)
        counts = array("I")
        counts.frombytes(saved.tails.counts)
        end = 0
        for group, count in zip(saved.tails.groups, counts, strict=True):
            first, end = end, end + count
            yield group, Tail.restored(loose.part(first, end), saved.tails.blocks.get(group) or [])


def _save_fifo(queue: FifoQueue) -> _SavedFifo:
    return _SavedFifo(*queue.send_times.to_bytes(), *queue.deduplication.to_bytes(), queue.attempts.saved())


def from_snapshot(payload: bytes) -> ShardState:
    """What `to_snapshot` gave. Raises `ValueError` for another version or damaged bytes."""
    snapshot = msgspec.msgpack.decode(payload, type=_Snapshot)
    if snapshot.version not in _READABLE:
        raise ValueError(f"snapshot version {snapshot.version} is unknown to this program")
    state = ShardState()
    state.now_ms, state.epoch, state.next_queue = snapshot.now_ms, snapshot.epoch, snapshot.next_queue
    state.owner = snapshot.owner
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
    if saved.messages or saved.tail_locations or saved.old_tails or saved.tails or saved.fifo:
        queue.restore(saved.messages, _restore_tails(saved), now_ms)
    queue.arrived = {(shard, number): set(known) for shard, number, known in saved.arrived}
    queue.deliveries = {(shard, number): (epoch, count) for shard, number, epoch, count in saved.deliveries}
    queue.aside_targets = saved.aside_targets
    if isinstance(queue, FifoQueue) and saved.fifo is not None:
        fifo = saved.fifo
        queue.send_times = SendTimes.from_bytes(fifo.times_ms, fifo.time_sequences)
        queue.deduplication = Deduplication.from_bytes(fifo.digests, fifo.digest_sequences)
        queue.attempts = Attempts(fifo.attempts)
    return queue
