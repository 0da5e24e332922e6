"""What goes wrong, and when: faults come and go until `clear_up`, after which everything works again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random

from tests.histories.history import Act
from tests.simulation.disk import DiskWeather, LogDisk
from tests.simulation.machines import FrontEnd, Machine, Owner
from tests.simulation.network import Network, NetworkWeather
from tests.simulation.store import StoreDisk


class Weather:
    """Draws faults, one after the other, with pauses of `pause_s` on average."""

    def __init__(
        self,
        random: Random,
        machines: Sequence[Machine],
        clients: Sequence[str],
        network: Network,
        disks: Sequence[LogDisk],
        store: StoreDisk,
        pause_s: float,
    ) -> None:
        self._random = random
        self._machines = machines
        self._clients = clients
        self._network = network
        self._disks = disks
        self._store = store
        self._pause_s = pause_s
        self.told: list[tuple[float, str]] = []
        """What has happened, and when."""
        self.pauses: list[Act] = []
        self._is_over = False

    def tell(self, text: str) -> None:
        self.told.append((asyncio.get_running_loop().time(), text))

    async def run(self) -> None:
        """Until `end`, and the fault of that moment is over."""
        faults: tuple[Callable[[], Awaitable[None]], ...] = (
            self._kill,
            self._kill,
            self._restart,
            self._bad_disk,
            self._bad_disk,
            self._slow_disk,
            self._full_disk,
            self._bad_network,
            self._slow_network,
            self._partition,
            self._bad_store,
            self._lost_watch,
        )
        while not self._is_over:
            await asyncio.sleep(self._random.expovariate(1) * self._pause_s)
            await faults[int(self._random.random() * len(faults))]()

    @contextmanager
    def _pause(self, and_s: float = 0.0) -> Iterator[None]:
        """Who waits for messages meanwhile, and a little longer, may have to wait in vain."""
        loop = asyncio.get_running_loop()
        pause = Act(loop.time())
        self.pauses.append(pause)
        yield
        pause.ended_s = loop.time() + and_s

    def _some_time(self) -> float:
        return self._random.expovariate(1) * self._pause_s

    async def _kill(self) -> None:
        machine = self._random.choice(self._machines)
        self.tell(f"{machine.name} is killed")
        await machine.kill()
        await asyncio.sleep(self._some_time() * 0.3)
        self.tell(f"{machine.name} starts")
        machine.start()

    async def _restart(self) -> None:
        machine = self._random.choice(self._machines)
        self.tell(f"{machine.name} is stopped")
        with self._pause():
            await machine.stop()
        self.tell(f"{machine.name} starts")
        machine.start()

    async def _bad_disk(self) -> None:
        disk = self._random.choice(self._disks)
        kind = self._random.choice(["refused", "unknown", "unreadable"])
        self.tell(f"appends, openings or reads of a disk fail: {kind}")
        disk.weather = DiskWeather()
        setattr(disk.weather, kind, self._random.choice([0.05, 0.3, 1.0]))
        await asyncio.sleep(self._some_time() * 0.5)
        disk.weather = DiskWeather()

    async def _slow_disk(self) -> None:
        disk = self._random.choice(self._disks)
        self.tell("a disk is slow")
        slow_s = self._random.choice([0.02, 0.2, 1.5])
        with self._pause(2 * slow_s):
            disk.weather = DiskWeather(append_s=slow_s, read_s=self._random.choice([0.0005, slow_s]))
            await asyncio.sleep(self._some_time())
            disk.weather = DiskWeather()

    async def _full_disk(self) -> None:
        disk = self._random.choice(self._disks)
        self.tell("a disk is full")
        disk.weather = DiskWeather(is_full=True)
        await asyncio.sleep(self._some_time())
        disk.weather = DiskWeather()

    async def _bad_network(self) -> None:
        self.tell("the network loses and doubles")
        share = self._random.choice([0.02, 0.1, 0.4])
        self._network.weather = NetworkWeather(lost=share, doubled=share)
        await asyncio.sleep(self._some_time())
        self._network.weather = NetworkWeather()

    async def _slow_network(self) -> None:
        self.tell("the network is slow")
        self._network.weather = NetworkWeather(slow=self._random.choice([0.1, 0.5]))
        await asyncio.sleep(self._some_time())
        self._network.weather = NetworkWeather()

    async def _partition(self) -> None:
        one = self._random.choice(self._machines).name
        others = [machine.name for machine in self._machines if machine.name != one]
        other = self._random.choice([*self._clients, *others])
        self.tell(f"nothing passes between {one} and {other}")
        self._network.cut.add((one, other))
        await asyncio.sleep(self._some_time())
        self._network.cut.clear()

    async def _bad_store(self) -> None:
        self.tell("the metadata store fails, and is slow")
        self._store.failing, self._store.write_s = self._random.choice([0.2, 1.0]), 0.05
        await asyncio.sleep(self._some_time() * 0.5)
        self._store.failing, self._store.write_s = 0.0, 0.001

    async def _lost_watch(self) -> None:
        machine = self._random.choice(self._machines)
        assert isinstance(machine, Owner | FrontEnd)
        self.tell(f"{machine.name} loses its watches")
        machine.store.cut_off()

    def end(self) -> None:
        """Let no new fault come."""
        self._is_over = True

    def clear_up(self) -> None:
        """Everything works again, and what was killed starts."""
        self.tell("all faults end")
        self._network.weather = NetworkWeather()
        self._network.cut.clear()
        self._store.failing, self._store.write_s = 0.0, 0.001
        for disk in self._disks:
            disk.weather = DiskWeather()
        for machine in self._machines:
            machine.start()
