"""What the events of one log record hold of messages and envelopes.

The state remembers where a message lies; these functions find it there again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from waystation.queues.events import Event, MessagesArrived, MessagesRelocated, MessagesSent, Relocated
from waystation.queues.message import Message
from waystation.queues.standard import StandardQueue
from waystation.queues.state import ShardState
from waystation.queues.tail import Run


class Stored(NamedTuple):
    """A message as a record holds it; `held` and `receive_count` as in `events.Relocated`."""

    queue: int
    sequence: int
    sent_at_ms: int
    held: bool
    envelope: bytes
    receive_count: int = 0

    def message(self, record: int) -> Message:
        """The message as it is when nobody has received it in this queue."""
        message = Message(self.sequence, record, len(self.envelope), self.sent_at_ms)
        message.receive_count = self.receive_count
        return message


def stored_messages(events: list[Event]) -> Iterator[Stored]:
    """Every message in a record, dead or alive, in the order written."""
    for event in events:
        if isinstance(event, MessagesSent):
            for sequence, entry in enumerate(event.entries, event.first_sequence):
                yield Stored(event.queue, sequence, event.at_ms, entry.delay_ms > 0, entry.envelope)
        elif isinstance(event, MessagesArrived):
            for sequence, each in enumerate(event.arrivals, event.first_sequence):
                yield Stored(event.queue, sequence, each.sent_at_ms, False, each.envelope, each.receive_count)
        elif isinstance(event, MessagesRelocated):
            for moved in event.messages:
                yield Stored(
                    event.queue,
                    moved.sequence,
                    moved.sent_at_ms,
                    moved.held,
                    moved.envelope,
                    moved.receive_count,
                )


def run_messages(events: list[Event], queue: StandardQueue, run: Run) -> list[tuple[Message, bytes]]:
    """The messages of the oldest run of a queue's tail with their envelopes, oldest first.

    `events` are those of the run's record. Fewer than the run counts are found
    when an earlier owner saw some expire before it relocated the others.
    """
    # A record may hold messages of later runs too, and before them, once relocation has been there.
    end = queue.tail.second_sequence()
    found = [
        (stored.message(run.record), stored.envelope)
        for stored in stored_messages(events)
        if stored.queue == queue.number and run.first_sequence <= stored.sequence < end and not stored.held
    ]
    return found[: run.messages]


def relocations(state: ShardState, events: list[Event], record: int, now_ms: int) -> list[MessagesRelocated]:
    """One event per queue that writes again whatever is alive in a record; none if nothing is."""
    alive: dict[int, list[Relocated]] = {}
    for stored in stored_messages(events):
        queue = state.queues.get(stored.queue)
        if queue is not None and queue.lives_in(stored.sequence, record, stored.held):
            message = queue.messages.get(stored.sequence)
            held = stored.held or (message is not None and message.received_at_ms > 0)
            alive.setdefault(stored.queue, []).append(
                Relocated(stored.sequence, stored.sent_at_ms, held, stored.envelope, stored.receive_count)
            )
    return [MessagesRelocated(now_ms, queue, messages) for queue, messages in alive.items()]
