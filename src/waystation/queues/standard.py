"""A standard queue: at least once, oldest first as far as possible, nothing else promised.

It never reads a clock, a log or a random number. `decide_…` methods look and
touch nothing; `apply_…` methods change state and never fail; `advance` lets
time pass, which makes hidden messages visible and drops expired ones. What
follows from events and time alone is never logged.

Memory: a message is an object while it is delayed, in flight, received before,
or within the *window* at the head of the queue. The rest is the `Tail`, whose
messages the shard loads from the log when `needs_load` says so.

Invariants (tests cite them):
  Q1  every live message is in exactly one of: the line, the hidden heap, `aside`, the tail;
  Q2  the line and the tail together hold what is visible; while the tail is not
      empty, newly sent messages join it, so that they cannot overtake it;
  Q3  `in_flight` and `delayed` count the messages in those states.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from math import inf

from waystation.protocol.errors import OverLimit, PurgeQueueInProgress
from waystation.protocol.limits import RETENTION_S_MAX, VISIBILITY_TIMEOUT_S_MAX
from waystation.queues import events
from waystation.queues.commands import (
    AcceptMessages,
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
from waystation.queues.line import WINDOW_BYTES, WINDOW_MESSAGES, Line
from waystation.queues.message import DELAYED, IN_FLIGHT, READY, SET_ASIDE, Message
from waystation.queues.tail import Run, Tail

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
        self.expired_before_sequence = 0
        """Of these two: messages of lower sequences sent no later expired under older settings."""
        self.messages: dict[int, Message] = {}
        self.line = Line()
        self.hidden: list[tuple[int, int]] = []
        self.in_flight = 0
        self.delayed = 0
        self.aside: dict[int, Message] = {}
        self.aside_targets: dict[int, str] = {}
        """By the sequences of those set aside: what is to take them."""
        self.tail = Tail()
        self.live_bytes = 0
        self.arrived: dict[tuple[int, int], set[int]] = {}
        """By shard and number of a source queue: sequences that have come from it and may come again."""

    # Looking

    def counts(self) -> Counts:
        """How many messages are in which state, as of the last `advance`."""
        hidden = self.in_flight + len(self.aside)
        return Counts(len(self.line) + self.tail.messages, hidden, self.delayed)

    def next_due_ms(self) -> int | None:
        """When a hidden message may become visible next; None when none is hidden."""
        hidden = self.hidden
        while hidden and not self._is_current(hidden[0]):
            heappop(hidden)
        return hidden[0][0] if hidden else None

    def needs_load(self) -> bool:
        """Whether consumers will soon have used up the window while the tail holds more."""
        return self.tail.messages > 0 and self.line.runs_low()

    def runs_to_load(self) -> list[Run]:
        """The oldest runs of the tail that would about fill the window, in messages or in bytes."""
        messages = len(self.messages) + self.tail.messages
        room_bytes = max(WINDOW_BYTES - self.line.window_bytes, 0)
        room = room_bytes * messages // max(self.live_bytes, 1) + 1
        return self.tail.front(min(room, WINDOW_MESSAGES - len(self.line.window)))

    def oldest_record(self) -> int | None:
        """The lowest log record that holds a live message of this queue."""
        records = [message.record for message in self.messages.values()]
        tail_record = self.tail.oldest_record()
        if tail_record is not None:
            records.append(tail_record)
        return min(records, default=None)

    def holds_receipt(self, sequence: int, receive_count: int) -> bool:
        """Whether this is the latest receive of a message that is still there, and not set aside."""
        message = self.messages.get(sequence)
        return message is not None and message.receive_count == receive_count and message.state != SET_ASIDE

    def lives_in(self, sequence: int, record: int, held: bool) -> bool:
        """Whether `record` is where the envelope of a live message lies; `held` as in `Relocated`."""
        message = self.messages.get(sequence)
        if message is not None:
            return message.record == record
        run = None if held else self.tail.find(sequence)
        return run is not None and run.record == record

    def _is_expired(self, message: Message, now_ms: int) -> bool:
        """Whether it is too old, now or when the settings were changed while it was here."""
        if message.sent_at_ms <= now_ms - self.settings.retention_ms:
            return True
        was_here = message.sequence < self.expired_before_sequence
        return was_here and message.sent_at_ms <= self.expired_before_ms

    # Deciding

    def decide_send(self, command: SendMessages, now_ms: int) -> events.MessagesSent:
        """All entries get sequences, in order."""
        return events.MessagesSent(now_ms, self.number, self.next_sequence, command.entries)

    def decide_receive(
        self, command: ReceiveMessages, now_ms: int
    ) -> tuple[list[ReceivedMessage], list[int]]:
        """Which visible messages one consumer gets, as it will see them, and which are set aside.

        A message is set aside only here: every event then has a request that caused
        it, and the shard needs no timer of its own for this.

        Raises:
            OverLimit: too many are in flight and the caller does not wait; one
                that does wait gets an empty answer (SQS quotas, in flight).
        """
        room = self.settings.in_flight_max - self.in_flight
        if room <= 0:
            if command.wait_ms:
                return [], []
            raise OverLimit.in_flight(self.settings.in_flight_max)
        wanted = min(command.max_messages, room)
        receive_count_max = self.settings.receive_count_max or inf
        chosen: list[ReceivedMessage] = []
        dead: list[int] = []
        for message in self.line.in_order(with_tail=self.tail.messages > 0):
            if self._is_expired(message, now_ms):
                continue
            if message.receive_count >= receive_count_max:
                dead.append(message.sequence)
            else:
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
        return chosen, dead

    def decide_delete(self, command: DeleteMessages) -> list[int]:
        """The sequences that are there to be deleted.

        Any receipt of a message deletes it, also one whose visibility timeout is
        over, or that another consumer's receive has followed: the consumer says
        that the work is done, and it is not to be done once more. Only one that is
        set aside stays: another queue may have taken it over already.
        """
        sequences = dict.fromkeys(receipt.sequence for receipt in command.receipts)
        found = [message for sequence in sequences if (message := self.messages.get(sequence)) is not None]
        return [message.sequence for message in found if message.state != SET_ASIDE]

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
        if self._is_expired(message, now_ms):
            return Outcome.GONE  # expired behind others that are not, and still to be dropped
        if now_ms + change.timeout_ms > message.received_at_ms + VISIBILITY_TIMEOUT_S_MAX * 1_000:
            return Outcome.BEYOND_LIMIT
        return Outcome.DONE

    def decide_arrivals(self, command: AcceptMessages, now_ms: int) -> events.MessagesArrived:
        """Those that have not come before get sequences, in order."""
        known = self.arrived.get((command.source_shard, command.source_queue), ())
        fresh = [arrival for arrival in command.arrivals if arrival.sequence not in known]
        return events.MessagesArrived(
            now_ms,
            self.number,
            self.next_sequence,
            command.source_shard,
            command.source_queue,
            fresh,
            command.settled,
        )

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
            else:
                self._join(Message(sequence, record, size, event.at_ms))
            sequence += 1
        self.next_sequence = sequence

    def apply_arrived(self, event: events.MessagesArrived, record: int) -> None:
        """Messages of another queue join as if just sent, but as old and as often received as they are."""
        source = (event.source_shard, event.source_queue)
        known = self.arrived.setdefault(source, set())
        known.difference_update(event.settled)
        for sequence, arrival in enumerate(event.arrivals, event.first_sequence):
            known.add(arrival.sequence)
            self.live_bytes += len(arrival.envelope)
            message = Message(sequence, record, len(arrival.envelope), arrival.sent_at_ms)
            message.receive_count = arrival.receive_count
            self._join(message)
        if not known:
            del self.arrived[source]
        self.next_sequence = event.first_sequence + len(event.arrivals)

    def _join(self, message: Message) -> None:
        """A new visible message joins the window, or when that is full, the tail."""
        if self.line.has_room() and not self.tail.messages:
            self.messages[message.sequence] = message
            self.line.join(message)
        else:
            self.tail.append(message.record, message.sequence)

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

    def apply_set_aside(self, event: events.MessagesSetAside) -> None:
        """The messages wait for another queue to take them."""
        for sequence in event.sequences:
            message = self.messages[sequence]
            self._take(message)
            message.state = SET_ASIDE
            message.visible_at_ms = 0
            self.aside[sequence] = message
            self.aside_targets[sequence] = event.target

    def apply_deleted(self, event: events.MessagesDeleted | events.MessagesReleased) -> None:
        """The messages are gone: a consumer was done with them, or another queue has them."""
        for sequence in event.sequences:
            message = self.messages.get(sequence)
            if message is not None:
                self._drop(message)
        self._shed_stale()

    def apply_visibility(self, event: events.VisibilityChanged) -> None:
        """The messages come back at their new times; those whose time is now are visible."""
        changes = [
            (self.messages[sequence], visible_at_ms)
            for sequence, visible_at_ms in dict(event.changes).items()
            if sequence in self.messages
        ]
        for message, _ in changes:
            self._take(message)
        self._fly(changes, event.at_ms)
        self._shed_stale()

    def apply_purged(self, event: events.QueuePurged) -> None:
        """Nothing is left, whatever state it was in."""
        self._clear()
        self.purged_at_ms = event.at_ms

    def apply_configured(self, event: events.QueueConfigured) -> None:
        """New settings. What has expired under the old ones stays expired."""
        self.advance(event.at_ms)
        expiry_ms = event.at_ms - self.settings.retention_ms
        if expiry_ms > self.expired_before_ms:
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
                if self._is_expired(message, now_ms):
                    self._drop(message)
                else:
                    self._take(message)
                    message.state = READY  # another entry of the heap may name it too
                    shown.append(message)
        self.line.come_back(shown, self.next_sequence)
        window = self.line.window
        while window and self._is_expired(oldest := next(iter(window.values())), now_ms):
            self._drop(oldest)

    def sweep(self, now_ms: int) -> None:
        """Drop expired messages wherever they are in the line. Linear, so for idle moments."""
        self.advance(now_ms)
        dead = [m for m in self.line.in_order(with_tail=False) if self._is_expired(m, now_ms)]
        # No queue keeps messages for longer than this: those set aside have nowhere to go any more.
        kept_nowhere_ms = now_ms - RETENTION_S_MAX * 1_000
        dead += [m for m in self.aside.values() if m.sent_at_ms <= kept_nowhere_ms]
        for message in dead:
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
            self.line.join(message)

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

    def _fly(self, changes: list[tuple[Message, int]], at_ms: int) -> None:
        """Put taken messages in flight until their times; those whose time is over are visible."""
        shown: list[Message] = []
        for message, visible_at_ms in changes:
            if visible_at_ms <= at_ms:
                shown.append(message)
            else:
                self._hide(message, IN_FLIGHT, visible_at_ms)
                self.in_flight += 1
        if shown:
            self.line.come_back(shown, self.next_sequence)

    def _take(self, message: Message) -> None:
        """Take a message out of where it is, to be put elsewhere; its heap entry goes stale."""
        if message.state == READY:
            self.line.remove(message)
        elif message.state == IN_FLIGHT:
            self.in_flight -= 1
        elif message.state == DELAYED:
            self.delayed -= 1
        else:
            del self.aside[message.sequence]
            del self.aside_targets[message.sequence]

    def _drop(self, message: Message) -> None:
        self._take(message)
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
        self.line.clear()
        self.hidden.clear()
        self.aside.clear()
        self.aside_targets.clear()
        self.tail = Tail()
        self.in_flight = self.delayed = self.live_bytes = 0

    # Snapshots

    def saved_messages(self) -> list[Message]:
        """Every message object, for a snapshot: the visible ones in their order, then the others."""
        hidden = [message for message in self.messages.values() if message.state != READY]
        return [*self.line.window.values(), *self.line.back.values(), *hidden]

    def restore(self, messages: Iterable[Message], tail: Tail, live_bytes: int) -> None:
        """Take over what a snapshot held."""
        for message in messages:
            self.messages[message.sequence] = message
            if message.state == READY:
                self.line.restore(message)
            elif message.state == SET_ASIDE:
                self.aside[message.sequence] = message
            else:
                self._hide(message, message.state, message.visible_at_ms)
                if message.state == IN_FLIGHT:
                    self.in_flight += 1
                else:
                    self.delayed += 1
        self.tail = tail
        self.live_bytes = live_bytes
