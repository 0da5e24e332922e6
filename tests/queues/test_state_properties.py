"""Whatever clients do, a shard keeps its promises, and its log gives its state back.

Windows are four messages small here, so that tails, loads and relocations
happen all the time. Two searches: one whose failures Hypothesis makes small,
and one of long histories, in which much has to come together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.queues.clients import Clients
from tests.queues.oracle import HIDDEN_MS_MAX
from tests.queues.windows import small_windows
from waystation.queues import queue_state
from waystation.queues.commands import Entry, QueueSettings
from waystation.queues.events import (
    EpochStarted,
    Event,
    MessagesDeleted,
    MessagesReceived,
    MessagesRelocated,
    MessagesSent,
    QueueConfigured,
    QueueCreated,
    QueueDeleted,
    QueuePurged,
    Relocated,
    VisibilityChanged,
    decode_events,
    encode_events,
)

RETENTIONS_MS = [60_000, 90_000, 600_000]
TIMEOUTS_MS = [0, 1, 999, 1_000, 30_000, HIDDEN_MS_MAX]
DELAYS_MS = [0, 0, 0, 0, 1, 1_000, 45_000, 900_000]
STEPS_MS = [1, 999, 1_000, 29_000, 31_000, 61_000]


@pytest.fixture(autouse=True)
def with_small_windows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        small_windows(patch, 4)
        patch.setattr(queue_state, "_STALE_SLACK", 2)
        yield


class ShardMachine(RuleBasedStateMachine):
    """Rules for `Clients`."""

    picks = st.integers(0, 1_000_000)

    def __init__(self) -> None:
        super().__init__()
        self.clients = Clients()

    @initialize()
    def begin(self) -> None:
        self.clients.create(RETENTIONS_MS[0])

    @precondition(lambda self: len(self.clients.oracle) < 3)
    @rule(retention_ms=st.sampled_from(RETENTIONS_MS))
    def create(self, retention_ms: int) -> None:
        self.clients.create(retention_ms)

    @rule(at=picks, retention_ms=st.sampled_from(RETENTIONS_MS))
    def configure(self, at: int, retention_ms: int) -> None:
        self.clients.configure(at, retention_ms)

    @rule(at=picks)
    def purge(self, at: int) -> None:
        self.clients.purge(at)

    @precondition(lambda self: len(self.clients.oracle) > 1)
    @rule(at=picks)
    def delete_queue(self, at: int) -> None:
        self.clients.delete_queue(at)

    @rule(at=picks)
    def count(self, at: int) -> None:
        self.clients.count(at)

    @rule(at=picks, delays_ms=st.lists(st.sampled_from(DELAYS_MS), min_size=1, max_size=10))
    def send(self, at: int, delays_ms: list[int]) -> None:
        self.clients.send(at, delays_ms)

    @rule(at=picks, messages_max=st.integers(1, 10), timeout_ms=st.sampled_from(TIMEOUTS_MS))
    def receive(self, at: int, messages_max: int, timeout_ms: int) -> None:
        self.clients.receive(at, messages_max, timeout_ms)

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

    @rule()
    def restart(self) -> None:
        self.clients.restart()

    @rule()
    def restore(self) -> None:
        self.clients.restore()

    @invariant()
    def holds(self) -> None:
        self.clients.check()

    def teardown(self) -> None:
        self.clients.check_all_is_there()


TestAnyHistoryKeepsEveryPromise = ShardMachine.TestCase
TestAnyHistoryKeepsEveryPromise.settings = settings(max_examples=200, stateful_step_count=40)


def actions_of(clients: Clients, random: Random) -> list[tuple[float, Callable[[], object]]]:
    """What may happen next in a long history, with weights: mostly sends, receives, deletes, commits."""

    def at() -> int:
        return random.randrange(1_000_000)

    def send() -> None:
        delayed = random.random() < 0.2
        clients.send(at(), [random.choice(DELAYS_MS) if delayed else 0 for _ in range(random.randint(1, 6))])

    def use_receipts() -> None:
        latest = -random.randint(1, 20)
        if clients.receipts and random.random() < 0.75:
            clients.delete(latest, random.randint(1, 10))
        elif clients.receipts:
            clients.change_visibility(latest, 5, random.choice(TIMEOUTS_MS))

    def snapshot() -> None:
        clients.shard.snapshot()
        if random.random() < 0.75:
            clients.shard.truncate()

    return [
        (30, send),
        (15, lambda: clients.receive(at(), random.randint(1, 10), random.choice(TIMEOUTS_MS))),
        (20, use_receipts),
        (20, clients.shard.commit),
        (6, lambda: clients.wait(random.choice(STEPS_MS))),
        (6, lambda: clients.shard.relocate(random.randint(1, 8), clients.now_ms)),
        (4, snapshot),
        (2, clients.restart),
        (1, clients.restore),
        (1, lambda: clients.drain(at())),
        (1, lambda: clients.sweep(at())),
        (1, lambda: clients.count(at())),
        (2, lambda: clients.load(at())),
        (1, lambda: clients.configure(at(), random.choice(RETENTIONS_MS))),
        (0.3, lambda: clients.purge(at())),
    ]


def live_long(clients: Clients, random: Random, steps: int) -> None:
    """Begin with two queues, do so much, and look at everything at the end."""
    clients.create(600_000)
    clients.create(90_000)
    weights, actions = zip(*actions_of(clients, random), strict=True)
    for action in random.choices(actions, weights, k=steps):
        action()
        clients.check()
    clients.check_all_is_there()
    clients.restart()


@pytest.mark.parametrize("seed", range(60))
def test_a_long_history_keeps_every_promise(seed: int) -> None:
    live_long(Clients(), Random(seed), steps=400)


queues = st.integers(1, 2**32)
times_ms = st.integers(0, 2**44)
sequences = st.integers(1, 2**62)
entries = st.lists(st.builds(Entry, st.binary(max_size=20), st.integers(0, 900_000)), max_size=4)
queue_settings = st.builds(
    QueueSettings, st.text(max_size=80), times_ms, st.integers(1, 120_000), st.integers(0, 2**62)
)
relocated = st.lists(st.builds(Relocated, sequences, times_ms, st.booleans(), st.binary(max_size=20)))
any_event: st.SearchStrategy[Event] = st.one_of(
    st.builds(EpochStarted, times_ms, st.integers(1, 2**62)),
    st.builds(QueueCreated, times_ms, queues, queue_settings),
    st.builds(QueueConfigured, times_ms, queues, queue_settings),
    st.builds(QueueDeleted, times_ms, queues),
    st.builds(QueuePurged, times_ms, queues),
    st.builds(MessagesSent, times_ms, queues, sequences, entries),
    st.builds(MessagesReceived, times_ms, queues, times_ms, st.lists(sequences)),
    st.builds(MessagesDeleted, times_ms, queues, st.lists(sequences)),
    st.builds(VisibilityChanged, times_ms, queues, st.lists(st.tuples(sequences, times_ms))),
    st.builds(MessagesRelocated, times_ms, queues, relocated),
)


@given(st.lists(any_event, max_size=5))
def test_events_are_read_back_as_they_were_written(written: list[Event]) -> None:
    assert decode_events(encode_events(written)) == written
