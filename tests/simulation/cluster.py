"""A world of several nodes over one NATS cluster, and what has to hold of the logs of their shards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from tests.histories.history import History, Violation
from tests.simulation.clients import Client
from tests.simulation.cluster_weather import ClusterWeather
from tests.simulation.connections import SERVERS
from tests.simulation.machines import Machine
from tests.simulation.nats import Nats, Stream
from tests.simulation.network import Listener, Network
from tests.simulation.nodes import PREFIX, ClusterLoop, Node
from tests.simulation.store import StoreDisk
from tests.simulation.weather import Weather
from tests.simulation.world import CLUSTER_OPERATIONS_MIN, World, draw_queues
from waystation.backend import backend
from waystation.log import jetstream_snapshots
from waystation.log.records import decode_record
from waystation.queues.events import EpochStarted, decode_events


class Writers:
    """Who writes to the log of each shard: one in each epoch, and each epoch follows the one before."""

    def __init__(self, note: Any) -> None:
        self._note = note
        self.epochs: dict[str, tuple[int, object]] = {}

    def stored(self, stream: Stream, sequence: int, data: bytes, origin: object) -> None:
        if not stream.name.startswith(f"{PREFIX}-shard-"):
            return
        epoch, owner = self.epochs.get(stream.name, (0, None))
        events = decode_events(decode_record(sequence, data).payload)
        for event in events:
            if isinstance(event, EpochStarted):
                if event.epoch != epoch + 1:
                    self._note(f"{stream.name}: epoch {event.epoch} follows {epoch}")
                epoch, owner = event.epoch, origin
        if owner is not origin:
            self._note(f"{stream.name}: record {sequence} is of an owner that has lost the shard")
        self.epochs[stream.name] = (epoch, owner)


class ClusterWorld(World):
    """Two to four nodes, one to five shards."""

    operations_min = CLUSTER_OPERATIONS_MIN

    def __init__(self, seed: int, loop: ClusterLoop) -> None:
        self.seed = seed
        self._loop = self._cluster_loop = loop
        self._random = random = Random(seed)
        self._pause_s = random.choice([0.1, 0.5, 1.5])
        self.problems = []
        self.queues = draw_queues(random)
        skews_s = [0.0] * 4 if random.random() < 0.7 else [random.uniform(-60, 60) for _ in range(4)]
        self.skew_s = max(skews_s) - min(skews_s)
        if self.skew_s:  # what has expired for one node would be there again for the next
            self.queues = {name: replace(facts, retention_s=inf) for name, facts in self.queues.items()}
        self.rest_s = World.rest_s + self.skew_s
        self.passes_max = World.passes_max + int(self.skew_s)  # time stands still where it was ahead
        self.history = History(self.queues, slack_s=0.002 + self.skew_s)
        self.network = Network(random)
        self.store = StoreDisk(random)
        self.store.values["secret/handles"] = (random.randbytes(32), 0)
        self.writers = Writers(lambda text: self.problems.append(Violation(text)))
        self.nats = Nats(random, self.writers.stored)
        self.shards = random.choice([1, 2, 3, 5])
        self._create_streams()
        self.nodes: dict[str, Node] = {}
        settings = self._settings()
        for number in range(random.choice([2, 3, 3, 4])):
            name = f"node-{number}"
            self.nodes[name] = Node(
                name, self.network, self.nats, self.store, self.shards, settings, skews_s[number], self.nodes
            )
        self.machines: list[Machine] = list(self.nodes.values())
        if random.random() < 0.3:
            self.nodes[name].waits = True

    def _create_streams(self) -> None:
        for shard in range(self.shards):
            self.nats.create(f"{PREFIX}-shard-{shard}", f"{PREFIX}.shard.{shard}", is_newest_only=False)
        self.nats.create(f"{PREFIX}-snapshots", f"{PREFIX}.snapshot.", is_newest_only=True)
        self.nats.create(f"KV_{PREFIX}-manifests", f"$KV.{PREFIX}-manifests.", is_newest_only=True)
        self.nats.create(f"KV_{PREFIX}-cluster", f"$KV.{PREFIX}-cluster.", is_newest_only=True)

    def _start_first(self) -> None:
        for node in self.nodes.values():
            if not node.waits:
                node.start()

    def _servers(self) -> Sequence[Listener]:
        return list(self.nodes.values())

    def _are_whole(self) -> bool:
        return True

    def _weather(self, clients: list[Client]) -> Weather:
        names = list(self.nodes)
        links = [(client.name, name) for client in clients for name in names]
        links += [(name, SERVERS) for name in names]
        links += [(one, other) for one in names for other in names if one < other]
        callers = [client.caller for client in clients]
        return ClusterWeather(
            self._random,
            callers,
            self.machines,
            links,
            self.network,
            [],
            self.store,
            self._pause_s,
            nodes=list(self.nodes.values()),
            nats=self.nats,
            loop=self._cluster_loop,
        )

    def note_error(self, record: logging.LogRecord) -> None:
        # Of nodes whose clocks differ, one takes over what the other has written in its future.
        if not self.skew_s or record.getMessage() != "clock is behind the newest event":
            super().note_error(record)

    @contextmanager
    def same_every_time(self) -> Iterator[None]:
        names = Random(f"names {self.seed}")

        def token_hex(length: int) -> str:
            return names.randbytes(length).hex()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(backend, "token_hex", token_hex)
            patch.setattr(jetstream_snapshots, "secrets", SimpleNamespace(token_hex=token_hex))
            yield

    # What has to be so in the end

    async def _all_serve(self) -> None:
        await super()._all_serve()
        for _ in range(600):
            if all(self._owner_of(shard) is not None for shard in range(self.shards)):
                return
            await asyncio.sleep(0.2)
        alone = [shard for shard in range(self.shards) if self._owner_of(shard) is None]
        raise AssertionError(f"shards {alone} are not served, or not all know where, though nothing fails")

    def _serves(self, machine: Machine) -> bool:
        assert isinstance(machine, Node)
        if machine.ended:
            raise AssertionError(machine.ended)
        return machine.is_up or machine.waits

    def _owner_of(self, shard: int) -> Node | None:
        """The node that serves a shard, as far as all others know it, too."""
        stream = self.nats.streams[f"{PREFIX}-shard-{shard}"]
        _, connection = self.writers.epochs.get(stream.name, (0, None))
        for node in self.nodes.values():
            if node.connection is connection and node.serves(shard):
                routes = [other.routes for other in self.nodes.values() if not other.waits]
                if all(route is not None and route.address_of(shard) == node.name for route in routes):
                    return node
        return None

    def _states(self) -> Iterator[Any]:
        for shard in range(self.shards):
            node = self._owner_of(shard)
            if node is None or node.backend is None:
                self.problems.append(Violation(f"nobody serves shard {shard} any more"))
                continue
            yield from (each.state for each in node.backend.shards if each.number == shard)

    async def _restart(self) -> None:
        for node in self.nodes.values():
            await node.kill()
        for node in self.nodes.values():
            node.start()
