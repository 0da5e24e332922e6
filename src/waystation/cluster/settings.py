"""Settings of the cluster: how nodes watch each other, and when a shard may change hands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PlacementSettings:
    """When a node counts as dead, and when one is trusted with shards. All by the observer's own clock."""

    lease_s: float = 3.0
    """Without a renewed lease a node is suspected; three renewals in a row are then missing. A process that
    dies has to be replaced within 5 s, and this is most of it."""

    link_s: float = 2.0
    """A suspected node is dead when its link has been silent for so long, too."""

    isolated_s: float = 10.0
    """A node whose lease is missing for so long from a bucket that others write to cannot append either, and
    loses its shards though its link answers. Longer than any election of NATS takes (4 to 9 s)."""

    settle_s: float = 5.0
    """A node gets shards once it has lived for so long; twice as long for each time that it died lately."""

    flap_memory_s: float = 600.0
    """A node that has lived for so long is forgiven its deaths."""

    join_s: float = 1.0
    """When nobody has settled yet, as at the first start of a cluster: how long nodes wait for each other
    after the last one has come."""

    join_max_s: float = 5.0
    """The longest that the first of them waits."""

    released_s: float = 3.0
    """A released shard waits for so long for the node that it was released to; then anybody may take it."""

    upset_s: float = 60.0
    """After a node did not take what was released to it, nothing is handed over for so long just for the sake
    of even shares: it would come back in the same way, and each time cost `released_s`."""

    patience_s: float = 30.0
    """A shard that stays without an owner for so long is tried by the next node, too. Longer than the replay
    of any shard takes: two who replay at once cost each other the work."""

    blind_s: float = 2.0
    """After it was cut off from NATS, or was stopped itself, a node trusts what it sees of others only when
    it has looked for so long: at first all leases look old and all links silent."""

    stall_s: float = 1.5
    """Between two looks of one node never passes so much, unless it was stopped itself."""


@dataclass(frozen=True, kw_only=True)
class ClusterSettings(PlacementSettings):
    """How one node takes part."""

    shards: int = 16
    """Into how many a new cluster is cut, for ever: as many nodes can share its work. Each costs every node
    some memory, and each queue lives in one of them."""

    lease_ttl_s: int = 5
    """Whole seconds after which NATS removes a lease that is not renewed. Longer than `lease_s`: a slow disk
    delays renewals, and whoever starts with the id of a dead node waits for it."""

    renew_s: float = 1.0
    """How often a node renews its lease: one small write to the bucket."""

    poll_s: float = 2.0
    """How often a node reads the whole bucket. A watch was seen silent for 18 s after its leader was lost."""

    reach_s: float = 3.0
    """A NATS server that has answered nothing for so long is out of reach."""

    tick_s: float = 0.25
    """How often a node asks what it should do, at least."""

    takes_max: int = 2
    """Shards that a node opens at once: each replays, and those that it serves must not starve."""

    take_s: float = 120.0
    """Deadline for opening one shard: replaying a large one takes seconds to tens of seconds."""

    release_s: float = 10.0
    """Deadline for a planned hand-over of one shard; then it is dropped, and its next owner replays."""

    leave_s: float = 20.0
    """Deadline for handing over all shards when the node stops; the rest is dropped."""

    retry_min_s: float = 0.25
    """Pause after a shard could not be opened; it doubles with each failure."""

    retry_max_s: float = 2.0
    """The longest pause after a shard could not be opened. An election of its stream's leader takes 4 to 9 s,
    and this is what may be lost after it."""

    damaged_s: float = 60.0
    """Pause after a shard's log was found damaged: somebody has to repair it first."""


@dataclass(frozen=True, kw_only=True)
class RoutingSettings:
    """How a FrontEnd reaches shards."""

    call_timeout_s: float = 5.0
    """After that a command that another node was given may have been done or not. A long poll has its own
    waiting time in addition."""

    retry_s: float = 15.0
    """For how long a command that was certainly not done is tried again: as long as a shard is without an
    owner when a whole machine dies. SDKs give up after 60 s."""

    retry_pause_s: float = 0.25
    """Between two tries, unless something new is known of the shard before."""

    calls_per_shard_max: int = 4_096
    """Commands on their way to one shard of another node. More are refused: a shard that does not answer
    must not fill the memory."""
