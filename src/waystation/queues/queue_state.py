"""The messages of one queue, standard or FIFO, and how events and time change them.

It never reads a clock, a log or a random number. `apply_…` methods change state
and never fail; `advance` lets time pass, which makes hidden messages visible and
drops expired ones. What follows from events and time alone is never logged.

Memory: a message is an object while it is delayed, in flight, received before, or
within the window at the head of the line of its message group. The rest is in the
`Tail` of that line, which the shard loads from the log when `needs_load` says so.

Invariants (tests cite them):
  Q1  every live message is in exactly one of: a line, the hidden heap, `aside`;
  Q2  a line holds all that is visible of its group; while its tail is not empty,
      newly sent messages join that, so that they cannot overtake it;
  Q3  `live`, `in_flight` and `delayed` count the messages alive and in those states;
  Q4  `hungry` has the lines whose window runs low while their tail holds more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import chain, islice
from typing import Generic, TypeVar

from waystation.protocol.limits import RETENTION_S_MAX
from waystation.queues import events
from waystation.queues.commands import Counts, QueueSettings
from waystation.queues.line import Line
from waystation.queues.message import DELAYED, IN_FLIGHT, READY, SET_ASIDE, Message
from waystation.queues.runs import Run
from waystation.queues.tail import Tail
from waystation.queues.windows import LINES_PER_LOAD, WINDOW_BYTES, window_messages

_STALE_SLACK = 64
"""Stale heap entries that are always tolerated, so that small heaps are not rebuilt all the time."""

AnyLine = TypeVar("AnyLine", bound=Line)


class QueueState(ABC, Generic[AnyLine]):
    """The state of one queue. Sequences start at 1 and rise in the order of sending.

    Args:
        number: in its shard.
        settings: as created.
        line_type: what keeps the visible messages of one group.
    """

    def __init__(self, number: int, settings: QueueSettings, line_type: type[AnyLine]) -> None:
        self.number = number
        self.settings = settings
        self.next_sequence = 1
        self.purged_at_ms = 0
        self.expired_before_ms = 0
        self.expired_before_sequence = 0
        """Of these two: messages of lower sequences sent no later expired under older settings."""
        self.messages: dict[int, Message] = {}
        self._line_type = line_type
        self.lines: dict[str, AnyLine] = {}
        """By group: those that are not idle, and that of messages without a group once there were any."""
        self.hungry: dict[str, AnyLine] = {}
        self._touched: dict[str, AnyLine] = {}
        self._window_messages = window_messages(0)
        self.hidden: list[tuple[int, int]] = []
        self.live = 0
        self.in_flight = 0
        self.delayed = 0
        self.aside: dict[int, Message] = {}
        self.aside_targets: dict[int, str] = {}
        """By the sequences of those set aside: what is to take them."""
        self.live_bytes = 0
        self.arrived: dict[tuple[int, int], set[int]] = {}
        """By shard and number of a source queue: sequences that have come from it and may come again."""
        self.deliveries: dict[tuple[int, int], tuple[int, int]] = {}
        """By the same: the latest delivery that has brought or settled anything."""
        self.at_rest = True
        """Whether it has no messages, and nothing that was for them either: time changes nothing in it."""

    # What kinds of queues differ in

    @abstractmethod
    def _in_order(self, now_ms: int) -> Iterator[Message]:
        """The messages that can be received now, next first, as far as they are objects."""

    @abstractmethod
    def _place(self, line: AnyLine, now_ms: int) -> None:
        """A line has changed: what is visible in it, or how many of its messages are in flight."""

    @abstractmethod
    def _displace(self, line: AnyLine) -> None:
        """A line is idle, and no more one of the queue."""

    @abstractmethod
    def _first_line(self) -> AnyLine | None:
        """The line whose messages are next, if there is one."""

    # Looking

    @property
    def visible(self) -> int:
        """Messages that a receive may get, those of the tails included."""
        return self.live - self.in_flight - self.delayed - len(self.aside)

    def counts(self, now_ms: int) -> Counts:
        """How many messages are in which state, as of the last `advance`."""
        return Counts(self.visible, self.in_flight + len(self.aside), self.delayed)

    def held(self) -> int:
        """How many things a snapshot has to save one by one."""
        return len(self.messages)

    def next_due_ms(self) -> int | None:
        """When a hidden message may become visible next; None when none is hidden."""
        hidden = self.hidden
        while hidden and not self._is_current(hidden[0]):
            heappop(hidden)
        return hidden[0][0] if hidden else None

    def needs_load(self) -> bool:
        """Whether consumers will soon have used up the window of a line whose tail holds more."""
        return bool(self.hungry)

    def runs_to_load(self) -> list[tuple[str, Run]]:
        """Groups and the oldest runs of their tails that would about fill their windows."""
        messages_max = self._window_messages
        message_bytes = self.live_bytes // max(self.live, 1) + 1
        found: list[tuple[str, Run]] = []
        for line in list(islice(self.hungry.values(), LINES_PER_LOAD)):
            if not line.runs_low(messages_max):
                del self.hungry[line.group]  # there are more lines now, with smaller windows
                continue
            room = max(WINDOW_BYTES - line.window_bytes, 0) // message_bytes + 1
            runs = line.tail.front(min(room, messages_max - len(line.window)))
            found += [(line.group, run) for run in runs]
        return found

    def takes(self, group: str, run: Run) -> bool:
        """Whether this is still the oldest run of a group's tail, and the window has room for it."""
        line = self.lines.get(group)
        if line is None or not line.has_room(self._window_messages):
            return False
        return next(iter(line.tail), None) == run

    def oldest_record(self) -> int | None:
        """The lowest log record that holds a live message of this queue."""
        tails = (line.tail.oldest_record() for line in self.lines.values() if line.tail.messages)
        records = (message.record for message in self.messages.values())
        return min((record for record in chain(records, tails) if record is not None), default=None)

    def holds_receipt(self, sequence: int, receive_count: int) -> bool:
        """Whether this is the latest receive of a message that is still there, and not set aside."""
        message = self.messages.get(sequence)
        return message is not None and message.receive_count == receive_count and message.state != SET_ASIDE

    def lives_in(self, group: str, sequence: int, record: int, held: bool) -> bool:
        """Whether `record` is where the envelope of a live message lies; `held` as in `Relocated`."""
        message = self.messages.get(sequence)
        if message is not None:
            return message.record == record
        run = None if held else self.find_run(group, sequence)
        return run is not None and run.record == record

    def find_run(self, group: str, sequence: int) -> Run | None:
        """The run of a tail that a sequence falls in, if any."""
        line = self.lines.get(group)
        return None if line is None else line.tail.find(sequence)

    def _is_expired(self, message: Message, now_ms: int) -> bool:
        """Whether it is too old, now or when the settings were changed while it was here."""
        if message.sent_at_ms <= now_ms - self.settings.retention_ms:
            return True
        was_here = message.sequence < self.expired_before_sequence
        return was_here and message.sent_at_ms <= self.expired_before_ms

    # Applying

    def apply_sent(self, event: events.MessagesSent, record: int) -> None:
        """Each message is delayed, joins the window of its line, or, when that is full, the tail."""
        sequence = event.first_sequence
        for entry in event.entries:
            message = Message(sequence, record, len(entry.envelope), event.at_ms)
            message.group = entry.group
            if entry.delay_ms > 0:
                self.messages[sequence] = message
                self._hide(message, DELAYED, event.at_ms + entry.delay_ms)
                self._count_new(message)
            else:
                self._join(message)
            sequence += 1
        self.next_sequence = sequence
        self._settle(event.at_ms)

    def apply_arrived(self, event: events.MessagesArrived, record: int) -> None:
        """Messages of another queue join as if just sent, but as old and as often received as they are."""
        source = (event.source_shard, event.source_queue)
        known = self.arrived.setdefault(source, set())
        known.difference_update(event.settled)
        self.deliveries[source] = event.delivery
        for sequence, arrival in enumerate(event.arrivals, event.first_sequence):
            known.add(arrival.sequence)
            message = Message(sequence, record, len(arrival.envelope), arrival.sent_at_ms)
            message.receive_count = arrival.receive_count
            message.group = arrival.group
            self._join(message)
        if not known:
            del self.arrived[source]
        self.next_sequence = event.first_sequence + len(event.arrivals)
        self._settle(event.at_ms)

    def _join(self, message: Message) -> None:
        """A new visible message joins the window, or when that is full, the tail."""
        line = self._line(message.group)
        if line.tail.messages or not line.has_room(self._window_messages):
            line.join_tail(message.record, message.sequence)
        else:
            self.messages[message.sequence] = message
            line.join(message)
        self._count_new(message)

    def _count_new(self, message: Message) -> None:
        self.at_rest = False
        self.live += 1
        self.live_bytes += message.size

    def apply_received(self, event: events.MessagesReceived) -> None:
        """The messages are in flight until the event's time."""
        taken = [self.messages[sequence] for sequence in event.sequences]
        for message in taken:
            self._take(message)
            message.receive_count += 1
            message.received_at_ms = event.at_ms
            if not message.first_received_at_ms:
                message.first_received_at_ms = event.at_ms
        self._fly([(message, event.visible_at_ms) for message in taken], event.at_ms)
        self._settle(event.at_ms)

    def apply_set_aside(self, event: events.MessagesSetAside) -> None:
        """The messages wait for another queue to take them."""
        for sequence in event.sequences:
            message = self.messages[sequence]
            self._take(message)
            message.state = SET_ASIDE
            message.visible_at_ms = 0
            self.aside[sequence] = message
            self.aside_targets[sequence] = event.target
        self._settle(event.at_ms)

    def apply_returned(self, event: events.MessagesReturned) -> None:
        """The messages found no queue to take them, and are visible again."""
        found = [self.aside[sequence] for sequence in event.sequences if sequence in self.aside]
        for message in found:
            self._take(message)
        self._show(found)
        self._settle(event.at_ms)

    def apply_deleted(self, event: events.MessagesDeleted | events.MessagesReleased) -> None:
        """The messages are gone: a consumer was done with them, or another queue has them."""
        for sequence in event.sequences:
            message = self.messages.get(sequence)
            if message is not None:
                self._drop(message)
        self._shed_stale()
        self._settle(event.at_ms)

    def apply_visibility(self, event: events.VisibilityChanged) -> None:
        """The messages come back at their new times; those whose time is now are visible."""
        self._change_visibility(event.changes, event.at_ms)

    def _change_visibility(self, pairs: Iterable[tuple[int, int]], at_ms: int) -> None:
        changes = [(self.messages[at], due_ms) for at, due_ms in dict(pairs).items() if at in self.messages]
        for message, _ in changes:
            self._take(message)
        self._fly(changes, at_ms)
        self._shed_stale()
        self._settle(at_ms)

    def apply_purged(self, event: events.QueuePurged) -> None:
        """Nothing is left, whatever state it was in."""
        self._rest()
        self.live = self.in_flight = self.delayed = 0
        self.purged_at_ms = event.at_ms

    def apply_configured(self, event: events.QueueConfigured) -> None:
        """New settings. What has expired under the old ones stays expired."""
        self.advance(event.at_ms)
        expiry_ms = event.at_ms - self.settings.retention_ms
        if expiry_ms >= self.expired_before_ms:
            self.expired_before_ms, self.expired_before_sequence = expiry_ms, self.next_sequence
        self.settings = event.settings
        self.hidden = [
            (self._due_ms(message), message.sequence)
            for message in self.messages.values()
            if message.state in (DELAYED, IN_FLIGHT)
        ]
        heapify(self.hidden)

    def apply_relocated(self, event: events.MessagesRelocated, record: int) -> None:
        """The messages' envelopes lie in `record` now."""
        for relocated in event.messages:
            message = self.messages.get(relocated.sequence)
            if message is not None:
                message.record = record
            elif relocated.group in self.lines:
                self.lines[relocated.group].tail.relocate(relocated.sequence, record)

    # Time, and what was read back from the log

    def advance(self, now_ms: int) -> None:
        """Let time pass: delays and visibility timeouts end, old messages expire."""
        if self.hidden and self.hidden[0][0] <= now_ms:
            self._show_due(now_ms)
        self._settle(now_ms)
        while (line := self._first_line()) is not None and self._drop_expired(line, now_ms):
            self._settle(now_ms)

    def _show_due(self, now_ms: int) -> None:
        shown: list[Message] = []
        while self.hidden and self.hidden[0][0] <= now_ms:
            entry = heappop(self.hidden)
            if self._is_current(entry):
                message = self.messages[entry[1]]
                if self._is_expired(message, now_ms):
                    self._drop(message)
                else:
                    self._take(message)
                    message.state = READY  # another entry of the heap may name it too
                    shown.append(message)
        self._show(shown)

    def _drop_expired(self, line: AnyLine, now_ms: int) -> bool:
        """Drop expired messages at the head of a line; whether there were any."""
        found = False
        for waiting in (line.window, line.back):
            while waiting and self._is_expired(oldest := next(iter(waiting.values())), now_ms):
                self._drop(oldest)
                found = True
        return found

    def sweep(self, now_ms: int) -> bool:
        """Drop expired messages wherever they are; False when there are none. Linear, so for idle moments."""
        live = self.live
        self.advance(now_ms)
        expired_ms, was_here = now_ms - self.settings.retention_ms, self.expired_before_sequence
        old = [m for m in self.messages.values() if m.sent_at_ms <= expired_ms or m.sequence < was_here]
        dead = [m for m in old if m.state == READY and self._is_expired(m, now_ms)]
        # No queue keeps messages for longer than this: those set aside have nowhere to go any more.
        kept_nowhere_ms = now_ms - RETENTION_S_MAX * 1_000
        dead += [m for m in self.aside.values() if m.sent_at_ms <= kept_nowhere_ms]
        for message in dead:
            self._drop(message)
        self._settle(now_ms)
        if self._may_rest(now_ms):
            self._rest()
        return self.live < live

    def _may_rest(self, now_ms: int) -> bool:
        """Whether nothing is left that anybody can ask for."""
        return not self.live

    def _rest(self) -> None:
        for line in self.lines.values():
            self._displace(line)
        # New ones: a dictionary that many were in stays large when it is cleared one by one.
        self.messages, self.lines, self.hungry, self.hidden = {}, {}, {}, []
        self.aside, self.aside_targets, self.live_bytes = {}, {}, 0
        self._window_messages = window_messages(len(self.lines))
        self.at_rest = True

    def load(self, group: str, run: Run, messages: Iterable[Message], now_ms: int) -> None:
        """Move the oldest run of a line's tail, read from the log, into the window.

        `messages` are the undelayed, never received messages of this group in
        the run's record from its first sequence on; the run's count of them is taken.
        """
        line = self._line(group)
        oldest = line.tail.pop()
        assert oldest == run, "only the oldest run can be loaded"
        self.live -= run.messages
        for message, _ in zip(messages, range(run.messages), strict=False):
            self.messages[message.sequence] = message
            line.join(message)
            self.live += 1
        self._settle(now_ms)

    # Moving messages between states

    def _line(self, group: str) -> AnyLine:
        """The line of a group, to be changed: `_settle` has to follow."""
        line = self.lines.get(group)
        if line is None:
            line = self.lines[group] = self._line_type(group)
            self._window_messages = window_messages(len(self.lines))
        self._touched[group] = line
        return line

    def _settle(self, now_ms: int) -> None:
        """Put every line that was changed where it belongs now."""
        if not self._touched:
            return
        messages_max = self._window_messages
        for group, line in self._touched.items():
            if line.tail.messages and line.runs_low(messages_max):
                self.hungry[group] = line
            elif self.hungry:
                self.hungry.pop(group, None)
            if group and line.is_idle():
                self._displace(line)
                del self.lines[group]
                self._window_messages = window_messages(len(self.lines))
            else:
                self._place(line, now_ms)
        self._touched.clear()

    def _is_current(self, entry: tuple[int, int]) -> bool:
        message = self.messages.get(entry[1])
        if message is None or message.state == READY or message.state == SET_ASIDE:
            return False
        return self._due_ms(message) == entry[0]

    def _due_ms(self, message: Message) -> int:
        """When a hidden message shows again or expires, whichever comes first."""
        expires_at_ms = message.sent_at_ms + self.settings.retention_ms
        return message.visible_at_ms if message.visible_at_ms < expires_at_ms else expires_at_ms

    def _hide(self, message: Message, state: int, visible_at_ms: int) -> None:
        message.state = state
        message.visible_at_ms = visible_at_ms
        heappush(self.hidden, (self._due_ms(message), message.sequence))
        if state == DELAYED:
            self.delayed += 1
        else:
            self.in_flight += 1
            self._line(message.group).launch(message)

    def _fly(self, changes: list[tuple[Message, int]], at_ms: int) -> None:
        """Put taken messages in flight until their times; those whose time is over are visible."""
        shown: list[Message] = []
        for message, visible_at_ms in changes:
            if visible_at_ms <= at_ms:
                shown.append(message)
            else:
                self._hide(message, IN_FLIGHT, visible_at_ms)
        if shown:
            self._show(shown)

    def _show(self, messages: list[Message]) -> None:
        """Messages that were taken are visible again, in this order."""
        by_group: dict[str, list[Message]] = {}
        for message in messages:
            by_group.setdefault(message.group, []).append(message)
        for group, shown in by_group.items():
            self._line(group).come_back(shown, self.next_sequence)

    def _take(self, message: Message) -> None:
        """Take a message out of where it is, to be put elsewhere; its heap entry goes stale."""
        if message.state == READY:
            self._line(message.group).remove(message)
        elif message.state == IN_FLIGHT:
            self.in_flight -= 1
            self._line(message.group).land(message)
        elif message.state == DELAYED:
            self.delayed -= 1
        else:
            del self.aside[message.sequence]
            del self.aside_targets[message.sequence]

    def _drop(self, message: Message) -> None:
        self._take(message)
        self.live -= 1
        self.live_bytes -= message.size
        del self.messages[message.sequence]

    def _shed_stale(self) -> None:
        """Rebuild the heap when most of it is stale: a consumer that deletes leaves an entry behind."""
        current = self.in_flight + self.delayed
        if len(self.hidden) > 2 * current + _STALE_SLACK:
            self.hidden = [entry for entry in set(self.hidden) if self._is_current(entry)]
            heapify(self.hidden)

    # Snapshots

    def restore(self, messages: Iterable[Message], tails: Iterable[tuple[str, Tail]], now_ms: int) -> None:
        """Take over what a snapshot held of a queue that was not at rest."""
        self.at_rest = False
        for group, tail in tails:
            self._line(group).tail = tail
            self.live += tail.messages
        for message in messages:
            self.messages[message.sequence] = message
            self.live += 1
            if message.state == READY:
                self._line(message.group).restore(message)
            elif message.state == SET_ASIDE:
                self.aside[message.sequence] = message
            else:
                self._hide(message, message.state, message.visible_at_ms)
        self._settle(now_ms)
