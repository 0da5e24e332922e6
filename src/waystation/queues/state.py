"""The state of a whole shard: its queues, the events that made it, and nothing else.

`decide` turns a command into events and an answer, and changes nothing;
`apply` changes state and never fails; `advance` lets time pass. Two states that
applied the same events at the same positions hold the same messages in the same
states, whoever applied them; which of those are in a window and in which order
they are handed out also depends on who looked when, and is not promised.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from typing import Any, NamedTuple, TypeAlias

from waystation.protocol.errors import QueueDoesNotExist
from waystation.queues import commands, events
from waystation.queues.commands import Answer, Command, Done, Outcomes
from waystation.queues.events import Event
from waystation.queues.fifo import FifoQueue
from waystation.queues.standard import StandardQueue

Queue: TypeAlias = StandardQueue | FifoQueue


class Decision(NamedTuple):
    """The events to log and apply, in order, maybe none, and the answer once they are durable."""

    events: tuple[Event, ...]
    answer: Answer


class ShardState:
    """All queues of one shard. `now_ms` never falls: a clock that does is waited for."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.epoch = 0
        self.owner = ""
        """Who began the epoch; empty for one of an older version."""
        self.next_queue = 1
        self.queues: dict[int, Queue] = {}

    def queue(self, number: int) -> Queue:
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
            QueueDoesNotExist: unless the command is `CreateQueue`, `DeleteQueue` or `ListQueues`.
            OverLimit, PurgeQueueInProgress, DeliveryOutdated: as the queue says.
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
        decided, sequences = self.queue(command.queue).decide_send(command, self.now_ms)
        return Decision(decided, commands.Sent(sequences))

    def _receive(self, command: commands.ReceiveMessages) -> Decision:
        queue = self.queue(command.queue)
        queue.advance(self.now_ms)
        return Decision(*queue.decide_receive(command, self.now_ms))

    def _move(self, command: commands.MoveMessages) -> Decision:
        queue = self.queue(command.queue)
        queue.advance(self.now_ms)
        decided, messages = queue.decide_move(command, self.now_ms)
        remaining = messages == command.max_messages or queue.needs_load()
        return Decision(decided, commands.Moved(messages, remaining))

    def _delete(self, command: commands.DeleteMessages) -> Decision:
        queue = self.queue(command.queue)
        queue.advance(self.now_ms)
        sequences, outcomes = queue.decide_delete(command, self.now_ms)
        answer = Outcomes(outcomes)
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
        return self._end_aside(command, events.MessagesReleased)

    def _return(self, command: commands.ReturnMessages) -> Decision:
        return self._end_aside(command, events.MessagesReturned)

    def _end_aside(
        self,
        command: commands.ReleaseMessages | commands.ReturnMessages,
        event_type: type[events.MessagesReleased | events.MessagesReturned],
    ) -> Decision:
        aside = self.queue(command.queue).aside
        sequences = [sequence for sequence in command.sequences if sequence in aside]
        if not sequences:
            return Decision((), Done())
        return Decision((event_type(self.now_ms, command.queue, sequences),), Done())

    def _count(self, command: commands.CountMessages) -> Decision:
        queue = self.queue(command.queue)
        queue.advance(self.now_ms)
        return Decision((), queue.counts(self.now_ms))

    def _count_aside(self, command: commands.CountAside) -> Decision:
        targets = self.queue(command.queue).aside_targets.values()
        return Decision((), commands.Aside(list(targets).count(command.target)))

    def _list(self, command: commands.ListQueues) -> Decision:
        settings = {number: queue.settings for number, queue in self.queues.items()}
        return Decision((), commands.Queues(settings))

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
        self.epoch, self.owner = event.epoch, event.owner

    def _skip_numbers(self, event: events.NumbersSkipped) -> None:
        self.next_queue += event.queues
        for queue in self.queues.values():
            queue.next_sequence += event.sequences
            queue.deliveries.clear()

    def _add_queue(self, event: events.QueueCreated) -> None:
        self.queues[event.queue] = new_queue(event.queue, event.settings)
        self.next_queue = event.queue + 1

    def _repeat(self, event: events.ReceiveRepeated) -> None:
        queue = self.queues[event.queue]
        assert isinstance(queue, FifoQueue), "only FIFO queues know attempts"
        queue.apply_repeated(event)

    def _drop_queue(self, event: events.QueueDeleted) -> None:
        self.queues.pop(event.queue, None)

    def missing(self, event: Event) -> tuple[Queue, str] | None:
        """The queue and group whose oldest run has to be loaded before `event` can be applied, if any.

        While serving, a message is loaded before it is received. A replay that
        starts from an earlier snapshot may meet it while it is still in the tail.
        """
        if not isinstance(event, events.MessagesReceived | events.MessagesSetAside):
            return None  # what happens to a message later finds it as an object
        queue = self.queues[event.queue]
        for sequence, group in zip(event.sequences, event.groups or repeat("")):  # noqa: B905
            if sequence not in queue.messages and queue.find_run(group, sequence) is not None:
                return queue, group
        return None

    # Housekeeping

    def live_bytes(self) -> int:
        """Bytes of the envelopes of all live messages."""
        return sum(queue.live_bytes for queue in self.queues.values())

    def held(self) -> int:
        """How many things a snapshot has to save one by one, queues among them."""
        return len(self.queues) + sum(queue.held() for queue in self.queues.values() if not queue.at_rest)

    def oldest_record(self) -> int | None:
        """The lowest log record that holds a live message: what lies before may go."""
        records = (queue.oldest_record() for queue in self.queues.values() if queue.live)
        return min((record for record in records if record is not None), default=None)


def new_queue(number: int, settings: commands.QueueSettings) -> Queue:
    """An empty queue of the kind that its settings say."""
    return FifoQueue(number, settings) if settings.fifo else StandardQueue(number, settings)


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
    commands.MoveMessages: ShardState._move,
    commands.ReturnMessages: ShardState._return,
    commands.CountMessages: ShardState._count,
    commands.CountAside: ShardState._count_aside,
    commands.ListQueues: ShardState._list,
}

_APPLY: dict[type, Callable[[ShardState, Any, int], None]] = {
    events.EpochStarted: lambda state, event, _: state._start_epoch(event),
    events.NumbersSkipped: lambda state, event, _: state._skip_numbers(event),
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
    events.MessagesReturned: lambda state, event, _: state.queues[event.queue].apply_returned(event),
    events.ReceiveRepeated: lambda state, event, _: state._repeat(event),
}
