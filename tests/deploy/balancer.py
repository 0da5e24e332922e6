"""HAProxy with the project's own configuration, in front of servers of a test."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from tests.deploy import parts
from tests.server import eventually

FLOATING = "127.0.0.100"


@dataclass(frozen=True, kw_only=True)
class Balancer:
    """HAProxy, and where it listens: for clients, and for operators."""

    process: Popen[bytes]
    url: str
    operator_url: str
    admin_socket: Path

    def ask_operator(self, path: str) -> tuple[int, str]:
        """Status and body of a GET of the operator's side."""
        try:
            with urllib.request.urlopen(self.operator_url + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def nodes_up(self) -> int:
        """How many nodes it takes for healthy."""
        _, page = self.ask_operator("/;csv")
        lines = [line.split(",") for line in page.splitlines()]
        return sum(
            line[0] == "nodes" and line[1] != "BACKEND" and line[17].startswith("UP") for line in lines
        )


def configured(name: str, certificates: Path, directory: Path, nodes: list[str]) -> tuple[str, int, int]:
    """Our configuration for three nodes at the given addresses; then its ports for clients and operators."""
    [clients] = parts.free_ports(1, FLOATING)
    [operator] = parts.free_ports(1)
    text = (parts.DEPLOY / "haproxy" / name).read_text(encoding="utf-8")
    text = parts.without_lines(text, "user haproxy", "group haproxy", "chroot ")
    changes = {
        "maxconn 16000": "maxconn 500",  # the machine of a test may not allow so many files
        " slowstart 10s": "",  # a node that comes back would get next to nothing for as long as a test takes
        "bind :443": f"bind {FLOATING}:{clients}",
        "127.0.0.1:8404": f"127.0.0.1:{operator}",
        "/run/haproxy/admin.sock": str(directory / "admin.sock"),
        "/etc/haproxy/waystation-ca.pem": str(certificates / "ca.pem"),
    }
    if name == "haproxy.cfg":
        changes["/etc/haproxy/waystation.pem"] = str(certificates / "waystation.pem")
    for number, address in enumerate(nodes, 1):
        changes[f"10.0.0.{number}:9324"] = address
    return parts.replaced(text, changes), clients, operator


@contextmanager
def balancing(
    name: str, certificates: Path, directory: Path, nodes: list[str], up: int
) -> Iterator[Balancer]:
    """HAProxy that runs, once it has found `up` of the nodes healthy, and the others not."""
    haproxy = parts.program("haproxy", "haproxy")
    text, clients, operator = configured(name, certificates, directory, nodes)
    path = directory / "haproxy.cfg"
    path.write_text(text, encoding="utf-8")
    log = directory / "haproxy.log"
    with parts.background([haproxy, "-db", "-f", str(path)], log) as process:
        balancer = Balancer(
            process=process,
            url=f"https://{FLOATING}:{clients}",
            operator_url=f"http://127.0.0.1:{operator}",
            admin_socket=directory / "admin.sock",
        )

        def is_ready() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return balancer.nodes_up() == up
            except OSError:
                return False

        eventually(is_ready)
        yield balancer
