"""What may happen next to a shard, whatever the kind of its queues, and how a history is lived."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, TypeAlias

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.queues.oracle import HIDDEN_MS_MAX
from tests.queues.shard_clients import ShardClients

TIMEOUTS_MS = [0, 1, 999, 1_000, 30_000, HIDDEN_MS_MAX]
STEPS_MS = [1, 999, 1_000, 29_000, 31_000, 61_000]

Actions: TypeAlias = list[tuple[float, Callable[[], object]]]
"""With weights."""

picks = st.integers(0, 1_000_000)


class ShardMachine(RuleBasedStateMachine):
    """Rules for `ShardClients`, for Hypothesis to choose from; a subclass makes its own `clients`."""

    clients: ShardClients[Any]

    @rule(at=picks)
    def purge_or_count(self, at: int) -> None:
        (self.clients.count if at % 2 else self.clients.purge)(at)

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
        self.clients.snapshot(truncate=truncate)

    @rule(records=st.integers(1, 5))
    def relocate(self, records: int) -> None:
        self.clients.relocate(records)

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


def any_pick(random: Random) -> int:
    return random.randrange(1_000_000)


def common_actions(clients: ShardClients[Any], random: Random, steps_ms: list[int]) -> Actions:
    """What may happen next in a long history of any kind of queue; mostly, receipts are used."""

    def at() -> int:
        return any_pick(random)

    def use_receipts() -> None:
        latest = -random.randint(1, 20)
        if clients.receipts and random.random() < 0.75:
            clients.delete(latest, random.randint(1, 10))
        elif clients.receipts:
            clients.change_visibility(latest, random.randint(1, 5), random.choice(TIMEOUTS_MS))

    return [
        (20, use_receipts),
        (6, lambda: clients.wait(random.choice(steps_ms))),
        (6, lambda: clients.relocate(random.randint(1, 8))),
        (4, lambda: clients.snapshot(truncate=random.random() < 0.75)),
        (2, clients.restart),
        (1, clients.restore),
        (1, lambda: clients.drain(at())),
        (1, lambda: clients.sweep(at())),
        (1, lambda: clients.count(at())),
        (2, lambda: clients.load(at())),
        (0.3, lambda: clients.purge(at())),
    ]


def live(actions: Actions, check: Callable[[], None], random: Random, steps: int) -> None:
    """Do so much, and check after each step."""
    weights, choices = zip(*actions, strict=True)
    for action in random.choices(choices, weights, k=steps):
        action()
        check()
