"""Whatever clients do, a FIFO queue keeps its promises, and its log gives its state back.

As in `test_state_properties.py`, windows are four messages small, and there are two
searches: one whose failures Hypothesis makes small, and one of long histories.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.queues import histories
from tests.queues.fifo_clients import FifoClients
from tests.queues.histories import TIMEOUTS_MS, Actions, ShardMachine, any_pick, common_actions, live, picks
from tests.queues.windows import small_limits

RETENTIONS_MS = [60_000, 400_000, 2_000_000]
DELAYS_MS = [0, 0, 0, 1_000, 45_000, 900_000]
RECEIVE_COUNTS_MAX = [0, 0, 1, 3]
AGES_MS = [0, 500, 40_000, 61_000, 300_000]
STEPS_MS = [*histories.STEPS_MS, 239_000]
"""Two of them are enough for a deduplication id to be forgotten."""

groups = st.integers(1, 4)

with_small_limits = pytest.fixture(autouse=True)(small_limits)


class FifoMachine(ShardMachine):
    """Rules for `FifoClients`."""

    clients: FifoClients

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

    @rule(at=picks, messages_max=st.integers(1, 10))
    def move(self, at: int, messages_max: int) -> None:
        self.clients.move(at, messages_max)

    @rule(at=picks, count=st.integers(1, 10), is_returned=st.booleans())
    def end_aside(self, at: int, count: int, is_returned: bool) -> None:
        self.clients.end_aside(at, count, is_returned=is_returned)

    @rule(step_ms=st.sampled_from(STEPS_MS))
    def wait(self, step_ms: int) -> None:
        self.clients.wait(step_ms)

    @rule()
    def crash(self) -> None:
        self.clients.crash()


TestAnyHistoryKeepsEveryPromise = FifoMachine.TestCase
TestAnyHistoryKeepsEveryPromise.settings = settings(max_examples=200, stateful_step_count=40)


def actions_of(clients: FifoClients, random: Random) -> Actions:
    """What may happen next in a long history: mostly sends, receives, deletes, commits."""

    def at() -> int:
        return any_pick(random)

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

    def configure() -> None:
        clients.configure(
            at(),
            random.choice(RETENTIONS_MS),
            random.choice(DELAYS_MS),
            random.choice(RECEIVE_COUNTS_MAX),
        )

    return [
        (25, send),
        (3, arrive),
        (20, receive),
        (15, clients.shard.commit),
        (1, clients.crash),
        (2, lambda: clients.move(at(), random.randint(1, 10))),
        (4, lambda: clients.end_aside(at(), random.randint(1, 6), is_returned=random.random() < 0.5)),
        (1.5, configure),
        *common_actions(clients, random, STEPS_MS),
    ]


@pytest.mark.parametrize("seed", range(60))
def test_a_long_history_keeps_every_promise(seed: int) -> None:
    clients, random = FifoClients(), Random(seed)
    clients.create(2_000_000)
    clients.create(90_000, delay_ms=1_000, receive_count_max=2)
    live(actions_of(clients, random), clients.check, random, steps=400)
    clients.check_all_is_there()
    clients.restart()
