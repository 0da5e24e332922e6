"""Whatever nodes see, and whatever happens to them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cluster.placement_world import SETTINGS, TICK_S, World
from waystation.cluster.placement import NodeSeen, Placement, ShardSeen, View

NAMES = ["a", "b", "c", "d"]
SHARDS = 5

seconds = st.one_of(st.sampled_from([0.0, 1.0, 2.0, 3.0, 10.0, 60.0]), st.floats(0, 60))
nodes_seen = st.builds(
    NodeSeen,
    st.sampled_from(["1", "2"]),
    st.sampled_from(["joining", "serving", "leaving"]),
    seconds,
    st.none() | seconds,
    st.none() | seconds,
    st.booleans(),
)
records = st.builds(
    ShardSeen,
    st.sampled_from([*NAMES, "unknown"]),
    st.sampled_from(["1", "2"]),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from([*NAMES, ""]),
    seconds,
)
views = st.builds(
    View,
    nodes=st.dictionaries(st.sampled_from(NAMES), nodes_seen),
    records=st.dictionaries(st.integers(0, SHARDS - 1), records),
    serving=st.dictionaries(st.integers(0, SHARDS - 1), st.integers(1, 3)),
    reaches_nats=st.booleans(),
    is_handing_over=st.booleans(),
)
steps = st.lists(st.tuples(st.sampled_from([TICK_S, 1.0, 5.0, 60.0]), views), min_size=1, max_size=6)


@given(steps)
def test_nobody_takes_from_an_owner_it_sees_alive_nor_hands_over_to_a_dead_one(
    history: list[tuple[float, View]],
) -> None:
    placement = Placement("a", SHARDS, SETTINGS)
    now_s = 0.0
    for passes_s, view in history:
        now_s += passes_s
        decision = placement.decide(now_s, view)

        for shard in decision.take:
            record = view.records.get(shard)
            assert view.reaches_nats
            assert shard not in view.serving
            if record is None or record.is_released or record.owner == "a":
                continue
            owner = view.nodes[record.owner]
            assert placement.is_dead(record.owner, owner) or owner.incarnation != record.incarnation
        if decision.hand_over is not None:
            shard, heir = decision.hand_over
            assert shard in view.serving
            assert heir != "a"
            assert not placement.is_dead(heir, view.nodes[heir])
            assert view.nodes[heir].state != "leaving"
        for shard in decision.give_up:
            assert view.records[shard].epoch >= view.serving[shard]


@given(
    st.sets(st.sampled_from(NAMES), min_size=1),
    st.dictionaries(st.integers(0, 15), st.sampled_from(NAMES)),
)
def test_with_equal_views_each_shard_without_an_owner_is_wanted_by_exactly_one(
    alive: set[str], owners: dict[int, str]
) -> None:
    """Those who are not alive have never been seen, and their leases have run out."""
    seen = {
        name: NodeSeen("1", "serving", 0.5, heard_s=0.1)
        if name in alive
        else NodeSeen("1", "serving", 60.0, heard_s=60.0)
        for name in NAMES
    }
    on_record = {shard: ShardSeen(owner, "1", 1) for shard, owner in owners.items()}
    wanted = [
        shard
        for name in alive
        for shard in Placement(name, 16, SETTINGS)
        .decide(
            0.0,
            View(
                nodes=seen,
                records=on_record,
                serving={shard: 1 for shard, owner in owners.items() if owner == name},
                reaches_nats=True,
            ),
        )
        .take
    ]

    assert sorted(wanted) == [shard for shard in range(16) if owners.get(shard) not in alive]


def test_a_fresh_cluster_shares_its_shards_and_moves_none() -> None:
    world = World(16)
    for name in ("a", "b", "c"):
        world.start(name)

    world.run(3)
    assert sorted(world.counts().values()) == [5, 5, 6]

    world.run(60)
    assert sorted(world.counts().values()) == [5, 5, 6]
    assert world.moves == 0


def started(*names: str, shards: int = 16) -> World:
    world = World(shards)
    for name in names:
        world.start(name)
    world.run(60)
    assert world.is_all_served()
    world.moves = 0
    return world


def test_a_node_that_joins_gets_its_share_one_by_one() -> None:
    world = started("a", "b", "c")

    world.start("d")
    world.run(SETTINGS.settle_s)
    assert world.counts()["d"] == 0

    world.run(30)
    assert sorted(world.counts().values()) == [4, 4, 4, 4]
    assert world.moves == 4


def test_the_shards_of_a_dead_process_are_served_again_in_five_seconds() -> None:
    world = started("a", "b", "c")

    world.kill("c")
    world.run(5)

    assert sorted(world.counts().values()) == [8, 8]


def test_a_node_that_leaves_hands_over_all_and_nothing_else_moves() -> None:
    world = started("a", "b", "c")
    had = world.counts()["b"]

    world.leave("b")
    world.run(5)

    assert world.counts()["b"] == 0
    assert world.is_all_served()
    assert world.moves == had


def test_the_last_node_has_nobody_to_hand_over_to() -> None:
    world = started("a")

    world.leave("a")
    world.run(5)

    assert world.counts() == {"a": 16}


def test_a_flapping_node_moves_ever_fewer_shards() -> None:
    """It dies twelve seconds after each start, for ten minutes: some moves at first, and then none."""
    world = started("a", "b", "c")

    def flap() -> None:
        world.kill("c")
        world.run(12)
        world.start("c")
        world.run(12)

    for _ in range(4):
        flap()
    after_four = world.moves
    for _ in range(20):
        flap()

    assert after_four <= 3 * 6
    assert world.moves == after_four
    assert world.is_all_served()


events = st.lists(
    st.tuples(
        st.sampled_from(["kill", "leave", "start"]), st.sampled_from(NAMES), st.sampled_from([0.25, 1, 7, 30])
    ),
    max_size=8,
)


@settings(max_examples=20)
@given(events)
def test_whatever_happened_every_shard_is_served_evenly_in_the_end(
    happenings: list[tuple[str, str, float]],
) -> None:
    world = World(9)
    world.start("a")
    for what, name, then_s in happenings:
        node = world.nodes.get(name)
        if what == "start" and (node is None or not node.is_up):
            world.start(name)
        elif what != "start" and name != "a" and node is not None and node.is_up:
            world.kill(name) if what == "kill" else world.leave(name)
        world.run(then_s)

    world.run(400)

    counts = [each for name, each in world.counts().items() if not world.nodes[name].is_leaving]
    assert sum(counts) == 9
    assert max(counts) - min(counts) <= 1
