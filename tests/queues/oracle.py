"""What a queue promises, said as plainly as possible: a dictionary of messages with times.

What every queue promises, then what a standard one does. `fifo_oracle.py` has the other kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from waystation.queues.commands import Outcome, QueueSettings, Receipt, ReceivedMessage
from waystation.queues.invariants import broken_invariants
from waystation.queues.state import Queue

HIDDEN_MS_MAX = 43_200_000
"""12 hours from a receive: SQS API Reference, ChangeMessageVisibility."""


@dataclass
class OracleMessage:
    """One message; `hidden_until_ms` by its delay while never received, else by its receive."""

    envelope: bytes
    sent_at_ms: int
    hidden_until_ms: int = 0
    receive_count: int = 0
    received_at_ms: int = 0
    first_received_at_ms: int = 0

    def receive(self, timeout_ms: int, now_ms: int) -> None:
        self.receive_count += 1
        self.received_at_ms = now_ms
        self.first_received_at_ms = self.first_received_at_ms or now_ms
        self.hidden_until_ms = now_ms + timeout_ms

    def check_shown(self, message: ReceivedMessage) -> None:
        """Check that a consumer was told the truth about its last receive."""
        assert message.envelope == self.envelope
        assert message.sent_at_ms == self.sent_at_ms
        assert message.receive_count == self.receive_count
        assert message.first_received_at_ms == self.first_received_at_ms


Known = TypeVar("Known", bound=OracleMessage)


@dataclass
class Oracle(ABC, Generic[Known]):
    """One queue. Every method takes the time; nothing happens by itself."""

    settings: QueueSettings
    messages: dict[int, Known] = field(default_factory=dict)
    """In the order of their sequences."""
    next_sequence: int = 1
    purged_at_ms: int = 0

    def expire(self, now_ms: int) -> None:
        """Drop what is older than the retention. Called before anything else."""
        oldest_ms = now_ms - self.settings.retention_ms
        self.messages = {at: each for at, each in self.messages.items() if each.sent_at_ms > oldest_ms}

    def add(self, message: Known) -> int:
        """Give a message its sequence, and return it."""
        self.messages[self.next_sequence] = message
        self.next_sequence += 1
        return self.next_sequence - 1

    def purge(self, now_ms: int) -> None:
        self.messages.clear()
        self.purged_at_ms = now_ms

    @abstractmethod
    def judge_delete(self, receipt: Receipt, now_ms: int) -> Outcome:
        """What the deletion of a message comes to."""

    def delete(self, receipt: Receipt) -> None:
        """Once it is judged to be done."""
        self.messages.pop(receipt.sequence, None)

    @abstractmethod
    def judge_change(self, receipt: Receipt, timeout_ms: int, now_ms: int) -> Outcome:
        """What a new visibility timeout for a message comes to."""


class OracleQueue(Oracle[OracleMessage]):
    """A standard queue."""

    def visible(self, now_ms: int) -> set[int]:
        return {at for at, each in self.messages.items() if each.hidden_until_ms <= now_ms}

    def in_flight(self, now_ms: int) -> int:
        hidden = [each for each in self.messages.values() if each.hidden_until_ms > now_ms]
        return sum(each.receive_count > 0 for each in hidden)

    def delayed(self, now_ms: int) -> int:
        hidden = [each for each in self.messages.values() if each.hidden_until_ms > now_ms]
        return sum(each.receive_count == 0 for each in hidden)

    def accept(self, got: list[ReceivedMessage], timeout_ms: int, now_ms: int) -> None:
        """Check what a receive handed out, and remember it."""
        assert len({message.sequence for message in got}) == len(got), "a message twice in one answer"
        for message in got:
            assert message.sequence in self.visible(now_ms), "handed out, and not visible"
            self.messages[message.sequence].receive(timeout_ms, now_ms)
            self.messages[message.sequence].check_shown(message)

    def judge_delete(self, receipt: Receipt, now_ms: int) -> Outcome:
        return Outcome.DONE

    def judge_change(self, receipt: Receipt, timeout_ms: int, now_ms: int) -> Outcome:
        known = self.messages.get(receipt.sequence)
        if known is None or known.receive_count != receipt.receive_count:
            return Outcome.GONE
        if now_ms + timeout_ms > known.received_at_ms + HIDDEN_MS_MAX:
            return Outcome.BEYOND_LIMIT
        return Outcome.DONE


def check_invariants(queue: Queue) -> None:
    """Q1 to Q4 of `queues/queue_state.py`, and the sums that it keeps."""
    assert list(broken_invariants(queue)) == []
