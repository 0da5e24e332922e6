"""Looks at a shard's log from the outside: whether every record and every live message is there.

It never changes anything, and goes on after the first thing that is wrong: who has to
mend it wants to know how much is. Memory: the state of the shard, as for its owner, and
four bytes for each record.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from waystation.backend.reading import record_events
from waystation.backend.recovery import recover
from waystation.log.errors import LogDamaged, LogUnavailable
from waystation.log.interface import LogReader
from waystation.log.records import NO_CHECKSUM, decode_record
from waystation.queues.contents import stored_messages
from waystation.queues.events import Event, MessagesRelocated
from waystation.queues.invariants import broken_invariants
from waystation.queues.state import Queue, ShardState

PROBLEMS_MAX = 20
"""Told of one log; of more, only how many there are."""


@dataclass
class Inspection:
    """What was found. `state` is None when the log does not lead to one."""

    state: ShardState | None = None
    records: int = 0
    problems: list[str] = field(default_factory=list)


async def inspect_log(log: LogReader, rows: Iterable[tuple[int, bytes]]) -> Inspection:
    """Verify a log that nobody changes meanwhile.

    Args:
        log: not opened yet.
        rows: position and bytes of each of its records, unverified, in order.

    Raises:
        LogUnavailable: it cannot be read now.
    """
    found = Inspection()
    damage = ""
    try:
        found.state = await recover(log)
    except LogDamaged as error:
        damage = str(error)
    except LogUnavailable:
        raise
    except Exception as error:
        # Each record is what was written, and yet they are no history of a shard.
        damage = f"the records cannot be replayed: {type(error).__name__}: {error}"
    contents = _Contents(found.state, log.first, log.position) if found.state is not None else None
    try:
        for record, events in _verified(rows, found.problems):
            found.records += 1
            if contents is not None:
                contents.note(record, events)
    except LogDamaged as error:  # the storage engine itself cannot go on
        found.problems.append(str(error))
    if damage and not any(problem in damage for problem in found.problems):
        found.problems.append(damage)
    if contents is not None:
        found.problems += contents.missing()
    for queue in found.state.queues.values() if found.state is not None else ():
        found.problems += [f"queue {queue.settings.name}: {rule}" for rule in broken_invariants(queue)]
    if (more := len(found.problems) - PROBLEMS_MAX) > 0:
        found.problems[PROBLEMS_MAX:] = [f"{more} more problems are not listed"]
    return found


def _verified(rows: Iterable[tuple[int, bytes]], problems: list[str]) -> Iterator[tuple[int, list[Event]]]:
    """Positions and events of the records that are right; notes what is wrong and goes on behind it."""
    expected = 0
    checksum: bytes | None = None
    for position, data in rows:
        if position == 1:
            checksum = NO_CHECKSUM  # of any other first record, the one before it is truncated
        elif position > expected > 0:
            problems.append(f"records {expected} to {position - 1} are missing")
            checksum = None
        expected = position + 1
        try:
            record = decode_record(position, data)
            if checksum not in (None, record.previous):
                problems.append(f"record {position} does not follow the record before it")
            checksum = record.checksum
            yield position, record_events(record)
        except LogDamaged as damage:
            problems.append(str(damage))
            checksum = None


class _Contents:
    """Compares where the state says that messages lie with what the records hold."""

    def __init__(self, state: ShardState, first: int, last: int) -> None:
        self._queues = state.queues
        self._first = first
        self._expected = array("I", bytes(4 * (last - first + 1)))
        """By record: how many live messages it holds."""
        self._outside: set[int] = set()
        """Records before the first or behind the last that should hold some."""
        self._short: dict[int, Counter[int]] = {}
        """Records that hold fewer: how many of each queue are there."""
        for queue in state.queues.values():
            for record, messages in _places(queue):
                if first <= record <= last:
                    self._expected[record - first] += messages
                else:
                    self._outside.add(record)

    def note(self, position: int, events: list[Event]) -> None:
        """A record is there, and holds these events."""
        expected = self._expected[position - self._first]
        if not expected:
            return
        there: Counter[int] = Counter()
        for stored in stored_messages(events):
            queue = self._queues.get(stored.queue)
            if queue is not None and queue.lives_in(stored.group, stored.sequence, position, stored.held):
                there[stored.queue] += 1
        if there.total() < expected:
            for event in events:
                # Where some of a run had expired for an earlier owner when it wrote the others
                # again, a replay finds the others here, and knows of all.
                if isinstance(event, MessagesRelocated) and there[event.queue]:
                    there[event.queue] = expected
            self._short[position] = there
        self._expected[position - self._first] = 0

    def missing(self) -> Iterator[str]:
        """Say for each queue how many of its messages are not where they should be."""
        absent = {self._first + index for index, messages in enumerate(self._expected) if messages}
        absent |= self._outside
        if not absent and not self._short:
            return
        for queue in self._queues.values():
            wanted: Counter[int] = Counter()
            for record, messages in _places(queue):
                if record in absent or record in self._short:
                    wanted[record] += messages
            lost = {at: n - self._short.get(at, Counter())[queue.number] for at, n in wanted.items()}
            lost = {at: messages for at, messages in lost.items() if messages > 0}
            if lost:
                yield (
                    f"messages of queue {queue.settings.name} are lost, {sum(lost.values()):,} in all: "
                    f"not in the log where they should be, the first of them in record {min(lost)}"
                )


def _places(queue: Queue) -> Iterator[tuple[int, int]]:
    """Records that live messages of a queue lie in, each maybe several times, and how many."""
    for message in queue.messages.values():
        yield message.record, 1
    for line in queue.lines.values():
        for run in line.tail:
            yield run.record, run.messages
