"""Which node should serve which shard, and what one node should do about it now.

Pure: no clock, no chance, no I/O; what a node sees and the time come in. Nothing here decides
who MAY write to a shard, the log's fence does. It decides who tries, so that a mistake, and any
two views that differ, cost availability and never data.

What always holds: a shard is never taken from an owner that the view shows alive, and never
handed over to a node that it does not show healthy.

**Shares.** Each node holds the floor or the ceiling of shards / nodes, and nodes keep what they
hold up to that: so a node that joins or leaves moves only what it must. Plain rendezvous hashing
moves as little, but is uneven (8, 5 and 3 of 16 shards on three nodes); with bounded loads it is
even, but a changed bound moves shards between nodes that stay. The owners on record are known to
all anyway, and so placement starts from them; rendezvous hashing only settles what they leave
open: which shards a node gives away, and who gets them.

Source: Thaler and Ravishankar, Using Name-Based Mappings to Increase Hit Rates (1998), for
rendezvous hashing; Mirrokni, Thorup and Zadimoghaddam, Consistent Hashing with Bounded Loads (2016).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from math import inf
from typing import Literal, NamedTuple, TypeAlias

from waystation.cluster.settings import PlacementSettings

NodeState: TypeAlias = Literal["joining", "serving", "leaving"]

_DOUBLINGS_MAX = 5


class NodeSeen(NamedTuple):
    """What an observer sees of a node. All ages are by the observer's own clock."""

    incarnation: str
    """Of the process that holds the lease: another one each time the node starts."""
    state: NodeState
    lease_age_s: float
    """Since its lease was last seen renewed."""
    absent_s: float | None = None
    """For how long there is no lease of it in a bucket that answers; None while there is, or it does not."""
    heard_s: float | None = None
    """Since its link last answered; None if it never has."""
    is_refused: bool = False
    """Its machine answers that nobody listens at its address."""


class ShardSeen(NamedTuple):
    """What the record of a shard says."""

    owner: str
    incarnation: str
    epoch: int
    """Of the owner's epoch record in the log: the higher one has fenced the lower."""
    is_released: bool = False
    released_to: str = ""
    """The node that is to take it; empty if there was none to name."""
    unchanged_s: float = 0.0
    """Since the observer saw this record first."""


@dataclass(frozen=True, kw_only=True)
class View:
    """All that one node knows."""

    nodes: Mapping[str, NodeSeen]
    """By id, the observer's own among them."""
    records: Mapping[int, ShardSeen]
    """By shard; one that has never had an owner has none."""
    serving: Mapping[int, int]
    """The shards that the observer serves, and in which epoch."""
    reaches_nats: bool
    """Whether a NATS server has answered lately."""
    is_handing_over: bool = False


class Decision(NamedTuple):
    """What a node should do now."""

    take: tuple[int, ...] = ()
    """Shards to open, which nobody serves."""
    hand_over: tuple[int, str] | None = None
    """A shard to release, and the node to release it to."""
    give_up: tuple[int, ...] = ()
    """Shards that another node has taken: to be dropped."""


def weight(shard: int, node: str) -> int:
    """How much a shard is drawn to a node: the same everywhere, and unlike for any other pair."""
    return int.from_bytes(blake2b(f"{shard}/{node}".encode(), digest_size=8).digest(), "big")


def share(holders: Mapping[int, str | None], nodes: Collection[str]) -> dict[int, str]:
    """Share shards among nodes, evenly, and moving as few as that takes.

    Doing any part of what it asks for does not change the rest of what it asks for.

    Args:
        holders: who holds each shard now; None, and one that is not among `nodes`, hold nothing.
        nodes: who may hold shards.

    Returns:
        The node for each shard, so that each node has the floor or the ceiling; nothing if there are none.
    """
    if not nodes:
        return {}
    floor, extra = divmod(len(holders), len(nodes))
    held: dict[str, list[int]] = {node: [] for node in sorted(nodes)}
    for shard, holder in holders.items():
        if holder in held:
            held[holder].append(shard)
    # Those that have more than the floor keep one of it, as far as there are ceilings to give: one less
    # to move. Whom they go to otherwise must not depend on how far the moves have got.
    generous = sorted(held, key=lambda node: (len(held[node]) <= floor, node))[:extra]
    room = {node: floor + (node in generous) for node in held}
    placed: dict[int, str] = {}
    for node, shards in held.items():
        kept = _most_drawn(shards, node)[: room[node]]
        room[node] -= len(kept)
        placed.update(dict.fromkeys(kept, node))
    for shard in sorted(holders.keys() - placed.keys()):
        placed[shard] = _ranked([node for node in room if room[node]], shard)[0]
        room[placed[shard]] -= 1
    return placed


def _most_drawn(shards: list[int], node: str) -> list[int]:
    return sorted(shards, key=lambda shard: weight(shard, node), reverse=True)


def _ranked(nodes: Iterable[str], shard: int) -> list[str]:
    return sorted(nodes, key=lambda node: weight(shard, node), reverse=True)


class _Past:
    """What an observer remembers of a node."""

    def __init__(self, incarnation: str, since_s: float) -> None:
        self.incarnation = incarnation
        self.alive_since_s: float | None = since_s
        """None while it is dead."""
        self.deaths = 0
        self.was_leaving = False
        self.refused_s = -inf
        """When it was last seen that nobody listens at its address."""


class Placement:
    """The judgement of one node: what it sees now, and what it remembers of what it saw.

    Lifecycle: build it, and `decide` every fraction of `stall_s`; time may start anywhere, and never falls.
    """

    def __init__(self, me: str, shards: int, settings: PlacementSettings) -> None:
        self._me = me
        self._shards = range(shards)
        self._settings = settings
        self._now_s = -inf
        self._trusted_from_s = -inf
        """Until then this node does not believe that others are dead."""
        self._upset_until_s = -inf
        """Until then no shard is moved for the sake of even shares."""
        self._past: dict[str, _Past] = {}
        self._orphaned_since_s: dict[int, float] = {}

    def decide(self, now_s: float, view: View) -> Decision:
        """What to do now. Equal views and pasts make exactly one node want each shard without an owner."""
        is_first = not self._past
        if not view.reaches_nats or (not is_first and now_s - self._now_s > self._settings.stall_s):
            self._trusted_from_s = now_s + self._settings.blind_s
        self._now_s = now_s
        if any(record.released_to and self._is_overdue(record) for record in view.records.values()):
            self._upset_until_s = now_s + self._settings.upset_s
        self._remember(view, is_first)
        give_up = tuple(shard for shard, epoch in view.serving.items() if self._is_taken(view, shard, epoch))
        holders = {shard: self._holder(view, shard) for shard in self._shards}
        orphans = {shard for shard in self._shards if holders[shard] is None}
        self._orphaned_since_s = {shard: self._orphaned_since_s.get(shard, now_s) for shard in orphans}
        candidates = self.candidates(view)
        shares = share(holders, candidates)
        return Decision(
            tuple(shard for shard in self._shards if self._wants(view, shard, holders, shares, candidates)),
            self._hand_over(view, holders, shares, candidates),
            give_up,
        )

    # Who is alive

    def is_dead(self, node: str, seen: NodeSeen) -> bool:
        """Whether there is no process any more that could serve what a node has.

        Neither an outage of the bucket nor a broken link alone is enough.
        """
        settings = self._settings
        is_silent = seen.heard_s is None or seen.heard_s >= settings.link_s
        return (
            (seen.lease_age_s >= settings.lease_s and (is_silent or self._was_refused(node, seen)))
            or (seen.absent_s is not None and seen.is_refused)
            or (seen.absent_s is not None and seen.absent_s >= settings.isolated_s)
        )

    def _was_refused(self, node: str, seen: NodeSeen) -> bool:
        """Whether nobody has listened at a node's address since its lease was renewed.

        Who listens there now is another process, which waits for that lease to run out.
        """
        past = self._past.get(node)
        return past is not None and self._now_s - past.refused_s < seen.lease_age_s

    def _is_alive(self, node: str) -> bool:
        past = self._past.get(node)
        return past is not None and past.alive_since_s is not None

    def _remember(self, view: View, is_first: bool) -> None:
        """Note who lives since when, and who has died how often."""
        settings, now_s = self._settings, self._now_s
        for node, seen in view.nodes.items():
            # Whom a new observer finds serving has been for long, as far as it can know.
            has_settled = is_first and seen.state == "serving"
            past = self._past.setdefault(node, _Past(seen.incarnation, -inf if has_settled else now_s))
            if seen.is_refused:
                past.refused_s = now_s
            is_alive = node == self._me or not self.is_dead(node, seen)
            is_another = past.incarnation != seen.incarnation
            if past.alive_since_s is not None and (is_another or not is_alive):
                past.deaths += not past.was_leaving
                past.alive_since_s = None
            if is_alive and past.alive_since_s is None:
                past.alive_since_s = now_s
            if past.alive_since_s is not None and now_s - past.alive_since_s >= settings.flap_memory_s:
                past.deaths = 0
            past.incarnation = seen.incarnation
            past.was_leaving = seen.state == "leaving"
        for node in self._past.keys() - view.nodes.keys():
            del self._past[node]

    def _is_healthy(self, seen: NodeSeen) -> bool:
        """Whether everything we see of it says that it works. A shard is handed over to nobody else."""
        settings = self._settings
        return (
            seen.state != "leaving"
            and seen.absent_s is None
            and not seen.is_refused
            and seen.lease_age_s < settings.lease_s
            and seen.heard_s is not None
            and seen.heard_s < settings.link_s
        )

    # Who may have shards

    def candidates(self, view: View) -> list[str]:
        """The nodes that shards are shared among: those that have settled, and those that have some."""
        settings = self._settings
        present = [
            node
            for node, seen in view.nodes.items()
            if self._is_alive(node) and seen.state != "leaving" and seen.absent_s is None
        ]
        if not any(view.nodes[node].state == "serving" for node in present):
            # None begins before all have been seen for a while, or those that see more take from those
            # that see less; but who comes again and again does not keep the others waiting for ever.
            ages_s = sorted(map(self._alive_s, present))
            begins = ages_s and (ages_s[0] >= settings.join_s or ages_s[-1] >= settings.join_max_s)
            return present if begins else []
        holders = {self._holder(view, shard) for shard in self._shards}
        return [node for node in present if node in holders or self._has_settled(node, view.nodes[node])]

    def _alive_s(self, node: str) -> float:
        since_s = self._past[node].alive_since_s
        return -inf if since_s is None else self._now_s - since_s

    def _has_settled(self, node: str, seen: NodeSeen) -> bool:
        doublings = min(self._past[node].deaths, _DOUBLINGS_MAX)
        return seen.state == "serving" and self._alive_s(node) >= self._settings.settle_s * 2**doublings

    # Who has which shard

    def _holder(self, view: View, shard: int) -> str | None:
        """Who serves a shard, or is about to; None when nobody does."""
        record = view.records.get(shard)
        if record is None or record.is_released:
            heir = record and view.nodes.get(record.released_to)
            if record is None or heir is None or self._is_overdue(record):
                return None
            is_coming = self._is_alive(record.released_to) and heir.state != "leaving"
            return record.released_to if is_coming else None
        owner = view.nodes.get(record.owner)
        if owner is None:
            return record.owner  # Of whom nothing is known, nothing is taken.
        if not self._is_alive(record.owner) or owner.incarnation != record.incarnation:
            return None
        return record.owner

    def is_free(self, view: View, shard: int) -> bool:
        """Whether nobody but this node serves a shard, or is about to."""
        return self._holder(view, shard) in {None, self._me}

    def _is_overdue(self, record: ShardSeen) -> bool:
        return record.is_released and record.unchanged_s >= self._settings.released_s

    def _is_taken(self, view: View, shard: int, epoch: int) -> bool:
        record = view.records.get(shard)
        if record is None:
            return False
        mine = view.nodes.get(self._me)
        is_mine = record.owner == self._me and mine is not None and record.incarnation == mine.incarnation
        return not is_mine and record.epoch >= epoch

    # What to do

    def _wants(
        self,
        view: View,
        shard: int,
        holders: Mapping[int, str | None],
        shares: Mapping[int, str],
        candidates: list[str],
    ) -> bool:
        mine = view.nodes.get(self._me)
        if mine is None or mine.state == "leaving" or not view.reaches_nats or shard in view.serving:
            return False
        if holders[shard] == self._me:
            # Released to this node, or its own, and lost by it without another to have it.
            return not view.is_handing_over or view.records[shard].is_released
        if holders[shard] is not None or self._me not in candidates:
            return False
        record = view.records.get(shard)
        is_known_free = record is None or record.is_released
        if not is_known_free and self._now_s < self._trusted_from_s:
            return False
        turn = int((self._now_s - self._orphaned_since_s[shard]) / self._settings.patience_s)
        first = shares[shard]
        if record is not None and self._is_overdue(record) and record.released_to == first:
            turn += 1
        in_turn = [first, *_ranked((node for node in candidates if node != first), shard)]
        return in_turn[turn % len(in_turn)] == self._me

    def _hand_over(
        self,
        view: View,
        holders: Mapping[int, str | None],
        shares: Mapping[int, str],
        candidates: list[str],
    ) -> tuple[int, str] | None:
        """One shard at a time; and while the node does not stop, only when all is quiet."""
        mine = view.nodes.get(self._me)
        if mine is None or view.is_handing_over or not view.reaches_nats:
            return None
        if mine.state != "leaving" and (self._me not in candidates or not self._is_quiet(view, holders)):
            return None
        for shard in sorted(view.serving):
            heir = shares.get(shard, self._me)
            if holders[shard] == self._me and heir != self._me and self._is_healthy(view.nodes[heir]):
                return shard, heir
        return None

    def _is_quiet(self, view: View, holders: Mapping[int, str | None]) -> bool:
        """Whether every shard is served, by somebody who is well."""
        return (
            self._now_s >= max(self._trusted_from_s, self._upset_until_s)
            and not any(record.is_released for record in view.records.values())
            and all(
                holder is not None
                and (holder == self._me or (holder in view.nodes and self._is_healthy(view.nodes[holder])))
                for holder in holders.values()
            )
        )
