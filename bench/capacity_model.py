"""What a message costs in a cluster, and what a rate of messages therefore needs.

A message costs each kind of process some CPU for its request, for its share of an append, for itself and for
each of its bytes, fitted to what `cluster.py` measured. A process has one core; what it bears follows from
that, and so do disks, wires and money. What is assumed and not measured is in `ASSUMED`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median

from bench.capacity_simulation import Outcome, Setup, Simulation, Times
from bench.cluster import COMPARED, FITTED, MODES, Pair, Results

FIT_STEPS = 2_000
SIMULATED_REQUESTS = 15_000
NODES_MIN = 3
HOURS = 730
"""Of a month."""


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """What is not measured. All prices are assumptions in USD, of the order of public clouds' list prices."""

    use_max: float = 0.6
    """Of a core, a disk or a wire, so that there is room for peaks and for the loss of a node."""
    fsync_s: float = 0.001
    """A network volume or a good SSD with a cache that survives power loss: 0.1 ms, and 5 ms a poor one."""
    round_trip_s: float = 0.0005
    """Between machines of one region."""
    syncs_at_once: int = 4
    """By one disk, each in `fsync_s`."""
    disk_bytes_per_s_max: float = 250e6
    wire_bytes_per_s_max: float = 1.25e9
    """10 Gbit/s, each way."""
    frame_bytes: int = 700
    """Of a request and its answer beside the body, over HTTP with a signature."""
    core_hour: float = 0.04
    """With 2 to 4 GB of memory to it."""
    disk_gb_month: float = 0.08
    traffic_gb: float = 0.02
    """Of what nodes and servers send each other across zones, both ends together; nothing within one."""
    sqs_per_million: float = 0.40
    """Amazon SQS, standard queue, each request of up to 64 KB."""


ASSUMED = Assumed()


@dataclass(frozen=True, kw_only=True)
class Cost:
    """CPU microseconds of one kind of process for one kind of work."""

    request: float
    record: float
    message: float
    byte: float

    def of(self, batch: float, grouped: float, body_bytes: float) -> float:
        """For one message, of `batch` in a request and `grouped` in an append."""
        return self.request / batch + self.record / grouped + self.message + self.byte * body_bytes


@dataclass(frozen=True, kw_only=True)
class Point:
    """One load that was measured, the medians of it."""

    pair: Pair
    grouped: float
    us: float


# From measurements to costs


def points(results: Results, system: str, role: str, mode: str, pairs: Sequence[Pair]) -> list[Point]:
    """What a role cost in each of these loads."""
    found = []
    for pair in pairs:
        runs = results.seen[system][f"{pair.name}/{mode}"]
        grouped = [ran.messages_per_record for ran in runs if ran.messages_per_record]
        us = median(ran.us[role] for ran in runs)
        found.append(Point(pair=pair, grouped=median(grouped) if grouped else pair.batch, us=us))
    return found


def fitted(measured: Sequence[Point], terms: str) -> Cost:
    """The costs, none below 0, that come nearest to what was measured, by relative squares.

    `terms`: the initials of those that this process can have: request, record (`a`ppend), message, byte.
    """
    rows = [[value / point.us for value in _features(point, terms)] for point in measured]
    products = [[sum(row[i] * row[j] for row in rows) for j in range(4)] for i in range(4)]
    sums = [sum(row[i] for row in rows) for i in range(4)]
    weights = [0.0, 0.0, 0.0, 0.0]
    for _ in range(FIT_STEPS):
        for i in range(4):
            if products[i][i]:
                # The best for this one while the others stay: coordinate descent.
                others = sum(products[i][j] * weights[j] for j in range(4) if j != i)
                weights[i] = max((sums[i] - others) / products[i][i], 0.0)
    request, record, message, byte = weights
    return Cost(request=request, record=record, message=message, byte=byte)


def _features(point: Point, terms: str) -> list[float]:
    values = (1 / point.pair.batch, 1 / point.grouped, 1.0, float(point.pair.body_bytes))
    return [value if term in terms else 0.0 for term, value in zip("ramb", values, strict=True)]


ROLES = {
    "embedded": {"node": "rmb"},
    "frontends": {"owner": "rmb", "FrontEnds": "rmb"},
    "cluster-owner": {"owner": "ramb", "nats-servers": "amb"},
    "cluster-other": {"FrontEnd": "rmb", "owner": "ramb", "nats-servers": "amb"},
}
Costs = dict[tuple[str, str, str], Cost]


def costs_of(results: Results) -> Costs:
    """By system, role and mode."""
    return {
        (system, role, mode): fitted(points(results, system, role, mode, COMPARED + FITTED), terms)
        for system, roles in ROLES.items()
        if system in results.seen
        for role, terms in roles.items()
        for mode in MODES
    }


# The model


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a rate of messages needs, each sent, received and deleted once."""

    rate: float
    batch: int
    body_bytes: int
    grouped: float
    node_us: float
    """CPU of node processes for one message."""
    storage_us: float
    nodes: int
    """Processes of one core each."""
    shards: int
    storage_cores: int
    storage_servers: int
    disk_gb: float
    """Of all replicas, for the messages of `retained_s`."""
    traffic_bytes_per_s: float
    syncs_per_s: float
    disk_bytes_per_s: float


def need(costs: Costs, rate: float, batch: int, body_bytes: int, retained_s: float) -> Need:
    """How many of everything, with no part of it busier than `ASSUMED.use_max`."""
    shards, nodes = 1, NODES_MIN
    append_s = 3 * ASSUMED.round_trip_s + 2 * ASSUMED.fsync_s + 0.001
    while True:
        # An append takes what came during the one before: sends, receives and deletes alike. So of the two
        # costs of a message, that of its send and that of the rest, each bears half of an append.
        grouped = 2 * rate / shards * append_s
        owner_us = _sum(costs, "cluster-other", "owner", batch, grouped, body_bytes)
        whole_us = owner_us + _sum(costs, "cluster-other", "FrontEnd", batch, grouped, body_bytes)
        local_us = _sum(costs, "cluster-owner", "owner", batch, grouped, body_bytes)
        node_us = (whole_us * (nodes - 1) + min(local_us, whole_us)) / nodes
        wanted = max(NODES_MIN, ceil(rate * node_us / 1e6 / ASSUMED.use_max))
        # Every node the same work: each gets one shard, at least.
        if (wanted, max(wanted, shards)) == (nodes, shards):
            break
        nodes, shards = wanted, max(wanted, shards)
    storage_us = _sum(costs, "cluster-other", "nats-servers", batch, grouped, body_bytes)
    storage_cores = ceil(rate * storage_us / 1e6 / ASSUMED.use_max)
    stored = (body_bytes + 200) * 2 + 300  # in the Raft log and in the stream; and the receive and the delete
    appends = min(3 * rate / batch, shards / append_s)
    disk = 3 * rate * stored
    servers = max(
        3,
        ceil(disk / ASSUMED.disk_bytes_per_s_max / ASSUMED.use_max),
        ceil(appends * 3 * ASSUMED.fsync_s / ASSUMED.syncs_at_once / ASSUMED.use_max),
        ceil(storage_cores / 16),
    )
    # Between nodes twice (sent and received), to the leader, and from there to two others.
    traffic = rate * (body_bytes + 200) * 5
    return Need(
        rate=rate,
        batch=batch,
        body_bytes=body_bytes,
        grouped=max(grouped, batch),
        node_us=node_us,
        storage_us=storage_us,
        nodes=nodes,
        shards=shards,
        storage_cores=max(storage_cores, 3),
        storage_servers=servers,
        disk_gb=3 * rate * (body_bytes + 200) * retained_s / 1e9,
        traffic_bytes_per_s=traffic,
        syncs_per_s=appends * 3 / servers,
        disk_bytes_per_s=disk / servers,
    )


def _sum(costs: Costs, system: str, role: str, batch: float, grouped: float, body_bytes: float) -> float:
    # When there is little to do, each request has an append of its own.
    send, rest = (costs[system, role, mode] for mode in MODES)
    return send.of(batch, max(grouped, batch), body_bytes) + rest.of(
        batch, max(grouped, batch / 2), body_bytes
    )


def month_usd(what: Need) -> float:
    """Cores and disks, where all machines are in one zone."""
    cores = (what.nodes + what.storage_cores) * ASSUMED.core_hour * HOURS
    return cores + max(what.disk_gb, 60.0) * ASSUMED.disk_gb_month


def zones_usd(what: Need) -> float:
    """What it costs in addition that the three servers are in three zones."""
    # Followers are elsewhere always, all others in two of three cases: four of the five ways.
    crossing_gb = what.traffic_bytes_per_s * 4 / 5 * HOURS * 3_600 / 1e9
    return crossing_gb * ASSUMED.traffic_gb


def sqs_month_usd(rate: float, batch: int, body_bytes: int) -> float:
    """Three requests for each batch, and one more for each 64 KB beyond the first; a delete has no body."""
    chunks = ceil(batch * body_bytes / 65_536)
    return rate / batch * (2 * chunks + 1) * HOURS * 3_600 / 1e6 * ASSUMED.sqs_per_million


def simulated(costs: Costs, what: Need, fsync_s: float) -> Outcome:
    """What clients of that cluster see."""
    times = [times_of(costs, mode, what.batch, what.body_bytes, fsync_s) for mode in MODES]
    # A message has three requests: its send, and two that share the cost of receive and delete.
    frontend = (times[0].frontend + times[1].frontend) / 3
    owner = (times[0].owner + times[1].owner) / 3
    mixed = Times(
        frontend=frontend,
        owner=owner,
        record=times[0].record,
        storage=times[0].storage,
        fsync=fsync_s,
        round_trip=ASSUMED.round_trip_s,
    )
    requests_per_s = 3 * what.rate / what.batch
    setup = Setup(
        nodes=what.nodes,
        shards=what.shards,
        servers=what.storage_servers,
        storage_cores=ceil(what.storage_cores / what.storage_servers),
        syncs_at_once=ASSUMED.syncs_at_once,
        requests_per_s=requests_per_s,
    )
    return Simulation(mixed, setup).run(SIMULATED_REQUESTS / requests_per_s)


def times_of(
    costs: Costs, mode: str, batch: int, body_bytes: int, fsync_s: float, client_s: float = 0.0
) -> Times:
    """Of one request with `batch` messages, in seconds, where the network takes none."""
    frontend = costs["cluster-other", "FrontEnd", mode]
    owner = costs["cluster-other", "owner", mode]
    storage = costs["cluster-other", "nats-servers", mode]
    per_message = storage.message + storage.byte * body_bytes
    return Times(
        client=client_s,
        frontend=frontend.of(batch, float("inf"), body_bytes) * batch / 1e6,
        owner=owner.of(batch, float("inf"), body_bytes) * batch / 1e6,
        record=owner.record / 1e6,
        storage=(storage.record + per_message * batch) / 3 / 1e6,
        fsync=fsync_s,
        round_trip=0.0,
    )
