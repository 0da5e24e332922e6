"""What happens to processes, machines, links and clocks: each fault begins, lasts a while, and ends."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from tests.jepsen.hosts import Balancer, Host, faketime
from tests.jepsen.network import Namespace
from tests.jepsen.programs import Program
from tests.jepsen.world import World
from tests.server import eventually


class Fault(ABC):
    """One object for one world. `prepare`, then `settle` once it serves, then `begin` and `end` in turn."""

    must_lose = False
    """It breaks a promise, to show that such a loss would be seen."""
    may_alarm = False
    """Nodes may say errors: there is something for an operator to mend."""
    slack_s = 0.0
    """How far the clocks of nodes may be apart meanwhile."""

    def __init__(self, name: str, lasts_s: float) -> None:
        self.name = name
        self.lasts_s = lasts_s

    def prepare(self, world: World) -> None:  # noqa: B027 - most change nothing
        """Change what is not started yet."""

    def settle(self, world: World) -> None:  # noqa: B027
        """Change what runs by now."""

    @abstractmethod
    def begin(self, world: World, random: Random) -> None:
        """Let it happen. Returns at once, as a rule."""

    @abstractmethod
    def end(self, world: World) -> None:
        """Mend what an operator, or time, would mend; after that all has to become well by itself."""


def at_work(world: World, random: Random) -> Host:
    """A host whose node serves shards: others would be missed by few."""
    owners = world.owners()
    return random.choice([host for host in world.hosts if owners.get(host.name)] or world.hosts)


class Nothing(Fault):
    """Shows what clients see of a cluster to which nothing happens."""

    def begin(self, world: World, random: Random) -> None:
        pass

    def end(self, world: World) -> None:
        pass


Choice = Callable[[Host], Sequence[Program]]
NODE: Choice = lambda host: [host.node]  # noqa: E731
NATS: Choice = lambda host: [host.nats]  # noqa: E731
HOST: Choice = lambda host: host.programs  # noqa: E731
PARTS = {"node": NODE, "nats": NATS, "host": HOST}


class Kill(Fault):
    """SIGKILL; started again at the end."""

    def __init__(self, part: str, lasts_s: float = 15) -> None:
        super().__init__(f"kill-{part}", lasts_s)
        self._choose = PARTS[part]
        self._killed: Sequence[Program] = ()

    def begin(self, world: World, random: Random) -> None:
        self._killed = self._choose(at_work(world, random))
        for program in self._killed:
            program.kill()

    def end(self, world: World) -> None:
        for program in self._killed:
            program.start()


class KillAll(Fault):
    """All hosts lose their processes at once, and start together."""

    def __init__(self, lasts_s: float = 2) -> None:
        super().__init__("kill-all", lasts_s)

    def begin(self, world: World, random: Random) -> None:
        for host in world.hosts:
            host.kill()

    def end(self, world: World) -> None:
        for host in world.hosts:
            host.start()


class Pause(Fault):
    """SIGSTOP, then SIGCONT: a machine that swaps, or is moved by its hypervisor."""

    def __init__(self, part: str, lasts_s: float) -> None:
        super().__init__(f"pause-{part}-{lasts_s:g}s", lasts_s)
        self._choose = PARTS[part]
        self._paused: Sequence[Program] = ()

    def begin(self, world: World, random: Random) -> None:
        self._paused = self._choose(at_work(world, random))
        for program in self._paused:
            program.pause()

    def end(self, world: World) -> None:
        for program in self._paused:
            program.resume()


class LinkDown(Fault):
    """A host's cable is out: nobody hears it, and it hears nobody."""

    def __init__(self, lasts_s: float = 15) -> None:
        super().__init__("link-down", lasts_s)
        self._machine: Namespace | None = None

    def begin(self, world: World, random: Random) -> None:
        self._machine = at_work(world, random).machine
        self._machine.set_link(up=False)

    def end(self, world: World) -> None:
        assert self._machine is not None
        self._machine.set_link(up=True)


class Partition(Fault):
    """What some hosts say to others is lost. Clients and balancers still reach all of them.

    `minority`: one host is cut off from the two others. `bridge`: two hosts do not hear each other, and
    both hear the third. `one-way-loss`: what one host says to the others is lost, but not what they say.
    """

    def __init__(self, name: str, lasts_s: float = 15) -> None:
        super().__init__(name, lasts_s)
        assert name in {"minority", "bridge", "one-way-loss"}
        self._cut: Namespace | None = None

    def begin(self, world: World, random: Random) -> None:
        victim = at_work(world, random)
        self._cut = victim.machine
        others = [host.machine for host in world.hosts if host is not victim]
        if self.name == "bridge":
            others = [random.choice(others)]
        self._cut.lose(*others, hears=self.name != "one-way-loss")

    def end(self, world: World) -> None:
        assert self._cut is not None
        self._cut.hear_all()


class Clock(Fault):
    """The time of day of one node jumps, and jumps back. Its other clocks go on as they did."""

    may_alarm = True

    def __init__(self, skew_s: int, lasts_s: float = 10) -> None:
        super().__init__(f"clock-{'ahead' if skew_s > 0 else 'behind'}", lasts_s)
        self.slack_s = abs(skew_s) + 2.0
        self._skew_s = skew_s
        self._file: Path | None = None

    def prepare(self, world: World) -> None:
        library = faketime()
        for host in world.hosts:
            self._set(host, 0)
            host.node_environment |= {
                "LD_PRELOAD": str(library),
                "FAKETIME_TIMESTAMP_FILE": str(_clock_of(host)),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }

    def begin(self, world: World, random: Random) -> None:
        host = at_work(world, random)
        self._file = _clock_of(host)
        self._set(host, self._skew_s)

    def end(self, world: World) -> None:
        for host in world.hosts:
            self._set(host, 0)

    @staticmethod
    def _set(host: Host, skew_s: int) -> None:
        _clock_of(host).write_text(f"{skew_s:+d}s\n", encoding="ascii")


def _clock_of(host: Host) -> Path:
    return host.folder / "clock"


class BalancerLost(Fault):
    """HAProxy is killed where the floating address is; or the machine's cable is out."""

    def __init__(self, how: str, lasts_s: float = 8) -> None:
        super().__init__(f"balancer-{how}", lasts_s)
        assert how in {"killed", "link-down"}
        self._balancer: Balancer | None = None

    def begin(self, world: World, random: Random) -> None:
        self._balancer = world.holder()
        if self.name == "balancer-killed":
            self._balancer.haproxy.kill()
        else:
            self._balancer.machine.set_link(up=False)

    def end(self, world: World) -> None:
        assert self._balancer is not None
        if self.name == "balancer-killed":
            self._balancer.haproxy.start()
        else:
            self._balancer.machine.set_link(up=True)


class Stop(Fault):
    """A planned stop of a node, and its start."""

    def __init__(self, lasts_s: float = 5) -> None:
        super().__init__("stop-node", lasts_s)
        self._node: Program | None = None

    def begin(self, world: World, random: Random) -> None:
        self._node = at_work(world, random).node
        self._node.stop()

    def end(self, world: World) -> None:
        assert self._node is not None
        self._node.start()


class RollingRestart(Fault):
    """Each host is stopped and started in turn, the next one when all is well: as in an upgrade."""

    def __init__(self) -> None:
        super().__init__("rolling-restart", 0)

    def begin(self, world: World, random: Random) -> None:
        for host in world.hosts:
            for program in reversed(host.programs):
                program.stop()
            host.start()
            world.wait_until_healthy()
            time.sleep(1)

    def end(self, world: World) -> None:
        eventually(lambda: all(host.is_healthy() for host in world.hosts))
