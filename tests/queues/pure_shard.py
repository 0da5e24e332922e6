"""A shard without time, threads or disk: the state machine, and the records it would have written.

It does what the backend does around the state machine: groups events into
records, loads the tail ahead of need, snapshots, truncates, relocates, and
recovers with the backend's own code over a log in memory.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec

from waystation.backend.recovery import recover
from waystation.log.interface import Snapshot
from waystation.log.memory import MemoryLog
from waystation.queues.commands import Answer, Command, Received, ReceiveMessages
from waystation.queues.contents import relocations, run_messages, stored_messages, waiting_messages
from waystation.queues.events import Event, decode_events, encode_events
from waystation.queues.runs import Run
from waystation.queues.snapshots import from_snapshot, to_snapshot
from waystation.queues.state import Queue, ShardState

Result = TypeVar("Result")


def run_now(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine that never has to wait, as those over a log in memory do not."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    work.close()
    raise AssertionError("it waits for something")


def _has_messages(answer: Answer) -> bool:
    return isinstance(answer, Received) and bool(answer.messages)


class PureShard:
    """Commands in, answers out, with the records in a `MemoryLog`. Times are Unix milliseconds."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        run_now(self.log.open())
        self.state = ShardState()
        self.open: list[Event] = []
        """Events that the next record will hold."""

    @property
    def position(self) -> int:
        """Of the record that is being filled."""
        return self.log.position + 1

    def do(self, command: Command, now_ms: int) -> Answer:
        """Do a command. A receive loads what it needs, and its messages get their envelopes."""
        self.state.advance(now_ms)
        decided, answer = self.state.decide(command)
        if isinstance(command, ReceiveMessages):
            queue = self.state.queue(command.queue)
            while not _has_messages(answer) and (decided or queue.needs_load()):
                for event in decided:
                    self.record(event)
                if queue.in_flight >= queue.settings.in_flight_max:
                    return answer
                self.load(queue)
                decided, answer = self.state.decide(command)
        for event in decided:
            self.record(event)
        if isinstance(answer, Received):
            for message in answer.messages:
                message.envelope = self.envelope(answer.queue, message.sequence, message.record)
        return answer

    def record(self, event: Event) -> None:
        """Apply an event and add it to the open record."""
        self.state.apply(event, self.position)
        self.open.append(event)

    def commit(self) -> None:
        """Append the open record, if anything is in it."""
        if self.open:
            run_now(self.log.append(encode_events(self.open)))
            self.open = []

    def events(self, position: int) -> list[Event]:
        """What a record holds, committed or not."""
        if position == self.position:
            return self.open
        [record] = run_now(self.log.read([position]))
        assert record is not None, f"record {position} holds a live message and is truncated"
        return decode_events(record.payload)

    def envelope(self, queue: int, sequence: int, record: int) -> bytes:
        """The envelope of a message, from the record where it is said to lie."""
        found = [
            stored.envelope
            for stored in stored_messages(self.events(record))
            if (stored.queue, stored.sequence) == (queue, sequence)
        ]
        assert len(found) == 1, f"record {record} has message {sequence} {len(found)} times"
        return found[0]

    def load(self, queue: Queue) -> None:
        """Fill a queue's window from its tail, as far as the window wants."""
        self.commit()
        for group, run in queue.runs_to_load():
            if queue.takes(group, run):
                self._load(queue, group, run)

    def load_all(self, queue: Queue) -> None:
        """Move all tails into the windows."""
        for group, line in list(queue.lines.items()):
            for run in list(line.tail):
                self._load(queue, group, run)

    def _load(self, queue: Queue, group: str, run: Run) -> None:
        waiting = waiting_messages(self.events(run.record), queue.number)
        found = run_messages(waiting, queue.lines[group], run)
        queue.load(group, run, [message for message, _ in found], self.state.now_ms)

    # Housekeeping

    def snapshot(self) -> None:
        """Save the state, as of the last record."""
        self.commit()
        payload = to_snapshot(self.state)
        run_now(self.log.save_snapshot(Snapshot(self.log.position, self.log.checksum, payload)))

    def truncate(self) -> None:
        """Forget the records that neither a live message nor the saved snapshot needs."""
        assert self.log.snapshot is not None
        oldest = self.state.oldest_record()
        kept = self.log.snapshot.position
        run_now(self.log.truncate(kept if oldest is None else min(oldest, kept)))

    def relocate(self, records: int, now_ms: int) -> None:
        """Write what lives in the log's first records again."""
        self.commit()
        for position in range(self.log.first, min(self.log.first + records, self.position)):
            for event in relocations(self.state, self.events(position), position, now_ms):
                self.record(event)

    def contents(self, state: ShardState, now_ms: int) -> dict[int, Any]:
        """All that clients could ever see of a state, and in which record each message lies.

        Which messages are in the window and which in the tail depends on when
        somebody looked, and is left out; so is the order.
        """
        self.commit()
        copy = PureShard()
        copy.log, copy.state = self.log, from_snapshot(to_snapshot(state))
        seen: dict[int, Any] = {}
        for number, queue in copy.state.queues.items():
            copy.load_all(queue)
            queue.sweep(now_ms)
            rows = {at: msgspec.to_builtins(message) for at, message in queue.messages.items()}
            for row in rows.values():
                del row[-2]  # `behind`, which is about the order
            known = (queue.arrived, queue.aside_targets)
            seen[number] = (queue.settings, queue.next_sequence, queue.purged_at_ms, known, rows)
        return seen

    def recovered(self) -> ShardState:
        """The state that a new owner would read from the log."""
        self.commit()
        return run_now(recover(self.log))
