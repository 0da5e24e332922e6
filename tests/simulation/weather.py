"""What goes wrong, and when: faults come, overlap and go until `end`, after which everything works again.

A fault lasts for a few calls of clients, not for a time: one that nobody meets proves nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random

from tests.histories.history import Act
from tests.simulation.caller import RetryingCaller
from tests.simulation.disk import LogDisk
from tests.simulation.machines import Machine
from tests.simulation.network import Network
from tests.simulation.store import StoreDisk

FAULTS_AT_ONCE = 3
_CALLS_MAX = 30
"""Of clients, between two faults and during one, at most."""
_LOOKS_MAX = 40
"""At how many calls there were, so that a fault ends also when nobody calls."""


class Weather:
    """Draws faults, several at once, with pauses between them.

    Args:
        links: pairs of names between which messages pass.
        pause_s: about as long as clients pause between two calls.
    """

    def __init__(
        self,
        random: Random,
        callers: Sequence[RetryingCaller],
        machines: Sequence[Machine],
        links: Sequence[tuple[str, str]],
        network: Network,
        disks: Sequence[LogDisk],
        store: StoreDisk,
        pause_s: float,
    ) -> None:
        self._random = random
        self._callers = callers
        self._machines = machines
        self._links = links
        self._network = network
        self._disks = disks
        self._store = store
        self._pause_s = pause_s
        self.told: list[tuple[float, str]] = []
        """What has happened, and when."""
        self.pauses: list[Act] = []
        """When who waits for messages may have to wait in vain."""
        self.met: Counter[str] = Counter()
        """Faults that clients called during, by kind."""
        self._active: Counter[tuple[int, str]] = Counter()
        self._going_on = 0
        self._restarting: set[str] = set()
        self._is_over = False

    def tell(self, text: str) -> None:
        self.told.append((asyncio.get_running_loop().time(), text))

    async def run(self) -> None:
        """Until `end`, when the faults of that moment end as well."""
        faults = self.faults()

        async def one_after_the_other() -> None:
            while True:
                await self._some_calls()
                if self._is_over:
                    return
                await faults[int(self._random.random() * len(faults))]()

        await asyncio.gather(*(one_after_the_other() for _ in range(self._random.randint(1, FAULTS_AT_ONCE))))

    def faults(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """What may go wrong; what is there more often comes more often."""
        return (
            self._kill,
            self._kill,
            self._kill,
            self._stop,
            self._bad_disk,
            self._bad_disk,
            self._slow_disk,
            self._full_disk,
            self._bad_network,
            self._slow_network,
            self._partition,
            self._bad_store,
            self._lost_watch,
            self._lost_watch,
        )

    def end(self) -> None:
        """Let no new fault come."""
        self._is_over = True

    def start_all(self) -> None:
        """What was killed starts."""
        self.tell("all faults end")
        for machine in self._machines:
            machine.start()

    def _calls(self) -> int:
        """Of all clients so far."""
        return sum(caller.attempts for caller in self._callers)

    async def _some_calls(self, kind: str = "") -> None:
        """Wait until clients have made some more calls, or for so long that they make none."""
        before = self._calls()
        enough = before + self._random.randint(1, _CALLS_MAX)
        for _ in range(_LOOKS_MAX):
            if self._is_over or self._calls() >= enough:
                break
            await asyncio.sleep(self._random.random() * self._pause_s)
        if kind and self._calls() > before:
            self.met[f"{kind} met by a client"] += 1

    @contextmanager
    def _bad(self, weather: object, **values: float | bool) -> Iterator[None]:
        """Worse weather. Where two faults worsen the same, it is better again after the second."""
        for name, value in values.items():
            setattr(weather, name, value)
            self._active[id(weather), name] += 1
        self._going_on += 1
        try:
            yield
        finally:
            self._going_on -= 1
            for name in values:
                self._active[id(weather), name] -= 1
                if not self._active[id(weather), name]:
                    setattr(weather, name, getattr(type(weather), name))

    @contextmanager
    def _pause(self, and_s: float = 0.0) -> Iterator[None]:
        """Who waits for messages meanwhile, and a little longer, may have to wait in vain."""
        loop = asyncio.get_running_loop()
        pause = Act(loop.time())
        self.pauses.append(pause)
        yield
        pause.ended_s = loop.time() + and_s

    # Processes

    async def _kill(self) -> None:
        machine = self._random.choice(self._machines)
        if machine.name in self._restarting:
            return
        self._restarting.add(machine.name)
        self.tell(f"{machine.name} is killed")
        self.met["kills during another fault"] += self._going_on > 0
        await machine.kill()
        await asyncio.sleep(self._random.random() * 3 * self._pause_s)
        self.tell(f"{machine.name} starts")
        machine.start()
        self._restarting.discard(machine.name)

    async def _stop(self) -> None:
        machine = self._random.choice(self._machines)
        if machine.name in self._restarting:
            return
        self._restarting.add(machine.name)
        self.tell(f"{machine.name} is stopped")
        with self._pause():
            await machine.stop()
        self.tell(f"{machine.name} starts")
        machine.start()
        self._restarting.discard(machine.name)

    # Storage

    async def _bad_disk(self) -> None:
        disk = self._random.choice(self._disks)
        kind = self._random.choice(["refused", "unknown", "unreadable"])
        self.tell(f"appends, openings or reads of a disk fail: {kind}")
        with self._bad(disk.weather, **{kind: self._random.choice([0.05, 0.3, 1.0])}):
            await self._some_calls("bad disk")

    async def _slow_disk(self) -> None:
        disk = self._random.choice(self._disks)
        self.tell("a disk is slow")
        slow_s = self._random.choice([0.02, 0.2, 1.5])
        read_s = self._random.choice([0.0005, slow_s])
        with self._pause(2 * slow_s), self._bad(disk.weather, append_s=slow_s, read_s=read_s):
            await self._some_calls("slow disk")

    async def _full_disk(self) -> None:
        disk = self._random.choice(self._disks)
        self.tell("a disk is full")
        with self._bad(disk.weather, is_full=True):
            await self._some_calls("full disk")

    async def _bad_store(self) -> None:
        self.tell("the metadata store fails, and is slow")
        with self._bad(self._store.weather, failing=self._random.choice([0.3, 1.0]), write_s=0.05):
            await self._some_calls("bad store")

    async def _lost_watch(self) -> None:
        machine = self._random.choice(self._machines)
        self.tell(f"{machine.name} loses its watches")
        machine.store.cut_off()

    # The network

    async def _bad_network(self) -> None:
        self.tell("the network loses and doubles")
        share = self._random.choice([0.02, 0.1, 0.4])
        with self._bad(self._network.weather, lost=share, doubled=share):
            await self._some_calls("bad network")

    async def _slow_network(self) -> None:
        self.tell("the network is slow")
        with self._pause(5.0), self._bad(self._network.weather, slow=self._random.choice([0.1, 0.5])):
            await self._some_calls("slow network")

    async def _partition(self) -> None:
        """One link is cut, or one process from all others."""
        if self._random.random() < 0.5:
            name = self._random.choice(self._machines).name
            cut = [link for link in self._links if name in link]
            self.tell(f"nothing passes to or from {name}")
        else:
            cut = [self._random.choice(self._links)]
            self.tell(f"nothing passes between {cut[0][0]} and {cut[0][1]}")
        lost = self._network.lost
        self._network.cut.update(cut)
        self._going_on += 1
        await self._some_calls()
        self._going_on -= 1
        self._network.cut.difference_update(cut)
        self.met["partitions that lost something"] += self._network.lost > lost
