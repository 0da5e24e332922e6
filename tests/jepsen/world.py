"""A whole cluster: three hosts with NATS server and node, two balancers with a floating address, clients.

All of it is gone afterwards, whatever happened to it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.deploy import parts
from tests.jepsen.hosts import FLOATING, HOSTS, PREFIX, Balancer, Host, answers_well
from tests.jepsen.network import Network, inside, run
from tests.jepsen.programs import Program, Supervisor
from tests.server import eventually

SHARDS = 8
"""In which the queues of the histories are in six different ones."""

STARTS_S, HEALTHY_S = 60.0, 90.0


class World:
    """Lifecycle: `with World(folder) as world:`, then `start`. The disks are set in between."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network = Network()
        self.hosts: list[Host] = []
        self.balancers: list[Balancer] = []
        self._run_folder = Path(f"/run/{self.network.tag}")
        self._supervisor: Supervisor | None = None

    def __enter__(self) -> Self:
        for name, package in (("haproxy", "haproxy"), ("keepalived", "keepalived"), ("curl", "curl")):
            parts.program(name, package)
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def _make(self) -> None:
        self.network.make()
        self._run_folder.mkdir(mode=0o755)
        # keepalived believes in a script only where nobody but root can have put it.
        script = self._run_folder / "check-haproxy"
        script.write_bytes((parts.DEPLOY / "keepalived" / "check-haproxy").read_bytes())
        script.chmod(0o755)
        self.client = self.network.add("client", f"{PREFIX}50")
        for number in range(1, HOSTS + 1):
            folder = self.folder / f"host-{number}"
            folder.mkdir()
            machine = self.network.add(f"h{number}", f"{PREFIX}{number}")
            self.hosts.append(Host(number, machine, folder))
        for number in (1, 2):
            machine = self.network.add(f"b{number}", f"{PREFIX}{10 + number}")
            self.balancers.append(
                Balancer(number, machine, self.folder / f"balancer-{number}", self._run_folder)
            )

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End and remove everything."""
        if self._supervisor is not None:
            self._supervisor.over.set()
            self._supervisor.join()
        for program in self.programs:
            program.kill()
        self.network.remove()

    @property
    def programs(self) -> list[Program]:
        machines: list[Host | Balancer] = [*self.hosts, *self.balancers]
        return [program for machine in machines for program in machine.programs]

    @property
    def url(self) -> str:
        """The floating address, for clients."""
        return f"http://{FLOATING}:443"

    @contextmanager
    def as_client(self) -> Iterator[None]:
        """Whoever runs this, and each thread that it starts, is at the clients' machine meanwhile."""
        with inside(self.client):
            yield

    # The methods below are for the clients' machine.

    def start(self) -> None:
        """Start everything, and return when it serves."""
        for host in self.hosts:
            host.configure()
            host.nats.start()
        for host in self.hosts:
            eventually(lambda host=host: answers_well(host.machine.address, 8222, "/healthz"), STARTS_S)  # type: ignore[misc]
        self.waystation("cluster", "init", "--cluster.shards", str(SHARDS))
        for host in self.hosts:
            host.node.start()
        for balancer in self.balancers:
            for program in balancer.programs:
                program.start()
        self._supervisor = Supervisor(self.programs)
        self._supervisor.start()
        self.wait_until_healthy()

    def wait_until_healthy(self, within_s: float = HEALTHY_S) -> None:
        """All servers, nodes and balancers do their work, and every shard has an owner."""

        def ailing() -> list[str]:
            found = [host.name for host in self.hosts if not host.is_healthy()]
            if not answers_well(FLOATING, 443, "/health"):
                found.append("the floating address")
            return found or [f"shard {shard}" for shard in self.unserved()]

        self._wait(lambda: not ailing(), within_s, ailing)

    def wait_until_shared_out(self, within_s: float = HEALTHY_S) -> None:
        """Besides, no node has two shards more than another: so none will move."""

        def counts() -> Mapping[str, int]:
            return {name: len(shards) for name, shards in self.owners().items()}

        def is_even() -> bool:
            numbers = counts().values()
            return len(numbers) == HOSTS and sum(numbers) == SHARDS and max(numbers) - min(numbers) <= 1

        self._wait(is_even, within_s, counts)

    def _wait(self, look: Any, within_s: float, what: Any) -> None:
        try:
            eventually(look, within_s, every_s=0.25)
        except AssertionError:
            raise AssertionError(f"not well within {within_s} s: {what()}\n{self.said()}") from None

    def waystation(self, *words: str) -> str:
        """What the command says when an operator gives it at the clients' machine."""
        return run(sys.executable, "-m", "waystation", *words, "--cluster", self.hosts[0].cluster)

    def owners(self) -> dict[str, list[int]]:
        """The shards of each node that is in the cluster."""
        found = re.findall(
            r"^  (host-\d) .* shards: (.*)$", self.waystation("cluster", "status"), re.MULTILINE
        )
        return {name: [int(shard) for shard in shards.split() if shard != "none"] for name, shards in found}

    def unserved(self) -> list[int]:
        served = {shard for shards in self.owners().values() for shard in shards}
        return [shard for shard in range(SHARDS) if shard not in served]

    def holder(self) -> Balancer:
        """The balancer with the floating address."""
        return eventually(lambda: next((each for each in self.balancers if each.has_the_address()), None))  # type: ignore[return-value]

    def said(self) -> str:
        """The last that each node said, for a report of what is wrong."""
        logs = [host.node.log for host in self.hosts if host.node.log.exists()]
        return "\n".join(f"{log.parent.name}: {log.read_text(errors='replace')[-1_500:]}" for log in logs)

    def error_lines(self) -> list[str]:
        """All that nodes said as an error, or worse."""
        return [
            f"{host.name}: {line}"
            for host in self.hosts
            if host.node.log.exists()
            for line in host.node.log.read_text(encoding="utf-8", errors="replace").splitlines()
            if re.match(r"\S+ (ERROR|CRITICAL) ", line)
        ]
