"""What goes wrong in a cluster: its NATS servers, the ways between nodes and to them, and its nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.simulation.connections import SERVERS
from tests.simulation.nats import Nats
from tests.simulation.nodes import ClusterLoop, Node
from tests.simulation.weather import Weather

_ELECTION_S = (4.0, 9.0)
"""Measured, when a server dies; a planned one takes 50 ms."""
_STOPPED_S = (1.0, 20.0)


class ClusterWeather(Weather):
    """Faults of a cluster. Most last for some seconds, as what nodes conclude from them depends on that."""

    def __init__(self, *parts: Any, nodes: Sequence[Node], nats: Nats, loop: ClusterLoop) -> None:
        super().__init__(*parts)
        self._nodes = nodes
        self._nats = nats
        self._cluster_loop = loop

    def faults(self) -> Sequence[Callable[[], Awaitable[None]]]:
        return (
            self._kill,
            self._kill,
            self._stop,
            self._stop,
            self._join,
            self._hang,
            self._hang,
            self._lose_leaders,
            self._lose_leaders,
            self._bad_nats,
            self._bad_nats,
            self._late_nats,
            self._late_nats,
            self._slow_nats,
            self._cut_off,
            self._cut_off,
            self._stuck,
            self._partition,
            self._partition,
            self._bad_network,
            self._slow_network,
            self._bad_store,
            self._lost_watch,
        )

    async def _for_s(self, seconds: float, kind: str) -> None:
        """Wait, unless all faults end before."""
        before = self._calls()
        loop = asyncio.get_running_loop()
        until_s = loop.time() + seconds
        while not self._is_over and loop.time() < until_s:  # noqa: ASYNC110 (the time is virtual)
            await asyncio.sleep(min(0.5, until_s - loop.time()))
        if self._calls() > before:
            self.met[f"{kind} met by a client"] += 1

    def start_all(self) -> None:
        for node in self._nodes:
            node.waits = False
        super().start_all()

    # Nodes

    async def _join(self) -> None:
        for node in self._nodes:
            if node.waits:
                node.waits = False
                self.tell(f"{node.name} joins")
                node.start()
                return

    async def _hang(self) -> None:
        node = self._random.choice(self._nodes)
        if node.name in self._restarting or not node.is_up:
            return
        self._restarting.add(node.name)
        seconds = self._random.uniform(*_STOPPED_S)
        self.tell(f"{node.name} hangs for {seconds:.1f} s")
        self._cluster_loop.stop_node(node.name)
        self._network.stopped.add(node.name)
        await self._for_s(seconds, "node that hangs")
        self._network.stopped.discard(node.name)
        self._cluster_loop.go_on(node.name)
        self.tell(f"{node.name} goes on")
        self._restarting.discard(node.name)

    async def _stop(self) -> None:
        machine = self._random.choice(self._nodes)
        if machine.waits:
            return
        await super()._stop()

    # NATS

    async def _lose_leaders(self) -> None:
        streams = list(self._nats.streams.values())
        if self._random.random() < 0.5:
            streams = [self._random.choice(streams)]
        seconds = self._random.uniform(*_ELECTION_S) if self._random.random() < 0.7 else 0.05
        self.tell(f"{', '.join(each.name for each in streams)}: no leader for {seconds:.2f} s")
        for stream in streams:
            self._nats.lose_leader(stream, seconds)
        await self._for_s(seconds, "election")

    async def _bad_nats(self) -> None:
        share = self._random.choice([0.05, 0.2, 0.6])
        self.tell("requests to NATS and their answers get lost")
        with self._bad(self._nats.weather, lost=share):
            await self._for_s(self._random.uniform(1, 8), "bad NATS")

    async def _late_nats(self) -> None:
        share = self._random.choice([0.1, 0.4])
        self.tell("requests to NATS come late")
        with self._bad(self._nats.weather, late=share):
            await self._for_s(self._random.uniform(1, 8), "late NATS")

    async def _slow_nats(self) -> None:
        slow_s = self._random.choice([0.05, 0.4, 1.5])
        self.tell("NATS servers are slow, and lag behind")
        with self._bad(self._nats.weather, commit_s=slow_s, lagging=0.5):
            await self._for_s(self._random.uniform(1, 8), "slow NATS")

    async def _cut_off(self) -> None:
        """One node does not reach NATS; half of the time the others do not reach it either."""
        node = self._random.choice(self._nodes)
        cut = [(node.name, SERVERS)]
        if self._random.random() < 0.5:
            cut += [link for link in self._links if node.name in link and link not in cut]
        self.tell(f"{node.name} does not reach NATS{', nor anybody else' if len(cut) > 1 else ''}")
        with self._cut(cut):
            await self._for_s(self._random.uniform(2, 25), "node cut off")

    async def _stuck(self) -> None:
        node = self._random.choice(self._nodes)
        if node.connection is not None:
            self.tell(f"the NATS server of {node.name} answers nothing")
            connection, connection.is_stuck = node.connection, True
            await self._for_s(self._random.uniform(3, 15), "stuck NATS server")
            connection.is_stuck = False

    @contextmanager
    def _cut(self, links: Sequence[tuple[str, str]]) -> Iterator[None]:
        self._network.cut.update(links)
        self._going_on += 1
        try:
            yield
        finally:
            self._going_on -= 1
            self._network.cut.difference_update(links)
