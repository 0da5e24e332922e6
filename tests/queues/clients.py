"""Clients of a small shard, its crashes and its housekeeping, each step held against the oracle."""

from __future__ import annotations

from typing import Any

import pytest

from tests.queues.oracle import OracleQueue, check_invariants
from tests.queues.pure_shard import PureShard
from waystation.protocol.errors import OverLimit, PurgeQueueInProgress, QueueDoesNotExist
from waystation.queues.commands import (
    ChangeVisibility,
    Command,
    ConfigureQueue,
    CountMessages,
    CreateQueue,
    DeleteMessages,
    DeleteQueue,
    Entry,
    Outcome,
    PurgeQueue,
    QueueSettings,
    Receipt,
    ReceiveMessages,
    SendMessages,
    VisibilityChange,
)
from waystation.queues.snapshots import from_snapshot, to_snapshot
from waystation.queues.state import ShardState
from waystation.queues.tail import Run

IN_FLIGHT_MAX = 25
PURGE_INTERVAL_MS = 60_000


class Clients:
    """What clients do to the queues of one shard. `at` picks one of what there is to pick from."""

    def __init__(self) -> None:
        self.shard = PureShard()
        self.oracle: dict[int, OracleQueue] = {}
        self.receipts: list[tuple[int, Receipt]] = []
        self.now_ms = 1_700_000_000_000
        self._bodies = 0

    def _do(self, command: Command) -> Any:
        return self.shard.do(command, self.now_ms)

    def _pick(self, at: int) -> tuple[int, OracleQueue]:
        number = sorted(self.oracle)[at % len(self.oracle)]
        return number, self.oracle[number]

    def _pick_receipts(self, at: int, count: int) -> tuple[int, list[Receipt]]:
        end = at % len(self.receipts) + 1
        number = self.receipts[end - 1][0]
        chosen = self.receipts[max(end - count, 0) : end]
        return number, [receipt for queue, receipt in chosen if queue == number]

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

    def purge(self, at: int) -> None:
        number, oracle = self._pick(at)
        command = PurgeQueue(number, PURGE_INTERVAL_MS)
        if oracle.purged_at_ms and self.now_ms - oracle.purged_at_ms < PURGE_INTERVAL_MS:
            with pytest.raises(PurgeQueueInProgress):
                self._do(command)
        else:
            self._do(command)
            oracle.messages.clear()
            oracle.purged_at_ms = self.now_ms

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
            self._bodies += 1
            entries.append(Entry(b"message %d" % self._bodies, delay_ms, self.group()))
            oracle.send(entries[-1].envelope, delay_ms, self.now_ms)
        assert self._do(SendMessages(number, entries)).sequences == sequences

    def receive(self, at: int, messages_max: int, timeout_ms: int) -> int:
        """Receive, and check all that is promised; returns how many messages came."""
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

    def drain(self, at: int) -> None:
        """Receive and delete until no more comes; ends because each round deletes something."""
        _, oracle = self._pick(at)
        while self.receive(at, 10, 1_000):
            before = len(oracle.messages)
            self.delete(len(self.receipts) - 1, 10)
            assert len(oracle.messages) < before

    def delete(self, at: int, count: int) -> None:
        number, receipts = self._pick_receipts(at, count)
        command = DeleteMessages(number, receipts)
        if number not in self.oracle:
            with pytest.raises(QueueDoesNotExist):
                self._do(command)
            return
        for receipt in receipts:
            self.oracle[number].delete(receipt)
        assert self._do(command).outcomes == [Outcome.DONE] * len(receipts)

    def change_visibility(self, at: int, count: int, timeout_ms: int) -> None:
        number, receipts = self._pick_receipts(at, count)
        command = ChangeVisibility(number, [VisibilityChange(receipt, timeout_ms) for receipt in receipts])
        if number not in self.oracle:
            with pytest.raises(QueueDoesNotExist):
                self._do(command)
            return
        outcomes = self._do(command).outcomes
        # All are judged by the state before the command, and none changes what another is judged by.
        assert outcomes == [self.oracle[number].change(each, timeout_ms, self.now_ms) for each in receipts]

    # Time and housekeeping

    def wait(self, step_ms: int) -> None:
        self.now_ms += step_ms
        for oracle in self.oracle.values():
            oracle.expire(self.now_ms)

    def load(self, at: int) -> None:
        number, _ = self._pick(at)
        self.shard.load(self.shard.state.queues[number])

    def sweep(self, at: int) -> None:
        number, oracle = self._pick(at)
        queue = self.shard.state.queues[number]
        queue.sweep(self.now_ms)
        assert set(queue.messages) <= set(oracle.messages)

    def restart(self) -> None:
        """A new owner reads the log, finds what the old one knew, and goes on from there."""
        self.shard.state.advance(self.now_ms)
        recovered = self.shard.recovered()
        assert self.contents(recovered) == self.contents(self.shard.state)
        self.shard.state = recovered

    def restore(self) -> None:
        """Go on from a snapshot, as if it were the state that was saved."""
        restored = from_snapshot(to_snapshot(self.shard.state))
        assert lines_of(restored) == lines_of(self.shard.state)
        assert self.contents(restored) == self.contents(self.shard.state)
        self.shard.state = restored

    # What always holds

    def check(self) -> None:
        """The invariants, and that truncation has not taken what is still needed."""
        state = self.shard.state
        assert set(state.queues) == set(self.oracle)
        for queue in state.queues.values():
            check_invariants(queue)
        oldest = state.oldest_record()
        assert oldest is None or oldest >= self.shard.log.first

    def check_all_is_there(self) -> None:
        """Exactly the messages of the oracle are alive, and they are where the state says."""
        for number, (*_, rows) in self.contents(self.shard.state).items():
            known = self.oracle[number].messages
            assert set(rows) == set(known)
            for sequence, row in rows.items():
                assert self.shard.envelope(number, sequence, row[1]) == known[sequence].envelope

    def contents(self, state: ShardState) -> dict[int, Any]:
        """As `PureShard.contents`, now."""
        return self.shard.contents(state, self.now_ms)


def lines_of(state: ShardState) -> dict[int, dict[str, tuple[list[int], list[int], list[Run]]]]:
    """Which messages of each group are in memory and which are not, in their order."""
    return {
        number: {
            group: (list(line.window), list(line.back), list(line.tail))
            for group, line in queue.lines.items()
            if not line.is_idle()
        }
        for number, queue in state.queues.items()
    }
