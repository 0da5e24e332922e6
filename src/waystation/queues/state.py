"""The state of a whole shard: its queues, the events that made it, and nothing else.

`decide` turns a command into events and an answer, and changes nothing;
`apply` changes state and never fails; `advance` lets time pass. Two states that
applied the same events at the same positions hold the same messages in the same
states, whoever applied them; which of those are in a window and in which order
they are handed out also depends on who looked when, and is not promised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from waystation.protocol.errors import QueueDoesNotExist
from waystation.queues import commands, events
from waystation.queues.commands import Answer, Command, Done, Outcome, Outcomes
from waystation.queues.events import Event
from waystation.queues.message import Message
from waystation.queues.standard import StandardQueue
from waystation.queues.tail import Tail

SNAPSHOT_VERSION = 1


class Decision(NamedTuple):
    """The events to log and apply, in order, maybe none, and the answer once they are durable."""

    events: tuple[Event, ...]
    answer: Answer


class ShardState:
    """All queues of one shard. `now_ms` never falls: a clock that does is waited for."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.epoch = 0
        self.next_queue = 1
        self.queues: dict[int, StandardQueue] = {}

    def queue(self, number: int) -> StandardQueue:
        """The queue of that number. Raises `QueueDoesNotExist`."""
        queue = self.queues.get(number)
        if queue is None:
            raise QueueDoesNotExist
        return queue

    def advance(self, now_ms: int) -> int:
        """Note the time; queues follow when they are next looked at. Returns the time that holds."""
        if now_ms > self.now_ms:
            self.now_ms = now_ms
        return self.now_ms

    # Deciding

    def decide(self, command: Command) -> Decision:
        """What a command leads to now.

        Raises:
            QueueDoesNotExist: unless the command is `CreateQueue` or `DeleteQueue`.
            OverLimit, PurgeQueueInProgress: as the queue says.
        """
        return _DECIDE[type(command)](self, command)

    def _create(self, command: commands.CreateQueue) -> Decision:
        event = events.QueueCreated(self.now_ms, self.next_queue, command.settings)
        return Decision((event,), commands.QueueId(self.next_queue))

    def _configure(self, command: commands.ConfigureQueue) -> Decision:
        self.queue(command.queue)
        event = events.QueueConfigured(self.now_ms, command.queue, command.settings)
        return Decision((event,), Done())

    def _delete_queue(self, command: commands.DeleteQueue) -> Decision:
        if command.queue not in self.queues:
            return Decision((), Done())
        return Decision((events.QueueDeleted(self.now_ms, command.queue),), Done())

    def _purge(self, command: commands.PurgeQueue) -> Decision:
        return Decision((self.queue(command.queue).decide_purge(command, self.now_ms),), Done())

    def _send(self, command: commands.SendMessages) -> Decision:
        event = self.queue(command.queue).decide_send(command, self.now_ms)
        return Decision((event,), commands.Sent(event.first_sequence))

    def _receive(self, command: commands.ReceiveMessages) -> Decision:
        now_ms = self.now_ms
        queue = self.queue(command.queue)
        queue.advance(now_ms)
        messages, dead = queue.decide_receive(command, now_ms)
        decided: tuple[Event, ...] = ()
        if dead:
            target = queue.settings.dead_letter_target
            decided = (events.MessagesSetAside(now_ms, command.queue, dead, target),)
        visible_at_ms = 0
        if messages:
            visible_at_ms = now_ms + command.visibility_timeout_ms
            sequences = [message.sequence for message in messages]
            decided += (events.MessagesReceived(now_ms, command.queue, visible_at_ms, sequences),)
        if visible_at_ms == now_ms:
            visible_at_ms = 0  # nobody is kept from them
        return Decision(decided, commands.Received(command.queue, messages, visible_at_ms))

    def _delete(self, command: commands.DeleteMessages) -> Decision:
        queue = self.queue(command.queue)
        queue.advance(self.now_ms)
        sequences = queue.decide_delete(command)
        answer = Outcomes([Outcome.DONE] * len(command.receipts))
        if not sequences:
            return Decision((), answer)
        return Decision((events.MessagesDeleted(self.now_ms, command.queue, sequences),), answer)

    def _change_visibility(self, command: commands.ChangeVisibility) -> Decision:
        queue = self.queue(command.queue)
        queue.advance(self.now_ms)
        changes, outcomes = queue.decide_visibility(command, self.now_ms)
        if not changes:
            return Decision((), Outcomes(outcomes))
        event = events.VisibilityChanged(self.now_ms, command.queue, changes)
        return Decision((event,), Outcomes(outcomes))

    def _accept(self, command: commands.AcceptMessages) -> Decision:
        event = self.queue(command.queue).decide_arrivals(command, self.now_ms)
        return Decision((event,) if event.arrivals or event.settled else (), Done())

    def _release(self, command: commands.ReleaseMessages) -> Decision:
        aside = self.queue(command.queue).aside
        sequences = [sequence for sequence in command.sequences if sequence in aside]
        if not sequences:
            return Decision((), Done())
        return Decision((events.MessagesReleased(self.now_ms, command.queue, sequences),), Done())

    def _count(self, command: commands.CountMessages) -> Decision:
        queue = self.queue(command.queue)
        queue.advance(self.now_ms)
        return Decision((), queue.counts())

    # Applying

    def apply(self, event: Event, record: int) -> None:
        """Change the state by an event that log record `record` holds or will hold.

        Every message that the event names has to be in memory: on replay,
        `missing` says which runs of the tail to load first.
        """
        if event.at_ms > self.now_ms:
            self.now_ms = event.at_ms
        _APPLY[type(event)](self, event, record)

    def _start_epoch(self, event: events.EpochStarted) -> None:
        self.epoch = event.epoch

    def _add_queue(self, event: events.QueueCreated) -> None:
        self.queues[event.queue] = StandardQueue(event.queue, event.settings)
        self.next_queue = event.queue + 1

    def _drop_queue(self, event: events.QueueDeleted) -> None:
        self.queues.pop(event.queue, None)

    def missing(self, event: Event) -> StandardQueue | None:
        """The queue whose oldest run has to be loaded before `event` can be applied, if any.

        While serving, a message is loaded before it is received. A replay that
        starts from an earlier snapshot may meet it while it is still in the tail.
        """
        if isinstance(event, events.MessagesReceived | events.MessagesDeleted | events.MessagesSetAside):
            sequences = event.sequences
        elif isinstance(event, events.VisibilityChanged):
            sequences = [sequence for sequence, _ in event.changes]
        else:
            return None
        queue = self.queues[event.queue]
        for sequence in sequences:
            if sequence not in queue.messages and queue.tail.find(sequence) is not None:
                return queue
        return None

    # Housekeeping

    def live_bytes(self) -> int:
        """Bytes of the envelopes of all live messages."""
        return sum(queue.live_bytes for queue in self.queues.values())

    def oldest_record(self) -> int | None:
        """The lowest log record that holds a live message: what lies before may go."""
        records = (queue.oldest_record() for queue in self.queues.values())
        return min((record for record in records if record is not None), default=None)

    def to_snapshot(self) -> bytes:
        """The whole state without any envelope, for `from_snapshot`."""
        return msgspec.msgpack.encode(
            _Snapshot(
                SNAPSHOT_VERSION,
                self.now_ms,
                self.epoch,
                self.next_queue,
                [
                    _QueueSnapshot(
                        queue.number,
                        queue.settings,
                        queue.next_sequence,
                        queue.purged_at_ms,
                        queue.expired_before_ms,
                        queue.live_bytes,
                        queue.saved_messages(),
                        *queue.tail.to_bytes(),
                        [(*source, sorted(known)) for source, known in queue.arrived.items()],
                        queue.aside_targets,
                        queue.expired_before_sequence,
                    )
                    for queue in self.queues.values()
                ],
            )
        )

    @classmethod
    def from_snapshot(cls, payload: bytes) -> ShardState:
        """What `to_snapshot` gave. Raises `ValueError` for another version or damaged bytes."""
        snapshot = msgspec.msgpack.decode(payload, type=_Snapshot)
        if snapshot.version != SNAPSHOT_VERSION:
            raise ValueError(f"snapshot version {snapshot.version} is unknown to this program")
        state = cls()
        state.now_ms, state.epoch, state.next_queue = snapshot.now_ms, snapshot.epoch, snapshot.next_queue
        for saved in snapshot.queues:
            queue = state.queues[saved.number] = StandardQueue(saved.number, saved.settings)
            queue.next_sequence = saved.next_sequence
            queue.purged_at_ms = saved.purged_at_ms
            queue.expired_before_ms = saved.expired_before_ms
            sequence = saved.expired_before_sequence
            queue.expired_before_sequence = saved.next_sequence if sequence is None else sequence
            queue.restore(
                saved.messages,
                Tail.from_bytes(saved.tail_first_sequences, saved.tail_locations),
                saved.live_bytes,
            )
            queue.arrived = {(shard, number): set(known) for shard, number, known in saved.arrived}
            queue.aside_targets = saved.aside_targets
        return state


class _QueueSnapshot(msgspec.Struct, array_like=True):
    number: int
    settings: commands.QueueSettings
    next_sequence: int
    purged_at_ms: int
    expired_before_ms: int
    live_bytes: int
    messages: list[Message]
    tail_first_sequences: bytes
    tail_locations: bytes
    arrived: list[tuple[int, int, list[int]]] = []
    aside_targets: dict[int, str] = {}
    expired_before_sequence: int | None = None
    """None in snapshots of older versions, where it holds for all that are there."""


class _Snapshot(msgspec.Struct, array_like=True):
    version: int
    now_ms: int
    epoch: int
    next_queue: int
    queues: list[_QueueSnapshot]


_DECIDE: dict[type, Callable[[ShardState, Any], Decision]] = {
    commands.CreateQueue: ShardState._create,
    commands.ConfigureQueue: ShardState._configure,
    commands.DeleteQueue: ShardState._delete_queue,
    commands.PurgeQueue: ShardState._purge,
    commands.SendMessages: ShardState._send,
    commands.ReceiveMessages: ShardState._receive,
    commands.DeleteMessages: ShardState._delete,
    commands.ChangeVisibility: ShardState._change_visibility,
    commands.AcceptMessages: ShardState._accept,
    commands.ReleaseMessages: ShardState._release,
    commands.CountMessages: ShardState._count,
}

_APPLY: dict[type, Callable[[ShardState, Any, int], None]] = {
    events.EpochStarted: lambda state, event, _: state._start_epoch(event),
    events.QueueCreated: lambda state, event, _: state._add_queue(event),
    events.QueueDeleted: lambda state, event, _: state._drop_queue(event),
    events.QueueConfigured: lambda state, event, _: state.queues[event.queue].apply_configured(event),
    events.QueuePurged: lambda state, event, _: state.queues[event.queue].apply_purged(event),
    events.MessagesSent: lambda state, event, at: state.queues[event.queue].apply_sent(event, at),
    events.MessagesReceived: lambda state, event, _: state.queues[event.queue].apply_received(event),
    events.MessagesDeleted: lambda state, event, _: state.queues[event.queue].apply_deleted(event),
    events.VisibilityChanged: lambda state, event, _: state.queues[event.queue].apply_visibility(event),
    events.MessagesRelocated: lambda state, event, at: state.queues[event.queue].apply_relocated(event, at),
    events.MessagesSetAside: lambda state, event, _: state.queues[event.queue].apply_set_aside(event),
    events.MessagesArrived: lambda state, event, at: state.queues[event.queue].apply_arrived(event, at),
    events.MessagesReleased: lambda state, event, _: state.queues[event.queue].apply_deleted(event),
}
