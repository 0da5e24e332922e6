"""Nodes in virtual time that see each other as a test says, and do at once what placement tells them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from waystation.cluster.placement import Decision, NodeSeen, NodeState, Placement, ShardSeen, View
from waystation.cluster.settings import PlacementSettings

SETTINGS = PlacementSettings()
TICK_S = 0.25


def healthy(state: NodeState = "serving", incarnation: str = "1") -> NodeSeen:
    return NodeSeen(incarnation, state, lease_age_s=0.5, heard_s=0.1)


def dead(incarnation: str = "1") -> NodeSeen:
    return NodeSeen(incarnation, "serving", lease_age_s=60.0, heard_s=60.0)


def owned(owner: str, incarnation: str = "1", epoch: int = 1) -> ShardSeen:
    return ShardSeen(owner, incarnation, epoch)


def view_of(
    nodes: dict[str, NodeSeen],
    records: dict[int, ShardSeen],
    serving: dict[int, int] | None = None,
    *,
    reaches_nats: bool = True,
) -> View:
    return View(nodes=nodes, records=records, serving=serving or {}, reaches_nats=reaches_nats)


@dataclass
class Node:
    """One simulated node. It lives while `is_up`, and others see it as `is_seen`."""

    placement: Placement
    started_s: float
    incarnation: str
    is_up: bool = True
    is_leaving: bool = False
    died_s: float | None = None
    serving: dict[int, int] = field(default_factory=dict)

    def state(self, now_s: float) -> NodeState:
        if self.is_leaving:
            return "leaving"
        return "serving" if now_s - self.started_s >= SETTINGS.settle_s else "joining"


class World:
    """A whole cluster with a perfect bucket: only processes die here."""

    def __init__(self, shards: int) -> None:
        self.shards = shards
        self.now_s = 1_000.0
        self.nodes: dict[str, Node] = {}
        self.records: dict[int, ShardSeen] = {}
        self.changed_s: dict[int, float] = {}
        self.moves = 0
        self._incarnations = count(1)

    def start(self, name: str) -> None:
        placement = Placement(name, self.shards, SETTINGS)
        self.nodes[name] = Node(placement, self.now_s, str(next(self._incarnations)))

    def kill(self, name: str) -> None:
        self.nodes[name].is_up = False
        self.nodes[name].died_s = self.now_s
        self.nodes[name].serving.clear()

    def leave(self, name: str) -> None:
        self.nodes[name].is_leaving = True

    def run(self, length_s: float) -> None:
        end_s = self.now_s + length_s
        while self.now_s < end_s:
            self.now_s += TICK_S
            for name, node in list(self.nodes.items()):
                if node.is_up:
                    self._do(name, node, node.placement.decide(self.now_s, self.view(name)))

    def view(self, me: str) -> View:
        return View(
            nodes={name: self._seen(node) for name, node in self.nodes.items()},
            records={
                shard: record._replace(unchanged_s=self.now_s - self.changed_s[shard])
                for shard, record in self.records.items()
            },
            serving=self.nodes[me].serving,
            reaches_nats=True,
        )

    def _seen(self, node: Node) -> NodeSeen:
        age_s = 0.0 if node.died_s is None else self.now_s - node.died_s
        absent_s = age_s - 5.0 if age_s >= 5.0 else None
        return NodeSeen(node.incarnation, node.state(self.now_s), age_s, absent_s, age_s, age_s > 0)

    def _do(self, name: str, node: Node, decision: Decision) -> None:
        for shard in decision.give_up:
            node.serving.pop(shard)
        for shard in decision.take[:2]:
            epoch = self.records[shard].epoch + 1 if shard in self.records else 1
            self.moves += shard in self.records and self.records[shard].owner != name
            node.serving[shard] = epoch
            self._write(shard, ShardSeen(name, node.incarnation, epoch))
        if decision.hand_over is not None:
            shard, heir = decision.hand_over
            self._write(
                shard,
                ShardSeen(
                    name, node.incarnation, node.serving.pop(shard), is_released=True, released_to=heir
                ),
            )

    def _write(self, shard: int, record: ShardSeen) -> None:
        self.records[shard] = record
        self.changed_s[shard] = self.now_s

    def counts(self) -> dict[str, int]:
        return {name: len(node.serving) for name, node in self.nodes.items() if node.is_up}

    def is_all_served(self) -> bool:
        return sum(self.counts().values()) == self.shards
