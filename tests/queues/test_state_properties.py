"""Whatever clients do, a shard keeps its promises, and its log gives its state back.

Windows are four messages small here, so that tails, loads and relocations
happen all the time. Two searches: one whose failures Hypothesis makes small,
and one of long histories, in which much has to come together.
"""

from __future__ import annotations

from random import Random
from types import GenericAlias
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from tests.queues.clients import Clients
from tests.queues.histories import (
    STEPS_MS,
    TIMEOUTS_MS,
    Actions,
    ShardMachine,
    any_pick,
    common_actions,
    live,
    picks,
)
from tests.queues.windows import small_limits
from waystation.queues.events import Event, decode_events, encode_events

RETENTIONS_MS = [60_000, 90_000, 600_000]
DELAYS_MS = [0, 0, 0, 0, 1, 1_000, 45_000, 900_000]

with_small_limits = pytest.fixture(autouse=True)(small_limits)


class StandardMachine(ShardMachine):
    """Rules for `Clients`."""

    clients: Clients

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

    @precondition(lambda self: len(self.clients.oracle) > 1)
    @rule(at=picks)
    def delete_queue(self, at: int) -> None:
        self.clients.delete_queue(at)

    @rule(at=picks, delays_ms=st.lists(st.sampled_from(DELAYS_MS), min_size=1, max_size=10))
    def send(self, at: int, delays_ms: list[int]) -> None:
        self.clients.send(at, delays_ms)

    @rule(at=picks, messages_max=st.integers(1, 10), timeout_ms=st.sampled_from(TIMEOUTS_MS))
    def receive(self, at: int, messages_max: int, timeout_ms: int) -> None:
        self.clients.receive(at, messages_max, timeout_ms)


TestAnyHistoryKeepsEveryPromise = StandardMachine.TestCase
TestAnyHistoryKeepsEveryPromise.settings = settings(max_examples=200, stateful_step_count=40)


def actions_of(clients: Clients, random: Random) -> Actions:
    """What may happen next in a long history: mostly sends, receives, deletes, commits."""

    def at() -> int:
        return any_pick(random)

    def send() -> None:
        delayed = random.random() < 0.2
        clients.send(at(), [random.choice(DELAYS_MS) if delayed else 0 for _ in range(random.randint(1, 6))])

    return [
        (30, send),
        (15, lambda: clients.receive(at(), random.randint(1, 10), random.choice(TIMEOUTS_MS))),
        (20, clients.shard.commit),
        (1, lambda: clients.configure(at(), random.choice(RETENTIONS_MS))),
        *common_actions(clients, random, STEPS_MS),
    ]


def live_long(clients: Clients, random: Random, steps: int) -> None:
    """Begin with two queues, do so much, and look at everything at the end."""
    clients.create(600_000)
    clients.create(90_000)
    live(actions_of(clients, random), clients.check, random, steps)
    clients.check_all_is_there()
    clients.restart()


@pytest.mark.parametrize("seed", range(60))
def test_a_long_history_keeps_every_promise(seed: int) -> None:
    live_long(Clients(), Random(seed), steps=400)


plain: dict[object, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(0, 2**62),
    str: st.text(max_size=80),
    bytes: st.binary(max_size=20),
}


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    """Anything of a type that events consist of, with no field left at its default."""
    if isinstance(kind, GenericAlias):
        parts = [any_of(part) for part in get_args(kind)]
        return st.lists(*parts, max_size=4) if kind.__origin__ is list else st.tuples(*parts)
    if issubclass(kind, msgspec.Struct):
        return st.builds(kind, *(any_of(part) for part in get_type_hints(kind).values()))
    return plain[kind]


@given(st.tuples(*(any_of(kind) for kind in get_args(Event))))
def test_events_are_read_back_as_they_were_written(one_of_each: tuple[Event, ...]) -> None:
    assert decode_events(encode_events(list(one_of_each))) == list(one_of_each)
