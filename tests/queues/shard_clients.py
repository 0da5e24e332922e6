"""What clients of a small shard do whatever the kind of its queues, its crashes and its housekeeping.

Each step is held against an oracle for each queue.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import pytest

from tests.queues.oracle import Oracle, check_invariants
from tests.queues.pure_shard import PureShard
from waystation.protocol.errors import PurgeQueueInProgress, QueueDoesNotExist
from waystation.queues.commands import (
    ChangeVisibility,
    Command,
    DeleteMessages,
    Outcome,
    PurgeQueue,
    Receipt,
    VisibilityChange,
)
from waystation.queues.runs import Run
from waystation.queues.snapshots import from_snapshot, to_snapshot
from waystation.queues.state import ShardState

IN_FLIGHT_MAX = 25
PURGE_INTERVAL_MS = 60_000

Promises = TypeVar("Promises", bound=Oracle[Any])


class ShardClients(ABC, Generic[Promises]):
    """`at` picks one of what there is to pick from."""

    def __init__(self) -> None:
        self.shard = PureShard()
        self.oracle: dict[int, Promises] = {}
        self.receipts: list[tuple[int, Receipt]] = []
        self.now_ms = 1_700_000_000_000
        self._bodies = 0

    def _do(self, command: Command) -> Any:
        return self.shard.do(command, self.now_ms)

    def _pick(self, at: int) -> tuple[int, Promises]:
        number = sorted(self.oracle)[at % len(self.oracle)]
        return number, self.oracle[number]

    def _pick_receipts(self, at: int, count: int) -> tuple[int, list[Receipt]]:
        end = at % len(self.receipts) + 1
        number = self.receipts[end - 1][0]
        chosen = self.receipts[max(end - count, 0) : end]
        return number, [receipt for queue, receipt in chosen if queue == number]

    def _body(self) -> bytes:
        self._bodies += 1
        return b"message %d" % self._bodies

    # Queues

    def purge(self, at: int) -> None:
        number, oracle = self._pick(at)
        command = PurgeQueue(number, PURGE_INTERVAL_MS)
        if oracle.purged_at_ms and self.now_ms - oracle.purged_at_ms < PURGE_INTERVAL_MS:
            with pytest.raises(PurgeQueueInProgress):
                self._do(command)
        else:
            self._do(command)
            oracle.purge(self.now_ms)

    @abstractmethod
    def count(self, at: int) -> None:
        """Count the messages of a queue, and check the counts."""

    # Messages

    @abstractmethod
    def receive(self, at: int, messages_max: int, timeout_ms: int) -> int:
        """Receive, and check all that is promised; returns how many messages came."""

    def drain(self, at: int) -> None:
        """Receive and delete until no more comes; ends because each round deletes something."""
        _, oracle = self._pick(at)
        while got := self.receive(at, 10, 1_000):
            before = len(oracle.messages)
            self.delete(len(self.receipts) - 1, got)
            assert len(oracle.messages) < before

    def delete(self, at: int, count: int) -> None:
        number, receipts = self._pick_receipts(at, count)
        command = DeleteMessages(number, receipts)
        for receipt in self._use(
            receipts, command, lambda oracle, receipt: oracle.judge_delete(receipt, self.now_ms)
        ):
            self.oracle[number].delete(receipt)

    def change_visibility(self, at: int, count: int, timeout_ms: int) -> None:
        number, receipts = self._pick_receipts(at, count)
        command = ChangeVisibility(number, [VisibilityChange(receipt, timeout_ms) for receipt in receipts])
        for receipt in self._use(
            receipts, command, lambda oracle, receipt: oracle.judge_change(receipt, timeout_ms, self.now_ms)
        ):
            self.oracle[number].messages[receipt.sequence].hidden_until_ms = self.now_ms + timeout_ms

    def _use(
        self,
        receipts: list[Receipt],
        command: DeleteMessages | ChangeVisibility,
        judge: Callable[[Promises, Receipt], Outcome],
    ) -> list[Receipt]:
        """Do a command for receipts of one queue; returns those for which it did anything."""
        oracle = self.oracle.get(command.queue)
        if oracle is None:
            with pytest.raises(QueueDoesNotExist):
                self._do(command)
            return []
        # All are judged by the state before the command, and none changes what another is judged by.
        expected = [judge(oracle, receipt) for receipt in receipts]
        assert self._do(command).outcomes == expected
        return [each for each, outcome in zip(receipts, expected, strict=True) if outcome is Outcome.DONE]

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

    def snapshot(self, *, truncate: bool) -> None:
        self.shard.snapshot()
        if truncate:
            self.shard.truncate()

    def relocate(self, records: int) -> None:
        self.shard.relocate(records, self.now_ms)

    def restart(self) -> None:
        """A new owner reads the log, finds what the old one knew, and goes on from there."""
        self.shard.state.advance(self.now_ms)
        recovered = self.shard.recovered()
        assert self._contents(recovered) == self._contents(self.shard.state)
        self.shard.state = recovered

    def restore(self) -> None:
        """Go on from a snapshot, as if it were the state that was saved."""
        restored = from_snapshot(to_snapshot(self.shard.state))
        assert _lines_of(restored) == _lines_of(self.shard.state)
        assert self._contents(restored) == self._contents(self.shard.state)
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
        for number, (*_, rows) in self._contents(self.shard.state).items():
            known = self.oracle[number].messages
            assert set(rows) == set(known)
            for sequence, row in rows.items():
                assert self.shard.envelope(number, sequence, row[1]) == known[sequence].envelope

    def _contents(self, state: ShardState) -> dict[int, Any]:
        return self.shard.contents(state, self.now_ms)


def _lines_of(state: ShardState) -> dict[int, dict[str, tuple[list[int], list[int], list[Run]]]]:
    """Which messages of each group are in memory and which are not, in their order."""
    return {
        number: {
            group: (list(line.window), list(line.back), list(line.tail))
            for group, line in queue.lines.items()
            if not line.is_idle()
        }
        for number, queue in state.queues.items()
    }
