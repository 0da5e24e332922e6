"""What the events of one log record hold of messages and envelopes.

The state remembers where a message lies; these functions find it there again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from waystation.queues.events import Event, MessagesRelocated, MessagesSent, Relocated
from waystation.queues.message import Message
from waystation.queues.standard import StandardQueue
from waystation.queues.state import ShardState
from waystation.queues.tail import Run


class Stored(NamedTuple):
    """A message as a record holds it; `held` as in `events.Relocated`."""

    queue: int
    sequence: int
    sent_at_ms: int
    held: bool
    envelope: bytes


def stored_messages(events: list[Event]) -> Iterator[Stored]:
    """Every message in a record, dead or alive, in the order written."""
    for event in events:
        if isinstance(event, MessagesSent):
            for sequence, entry in enumerate(event.entries, event.first_sequence):
                yield Stored(event.queue, sequence, event.at_ms, entry.delay_ms > 0, entry.envelope)
        elif isinstance(event, MessagesRelocated):
            for message in event.messages:
                yield Stored(
                    event.queue, message.sequence, message.sent_at_ms, message.held, message.envelope
                )


def run_messages(events: list[Event], queue: StandardQueue, run: Run) -> list[tuple[Message, bytes]]:
    """The messages of the oldest run of a queue's tail with their envelopes, oldest first.

    `events` are those of the run's record. Fewer than the run counts are found
    when an earlier owner saw some expire before it relocated the others.
    """
    # A record may hold messages of later runs too, and before them, once relocation has been there.
    end = queue.tail.second_sequence()
    found = [
        (Message(stored.sequence, run.record, len(stored.envelope), stored.sent_at_ms), stored.envelope)
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
            held = stored.held or (message is not None and message.receive_count > 0)
            alive.setdefault(stored.queue, []).append(
                Relocated(stored.sequence, stored.sent_at_ms, held, stored.envelope)
            )
    return [MessagesRelocated(now_ms, queue, messages) for queue, messages in alive.items()]
