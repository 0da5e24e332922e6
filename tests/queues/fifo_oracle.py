"""What a FIFO queue promises, said as plainly as possible: a dictionary of messages with times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from tests.queues.oracle import HIDDEN_MS_MAX, Oracle, OracleMessage
from waystation.queues.commands import Arrival, Entry, Outcome, Receipt, ReceivedMessage

FIVE_MINUTES_MS = 300_000
"""How long a deduplication id and an attempt count: SQS API Reference."""


@dataclass
class FifoMessage(OracleMessage):
    """One message, in flight until `hidden_until_ms`."""

    group: str = ""
    is_aside: bool = False
    is_arrival: bool = False
    is_expired: bool = False
    """While it is set aside: it is not shown again."""


@dataclass
class FifoAttempt:
    """What a receive with an attempt id has got."""

    at_ms: int
    visible_at_ms: int
    receipts: list[Receipt]


@dataclass
class FifoOracle(Oracle[FifoMessage]):
    """One queue. Every method takes the time; nothing happens by itself."""

    seen: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    """By deduplication id: sequence and time of the first message."""
    attempts: dict[bytes, FifoAttempt] = field(default_factory=dict)
    expired_arrivals: list[int] = field(default_factory=list)
    """When they were sent."""

    def expire(self, now_ms: int) -> None:
        """Drop what is older than the retention, once it is not set aside. Called before anything else."""
        oldest_ms = now_ms - self.settings.retention_ms
        for at, each in list(self.messages.items()):
            each.is_expired |= each.sent_at_ms <= oldest_ms
            if each.is_expired and not each.is_aside:
                del self.messages[at]
                if each.is_arrival:
                    self.expired_arrivals.append(each.sent_at_ms)

    def may_retain(self, retention_ms: int, now_ms: int) -> bool:
        """Whether a new retention could not revive what came from another queue and has expired.

        A queue remembers until when everything has expired for one time only; with messages that
        are older than others before them, that is not always enough, and never promised.
        """
        return all(sent_at_ms <= now_ms - retention_ms for sent_at_ms in self.expired_arrivals)

    def purge(self, now_ms: int) -> None:
        super().purge(now_ms)
        self.seen.clear()
        self.attempts.clear()

    # What comes in

    def send(self, entry: Entry, now_ms: int) -> int:
        """The sequence of the message, or of the first one with its deduplication id."""
        known = self.seen.get(entry.deduplication)
        if known is not None and now_ms - known[1] < FIVE_MINUTES_MS:
            return known[0]
        sequence = self.add(FifoMessage(entry.envelope, now_ms, group=entry.group))
        self.seen[entry.deduplication] = (sequence, now_ms)
        return sequence

    def arrive(self, arrival: Arrival) -> None:
        message = FifoMessage(arrival.envelope, arrival.sent_at_ms, receive_count=arrival.receive_count)
        message.group, message.is_arrival = arrival.group, True
        self.add(message)

    # Looking

    def is_delayed(self, message: FifoMessage, now_ms: int) -> bool:
        """Only what nobody has received yet is delayed, by what the queue's delay is now."""
        return not message.received_at_ms and message.sent_at_ms + self.settings.delay_ms > now_ms

    def is_dead(self, sequence: int) -> bool:
        """Whether it has been received so often that it will be set aside."""
        count_max = self.settings.receive_count_max
        return bool(count_max) and self.messages[sequence].receive_count >= count_max

    def receivable(self, now_ms: int) -> dict[str, list[int]]:
        """By group, what can be received, in order: nothing behind what is in flight or delayed."""
        found: dict[str, list[int]] = {}
        blocked: set[str] = set()
        for at, each in self.messages.items():
            if each.is_aside or each.group in blocked:
                continue
            if each.hidden_until_ms > now_ms or self.is_delayed(each, now_ms):
                blocked.add(each.group)
            else:
                found.setdefault(each.group, []).append(at)
        return found

    def in_flight(self, now_ms: int) -> int:
        return sum(each.hidden_until_ms > now_ms and not each.is_aside for each in self.messages.values())

    def holds(self, receipt: Receipt, now_ms: int) -> bool:
        """Whether a receipt is that of a message in flight."""
        known = self.messages[receipt.sequence]
        return known.hidden_until_ms > now_ms and known.receive_count == receipt.receive_count

    # What consumers do

    def take(self, sequences: Iterable[int], now_ms: int) -> None:
        """Check that of each group the first ones that could be received are taken."""
        receivable = self.receivable(now_ms)
        taken: dict[str, list[int]] = {}
        for sequence in sequences:
            taken.setdefault(self.messages[sequence].group, []).append(sequence)
        for group, those in taken.items():
            first = receivable.get(group, [])[: len(those)]
            assert sorted(those) == first, f"of {group}, {those} were taken and not {first}"

    def set_aside(self, sequences: Iterable[int]) -> None:
        for sequence in sequences:
            self.messages[sequence].is_aside = True
            self.messages[sequence].hidden_until_ms = 0

    def accept(self, got: list[ReceivedMessage], timeout_ms: int, now_ms: int) -> None:
        """Check what a receive handed out, and remember it."""
        groups = [message.group for message in got]
        changes = sum(this != after for this, after in pairwise(groups))
        assert changes == max(len(set(groups)) - 1, 0), "it went on before a group was drained"
        for group in groups:
            sequences = [message.sequence for message in got if message.group == group]
            assert sequences == sorted(sequences), "not in the order of sending"
        for message in got:
            self.messages[message.sequence].receive(timeout_ms, now_ms)
            self._check_shown(message)

    def _check_shown(self, message: ReceivedMessage) -> None:
        known = self.messages[message.sequence]
        assert message.group == known.group
        known.check_shown(message)

    def note_attempt(self, attempt: bytes, got: list[ReceivedMessage], timeout_ms: int, now_ms: int) -> None:
        if attempt and got:
            receipts = [Receipt(message.sequence, message.receive_count) for message in got]
            self.attempts[attempt] = FifoAttempt(now_ms, now_ms + timeout_ms, receipts)

    def may_repeat(self, attempt: bytes, now_ms: int) -> bool:
        """Whether all that an attempt has got is in flight still, as it left it."""
        known = self.attempts.get(attempt)
        if known is None or now_ms - known.at_ms >= FIVE_MINUTES_MS:
            return False
        return all(
            receipt.sequence in self.messages
            and self.holds(receipt, now_ms)
            and self.messages[receipt.sequence].hidden_until_ms == known.visible_at_ms
            for receipt in known.receipts
        )

    def repeat(self, attempt: bytes, got: list[ReceivedMessage], timeout_ms: int, now_ms: int) -> None:
        """Check that an attempt gets the same again; it is hidden from now on."""
        known = self.attempts[attempt]
        assert [Receipt(message.sequence, message.receive_count) for message in got] == known.receipts
        known.visible_at_ms = now_ms + timeout_ms
        for message in got:
            self._check_shown(message)
            self.messages[message.sequence].hidden_until_ms = known.visible_at_ms

    def judge_delete(self, receipt: Receipt, now_ms: int) -> Outcome:
        known = self.messages.get(receipt.sequence)
        if known is None or known.is_aside or self.holds(receipt, now_ms):
            return Outcome.DONE
        return Outcome.EXPIRED

    def delete(self, receipt: Receipt) -> None:
        known = self.messages.get(receipt.sequence)
        if known is not None and not known.is_aside:
            super().delete(receipt)

    def judge_change(self, receipt: Receipt, timeout_ms: int, now_ms: int) -> Outcome:
        known = self.messages.get(receipt.sequence)
        if known is None or known.is_aside:
            return Outcome.GONE
        if known.receive_count != receipt.receive_count:
            return Outcome.EXPIRED
        if known.hidden_until_ms <= now_ms:
            return Outcome.NOT_IN_FLIGHT
        if now_ms + timeout_ms > known.received_at_ms + HIDDEN_MS_MAX:
            return Outcome.BEYOND_LIMIT
        return Outcome.DONE
