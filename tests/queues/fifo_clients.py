"""Clients of FIFO queues in a small shard that crashes, each step held against the oracle."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from tests.queues.clients import lines_of
from tests.queues.fifo_oracle import FifoOracle
from tests.queues.oracle import check_invariants
from tests.queues.pure_shard import PureShard, run_now
from waystation.backend.recovery import recover
from waystation.protocol.errors import PurgeQueueInProgress
from waystation.queues.commands import (
    AcceptMessages,
    Arrival,
    ChangeVisibility,
    Command,
    ConfigureQueue,
    CountMessages,
    CreateQueue,
    DeleteMessages,
    Entry,
    MoveMessages,
    PurgeQueue,
    QueueSettings,
    Receipt,
    ReceiveMessages,
    ReleaseMessages,
    ReturnMessages,
    SendMessages,
    VisibilityChange,
)
from waystation.queues.fifo import FifoQueue
from waystation.queues.snapshots import from_snapshot, to_snapshot

IN_FLIGHT_MAX = 25
PURGE_INTERVAL_MS = 60_000
OTHER_SHARD, OTHER_QUEUE = 7, 3
"""Where the messages that arrive come from."""


class FifoClients:
    """What clients do to FIFO queues. `at` picks one of what there is to pick from."""

    def __init__(self) -> None:
        self.shard = PureShard()
        self.oracle: dict[int, FifoOracle] = {}
        self.receipts: list[tuple[int, Receipt]] = []
        self.now_ms = 1_700_000_000_000
        self._bodies = 0
        self._committed = (0, self.oracle, self.receipts)
        """As of which record what was true, as far as nothing has come after it."""

    def _do(self, command: Command) -> Any:
        return self.shard.do(command, self.now_ms)

    def _pick(self, at: int) -> tuple[int, FifoOracle]:
        number = sorted(self.oracle)[at % len(self.oracle)]
        return number, self.oracle[number]

    def queue(self, number: int) -> FifoQueue:
        queue = self.shard.state.queues[number]
        assert isinstance(queue, FifoQueue)
        return queue

    def _pick_receipts(self, at: int, count: int) -> tuple[int, list[Receipt]]:
        end = at % len(self.receipts) + 1
        number = self.receipts[end - 1][0]
        chosen = self.receipts[max(end - count, 0) : end]
        return number, [receipt for queue, receipt in chosen if queue == number]

    def _body(self) -> bytes:
        self._bodies += 1
        return b"message %d" % self._bodies

    # Queues

    def create(self, retention_ms: int, delay_ms: int = 0, receive_count_max: int = 0) -> None:
        settings = _settings(retention_ms, delay_ms, receive_count_max)
        self.oracle[self._do(CreateQueue(settings)).queue] = FifoOracle(settings)
        self.shard.commit()

    def configure(self, at: int, retention_ms: int, delay_ms: int, receive_count_max: int) -> None:
        number, oracle = self._pick(at)
        if not oracle.may_retain(retention_ms, self.now_ms):
            retention_ms = oracle.settings.retention_ms
        oracle.settings = _settings(retention_ms, delay_ms, receive_count_max)
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
            oracle.purge(self.now_ms)

    def count(self, at: int) -> None:
        number, oracle = self._pick(at)
        counts = self._do(CountMessages(number))
        aside = sum(each.is_aside for each in oracle.messages.values())
        assert counts.in_flight == oracle.in_flight(self.now_ms) + aside
        waiting = len(oracle.messages) - counts.in_flight
        assert counts.visible + counts.delayed >= waiting, "expired ones may be counted, too"

    # Messages

    def send(self, at: int, messages: list[tuple[int, int]]) -> None:
        """Send messages, each of a group and with a deduplication id, or with a new one for 0."""
        number, oracle = self._pick(at)
        entries: list[Entry] = []
        for group, deduplication in messages:
            body = self._body()
            digest = b"%016d" % (deduplication or 1_000 + self._bodies)
            entries.append(Entry(body, 0, f"group {group}", digest))
        expected = [oracle.send(entry, self.now_ms) for entry in entries]
        assert self._do(SendMessages(number, entries)).sequences == expected

    def arrive(self, at: int, messages: list[tuple[int, int, int]]) -> None:
        """Messages of another queue come, twice: of a group, so old, and so often received."""
        number, oracle = self._pick(at)
        arrivals: list[Arrival] = []
        for group, age_ms, receive_count in messages:
            body = self._body()
            arrivals.append(
                Arrival(self._bodies, self.now_ms - age_ms, receive_count, body, f"group {group}")
            )
            oracle.arrive(arrivals[-1])
        for _ in range(2):
            self._do(AcceptMessages(number, OTHER_SHARD, OTHER_QUEUE, arrivals, []))
        oracle.expire(self.now_ms)

    def receive(self, at: int, messages_max: int, timeout_ms: int, attempt: int = 0) -> int:
        """Receive, and check all that is promised; returns how many messages came."""
        number, oracle = self._pick(at)
        digest = b"%016d" % attempt if attempt else b""
        command = ReceiveMessages(number, messages_max, timeout_ms, 0, digest)
        if oracle.may_repeat(digest, self.now_ms):
            oracle.repeat(digest, self._do(command).messages, timeout_ms, self.now_ms)
            return 0
        room = max(min(messages_max, IN_FLIGHT_MAX - oracle.in_flight(self.now_ms)), 0)
        queue = self.queue(number)
        loaded, aside, waiting = set(queue.messages), set(queue.aside), self._waiting(queue)
        messages = self._do(command).messages
        assert len(messages) <= room
        dead = set(queue.aside) - aside
        taken = [*dead, *(message.sequence for message in messages)]
        self._check_filled(oracle, loaded, set(taken), is_full=len(messages) == room)
        oracle.take(taken, self.now_ms)
        assert all(oracle.is_dead(sequence) for sequence in dead)
        assert not any(oracle.is_dead(message.sequence) for message in messages)
        oracle.set_aside(dead)
        # A receive that met only dead letters looks no further: the next one, or the poll, does.
        assert messages or dead or not room or not oracle.receivable(self.now_ms), "nothing was handed out"
        oracle.accept(messages, timeout_ms, self.now_ms)
        oracle.note_attempt(digest, messages, timeout_ms, self.now_ms)
        self._check_turns(queue, waiting, [message.group for message in messages])
        self.receipts += [(number, Receipt(each.sequence, each.receive_count)) for each in messages]
        return len(messages)

    def _waiting(self, queue: FifoQueue) -> list[str]:
        """The groups whose turn it is, in order."""
        self.shard.state.advance(self.now_ms)
        queue.advance(self.now_ms)
        return list(queue.available)

    def _check_filled(self, oracle: FifoOracle, loaded: set[int], taken: set[int], *, is_full: bool) -> None:
        """A receive that is not full has taken all that was in memory and could be received."""
        if is_full:
            return
        for sequences in oracle.receivable(self.now_ms).values():
            for sequence in sequences:
                if sequence not in loaded:
                    break
                assert sequence in taken, "there was room, and it was in memory"

    def _check_turns(self, queue: FifoQueue, waiting: list[str], served: list[str]) -> None:
        """Groups that were served stand behind those that had waited and were not."""
        turns = [group for group in queue.available if group in waiting]
        passed = [group for group in turns if group not in served]
        assert turns[: len(passed)] == passed
        if served and served[0] in waiting:
            before = waiting[: waiting.index(served[0])]
            assert not set(before) & set(self._receivable_groups(queue)), "served out of turn"

    def _receivable_groups(self, queue: FifoQueue) -> set[str]:
        return {
            group
            for group, those in self.oracle[queue.number].receivable(self.now_ms).items()
            if those[0] in queue.messages
        }

    def drain(self, at: int) -> None:
        """Receive and delete until no more comes."""
        while got := self.receive(at, 10, 1_000):
            self.delete(len(self.receipts) - 1, got)

    def delete(self, at: int, count: int) -> None:
        number, receipts = self._pick_receipts(at, count)
        oracle = self.oracle[number]
        expected = [oracle.judge_delete(receipt, self.now_ms) for receipt in receipts]
        assert self._do(DeleteMessages(number, receipts)).outcomes == expected
        for receipt, outcome in zip(receipts, expected, strict=True):
            if not outcome:
                oracle.delete(receipt)

    def change_visibility(self, at: int, count: int, timeout_ms: int) -> None:
        number, receipts = self._pick_receipts(at, count)
        oracle = self.oracle[number]
        command = ChangeVisibility(number, [VisibilityChange(receipt, timeout_ms) for receipt in receipts])
        expected = [oracle.judge_change(receipt, timeout_ms, self.now_ms) for receipt in receipts]
        assert self._do(command).outcomes == expected
        for receipt, outcome in zip(receipts, expected, strict=True):
            if not outcome:
                oracle.messages[receipt.sequence].hidden_until_ms = self.now_ms + timeout_ms

    # What is set aside

    def move(self, at: int, messages_max: int) -> None:
        """What could be received next is set aside."""
        number, oracle = self._pick(at)
        queue = self.queue(number)
        before = set(queue.aside)
        moved = self._do(MoveMessages(number, "elsewhere", messages_max))
        fresh = set(queue.aside) - before
        assert moved.messages == len(fresh) <= messages_max
        oracle.take(fresh, self.now_ms)
        assert fresh or moved.remaining or not oracle.receivable(self.now_ms)
        oracle.set_aside(fresh)

    def end_aside(self, at: int, count: int, *, is_returned: bool) -> None:
        """The target has some of what is set aside, or it does not exist."""
        number, oracle = self._pick(at)
        aside = [sequence for sequence, each in oracle.messages.items() if each.is_aside]
        sequences = aside[at % (len(aside) or 1) :][:count]
        self._do((ReturnMessages if is_returned else ReleaseMessages)(number, sequences))
        for sequence in sequences:
            if is_returned:
                oracle.messages[sequence].is_aside = False
            else:
                del oracle.messages[sequence]
        oracle.expire(self.now_ms)

    # Time and housekeeping

    def wait(self, step_ms: int) -> None:
        self.now_ms += step_ms
        for oracle in self.oracle.values():
            oracle.expire(self.now_ms)

    def load(self, at: int) -> None:
        number, _ = self._pick(at)
        self.shard.load(self.queue(number))

    def sweep(self, at: int) -> None:
        number, oracle = self._pick(at)
        self.queue(number).sweep(self.now_ms)
        assert set(self.queue(number).messages) <= set(oracle.messages)

    def restart(self) -> None:
        """A new owner reads the log, finds what the old one knew, and goes on from there."""
        self.shard.state.advance(self.now_ms)
        recovered = self.shard.recovered()
        found, known = (self.shard.contents(each, self.now_ms) for each in (recovered, self.shard.state))
        assert found == known
        self.shard.state = recovered

    def crash(self) -> None:
        """What was not committed never was."""
        position, oracle, receipts = self._committed
        if position != self.shard.log.position:
            self.restart()
            return
        self.shard.open = []
        self.shard.state = run_now(recover(self.shard.log))
        self.oracle, self.receipts = deepcopy(oracle), list(receipts)
        self.wait(0)

    def restore(self) -> None:
        """Go on from a snapshot, as if it were the state that was saved."""
        restored = from_snapshot(to_snapshot(self.shard.state))
        assert lines_of(restored) == lines_of(self.shard.state)
        found, known = (self.shard.contents(each, self.now_ms) for each in (restored, self.shard.state))
        assert found == known
        self.shard.state = restored

    # What always holds

    def check(self) -> None:
        """The invariants, and that truncation has not taken what is still needed."""
        state = self.shard.state
        if not self.shard.open and self._committed[0] != self.shard.log.position:
            self._committed = (self.shard.log.position, deepcopy(self.oracle), list(self.receipts))
        assert set(state.queues) == set(self.oracle)
        for number in state.queues:
            check_invariants(self.queue(number))
            assert set(self.queue(number).available) <= set(self.queue(number).lines)
        oldest = state.oldest_record()
        assert oldest is None or oldest >= self.shard.log.first

    def check_all_is_there(self) -> None:
        """Exactly the messages of the oracle are alive, and they are where the state says."""
        for number, (*_, rows) in self.shard.contents(self.shard.state, self.now_ms).items():
            known = self.oracle[number].messages
            assert set(rows) == set(known)
            for sequence, row in rows.items():
                assert self.shard.envelope(number, sequence, row[1]) == known[sequence].envelope


def _settings(retention_ms: int, delay_ms: int, receive_count_max: int) -> QueueSettings:
    target = "letters" if receive_count_max else ""
    return QueueSettings(
        "orders.fifo", retention_ms, IN_FLIGHT_MAX, 0, receive_count_max, target, fifo=True, delay_ms=delay_ms
    )
