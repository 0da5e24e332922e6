"""Clients of FIFO queues in a small shard that crashes, each step held against the oracle."""

from __future__ import annotations

from copy import deepcopy

from tests.queues.fifo_oracle import FifoOracle
from tests.queues.pure_shard import run_now
from tests.queues.shard_clients import IN_FLIGHT_MAX, ShardClients
from waystation.backend.recovery import recover
from waystation.queues.commands import (
    AcceptMessages,
    Arrival,
    ConfigureQueue,
    CountMessages,
    CreateQueue,
    Entry,
    MoveMessages,
    QueueSettings,
    Receipt,
    ReceiveMessages,
    ReleaseMessages,
    ReturnMessages,
    SendMessages,
)
from waystation.queues.fifo import FifoQueue

OTHER_SHARD, OTHER_QUEUE = 7, 3
"""Where the messages that arrive come from."""


class FifoClients(ShardClients[FifoOracle]):
    """What clients do to FIFO queues. `at` picks one of what there is to pick from."""

    def __init__(self) -> None:
        super().__init__()
        self._committed = (0, self.oracle, self.receipts)
        """As of which record what was true, as far as nothing has come after it."""

    def queue(self, number: int) -> FifoQueue:
        queue = self.shard.state.queues[number]
        assert isinstance(queue, FifoQueue)
        return queue

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
        assert messages or not room or not oracle.receivable(self.now_ms), "nothing was handed out"
        oracle.accept(messages, timeout_ms, self.now_ms)
        oracle.note_attempt(digest, messages, timeout_ms, self.now_ms)
        # A group whose first messages were dead may have had to be loaded, and lost its turn by that.
        waiting = [each for each in waiting if each not in {queue.aside[at].group for at in dead}]
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

    def check(self) -> None:
        if not self.shard.open and self._committed[0] != self.shard.log.position:
            self._committed = (self.shard.log.position, deepcopy(self.oracle), list(self.receipts))
        super().check()
        for number in self.oracle:
            assert set(self.queue(number).available) <= set(self.queue(number).lines)


def _settings(retention_ms: int, delay_ms: int, receive_count_max: int) -> QueueSettings:
    target = "letters" if receive_count_max else ""
    return QueueSettings(
        "orders.fifo", retention_ms, IN_FLIGHT_MAX, 0, receive_count_max, target, fifo=True, delay_ms=delay_ms
    )
