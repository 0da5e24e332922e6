"""What the events of one log record hold of messages and envelopes.

The state remembers where a message lies; these functions find it there again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from waystation.queues.events import Event, MessagesArrived, MessagesRelocated, MessagesSent, Relocated
from waystation.queues.line import Line
from waystation.queues.message import Message
from waystation.queues.runs import Run
from waystation.queues.state import ShardState


class Stored(NamedTuple):
    """A message as a record holds it; `held` and `receive_count` as in `events.Relocated`."""

    queue: int
    group: str
    sequence: int
    sent_at_ms: int
    held: bool
    envelope: bytes
    receive_count: int = 0

    def message(self, record: int) -> Message:
        """The message as it is when nobody has received it in this queue."""
        message = Message(self.sequence, record, len(self.envelope), self.sent_at_ms)
        message.receive_count = self.receive_count
        message.group = self.group
        return message


def stored_messages(events: list[Event]) -> Iterator[Stored]:
    """Every message in a record, dead or alive, in the order written."""
    for event in events:
        if isinstance(event, MessagesSent):
            for sequence, entry in enumerate(event.entries, event.first_sequence):
                is_delayed = entry.delay_ms > 0
                yield Stored(event.queue, entry.group, sequence, event.at_ms, is_delayed, entry.envelope)
        elif isinstance(event, MessagesArrived):
            for sequence, each in enumerate(event.arrivals, event.first_sequence):
                yield Stored(
                    event.queue,
                    each.group,
                    sequence,
                    each.sent_at_ms,
                    False,
                    each.envelope,
                    each.receive_count,
                )
        elif isinstance(event, MessagesRelocated):
            for moved in event.messages:
                yield Stored(
                    event.queue,
                    moved.group,
                    moved.sequence,
                    moved.sent_at_ms,
                    moved.held,
                    moved.envelope,
                    moved.receive_count,
                )


def waiting_messages(events: list[Event], queue: int) -> dict[str, list[Stored]]:
    """By group, the messages of a queue in a record that may be in a tail."""
    found: dict[str, list[Stored]] = {}
    for stored in stored_messages(events):
        if stored.queue == queue and not stored.held:
            found.setdefault(stored.group, []).append(stored)
    return found


def run_messages(waiting: dict[str, list[Stored]], line: Line, run: Run) -> list[tuple[Message, bytes]]:
    """The messages of the oldest run of a line's tail with their envelopes, oldest first.

    `waiting` are those of the run's record. Fewer than the run counts are found
    when an earlier owner saw some expire before it relocated the others.
    """
    # A record may hold messages of later runs too, and before them, once relocation has been there.
    end = line.tail.second_sequence()
    found = [
        (stored.message(run.record), stored.envelope)
        for stored in waiting.get(line.group, ())
        if run.first_sequence <= stored.sequence < end
    ]
    return found[: run.messages]


def relocations(state: ShardState, events: list[Event], record: int, now_ms: int) -> list[MessagesRelocated]:
    """One event per queue that writes again whatever is alive in a record; none if nothing is."""
    alive: dict[int, list[Relocated]] = {}
    for stored in stored_messages(events):
        queue = state.queues.get(stored.queue)
        if queue is not None and queue.lives_in(stored.group, stored.sequence, record, stored.held):
            message = queue.messages.get(stored.sequence)
            held = stored.held or (message is not None and message.received_at_ms > 0)
            alive.setdefault(stored.queue, []).append(
                Relocated(
                    stored.sequence,
                    stored.sent_at_ms,
                    held,
                    stored.envelope,
                    stored.receive_count,
                    stored.group,
                )
            )
    return [MessagesRelocated(now_ms, queue, messages) for queue, messages in alive.items()]
