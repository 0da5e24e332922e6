"""Three RabbitMQ nodes on loopback as one cluster, without anything of the machine's own RabbitMQ."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from bench.peers.children import child, descendants
from tests.nats_server import free_ports

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
"""Where Debian has them: those on the PATH change the user first."""
NODES = 3
START_S_MAX = 120.0


def missing() -> str | None:
    """Why it cannot be measured here; None when it can."""
    if not (PROGRAMS / "rabbitmq-server").exists() or which("epmd") is None:
        return "rabbitmq-server is not installed (on Debian: apt-get install rabbitmq-server)"
    if find_spec("pika") is None:
        return "its Python client is not installed (pip install pika)"
    return None


@contextmanager
def rabbitmq(folder: Path) -> Iterator[tuple[list[str], list[int]]]:
    """Addresses and process ids of a cluster that serves; it is gone afterwards.

    Raises `RuntimeError` when it does not start.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"waybench{number}@localhost" for number in range(1, NODES + 1)]
    configuration = ["cluster_formation.peer_discovery_backend = classic_config"]
    configuration += [
        f"cluster_formation.classic_config.nodes.{at} = {name}" for at, name in enumerate(names, 1)
    ]
    (folder / "rabbitmq.conf").write_text("\n".join(configuration) + "\n")
    (folder / "plugins").write_text("[].\n")
    cookie = folder / ".erlang.cookie"
    cookie.touch(mode=0o600)
    cookie.write_text(os.urandom(12).hex())
    cookie.chmod(0o400)
    epmd_port, *ports = free_ports(1 + 2 * NODES)
    common = {"HOME": str(folder), "ERL_EPMD_PORT": str(epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1"}
    with ExitStack() as children:
        children.enter_context(child(["epmd", "-port", str(epmd_port)], common, folder / "epmd.log"))
        nodes = [
            children.enter_context(
                child(
                    [str(PROGRAMS / "rabbitmq-server")],
                    {
                        **common,
                        "RABBITMQ_NODENAME": name,
                        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
                        "RABBITMQ_NODE_PORT": str(ports[at]),
                        "RABBITMQ_DIST_PORT": str(ports[NODES + at]),
                        "RABBITMQ_MNESIA_BASE": str(folder / f"data-{at}"),
                        "RABBITMQ_LOG_BASE": str(folder / f"log-{at}"),
                        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
                        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
                        "RABBITMQ_PID_FILE": str(folder / f"pid-{at}"),
                    },
                    folder / f"node-{at}.log",
                )
            )
            for at, name in enumerate(names)
        ]
        deadline = time.monotonic() + START_S_MAX
        _wait_for_all(names[0], common, deadline)
        for port in ports[:NODES]:
            _wait_for_listener(port, deadline)
        pids = [pid for node in nodes for pid in descendants(node.pid, "beam.smp")]
        assert len(pids) == NODES, f"{len(pids)} Erlang machines run"
        yield [f"127.0.0.1:{port}" for port in ports[:NODES]], pids


def _wait_for_all(name: str, environment: dict[str, str], deadline: float) -> None:
    command = [str(PROGRAMS / "rabbitmqctl"), "-n", name, "await_online_nodes", str(NODES), "--timeout", "60"]
    while True:
        asked = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, check=False
        )
        if asked.returncode == 0:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"RabbitMQ does not start: {asked.stderr.strip()}")
        time.sleep(1.0)


def _wait_for_listener(port: int, deadline: float) -> None:
    """A node is counted as running a little before it takes connections."""
    while True:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        if time.monotonic() > deadline:
            raise RuntimeError(f"RabbitMQ does not listen on {port}")
        time.sleep(0.1)
