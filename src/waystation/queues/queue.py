"""What standard and FIFO queues have in common in deciding what commands lead to.

`decide_…` methods look and touch nothing: what they decide is in the events that
they return, and `QueueState` applies those.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from math import inf

from msgspec.structs import replace

from waystation.protocol.errors import PurgeQueueInProgress
from waystation.protocol.limits import VISIBILITY_TIMEOUT_S_MAX
from waystation.queues import events
from waystation.queues.commands import (
    AcceptMessages,
    ChangeVisibility,
    DeleteMessages,
    DeliveryOutdated,
    MoveMessages,
    Outcome,
    PurgeQueue,
    Received,
    ReceivedMessage,
    ReceiveMessages,
    SendMessages,
    VisibilityChange,
)
from waystation.queues.events import Event
from waystation.queues.message import SET_ASIDE, Message
from waystation.queues.queue_state import AnyLine, QueueState


class MessageQueue(QueueState[AnyLine]):
    """A queue that can be asked what a command would lead to now."""

    def decide_send(self, command: SendMessages, now_ms: int) -> tuple[tuple[Event, ...], list[int]]:
        """All entries get sequences, in order."""
        first = self.next_sequence
        event = events.MessagesSent(now_ms, self.number, first, command.entries)
        return (event,), list(range(first, first + len(command.entries)))

    def decide_receive(self, command: ReceiveMessages, now_ms: int) -> tuple[tuple[Event, ...], Received]:
        """Which visible messages one consumer gets, as it will see them, and which are set aside.

        A message is set aside only here: every event then has a request that caused
        it, and the shard needs no timer of its own for this.

        Raises:
            OverLimit: on a standard queue, when too many are in flight.
        """
        room = self.settings.in_flight_max - self.in_flight
        if room <= 0:
            return (), Received(self.number, [])
        chosen, dead = self._choose(min(command.max_messages, room), now_ms)
        decided: tuple[Event, ...] = ()
        if dead:
            decided = (self._set_aside(dead, self.settings.dead_letter_target, now_ms),)
        visible_at_ms = 0
        if chosen:
            visible_at_ms = now_ms + command.visibility_timeout_ms
            sequences = [message.sequence for message in chosen]
            groups = _groups(chosen)
            decided += (
                events.MessagesReceived(
                    now_ms, self.number, visible_at_ms, sequences, groups, command.attempt
                ),
            )
        if visible_at_ms == now_ms:
            visible_at_ms = 0  # nobody is kept from them
        return decided, Received(self.number, chosen, visible_at_ms, command.attempt)

    def _choose(self, wanted: int, now_ms: int) -> tuple[list[ReceivedMessage], list[Message]]:
        receive_count_max = self.settings.receive_count_max or inf
        chosen: list[ReceivedMessage] = []
        dead: list[Message] = []
        for message in self._in_order(now_ms):
            if self._is_expired(message, now_ms):
                continue
            if message.receive_count >= receive_count_max:
                dead.append(message)
            else:
                chosen.append(shown(message, message.receive_count + 1, now_ms))
                if len(chosen) == wanted:
                    break
        return chosen, dead

    def _set_aside(self, messages: list[Message], target: str, now_ms: int) -> Event:
        sequences = [message.sequence for message in messages]
        return events.MessagesSetAside(now_ms, self.number, sequences, target, _groups(messages))

    def decide_move(self, command: MoveMessages, now_ms: int) -> tuple[tuple[Event, ...], int]:
        """The next visible messages are set aside; returns how many."""
        found: list[Message] = []
        for message in self._in_order(now_ms):
            if len(found) == command.max_messages:
                break
            if not self._is_expired(message, now_ms):
                found.append(message)
        return ((self._set_aside(found, command.target, now_ms),) if found else ()), len(found)

    def decide_delete(self, command: DeleteMessages, now_ms: int) -> tuple[list[int], list[Outcome]]:
        """The sequences that are there to be deleted, and for each receipt what becomes of it.

        A message that is set aside stays: another queue may have taken it over already. One
        that has expired is gone, though it may still have to be dropped.
        """
        outcomes: list[Outcome] = []
        sequences: dict[int, None] = {}
        for receipt in command.receipts:
            message = self.messages.get(receipt.sequence)
            outcome = Outcome.DONE
            if message is not None and message.state != SET_ASIDE and not self._is_expired(message, now_ms):
                outcome = self._judge_delete(message, receipt.receive_count)
                if outcome is Outcome.DONE:
                    sequences[message.sequence] = None
            outcomes.append(outcome)
        return list(sequences), outcomes

    @abstractmethod
    def _judge_delete(self, message: Message, receive_count: int) -> Outcome:
        """Whether a receipt deletes a message that is there."""

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
        message = self.messages.get(change.receipt.sequence)
        if message is None or message.state == SET_ASIDE or self._is_expired(message, now_ms):
            return (
                Outcome.GONE
            )  # also one that expired behind others that are not, and is still to be dropped
        outcome = self._judge_change(message, change.receipt.receive_count)
        if outcome is not Outcome.DONE:
            return outcome
        if now_ms + change.timeout_ms > message.received_at_ms + VISIBILITY_TIMEOUT_S_MAX * 1_000:
            return Outcome.BEYOND_LIMIT
        return Outcome.DONE

    @abstractmethod
    def _judge_change(self, message: Message, receive_count: int) -> Outcome:
        """Whether a receipt may change the visibility timeout of a message that is there."""

    def decide_arrivals(self, command: AcceptMessages, now_ms: int) -> events.MessagesArrived:
        """Those that have not come before get sequences, in order.

        Raises:
            DeliveryOutdated: a later delivery was here already.
        """
        source = (command.source_shard, command.source_queue)
        if command.delivery < self.deliveries.get(source, command.delivery):
            raise DeliveryOutdated
        known = self.arrived.get(source, ())
        fresh = [
            # Nothing was sent in the future, though another node's clock may say so.
            arrival if arrival.sent_at_ms <= now_ms else replace(arrival, sent_at_ms=now_ms)
            for arrival in command.arrivals
            if arrival.sequence not in known
        ]
        return events.MessagesArrived(
            now_ms,
            self.number,
            self.next_sequence,
            command.source_shard,
            command.source_queue,
            fresh,
            command.settled,
            command.delivery,
        )

    def decide_purge(self, command: PurgeQueue, now_ms: int) -> events.QueuePurged:
        """Raises `PurgeQueueInProgress` when the last purge is too young."""
        if self.purged_at_ms and now_ms - self.purged_at_ms < command.interval_ms:
            raise PurgeQueueInProgress(self.settings.name, command.interval_ms // 1_000)
        return events.QueuePurged(now_ms, self.number)


def shown(message: Message, receive_count: int, now_ms: int) -> ReceivedMessage:
    """A message as its receiver will see it."""
    return ReceivedMessage(
        message.sequence,
        receive_count,
        message.sent_at_ms,
        message.first_received_at_ms or now_ms,
        message.record,
        message.group,
    )


def _groups(messages: Iterable[Message] | Iterable[ReceivedMessage]) -> list[str]:
    """The groups of messages, one each; none when they have none."""
    groups = [message.group for message in messages]
    return groups if any(groups) else []
