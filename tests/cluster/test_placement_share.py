"""Shares are even, and joins and leaves move only what they must."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from waystation.cluster.placement import share, weight

NAMES = [f"node-{letter}" for letter in "abcdefgh"]

nodes = st.sets(st.sampled_from(NAMES), min_size=1)


@st.composite
def situations(draw: st.DrawFn) -> tuple[dict[int, str | None], set[str]]:
    """Any holders, gone ones among them, and the nodes that shards are to be shared among."""
    holders = draw(st.lists(st.none() | st.sampled_from([*NAMES, "gone"]), min_size=1, max_size=40))
    return dict(enumerate(holders)), draw(nodes)


def test_shards_without_owners_are_shared_evenly() -> None:
    shares = share(dict.fromkeys(range(16)), ["a", "b", "c"])

    assert sorted(Counter(shares.values()).values()) == [5, 5, 6]


def test_nothing_is_shared_among_nobody() -> None:
    assert share({0: None, 1: "a"}, []) == {}


def test_the_weight_of_a_shard_and_a_node_is_the_same_in_all_versions() -> None:
    """Nodes of two versions run side by side during an upgrade, and have to agree."""
    assert weight(7, "node-a") == 7277286506068286397


@given(situations())
def test_every_node_has_the_floor_or_the_ceiling(situation: tuple[dict[int, str | None], set[str]]) -> None:
    holders, among = situation
    counts = Counter(share(holders, among).values())
    floor, extra = divmod(len(holders), len(among))

    assert sum(counts.values()) == len(holders)
    assert sorted(counts[node] for node in among) == [floor] * (len(among) - extra) + [floor + 1] * extra


@given(situations())
def test_no_even_share_moves_fewer(situation: tuple[dict[int, str | None], set[str]]) -> None:
    """
    Besides the shards that nobody holds, at least those beyond the ceilings have to move, and there are
    only so many ceilings.
    """
    holders, among = situation
    shares = share(holders, among)
    floor, extra = divmod(len(holders), len(among))
    counts = Counter(holder for holder in holders.values() if holder in among)
    beyond_the_floor = [count - floor for count in counts.values() if count > floor]

    moved = sum(holder in among and shares[shard] != holder for shard, holder in holders.items())

    assert moved == sum(beyond_the_floor) - min(extra, len(beyond_the_floor))


@given(situations(), st.data())
def test_having_done_a_part_does_not_change_the_rest(
    situation: tuple[dict[int, str | None], set[str]], data: st.DataObject
) -> None:
    """Nodes do their parts at different times, and each sees the others' parts done so far."""
    holders, among = situation
    shares = share(holders, among)
    done = data.draw(st.sets(st.sampled_from(sorted(holders))))

    assert share({**holders, **{shard: shares[shard] for shard in done}}, among) == shares


@given(st.integers(1, 64), st.sets(st.sampled_from(NAMES), min_size=1, max_size=7), st.data())
def test_a_node_that_joins_gets_its_share_and_nothing_else_moves(
    shards: int, before: set[str], data: st.DataObject
) -> None:
    settled = share(dict.fromkeys(range(shards)), before)
    joined = data.draw(st.sampled_from([name for name in NAMES if name not in before]))

    after = share(settled, before | {joined})

    assert {after[shard] for shard in after if after[shard] != settled[shard]} <= {joined}


@given(st.integers(1, 64), st.sets(st.sampled_from(NAMES), min_size=2))
def test_a_node_that_leaves_moves_its_own_shards_alone(shards: int, before: set[str]) -> None:
    settled = share(dict.fromkeys(range(shards)), before)
    gone = min(before)

    after = share(settled, before - {gone})

    assert {shard for shard in after if after[shard] != settled[shard]} == {
        shard for shard, holder in settled.items() if holder == gone
    }
