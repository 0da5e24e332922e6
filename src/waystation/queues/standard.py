"""A standard queue: at least once, oldest first as far as possible, nothing else promised.

It never reads a clock, a log or a random number. `decide_…` methods look and
touch nothing; `apply_…` methods change state and never fail; `advance` lets
time pass, which makes hidden messages visible and drops expired ones. What
follows from events and time alone is never logged.

Memory: a message is an object while it is delayed, in flight, received before,
or within the *window* at the head of the queue. The rest is the `Tail`, whose
messages the shard loads from the log when `needs_load` says so.

Invariants (tests cite them):
  Q1  every live message is in exactly one of: `ready`, the hidden heap, the tail;
  Q2  `ready` and the tail together hold what is visible; while the tail is not
      empty, newly sent messages join it, so that they cannot overtake it;
  Q3  `in_flight` and `delayed` count the messages in those states.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush

from waystation.protocol.errors import OverLimit, PurgeQueueInProgress
from waystation.protocol.limits import VISIBILITY_TIMEOUT_S_MAX
from waystation.queues import events
from waystation.queues.commands import (
    ChangeVisibility,
    Counts,
    DeleteMessages,
    Outcome,
    PurgeQueue,
    QueueSettings,
    ReceivedMessage,
    ReceiveMessages,
    SendMessages,
    VisibilityChange,
)
from waystation.queues.message import DELAYED, IN_FLIGHT, READY, Message
from waystation.queues.tail import Run, Tail

WINDOW_MESSAGES = 1_024
"""Visible messages held as objects: some 50 ms of receives at full speed, while the log is read."""
WINDOW_BYTES = 8_388_608
"""And no more than this in envelopes, so that a window of large messages fits the cache."""
FRONT_RECEIVES_MAX = 2
"""A message received more often returns to the back of the window, so that one which nobody
can process does not stand before all others. SQS Developer Guide, CloudWatch metrics: messages
received three or more times are moved to the back of the queue."""

_STALE_SLACK = 64
"""Stale heap entries that are always tolerated, so that small heaps are not rebuilt all the time."""


class StandardQueue:
    """The state of one standard queue. Sequences start at 1 and rise in the order of sending."""

    def __init__(self, number: int, settings: QueueSettings) -> None:
        self.number = number
        self.settings = settings
        self.next_sequence = 1
        self.purged_at_ms = 0
        self.expired_before_ms = 0
        self.messages: dict[int, Message] = {}
        self.ready: OrderedDict[int, Message] = OrderedDict()
        self.ready_bytes = 0
        self.hidden: list[tuple[int, int]] = []
        self.in_flight = 0
        self.delayed = 0
        self.tail = Tail()
        self.live_bytes = 0

    # Looking

    def counts(self) -> Counts:
        """How many messages are in which state, as of the last `advance`."""
        return Counts(len(self.ready) + self.tail.messages, self.in_flight, self.delayed)

    def next_due_ms(self) -> int | None:
        """When a hidden message may become visible next; None when none is hidden."""
        hidden = self.hidden
        while hidden and not self._is_current(hidden[0]):
            heappop(hidden)
        return hidden[0][0] if hidden else None

    def needs_load(self) -> bool:
        """Whether consumers will soon have used up the window while the tail holds more."""
        return (
            self.tail.messages > 0
            and len(self.ready) < WINDOW_MESSAGES // 2
            and self.ready_bytes < WINDOW_BYTES // 2
        )

    def has_room(self) -> bool:
        """Whether the window takes more."""
        return len(self.ready) < WINDOW_MESSAGES and self.ready_bytes < WINDOW_BYTES

    def runs_to_load(self) -> list[Run]:
        """The oldest runs of the tail that would about fill the window, in messages or in bytes."""
        messages = len(self.messages) + self.tail.messages
        room_bytes = max(WINDOW_BYTES - self.ready_bytes, 0)
        room = room_bytes * messages // max(self.live_bytes, 1) + 1
        return self.tail.front(min(room, WINDOW_MESSAGES - len(self.ready)))

    def oldest_record(self) -> int | None:
        """The lowest log record that holds a live message of this queue."""
        records = [message.record for message in self.messages.values()]
        tail_record = self.tail.oldest_record()
        if tail_record is not None:
            records.append(tail_record)
        return min(records, default=None)

    def holds_receipt(self, sequence: int, receive_count: int) -> bool:
        """Whether this is the latest receive of a message that is still there."""
        message = self.messages.get(sequence)
        return message is not None and message.receive_count == receive_count

    def lives_in(self, sequence: int, record: int, held: bool) -> bool:
        """Whether `record` is where the envelope of a live message lies; `held` as in `Relocated`."""
        message = self.messages.get(sequence)
        if message is not None:
            return message.record == record
        run = None if held else self.tail.find(sequence)
        return run is not None and run.record == record

    def _expiry_ms(self, now_ms: int) -> int:
        """Messages sent at or before this are expired."""
        return max(self.expired_before_ms, now_ms - self.settings.retention_ms)

    # Deciding

    def decide_send(self, command: SendMessages, now_ms: int) -> events.MessagesSent:
        """All entries get sequences, in order."""
        return events.MessagesSent(now_ms, self.number, self.next_sequence, command.entries)

    def decide_receive(self, command: ReceiveMessages, now_ms: int) -> list[ReceivedMessage]:
        """Which visible messages one consumer gets, as it will see them.

        Raises:
            OverLimit: too many are in flight and the caller does not wait; one
                that does wait gets an empty answer (SQS quotas, in flight).
        """
        room = self.settings.in_flight_max - self.in_flight
        if room <= 0:
            if command.wait_ms:
                return []
            raise OverLimit.in_flight(self.settings.in_flight_max)
        wanted = min(command.max_messages, room)
        expiry_ms = self._expiry_ms(now_ms)
        chosen: list[ReceivedMessage] = []
        for message in self.ready.values():
            if message.sent_at_ms > expiry_ms:
                chosen.append(
                    ReceivedMessage(
                        message.sequence,
                        message.receive_count + 1,
                        message.sent_at_ms,
                        message.first_received_at_ms or now_ms,
                        message.record,
                    )
                )
                if len(chosen) == wanted:
                    break
        return chosen

    def decide_delete(self, command: DeleteMessages) -> list[int]:
        """The sequences that are there to be deleted.

        Any receipt of a message deletes it, also one whose visibility timeout is
        over, or that another consumer's receive has followed: the consumer says
        that the work is done, and it is not to be done once more.
        """
        messages = self.messages
        sequences = dict.fromkeys(receipt.sequence for receipt in command.receipts)
        return [sequence for sequence in sequences if sequence in messages]

    def decide_visibility(
        self, command: ChangeVisibility, now_ms: int
    ) -> tuple[list[tuple[int, int]], list[Outcome]]:
        """Pairs of sequence and new `visible_at_ms`, and for each change what became of it."""
        changes: list[tuple[int, int]] = []
        outcomes: list[Outcome] = []
        for change in command.changes:
            outcome = self._judge(change, now_ms)
            outcomes.append(outcome)
            if outcome is Outcome.DONE:
                changes.append((change.receipt.sequence, now_ms + change.timeout_ms))
        return changes, outcomes

    def _judge(self, change: VisibilityChange, now_ms: int) -> Outcome:
        receipt = change.receipt
        # A receipt that a later receive has replaced must not touch that
        # consumer's timeout; to its holder the message is gone.
        if not self.holds_receipt(receipt.sequence, receipt.receive_count):
            return Outcome.GONE
        message = self.messages[receipt.sequence]
        if message.sent_at_ms <= self._expiry_ms(now_ms):
            return Outcome.GONE  # expired behind others that are not, and still to be dropped
        if now_ms + change.timeout_ms > message.received_at_ms + VISIBILITY_TIMEOUT_S_MAX * 1_000:
            return Outcome.BEYOND_LIMIT
        return Outcome.DONE

    def decide_purge(self, command: PurgeQueue, now_ms: int) -> events.QueuePurged:
        """Raises `PurgeQueueInProgress` when the last purge is too young."""
        if self.purged_at_ms and now_ms - self.purged_at_ms < command.interval_ms:
            raise PurgeQueueInProgress(self.settings.name, command.interval_ms // 1_000)
        return events.QueuePurged(now_ms, self.number)

    # Applying

    def apply_sent(self, event: events.MessagesSent, record: int) -> None:
        """Each message is delayed, joins the window, or, when that is full, the tail."""
        sequence = event.first_sequence
        for entry in event.entries:
            size = len(entry.envelope)
            self.live_bytes += size
            if entry.delay_ms > 0:
                message = self.messages[sequence] = Message(sequence, record, size, event.at_ms)
                self._hide(message, DELAYED, event.at_ms + entry.delay_ms)
                self.delayed += 1
            elif self.has_room() and not self.tail.messages:
                message = self.messages[sequence] = Message(sequence, record, size, event.at_ms)
                self.ready[sequence] = message
                self.ready_bytes += size
            else:
                self.tail.append(record, sequence)
            sequence += 1
        self.next_sequence = sequence

    def apply_received(self, event: events.MessagesReceived) -> None:
        """The messages are in flight until the event's time."""
        for sequence in event.sequences:
            message = self.messages[sequence]
            self._unhide(message)
            message.receive_count += 1
            message.received_at_ms = event.at_ms
            if not message.first_received_at_ms:
                message.first_received_at_ms = event.at_ms
            self._fly(message, event.visible_at_ms, event.at_ms)
        if event.visible_at_ms <= event.at_ms:
            self._to_front([self.messages[sequence] for sequence in event.sequences])

    def apply_deleted(self, event: events.MessagesDeleted) -> None:
        """The messages are gone."""
        for sequence in event.sequences:
            message = self.messages.get(sequence)
            if message is not None:
                self._drop(message)
        self._shed_stale()

    def apply_visibility(self, event: events.VisibilityChanged) -> None:
        """The messages come back at their new times; those whose time is now are visible."""
        shown: list[Message] = []
        for sequence, visible_at_ms in event.changes:
            message = self.messages.get(sequence)
            if message is not None:
                self._unhide(message)
                self._fly(message, visible_at_ms, event.at_ms)
                if message.state == READY:
                    shown.append(message)
        self._to_front(shown)
        self._shed_stale()

    def apply_purged(self, event: events.QueuePurged) -> None:
        """Nothing is left, whatever state it was in."""
        self._clear()
        self.purged_at_ms = event.at_ms

    def apply_configured(self, event: events.QueueConfigured) -> None:
        """New settings. What has expired under the old ones stays expired."""
        self.advance(event.at_ms)
        self.expired_before_ms = self._expiry_ms(event.at_ms)
        self.settings = event.settings
        self.hidden = [
            (self._due_ms(message), message.sequence)
            for message in self.messages.values()
            if message.state != READY
        ]
        heapify(self.hidden)

    def apply_relocated(self, event: events.MessagesRelocated, record: int) -> None:
        """The messages' envelopes lie in `record` now."""
        for relocated in event.messages:
            message = self.messages.get(relocated.sequence)
            if message is not None:
                message.record = record
            else:
                self.tail.relocate(relocated.sequence, record)

    # Time, and what was read back from the log

    def advance(self, now_ms: int) -> None:
        """Let time pass: delays and visibility timeouts end, old messages expire."""
        hidden = self.hidden
        shown: list[Message] = []
        while hidden and hidden[0][0] <= now_ms:
            entry = heappop(hidden)
            if self._is_current(entry):
                message = self.messages[entry[1]]
                if message.sent_at_ms <= self._expiry_ms(now_ms):
                    self._drop(message)
                else:
                    self._unhide(message)
                    self._show(message)
                    shown.append(message)
        self._to_front(shown)
        expiry_ms = self._expiry_ms(now_ms)
        ready = self.ready
        while ready:
            oldest = next(iter(ready.values()))
            if oldest.sent_at_ms > expiry_ms:
                break
            self._drop(oldest)

    def sweep(self, now_ms: int) -> None:
        """Drop expired messages wherever they are in the window. Linear, so for idle moments."""
        self.advance(now_ms)
        expiry_ms = self._expiry_ms(now_ms)
        for message in [m for m in self.ready.values() if m.sent_at_ms <= expiry_ms]:
            self._drop(message)

    def load(self, run: Run, messages: Iterable[Message]) -> None:
        """Move the oldest run of the tail, read from the log, into the window.

        `messages` are the undelayed, never received messages of this queue in
        the run's record from its first sequence on; the run's count of them is taken.
        """
        oldest = self.tail.pop()
        assert oldest == run, "only the oldest run can be loaded"
        for message, _ in zip(messages, range(run.messages), strict=False):
            self.messages[message.sequence] = message
            self.ready[message.sequence] = message
            self.ready_bytes += message.size

    def _is_current(self, entry: tuple[int, int]) -> bool:
        message = self.messages.get(entry[1])
        return message is not None and message.state != READY and self._due_ms(message) == entry[0]

    def _due_ms(self, message: Message) -> int:
        """When a hidden message shows again or expires, whichever comes first."""
        expires_at_ms = message.sent_at_ms + self.settings.retention_ms
        return message.visible_at_ms if message.visible_at_ms < expires_at_ms else expires_at_ms

    def _hide(self, message: Message, state: int, visible_at_ms: int) -> None:
        message.state = state
        message.visible_at_ms = visible_at_ms
        heappush(self.hidden, (self._due_ms(message), message.sequence))

    def _fly(self, message: Message, visible_at_ms: int, at_ms: int) -> None:
        """Put a message that is nowhere in flight; or show it at once, when its time is over."""
        if visible_at_ms <= at_ms:
            self._show(message)
        else:
            self._hide(message, IN_FLIGHT, visible_at_ms)
            self.in_flight += 1

    def _unhide(self, message: Message) -> None:
        """Take a message out of where it is; its heap entry goes stale."""
        if message.state == READY:
            del self.ready[message.sequence]
            self.ready_bytes -= message.size
        elif message.state == IN_FLIGHT:
            self.in_flight -= 1
        else:
            self.delayed -= 1

    def _show(self, message: Message) -> None:
        message.state = READY
        message.visible_at_ms = 0
        self.ready[message.sequence] = message
        self.ready_bytes += message.size

    def _to_front(self, messages: list[Message]) -> None:
        """Of messages that have just been shown, those that were received before go first, in this order."""
        for message in reversed(messages):
            if 0 < message.receive_count <= FRONT_RECEIVES_MAX and message.sequence in self.ready:
                self.ready.move_to_end(message.sequence, last=False)

    def _drop(self, message: Message) -> None:
        self._unhide(message)
        self.live_bytes -= message.size
        del self.messages[message.sequence]

    def _shed_stale(self) -> None:
        """Rebuild the heap when most of it is stale: a consumer that deletes leaves an entry behind."""
        current = self.in_flight + self.delayed
        if len(self.hidden) > 2 * current + _STALE_SLACK:
            self.hidden = [entry for entry in set(self.hidden) if self._is_current(entry)]
            heapify(self.hidden)

    def _clear(self) -> None:
        self.messages.clear()
        self.ready.clear()
        self.hidden.clear()
        self.tail = Tail()
        self.ready_bytes = self.in_flight = self.delayed = self.live_bytes = 0

    # Snapshots

    def rows(self) -> Iterator[list[int]]:
        """Every message object, for a snapshot: the visible ones in their order, then the hidden."""
        yield from (message.row() for message in self.ready.values())
        yield from (message.row() for message in self.messages.values() if message.state != READY)

    def restore(self, rows: Iterable[list[int]], tail: Tail, live_bytes: int) -> None:
        """Take over what a snapshot held."""
        for row in rows:
            message = Message.from_row(row)
            self.messages[message.sequence] = message
            if message.state == READY:
                self.ready[message.sequence] = message
                self.ready_bytes += message.size
            else:
                self._hide(message, message.state, message.visible_at_ms)
                if message.state == IN_FLIGHT:
                    self.in_flight += 1
                else:
                    self.delayed += 1
        self.tail = tail
        self.live_bytes = live_bytes
