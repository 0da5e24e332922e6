"""What one node decides, in views that a test makes up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.placement_world import SETTINGS, TICK_S, dead, healthy, owned, view_of
from tests.test_architecture import IMPURE_MODULES, imported_names
from waystation.cluster import placement
from waystation.cluster.placement import Decision, NodeSeen, Placement, ShardSeen, View

ALIVE = {
    "its lease is old, but its link answers": NodeSeen("1", "serving", 60.0, None, 0.1),
    "its link is silent, but its lease is fresh": NodeSeen("1", "serving", 0.5, None, 60.0),
    "its link never answered, but its lease is fresh": NodeSeen("1", "serving", 0.5, None, None),
    "it is refused, but its lease is there": NodeSeen("1", "serving", 0.5, None, 1.0, True),
    "its lease is missing, but not for long": NodeSeen("1", "serving", 6.0, 1.0, 0.1),
}
DEAD = {
    "its lease is old and its link is silent": NodeSeen("1", "serving", 3.0, None, 2.0),
    "its lease is old and its link never answered": NodeSeen("1", "serving", 3.0, None, None),
    "its lease is missing and its link is refused": NodeSeen("1", "serving", 0.5, 0.0, 0.5, True),
    "its lease is missing for long": NodeSeen("1", "serving", 15.0, 10.0, 0.1),
}


class Observer:
    """Node a of a cluster, which ticks in virtual time."""

    def __init__(self, shards: int = 2) -> None:
        self.now_s = 0.0
        self.placement = Placement("a", shards, SETTINGS)

    def sees(self, view: View, for_s: float = TICK_S) -> Decision:
        decision = Decision()
        end_s = self.now_s + for_s
        while self.now_s < end_s:
            self.now_s += TICK_S
            decision = self.placement.decide(self.now_s, view)
        return decision


@pytest.mark.parametrize("seen", ALIVE.values(), ids=ALIVE.keys())
def test_nothing_is_taken_from_an_owner_that_may_be_alive(seen: NodeSeen) -> None:
    records = {0: owned("a"), 1: owned("b")}

    decision = Observer().sees(view_of({"a": healthy(), "b": seen}, records, {0: 1}), for_s=60)

    assert decision == Decision()


@pytest.mark.parametrize("seen", DEAD.values(), ids=DEAD.keys())
def test_the_shards_of_a_dead_node_are_taken(seen: NodeSeen) -> None:
    observer = Observer()
    records = {0: owned("a"), 1: owned("b")}
    observer.sees(view_of({"a": healthy(), "b": healthy()}, records, {0: 1}), for_s=10)

    decision = observer.sees(view_of({"a": healthy(), "b": seen}, records, {0: 1}))

    assert decision.take == (1,)


def test_an_owner_of_whom_nothing_is_known_keeps_its_shards() -> None:
    decision = Observer().sees(view_of({"a": healthy()}, {0: owned("a"), 1: owned("b")}, {0: 1}), for_s=60)

    assert decision.take == ()


def test_a_process_that_has_been_replaced_is_dead() -> None:
    """The lease of a node id belongs to one process at a time."""
    nodes = {"a": healthy(), "b": healthy("joining", incarnation="2")}

    decision = Observer().sees(view_of(nodes, {0: owned("a"), 1: owned("b")}, {0: 1}), for_s=3)

    assert decision.take == (1,)


def test_a_process_that_was_restarted_at_once_is_dead_although_its_link_answers_again() -> None:
    """The new process has to wait until the lease of the old one has run out, and others do not."""
    observer = Observer()
    records = {0: owned("a"), 1: owned("b")}

    def sees(ages_s: list[float], *, is_refused: bool = False) -> Decision:
        for age_s in ages_s:
            seen = NodeSeen("1", "serving", age_s, None, 0.1, is_refused)
            decision = observer.sees(view_of({"a": healthy(), "b": seen}, records, {0: 1}))
        return decision

    sees([0.0, 0.25])
    sees([0.5], is_refused=True)
    assert sees([age * TICK_S for age in range(3, 12)]).take == ()
    assert sees([SETTINGS.lease_s]).take == (1,)

    # It was a passing trouble of the network: the same process has renewed its lease since.
    assert sees([age * TICK_S for age in range(20)]).take == ()


def test_a_node_that_cannot_reach_nats_takes_nothing() -> None:
    observer = Observer()
    view = view_of({"a": healthy(), "b": dead()}, {0: owned("b"), 1: owned("b")}, reaches_nats=False)

    assert observer.sees(view, for_s=60).take == ()


def test_a_node_that_reaches_nats_again_looks_before_it_takes() -> None:
    """All leases are old then, and all links silent, until the others have been heard again."""
    observer = Observer()
    records = {0: owned("b"), 1: owned("b")}
    nodes = {"a": healthy(), "b": dead()}
    observer.sees(view_of(nodes, records, reaches_nats=False), for_s=10)

    assert observer.sees(view_of(nodes, records), for_s=SETTINGS.blind_s - TICK_S).take == ()
    assert observer.sees(view_of(nodes, records), for_s=1).take == (0, 1)


def test_a_node_that_was_stopped_itself_looks_before_it_takes() -> None:
    observer = Observer()
    records = {0: owned("b"), 1: owned("b")}
    observer.sees(view_of({"a": healthy(), "b": healthy()}, records), for_s=10)
    observer.now_s += 30

    after = view_of({"a": healthy(), "b": dead()}, records)

    assert observer.sees(after).take == ()
    assert observer.sees(after, for_s=SETTINGS.blind_s).take == (0, 1)


def test_a_shard_that_was_released_to_this_node_is_taken_at_once() -> None:
    released = ShardSeen("b", "1", 4, is_released=True, released_to="a")
    nodes = {"a": healthy("joining"), "b": healthy("leaving")}

    assert Observer().sees(view_of(nodes, {0: released, 1: owned("b")})).take == (0,)


def test_a_shard_that_was_released_to_another_is_left_to_it_for_a_while() -> None:
    observer = Observer()
    nodes = {"a": healthy(), "b": healthy(), "c": healthy("leaving")}

    def view(unchanged_s: float) -> View:
        released = ShardSeen("c", "1", 4, is_released=True, released_to="b", unchanged_s=unchanged_s)
        return view_of(nodes, {0: released, 1: owned("b")}, {})

    assert observer.sees(view(1.0)).take == ()
    assert observer.sees(view(SETTINGS.released_s)).take == (0,)


def test_a_shard_is_handed_over_only_when_all_is_quiet() -> None:
    nodes = {"a": healthy(), "b": healthy()}
    records = {0: owned("a"), 1: owned("a"), 2: owned("a"), 3: owned("a")}
    serving = dict.fromkeys(range(4), 1)

    decision = Observer(4).sees(view_of(nodes, records, serving))
    assert decision.hand_over is not None
    assert decision.hand_over[1] == "b"

    records[3] = ShardSeen("a", "1", 1, is_released=True, released_to="b")
    del serving[3]
    assert Observer(4).sees(view_of(nodes, records, serving)).hand_over is None


def test_what_did_not_arrive_is_not_sent_again_for_a_while() -> None:
    """A node that cannot open a shard would cost it an outage each time."""
    observer = Observer(2)
    nodes = {"a": healthy(), "b": healthy()}
    overdue = ShardSeen("a", "1", 1, is_released=True, released_to="b", unchanged_s=SETTINGS.released_s)
    observer.sees(view_of(nodes, {0: owned("a"), 1: overdue}, {0: 1}))
    uneven = view_of(nodes, {0: owned("a"), 1: owned("a", epoch=2)}, {0: 1, 1: 2})

    assert observer.sees(uneven, for_s=SETTINGS.upset_s - 1).hand_over is None
    assert observer.sees(uneven, for_s=2).hand_over is not None


def test_a_node_that_leaves_hands_over_whatever_else_is_happening() -> None:
    nodes = {"a": healthy("leaving"), "b": healthy(), "c": dead()}

    decision = Observer(2).sees(view_of(nodes, {0: owned("a"), 1: owned("c")}, {0: 1}))

    assert decision == Decision(hand_over=(0, "b"))


def test_nothing_is_handed_over_to_a_node_that_is_not_well() -> None:
    for sick in (*ALIVE.values(), *DEAD.values()):
        nodes = {"a": healthy("leaving"), "b": sick}
        assert Observer(1).sees(view_of(nodes, {0: owned("a")}, {0: 1})).hand_over is None


def test_a_shard_that_another_has_taken_is_given_up() -> None:
    nodes = {"a": healthy(), "b": healthy()}

    decision = Observer().sees(view_of(nodes, {0: owned("b", epoch=8), 1: owned("b")}, {0: 7}))

    assert decision.give_up == (0,)


def test_a_shard_whose_record_is_not_written_yet_is_kept() -> None:
    nodes = {"a": healthy(), "b": dead()}

    decision = Observer().sees(view_of(nodes, {0: owned("b", epoch=7), 1: owned("a")}, {0: 8, 1: 1}))

    assert decision == Decision()


def test_a_shard_that_this_node_has_lost_and_nobody_has_taken_is_taken_back() -> None:
    nodes = {"a": healthy(), "b": healthy()}

    assert Observer().sees(view_of(nodes, {0: owned("a"), 1: owned("b")}, {})).take == (0,)


def test_when_the_first_in_turn_does_not_open_a_shard_the_next_one_tries() -> None:
    nodes = {"a": healthy(), "b": healthy()}
    takes = [Placement(name, 1, SETTINGS) for name in nodes]

    def turns(now_s: float) -> list[bool]:
        return [each.decide(now_s, view_of(nodes, {})).take == (0,) for each in takes]

    first = turns(0.0)
    second = turns(SETTINGS.patience_s)
    third = turns(2 * SETTINGS.patience_s)

    assert sorted(first) == [False, True]
    assert second == [not each for each in first]
    assert third == first


def test_placement_is_pure() -> None:
    """What it decides depends on nothing but what it is given, so that any history can be played again."""
    imported = set(imported_names(Path(placement.__file__).read_text()))

    assert "waystation.cluster.settings.PlacementSettings" in imported
    assert {name.split(".")[0] for name in imported}.isdisjoint(IMPURE_MODULES)
