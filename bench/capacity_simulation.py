"""A simulation of nodes and their storage: who waits for whom, and for how long.

Discrete events. A station is a server with some cores, or a disk, and jobs wait in line; an event loop is a
process with one core that does all that waits in one turn, and passes on what came of it at the turn's end.
Requests arrive at FrontEnds by chance (Poisson) or in a closed loop, go to the owner of their shard, and are
answered when the record with their events is on the disks of two of three servers; one append is under way
for each shard, and all that comes meanwhile is in the next. Times are in
seconds. The same seed gives the same run.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from random import Random

Then = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Times:
    """Of one request and one record, in seconds of a core; of the network and a disk, in seconds."""

    client: float = 0.0
    frontend: float
    owner: float
    record: float
    """The owner's, for each append."""
    storage: float
    """Of one NATS server for each append; two others do as much."""
    fsync: float
    round_trip: float
    """Between machines, and to clients."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What there is, and what it is given."""

    nodes: int
    """Processes, each with a FrontEnd and its share of the shards."""
    shards: int
    servers: int = 3
    """Of NATS: each shard is on three of them."""
    storage_cores: int = 4
    """Of each NATS server."""
    syncs_at_once: int = 4
    """By a disk."""
    machine: float | None = None
    """Cores that everything shares, the clients too; None when each process has its own."""
    requests_per_s: float | None = None
    """None for a closed loop."""
    connections: int = 0
    """Of a closed loop, all at one node that is not the owner of the only shard."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    requests_per_record: float
    node_use: float
    """Of the busiest node's core."""


class Simulation:
    """Lifecycle: build it, `run` once."""

    def __init__(self, times: Times, setup: Setup, seed: int = 1) -> None:
        self._times, self._setup = times, setup
        self._chance = Random(seed)
        self._now = 0.0
        self._numbers = count()
        self._events: list[tuple[float, int, Then]] = []
        machine = None
        if setup.machine is not None:
            # Two cores that are shared with strangers are two slower ones.
            machine = Station(self, 2, speed=setup.machine / 2)
        self.client = EventLoop(self, machine)
        self.nodes = [EventLoop(self, machine) for _ in range(setup.nodes)]
        storage_cores = setup.storage_cores if machine is None else 2
        self.storage = [Station(self, storage_cores, machine) for _ in range(setup.servers)]
        self.disks = [Station(self, setup.syncs_at_once) for _ in range(setup.servers)]
        self._shards = [_Shard(self, number) for number in range(setup.shards)]
        self.records = 0
        self._latencies: list[float] = []

    @property
    def times(self) -> Times:
        return self._times

    def after(self, seconds: float, then: Then) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._numbers), then))

    def run(self, seconds: float) -> Outcome:
        """Simulate that long, after a tenth of it that is not counted."""
        if self._setup.requests_per_s is None:
            for _ in range(self._setup.connections):
                self._request(self._shards[0], self.nodes[-1])
        else:
            self._arrive(self._setup.requests_per_s)
        self._run_until(seconds / 10)
        self._latencies, self.records = [], 0
        busy = [node.busy_s for node in self.nodes]
        self._run_until(seconds / 10 + seconds)
        latencies = sorted(self._latencies) or [float("inf")]
        return Outcome(
            requests_per_s=len(self._latencies) / seconds,
            p50_ms=latencies[len(latencies) // 2] * 1e3,
            p99_ms=latencies[len(latencies) * 99 // 100] * 1e3,
            requests_per_record=len(self._latencies) / max(self.records, 1),
            node_use=max(node.busy_s - then for node, then in zip(self.nodes, busy, strict=True)) / seconds,
        )

    def _run_until(self, end: float) -> None:
        while self._events and self._events[0][0] < end:
            self._now, _, then = heapq.heappop(self._events)
            then()

    def _arrive(self, per_s: float) -> None:
        self._request(self._chance.choice(self._shards), self._chance.choice(self.nodes))
        self.after(self._chance.expovariate(per_s), lambda: self._arrive(per_s))

    def _request(self, shard: _Shard, frontend: EventLoop) -> None:
        began, times = self._now, self._times
        owner = self.nodes[shard.number % len(self.nodes)]
        # A node that owns the shard itself is not called over the network.
        hop = 0.0 if owner is frontend else times.round_trip / 2

        def answered() -> None:
            self._latencies.append(self._now - began)
            if self._setup.requests_per_s is None:
                self._request(shard, frontend)

        def landed() -> None:
            self.after(hop, lambda: frontend.work(times.frontend / 2, home))

        def home() -> None:
            self.after(times.round_trip / 2, answered)

        def at_owner() -> None:
            owner.work(times.owner, lambda: shard.add(landed))

        def at_frontend() -> None:
            frontend.work(times.frontend / 2, lambda: self.after(hop, at_owner))

        self.client.work(times.client, lambda: self.after(times.round_trip / 2, at_frontend))


class Station:
    """Some servers with one line before them; on a `machine`, each server needs one of its cores, too."""

    def __init__(
        self, simulation: Simulation, servers: int, machine: Station | None = None, speed: float = 1.0
    ) -> None:
        self._simulation, self._free, self._machine, self._speed = simulation, servers, machine, speed
        self._waiting: deque[tuple[float, Then]] = deque()
        self.busy_s = 0.0

    def work(self, seconds: float, then: Then) -> None:
        """Call `then` when a server has spent that time on it."""
        if not self._free:
            self._waiting.append((seconds, then))
            return
        self._free -= 1
        self._start(seconds, then)

    def _start(self, seconds: float, then: Then) -> None:
        self.busy_s += seconds

        def done() -> None:
            if self._waiting:
                self._start(*self._waiting.popleft())
            else:
                self._free += 1
            then()

        if self._machine is None:
            self._simulation.after(seconds / self._speed, done)
        else:
            self._machine.work(seconds, done)


class EventLoop:
    """A process with one core, which takes turns: answers and calls are written together, as links do."""

    def __init__(self, simulation: Simulation, machine: Station | None) -> None:
        self._core = Station(simulation, 1, machine)
        self._waiting: list[tuple[float, Then]] = []
        self._is_busy = False

    @property
    def busy_s(self) -> float:
        return self._core.busy_s

    def work(self, seconds: float, then: Then) -> None:
        """Call `then` at the end of the turn in which that time was spent on it."""
        self._waiting.append((seconds, then))
        if not self._is_busy:
            self._is_busy = True
            self._turn()

    def _turn(self) -> None:
        jobs, self._waiting = self._waiting, []

        def done() -> None:
            for _, then in jobs:
                then()
            if self._waiting:
                self._turn()
            else:
                self._is_busy = False

        self._core.work(sum(seconds for seconds, _ in jobs), done)


class _Shard:
    """One append at a time, with all that has come since the one before."""

    def __init__(self, simulation: Simulation, number: int) -> None:
        self._simulation, self.number = simulation, number
        self._owner = simulation.nodes[number % len(simulation.nodes)]
        self._batch: list[Then] = []
        self._is_appending = False

    def add(self, landed: Then) -> None:
        self._batch.append(landed)
        self._append()

    def _append(self) -> None:
        if self._is_appending or not self._batch:
            return
        self._is_appending = True
        batch: list[Then] = []
        simulation, times = self._simulation, self._simulation.times
        hop = times.round_trip / 2
        leader, *followers = (
            (simulation.storage[at], simulation.disks[at])
            for at in ((self.number + each) % len(simulation.disks) for each in range(3))
        )
        is_landed = False

        def store(server: tuple[Station, Station], then: Then) -> None:
            server[0].work(times.storage, lambda: server[1].work(times.fsync, then))

        def replicate() -> None:
            for follower in followers:
                simulation.after(hop, lambda follower=follower: store(follower, acknowledge))  # type: ignore[misc]

        def acknowledge() -> None:
            nonlocal is_landed
            if not is_landed:  # the first of two makes a majority
                is_landed = True
                simulation.after(2 * hop, answer)  # to the leader, and to the owner

        def begin() -> None:
            # What was decided in the same turn goes along.
            batch.extend(self._batch)
            self._batch.clear()
            simulation.after(hop, lambda: store(leader, replicate))

        def answer() -> None:
            simulation.records += 1
            self._is_appending = False
            for landed in batch:
                landed()
            self._append()

        # The leader's disk first, then the followers', as the server does it.
        self._owner.work(times.record, begin)
