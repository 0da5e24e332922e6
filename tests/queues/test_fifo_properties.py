"""Whatever clients do, a FIFO queue keeps its promises, and its log gives its state back.

As in `test_state_properties.py`, windows are four messages small, and there are two
searches: one whose failures Hypothesis makes small, and one of long histories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.queues.fifo_clients import FifoClients
from tests.queues.oracle import HIDDEN_MS_MAX
from tests.queues.windows import small_windows
from waystation.queues import deduplication, queue_state

RETENTIONS_MS = [60_000, 400_000, 2_000_000]
DELAYS_MS = [0, 0, 0, 1_000, 45_000, 900_000]
RECEIVE_COUNTS_MAX = [0, 0, 1, 3]
TIMEOUTS_MS = [0, 1, 999, 1_000, 30_000, HIDDEN_MS_MAX]
STEPS_MS = [1, 999, 1_000, 29_000, 31_000, 61_000, 239_000]
AGES_MS = [0, 500, 40_000, 61_000, 300_000]


@pytest.fixture(autouse=True)
def with_small_windows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        small_windows(patch, 4)
        patch.setattr(queue_state, "_STALE_SLACK", 2)
        patch.setattr(deduplication, "_FORGET_AT", 2)
        yield


class FifoMachine(RuleBasedStateMachine):
    """Rules for `FifoClients`."""

    picks = st.integers(0, 1_000_000)
    groups = st.integers(1, 4)

    def __init__(self) -> None:
        super().__init__()
        self.clients = FifoClients()

    @initialize(delay_ms=st.sampled_from(DELAYS_MS))
    def begin(self, delay_ms: int) -> None:
        self.clients.create(RETENTIONS_MS[1], delay_ms)

    @rule(
        at=picks,
        retention_ms=st.sampled_from(RETENTIONS_MS),
        delay_ms=st.sampled_from(DELAYS_MS),
        receive_count_max=st.sampled_from(RECEIVE_COUNTS_MAX),
    )
    def configure(self, at: int, retention_ms: int, delay_ms: int, receive_count_max: int) -> None:
        self.clients.configure(at, retention_ms, delay_ms, receive_count_max)

    @rule(at=picks)
    def purge_or_count(self, at: int) -> None:
        (self.clients.count if at % 2 else self.clients.purge)(at)

    @rule(at=picks, messages=st.lists(st.tuples(groups, st.integers(0, 3)), min_size=1, max_size=10))
    def send(self, at: int, messages: list[tuple[int, int]]) -> None:
        self.clients.send(at, messages)

    @rule(
        at=picks,
        messages=st.lists(
            st.tuples(groups, st.sampled_from(AGES_MS), st.integers(0, 3)), min_size=1, max_size=5
        ),
    )
    def arrive(self, at: int, messages: list[tuple[int, int, int]]) -> None:
        self.clients.arrive(at, messages)

    @rule(
        at=picks,
        messages_max=st.integers(1, 10),
        timeout_ms=st.sampled_from(TIMEOUTS_MS),
        attempt=st.integers(0, 2),
    )
    def receive(self, at: int, messages_max: int, timeout_ms: int, attempt: int) -> None:
        self.clients.receive(at, messages_max, timeout_ms, attempt)

    @rule(at=picks)
    def drain(self, at: int) -> None:
        self.clients.drain(at)

    @precondition(lambda self: self.clients.receipts)
    @rule(at=picks, count=st.integers(1, 10))
    def delete(self, at: int, count: int) -> None:
        self.clients.delete(at, count)

    @precondition(lambda self: self.clients.receipts)
    @rule(at=picks, count=st.integers(1, 10), timeout_ms=st.sampled_from(TIMEOUTS_MS))
    def change_visibility(self, at: int, count: int, timeout_ms: int) -> None:
        self.clients.change_visibility(at, count, timeout_ms)

    @rule(at=picks, messages_max=st.integers(1, 10))
    def move(self, at: int, messages_max: int) -> None:
        self.clients.move(at, messages_max)

    @rule(at=picks, count=st.integers(1, 10), is_returned=st.booleans())
    def end_aside(self, at: int, count: int, is_returned: bool) -> None:
        self.clients.end_aside(at, count, is_returned=is_returned)

    @rule(step_ms=st.sampled_from(STEPS_MS))
    def wait(self, step_ms: int) -> None:
        self.clients.wait(step_ms)

    @rule(at=picks)
    def load_or_sweep(self, at: int) -> None:
        (self.clients.load if at % 2 else self.clients.sweep)(at)

    @rule(truncate=st.booleans())
    def snapshot(self, truncate: bool) -> None:
        self.clients.shard.snapshot()
        if truncate:
            self.clients.shard.truncate()

    @rule(records=st.integers(1, 5))
    def relocate(self, records: int) -> None:
        self.clients.shard.relocate(records, self.clients.now_ms)

    @rule()
    def commit(self) -> None:
        self.clients.shard.commit()

    @rule(at=picks)
    def begin_again(self, at: int) -> None:
        [self.clients.restart, self.clients.restore, self.clients.crash][at % 3]()

    @invariant()
    def holds(self) -> None:
        self.clients.check()

    def teardown(self) -> None:
        self.clients.check_all_is_there()


TestAnyHistoryKeepsEveryPromise = FifoMachine.TestCase
TestAnyHistoryKeepsEveryPromise.settings = settings(max_examples=200, stateful_step_count=40)


def actions_of(clients: FifoClients, random: Random) -> list[tuple[float, Callable[[], object]]]:
    """What may happen next in a long history, with weights: mostly sends, receives, deletes, commits."""

    def at() -> int:
        return random.randrange(1_000_000)

    def some(most: int) -> range:
        return range(random.randint(1, most))

    def group() -> int:
        return random.choice([1, 1, 1, 2, 2, 3, 4, 5])

    def send() -> None:
        clients.send(at(), [(group(), random.choice([0, 0, 0, 1, 2, 3])) for _ in some(6)])

    def arrive() -> None:
        clients.arrive(at(), [(group(), random.choice(AGES_MS), random.randint(0, 3)) for _ in some(4)])

    def receive() -> None:
        attempt = random.choice([0, 0, 1, 2])
        clients.receive(at(), random.randint(1, 10), random.choice(TIMEOUTS_MS), attempt)

    def use_receipts() -> None:
        latest = -random.randint(1, 20)
        if clients.receipts and random.random() < 0.75:
            clients.delete(latest, random.randint(1, 10))
        elif clients.receipts:
            clients.change_visibility(latest, random.randint(1, 5), random.choice(TIMEOUTS_MS))

    def configure() -> None:
        clients.configure(
            at(),
            random.choice(RETENTIONS_MS),
            random.choice(DELAYS_MS),
            random.choice(RECEIVE_COUNTS_MAX),
        )

    def snapshot() -> None:
        clients.shard.snapshot()
        if random.random() < 0.75:
            clients.shard.truncate()

    return [
        (25, send),
        (3, arrive),
        (20, receive),
        (20, use_receipts),
        (15, clients.shard.commit),
        (6, lambda: clients.wait(random.choice(STEPS_MS))),
        (6, lambda: clients.shard.relocate(random.randint(1, 8), clients.now_ms)),
        (4, snapshot),
        (2, clients.restart),
        (1, clients.crash),
        (1, clients.restore),
        (1, lambda: clients.drain(at())),
        (1, lambda: clients.sweep(at())),
        (1, lambda: clients.count(at())),
        (2, lambda: clients.load(at())),
        (2, lambda: clients.move(at(), random.randint(1, 10))),
        (4, lambda: clients.end_aside(at(), random.randint(1, 6), is_returned=random.random() < 0.5)),
        (1.5, configure),
        (0.3, lambda: clients.purge(at())),
    ]


@pytest.mark.parametrize("seed", range(60))
def test_a_long_history_keeps_every_promise(seed: int) -> None:
    clients, random = FifoClients(), Random(seed)
    clients.create(2_000_000)
    clients.create(90_000, delay_ms=1_000, receive_count_max=2)
    weights, actions = zip(*actions_of(clients, random), strict=True)
    for action in random.choices(actions, weights, k=400):
        action()
        clients.check()
    clients.check_all_is_there()
    clients.restart()
