"""Whatever clients, carriers and crashes do: a message is in one place, and no message is in two.

Windows are four messages small. As in `test_state_properties.py` there are two searches.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.queues.histories import Actions, any_pick, live
from tests.queues.letter_world import LetterWorld
from tests.queues.windows import small_limits

TIMEOUTS_MS = [0, 0, 1, 1_000, 30_000]
STEPS_MS = [1, 1_000, 31_000]


with_small_limits = pytest.fixture(autouse=True)(small_limits)


class LetterMachine(RuleBasedStateMachine):
    """Rules for `LetterWorld`."""

    picks = st.integers(0, 1_000)
    shards = st.integers(0, 1)

    def __init__(self) -> None:
        super().__init__()
        self.world = LetterWorld()

    @rule(at=picks, messages=st.integers(1, 6), delay_ms=st.sampled_from([0, 0, 1_000]))
    def send(self, at: int, messages: int, delay_ms: int) -> None:
        self.world.send(at, messages, delay_ms)

    @rule(at=picks, messages_max=st.integers(1, 10), timeout_ms=st.sampled_from(TIMEOUTS_MS))
    def receive(self, at: int, messages_max: int, timeout_ms: int) -> None:
        self.world.receive(at, messages_max, timeout_ms)

    @precondition(lambda self: self.world.receipts)
    @rule(at=picks, is_done=st.booleans())
    def use_receipt(self, at: int, is_done: bool) -> None:
        (self.world.delete if is_done else self.world.give_back)(at)

    @rule(at=picks)
    def purge(self, at: int) -> None:
        self.world.purge(at)

    @rule(at=picks, receive_count_max=st.integers(0, 4), target_at=picks)
    def configure(self, at: int, receive_count_max: int, target_at: int) -> None:
        self.world.configure(at, receive_count_max, target_at)

    @rule(at=picks)
    def look(self, at: int) -> None:
        self.world.look(at)

    @rule(at=picks, is_late=st.booleans())
    def deliver(self, at: int, is_late: bool) -> None:
        self.world.deliver(at, is_late)

    @rule(at=picks)
    def deliver_late(self, at: int) -> None:
        self.world.deliver_late(at)

    @rule(at=picks)
    def release(self, at: int) -> None:
        self.world.release(at)

    @rule(step_ms=st.sampled_from(STEPS_MS))
    def wait(self, step_ms: int) -> None:
        self.world.now_ms += step_ms

    @rule(at=shards)
    def commit(self, at: int) -> None:
        self.world.commit(at)

    @rule(at=shards)
    def crash(self, at: int) -> None:
        self.world.crash(at)

    @rule(at=shards, truncate=st.booleans())
    def snapshot(self, at: int, truncate: bool) -> None:
        self.world.snapshot(at, truncate)

    @rule(at=shards, records=st.integers(1, 8))
    def relocate(self, at: int, records: int) -> None:
        self.world.relocate(at, records)

    @rule(at=picks)
    def load(self, at: int) -> None:
        self.world.load(at)

    @invariant()
    def holds(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        self.world.check_all()


TestEachMessageIsInOnePlace = LetterMachine.TestCase
TestEachMessageIsInOnePlace.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def actions_of(world: LetterWorld, random: Random) -> Actions:
    """What may happen next in a long history."""

    def at() -> int:
        return any_pick(random)

    def use_receipt() -> None:
        if world.receipts:
            random.choice([world.delete, world.delete, world.give_back])(-random.randint(1, 12))

    return [
        (12, lambda: world.send(at(), random.randint(1, 6), random.choice([0, 0, 0, 1_000]))),
        (30, lambda: world.receive(at(), random.randint(1, 10), random.choice(TIMEOUTS_MS))),
        (10, use_receipt),
        (12, lambda: world.commit(at())),
        (8, lambda: world.look(at())),
        (12, lambda: world.deliver(at(), random.random() < 0.1)),
        (4, lambda: world.deliver_late(at())),
        (8, lambda: world.release(at())),
        (6, lambda: setattr(world, "now_ms", world.now_ms + random.choice(STEPS_MS))),
        (2, lambda: world.crash(at())),
        (3, lambda: world.snapshot(at(), random.random() < 0.75)),
        (4, lambda: world.relocate(at(), random.randint(1, 8))),
        (2, lambda: world.load(at())),
        (1, lambda: world.configure(at(), random.randint(0, 4), at())),
        (0.2, lambda: world.purge(at())),
    ]


@pytest.mark.parametrize("seed", range(30))
def test_after_a_long_history_each_message_is_in_one_place(seed: int) -> None:
    world, random = LetterWorld(), Random(seed)
    live(actions_of(world, random), world.check, random, steps=400)
    world.check_all()
