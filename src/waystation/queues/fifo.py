"""A FIFO queue: each message group in strict order, one batch of it in flight at a time, no duplicates.

The groups from which something can be received now stand in `available`, in turn: a
receive drains the first before it goes on to the next, and a group that is free again
goes to the end. A group is there exactly as long as the first message of its line is
loaded, not behind one in flight, and not delayed; so choosing one never scans.

The delay is the queue's, and holds for what was sent before it was set as well. Only
messages that nobody has received yet are delayed.

Source: SQS Developer Guide, FIFO queue delivery logic; API Reference, SendMessage and
ReceiveMessage; recorded responses.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from heapq import heappop, heappush

from waystation.protocol.limits import DEDUPLICATION_WINDOW_S, DELAY_S_MAX
from waystation.queues import events
from waystation.queues.attempts import Attempts
from waystation.queues.commands import (
    Counts,
    Entry,
    Outcome,
    QueueSettings,
    Received,
    ReceiveMessages,
    SendMessages,
)
from waystation.queues.deduplication import Deduplication
from waystation.queues.events import Event
from waystation.queues.line import OrderedLine
from waystation.queues.message import IN_FLIGHT, Message
from waystation.queues.queue import MessageQueue, shown
from waystation.queues.send_times import SendTimes

DEDUPLICATION_MS = DEDUPLICATION_WINDOW_S * 1_000
_DELAY_MS_MAX = DELAY_S_MAX * 1_000


class FifoQueue(MessageQueue[OrderedLine]):
    """The state of one FIFO queue."""

    def __init__(self, number: int, settings: QueueSettings) -> None:
        super().__init__(number, settings, OrderedLine)
        self.available: OrderedDict[str, OrderedLine] = OrderedDict()
        self._opening: list[tuple[int, str]] = []
        """When the delay of a group's first message ends; entries may be stale."""
        self.send_times = SendTimes()
        self.deduplication = Deduplication()
        self.attempts = Attempts()

    # Looking

    def counts(self, now_ms: int) -> Counts:
        """As for every queue. Those that expired while delayed may count as such."""
        counts = super().counts(now_ms)
        delayed = 0
        if self.settings.delay_ms:
            first = self.send_times.first_since(now_ms - self.settings.delay_ms + 1)
            delayed = 0 if first is None else min(self.next_sequence - first, counts.visible)
        return Counts(counts.visible - delayed, counts.in_flight, delayed)

    def held(self) -> int:
        return super().held() + len(self.deduplication) + len(self.attempts)

    def next_due_ms(self) -> int | None:
        due_ms = super().next_due_ms()
        if not self._opening:
            return due_ms
        return self._opening[0][0] if due_ms is None else min(due_ms, self._opening[0][0])

    def _opens_at_ms(self, message: Message, now_ms: int) -> int:
        """When a message stops to keep back those behind it: its delay is over, or it has expired."""
        if message.received_at_ms or self._is_expired(message, now_ms):
            return 0
        return message.sent_at_ms + min(self.settings.delay_ms, self.settings.retention_ms)

    # Deciding

    def decide_send(self, command: SendMessages, now_ms: int) -> tuple[tuple[Event, ...], list[int]]:
        """Entries get sequences, in order, except duplicates, which have that of the first one."""
        oldest = self._oldest_deduplicating(now_ms)
        fresh: list[Entry] = []
        here: dict[bytes, int] = {}
        sequences: list[int] = []
        for entry in command.entries:
            digest = entry.deduplication
            known = here.get(digest) or self.deduplication.find(digest, oldest)
            sequence = known or self.next_sequence + len(fresh)
            if known is None:
                fresh.append(entry)
                if digest:
                    here[digest] = sequence
            sequences.append(sequence)
        if not fresh:
            return (), sequences
        return (events.MessagesSent(now_ms, self.number, self.next_sequence, fresh),), sequences

    def _oldest_deduplicating(self, now_ms: int) -> int:
        """The first sequence whose deduplication id still counts, or would if it were sent now."""
        first = self.send_times.first_since(now_ms - DEDUPLICATION_MS + 1)
        return self.next_sequence if first is None else first

    def decide_receive(self, command: ReceiveMessages, now_ms: int) -> tuple[tuple[Event, ...], Received]:
        """As for every queue, and the same messages again for a repeated attempt."""
        messages = self.attempts.messages(command.attempt, self.messages, now_ms)
        if not messages:
            return super().decide_receive(command, now_ms)
        visible_at_ms = now_ms + command.visibility_timeout_ms
        event = events.ReceiveRepeated(now_ms, self.number, visible_at_ms, command.attempt)
        again = [shown(message, message.receive_count, now_ms) for message in messages]
        hidden_until_ms = visible_at_ms if command.visibility_timeout_ms else 0
        return (event,), Received(self.number, again, hidden_until_ms, command.attempt)

    def _in_order(self, now_ms: int) -> Iterator[Message]:
        for line in self.available.values():
            for message in line.in_order():
                if self._opens_at_ms(message, now_ms) > now_ms:
                    break
                yield message

    def _judge_delete(self, message: Message, receive_count: int) -> Outcome:
        is_held = message.state == IN_FLIGHT and message.receive_count == receive_count
        return Outcome.DONE if is_held else Outcome.EXPIRED

    def _judge_change(self, message: Message, receive_count: int) -> Outcome:
        if message.receive_count != receive_count:
            return Outcome.EXPIRED
        return Outcome.DONE if message.state == IN_FLIGHT else Outcome.NOT_IN_FLIGHT

    # Applying

    def apply_sent(self, event: events.MessagesSent, record: int) -> None:
        self.send_times.note(event.at_ms, event.first_sequence, event.at_ms - _DELAY_MS_MAX)
        self.deduplication.forget(self._oldest_deduplicating(event.at_ms))
        for sequence, entry in enumerate(event.entries, event.first_sequence):
            self.deduplication.add(entry.deduplication, sequence)
        super().apply_sent(event, record)

    def apply_received(self, event: events.MessagesReceived) -> None:
        # A group that was visited loses its turn, also when nothing of it stays in flight.
        for group in event.groups:
            self.available.pop(group, None)
        super().apply_received(event)
        if event.attempt:
            taken = [self.messages[sequence] for sequence in event.sequences]
            self.attempts.note(event.attempt, event.at_ms, event.visible_at_ms, taken)

    def apply_repeated(self, event: events.ReceiveRepeated) -> None:
        """The messages of an attempt are in flight until the event's time."""
        receipts = self.attempts.extend(event.attempt, event.visible_at_ms)
        self._change_visibility([(each.sequence, event.visible_at_ms) for each in receipts], event.at_ms)

    def apply_configured(self, event: events.QueueConfigured) -> None:
        super().apply_configured(event)
        self._opening.clear()
        for line in self.lines.values():
            line.opens_at_ms = 0
            self._place(line, event.at_ms)

    def advance(self, now_ms: int) -> None:
        while self._opening and self._opening[0][0] <= now_ms:
            _, group = heappop(self._opening)
            line = self.lines.get(group)
            if line is not None:
                line.opens_at_ms = 0
                self._touched[group] = line
        super().advance(now_ms)

    def sweep(self, now_ms: int) -> bool:
        """As for every queue. It also forgets what repetitions it would no more recognise."""
        self.deduplication.forget(self._oldest_deduplicating(now_ms))
        self.attempts.forget(now_ms)
        return super().sweep(now_ms)

    def _may_rest(self, now_ms: int) -> bool:
        remembers = len(self.attempts) or self._oldest_deduplicating(now_ms) < self.next_sequence
        return super()._may_rest(now_ms) and not remembers

    def _rest(self) -> None:
        super()._rest()
        self._opening = []
        self.send_times = SendTimes()
        self.deduplication = Deduplication()
        self.attempts = Attempts()

    # Where a group stands

    def _place(self, line: OrderedLine, now_ms: int) -> None:
        message = next(line.in_order(), None)
        opens_at_ms = 0 if message is None else self._opens_at_ms(message, now_ms)
        if message is not None and opens_at_ms <= now_ms:
            self.available.setdefault(line.group, line)
            return
        self.available.pop(line.group, None)
        if opens_at_ms and opens_at_ms != line.opens_at_ms:
            line.opens_at_ms = opens_at_ms
            heappush(self._opening, (opens_at_ms, line.group))

    def _displace(self, line: OrderedLine) -> None:
        self.available.pop(line.group, None)

    def _first_line(self) -> OrderedLine | None:
        return next(iter(self.available.values()), None)
