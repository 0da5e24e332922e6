"""What happens to the disks of NATS servers: they are full, are damaged, or lose what was not synced."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from contextlib import suppress
from pathlib import Path
from random import Random

import nats

from tests.jepsen.disks import ForgetfulDisk, SmallDisk
from tests.jepsen.faults import Fault, at_work
from tests.jepsen.hosts import Host, answers_well
from tests.jepsen.world import HEALTHY_S, STARTS_S, World
from tests.server import eventually

FLIPS_PER_FILE = (1, 3, 40)
COMES_BACK_S = 20.0


class DiskFull(Fault):
    """The disk of one NATS server is full; then there is room, and the server is restarted, as has to be."""

    def __init__(self, lasts_s: float = 15) -> None:
        super().__init__("disk-full", lasts_s)
        self._disks: dict[str, SmallDisk] = {}
        self._host: Host | None = None

    def prepare(self, world: World) -> None:
        for host in world.hosts:
            disk = SmallDisk(host.folder, world.network.tag, "store", size_mib=128)
            disk.mount()
            host.store = disk.path
            self._disks[host.name] = disk

    def begin(self, world: World, random: Random) -> None:
        self._host = random.choice(world.hosts)
        self._disks[self._host.name].fill()

    def end(self, world: World) -> None:
        assert self._host is not None
        self._disks[self._host.name].make_room()
        self._host.nats.stop()
        self._host.nats.start()


class PowerLoss(Fault):
    """One host, or all at once, lose their power, and what their disks had not been told to keep.

    With `lazy`, the NATS servers sync when they like, as they do without our configuration: then
    acknowledged messages have to be gone, or this harness would not find anything.
    """

    def __init__(self, which: str, *, lazy: bool = False, lasts_s: float = 8) -> None:
        super().__init__(f"power-loss-{which}{'-lazy' if lazy else ''}", lasts_s)
        self.must_lose = self.may_alarm = lazy
        self._disks: dict[str, ForgetfulDisk] = {}
        self._hosts: list[Host] = []
        self._which = which

    def prepare(self, world: World) -> None:
        for host in world.hosts:
            disk = ForgetfulDisk(host.folder, world.network.tag, "store")
            disk.mount()
            host.store = disk.path
            self._disks[host.name] = disk

    def settle(self, world: World) -> None:
        """Nodes refuse servers that do not sync, but only ask when they start."""
        for host in world.hosts if self.must_lose else ():
            host.configure(sync="2m")
            host.nats.stop()
            host.nats.start()
            world.wait_until_healthy()
            host.configure()

    def begin(self, world: World, random: Random) -> None:
        self._hosts = world.hosts if self._which == "all" else [at_work(world, random)]
        for host in self._hosts:
            host.kill()
        for host in self._hosts:
            self._disks[host.name].lose_power()

    def end(self, world: World) -> None:
        for host in self._hosts:
            host.start()


class Damage(Fault):
    """Bits of one replica's records change while its server is stopped; in the end an operator mends it.

    All nodes die meanwhile, so that every shard is read again, also from that replica. The repair is
    that of `docs/cluster.md`.
    """

    may_alarm = True

    def __init__(self, lasts_s: float = 15) -> None:
        super().__init__("damage", lasts_s)
        self._host: Host | None = None

    def begin(self, world: World, random: Random) -> None:
        host = self._host = random.choice(world.hosts)
        host.nats.stop()
        flipped = sum(flip_bits(path, random) for path in _streams(host).glob("*-shard-*/msgs/*.blk"))
        assert flipped, "there was nothing to damage"
        host.nats.start()
        # With bad luck the server hangs as it reads its files; then nothing in them is served, either.
        with suppress(AssertionError):
            eventually(lambda: is_well(host), COMES_BACK_S)
        for each in world.hosts:
            each.node.kill()
        for each in world.hosts:
            each.node.start()

    def end(self, world: World) -> None:
        assert self._host is not None
        damaged = self._host
        good = next(host for host in world.hosts if host is not damaged)
        shards = {name: facts for name, facts in good.streams().items() if "-shard-" in name}
        asyncio.run(_let_lead(good, list(shards)))
        groups = [facts["cluster"]["raft_group"] for facts in shards.values()]
        if is_well(damaged):
            damaged.nats.stop()
        else:
            damaged.nats.kill()
        for folder in [_streams(damaged) / name for name in shards]:
            shutil.rmtree(folder)
        for group in groups:
            shutil.rmtree(next((damaged.store / "jetstream").glob(f"*/_js_/{group}")))
        damaged.nats.start()
        eventually(lambda: is_well(damaged), STARTS_S)


def _streams(host: Host) -> Path:
    return host.store / "jetstream" / "WAY" / "streams"


def is_well(host: Host) -> bool:
    """Its NATS server is healthy: it has all that the others have."""
    return answers_well(host.machine.address, 8222, "/healthz")


def flip_bits(path: Path, random: Random) -> int:
    """Change some bytes of a file; returns how many."""
    content = bytearray(path.read_bytes())
    flips = random.choice(FLIPS_PER_FILE) if content else 0
    places = [random.randrange(len(content)) for _ in range(flips)]
    for place in places:
        content[place] ^= 1 << random.randrange(8)
    path.write_bytes(content)
    return len(places)


async def _let_lead(host: Host, streams: list[str]) -> None:
    """Have a host's server lead these streams."""
    connection = await nats.connect(host.cluster.split(",")[0])
    wanted = json.dumps({"placement": {"preferred": host.name}}).encode()
    try:
        for name in streams:
            async with asyncio.timeout(HEALTHY_S):
                while True:
                    request = f"$JS.API.STREAM.LEADER.STEPDOWN.{name}"
                    answer = (await connection.request(request, wanted, timeout=10)).data.decode()
                    if re.search(r'"success": ?true|already leader', answer):
                        break
                    await asyncio.sleep(0.5)
    finally:
        await connection.close()
