"""Drives one queue, with times in seconds and messages by their text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from tests.queues.pure_shard import PureShard
from waystation.queues.commands import (
    AcceptMessages,
    Arrival,
    ChangeVisibility,
    ConfigureQueue,
    CountMessages,
    Counts,
    CreateQueue,
    DeleteMessages,
    Entry,
    Moved,
    MoveMessages,
    Outcome,
    Outcomes,
    PurgeQueue,
    QueueId,
    QueueSettings,
    Receipt,
    Received,
    ReceiveMessages,
    ReleaseMessages,
    ReturnMessages,
    SendMessages,
    Sent,
    VisibilityChange,
)
from waystation.queues.state import Queue


@dataclass(frozen=True)
class Got:
    """A message as a consumer got it."""

    text: str
    receipt: Receipt
    sent_at_s: float
    first_received_at_s: float
    group: str = ""

    @property
    def receive_count(self) -> int:
        return self.receipt.receive_count


def _ms(seconds: float) -> int:
    return round(seconds * 1_000)


def _digest(name: str) -> bytes:
    """Of a deduplication id or an attempt; empty for none."""
    return name.encode().ljust(16, b".") if name else b""


class QueueDriver:
    """A queue from time 0 on. Each command is one log record."""

    def __init__(
        self,
        *,
        visibility_timeout_s: float = 30,
        retention_s: float = 345_600,
        in_flight_max: int = 120_000,
        receive_count_max: int = 0,
        target: str = "",
        fifo: bool = False,
        delay_s: float = 0,
    ) -> None:
        self._visibility_timeout_s = visibility_timeout_s
        self._settings = QueueSettings(
            "orders", _ms(retention_s), in_flight_max, 0, receive_count_max, target, fifo, _ms(delay_s)
        )
        self.shard = PureShard()
        made = self.shard.do(CreateQueue(self._settings), 1)
        assert isinstance(made, QueueId)
        self.shard.commit()
        self.number = made.queue

    @property
    def queue(self) -> Queue:
        """The queue's state itself."""
        return self.shard.state.queue(self.number)

    def send(
        self, *texts: str, at_s: float, delay_s: float = 0, group: str = "", deduplication: str = ""
    ) -> list[int]:
        """Send messages in one command; returns their sequences."""
        entries = [Entry(text.encode(), _ms(delay_s), group, _digest(deduplication)) for text in texts]
        sent = self.shard.do(SendMessages(self.number, entries), _ms(at_s))
        assert isinstance(sent, Sent)
        self.shard.commit()
        return sent.sequences

    def receive(
        self,
        *,
        at_s: float,
        max_messages: int = 1,
        visibility_timeout_s: float | None = None,
        wait_s: float = 0,
        attempt: str = "",
    ) -> list[Got]:
        """One receive; what it gets, in order."""
        timeout_s = self._visibility_timeout_s if visibility_timeout_s is None else visibility_timeout_s
        command = ReceiveMessages(self.number, max_messages, _ms(timeout_s), _ms(wait_s), _digest(attempt))
        received = self.shard.do(command, _ms(at_s))
        assert isinstance(received, Received)
        self.shard.commit()
        return [
            Got(
                message.envelope.decode(),
                Receipt(message.sequence, message.receive_count),
                message.sent_at_ms / 1_000,
                message.first_received_at_ms / 1_000,
                message.group,
            )
            for message in received.messages
        ]

    def texts(self, *, at_s: float, max_messages: int = 10) -> list[str]:
        """The texts that one receive gets."""
        return [got.text for got in self.receive(at_s=at_s, max_messages=max_messages)]

    def delete(self, *got: Got, at_s: float) -> list[Outcome]:
        """Delete with the receipts of these."""
        outcomes = self.shard.do(DeleteMessages(self.number, [each.receipt for each in got]), _ms(at_s))
        assert isinstance(outcomes, Outcomes)
        self.shard.commit()
        return outcomes.outcomes

    def change_visibility(self, *got: Got, timeout_s: float, at_s: float) -> list[Outcome]:
        """Hide these from now for `timeout_s`."""
        changes = [VisibilityChange(each.receipt, _ms(timeout_s)) for each in got]
        outcomes = self.shard.do(ChangeVisibility(self.number, changes), _ms(at_s))
        assert isinstance(outcomes, Outcomes)
        self.shard.commit()
        return outcomes.outcomes

    def retain(self, *, retention_s: float, at_s: float) -> None:
        """Change the retention."""
        self._configure(at_s, retention_ms=_ms(retention_s))

    def delay(self, *, delay_s: float, at_s: float) -> None:
        """Change the delay of a FIFO queue."""
        self._configure(at_s, delay_ms=_ms(delay_s))

    def redrive(self, *, receive_count_max: int, target: str, at_s: float) -> None:
        """Change what becomes of dead letters."""
        self._configure(at_s, receive_count_max=receive_count_max, dead_letter_target=target)

    def _configure(self, at_s: float, **changes: Any) -> None:
        self._settings = msgspec.structs.replace(self._settings, **changes)
        self.shard.do(ConfigureQueue(self.number, self._settings), _ms(at_s))
        self.shard.commit()

    def purge(self, *, at_s: float, interval_s: float = 60) -> None:
        """Drop everything."""
        self.shard.do(PurgeQueue(self.number, _ms(interval_s)), _ms(at_s))

    def counts(self, *, at_s: float) -> tuple[int, int, int]:
        """Visible, in flight, delayed."""
        counts = self.shard.do(CountMessages(self.number), _ms(at_s))
        assert isinstance(counts, Counts)
        return counts.visible, counts.in_flight, counts.delayed

    # What a carrier does

    def letters(self) -> list[Arrival]:
        """What is set aside, as a carrier would take it to another queue."""
        return [
            Arrival(
                message.sequence,
                message.sent_at_ms,
                message.receive_count,
                self.shard.envelope(self.number, message.sequence, message.record),
                message.group,
            )
            for message in self.queue.aside.values()
        ]

    def accept(
        self,
        letters: list[Arrival],
        *,
        at_s: float,
        source: int = 1,
        settled: list[int] | None = None,
        delivery: tuple[int, int] = (0, 0),
    ) -> None:
        """Take over messages of queue `source` of shard 0."""
        self.shard.do(AcceptMessages(self.number, 0, source, letters, settled or [], delivery), _ms(at_s))
        self.shard.commit()

    def release(self, letters: list[Arrival], *, at_s: float) -> None:
        """Forget what another queue has taken over."""
        self.shard.do(ReleaseMessages(self.number, [letter.sequence for letter in letters]), _ms(at_s))
        self.shard.commit()

    def move(self, *, max_messages: int, at_s: float, target: str = "elsewhere") -> int:
        """Set visible messages aside; returns how many."""
        moved = self.shard.do(MoveMessages(self.number, target, max_messages), _ms(at_s))
        assert isinstance(moved, Moved)
        self.shard.commit()
        return moved.messages

    def give_back(self, letters: list[Arrival], *, at_s: float) -> None:
        """Show messages again that no other queue took."""
        self.shard.do(ReturnMessages(self.number, [letter.sequence for letter in letters]), _ms(at_s))
        self.shard.commit()

    def restart(self) -> None:
        """A new owner reads the log, and goes on."""
        self.shard.state = self.shard.recovered()


def fifo_queue(delay_s: float = 0, retention_s: float = 345_600, in_flight_max: int = 120_000) -> QueueDriver:
    return QueueDriver(fifo=True, delay_s=delay_s, retention_s=retention_s, in_flight_max=in_flight_max)


def texts(got: list[Got]) -> list[str]:
    return [each.text for each in got]
