"""Clients of standard queues in a small shard, each step held against the oracle."""

from __future__ import annotations

import pytest

from tests.queues.oracle import OracleMessage, OracleQueue
from tests.queues.shard_clients import IN_FLIGHT_MAX, ShardClients
from waystation.protocol.errors import OverLimit
from waystation.queues.commands import (
    ConfigureQueue,
    CountMessages,
    CreateQueue,
    DeleteQueue,
    Entry,
    QueueSettings,
    Receipt,
    ReceiveMessages,
    SendMessages,
)


class Clients(ShardClients[OracleQueue]):
    """What clients do to standard queues. `at` picks one of what there is to pick from."""

    # Queues

    def create(self, retention_ms: int) -> None:
        settings = QueueSettings("orders", retention_ms, IN_FLIGHT_MAX)
        made = self._do(CreateQueue(settings)).queue
        assert made == max(self.oracle, default=0) + 1 or made not in self.oracle
        self.oracle[made] = OracleQueue(settings)

    def configure(self, at: int, retention_ms: int) -> None:
        number, oracle = self._pick(at)
        oracle.settings = QueueSettings("orders", retention_ms, IN_FLIGHT_MAX)
        self._do(ConfigureQueue(number, oracle.settings))
        oracle.expire(self.now_ms)

    def delete_queue(self, at: int) -> None:
        number, _ = self._pick(at)
        self._do(DeleteQueue(number))
        del self.oracle[number]

    def count(self, at: int) -> None:
        number, oracle = self._pick(at)
        counts = self._do(CountMessages(number))
        assert counts.in_flight == oracle.in_flight(self.now_ms)
        assert counts.delayed == oracle.delayed(self.now_ms)
        assert counts.visible >= len(oracle.visible(self.now_ms)), "expired ones may be counted, too"

    # Messages

    def group(self) -> str:
        """Of the next message."""
        return ""

    def send(self, at: int, delays_ms: list[int]) -> None:
        number, oracle = self._pick(at)
        entries: list[Entry] = []
        sequences = [oracle.next_sequence + index for index in range(len(delays_ms))]
        for delay_ms in delays_ms:
            entries.append(Entry(self._body(), delay_ms, self.group()))
            oracle.add(OracleMessage(entries[-1].envelope, self.now_ms, self.now_ms + delay_ms))
        assert self._do(SendMessages(number, entries)).sequences == sequences

    def receive(self, at: int, messages_max: int, timeout_ms: int) -> int:
        number, oracle = self._pick(at)
        room = oracle.settings.in_flight_max - oracle.in_flight(self.now_ms)
        command = ReceiveMessages(number, messages_max, timeout_ms)
        if room <= 0:
            with pytest.raises(OverLimit):
                self._do(command)
            return 0
        messages = self._do(command).messages
        assert len(messages) <= min(messages_max, room)
        assert messages or not oracle.visible(self.now_ms), "something was visible and not handed out"
        oracle.accept(messages, timeout_ms, self.now_ms)
        self.receipts += [(number, Receipt(each.sequence, each.receive_count)) for each in messages]
        return len(messages)
