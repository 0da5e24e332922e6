"""The machines of a cluster: a host has a NATS server and a node, a balancer has HAProxy and keepalived.

They are configured as `docs/cluster.md` has it, without TLS.
"""

from __future__ import annotations

import json
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import parts
from tests.jepsen.network import Namespace, run
from tests.jepsen.programs import Program
from tests.server import ACCESS_KEY_ID, NAMES_ARE_FREE_AT_ONCE, SECRET_ACCESS_KEY

PREFIX = "10.77.0."
FLOATING = f"{PREFIX}100"
HOSTS = 3

NODE_FLAGS = (
    # Snapshots and truncation so often that many faults come in the middle of them.
    *("--backend.snapshot-events", "500"),
    *("--backend.garbage-bytes-max", "200000"),
    *NAMES_ARE_FREE_AT_ONCE,
)
SECRETS = {
    "WAYSTATION_ROOT_ACCESS_KEY_ID": ACCESS_KEY_ID,
    "WAYSTATION_ROOT_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
}
_NATS = """\
server_name: {name}
listen: "{address}:4222"
http: "{address}:8222"
max_payload: 8MB
write_deadline: "5s"
ping_interval: "5s"
ping_max: 2
jetstream {{ store_dir: "{store}", max_memory_store: 64MB, max_file_store: 4GB, sync_interval: {sync} }}
accounts {{
  SYS {{
    users: [ {{ user: system, password: system }} ]
    exports: [
      {{ service: "$SYS.REQ.SERVER.PING.VARZ", response_type: stream, accounts: [WAY] }}
    ]
  }}
  WAY {{
    jetstream: enabled, users: [ {{ user: way, password: way }} ]
    imports: [ {{ service: {{ account: SYS, subject: "$SYS.REQ.SERVER.PING.VARZ" }} }} ]
  }}
}}
system_account: SYS
no_auth_user: way
cluster {{
  name: way, listen: "{address}:6222", routes: [{routes}], no_advertise: true
  ping_interval: "2s", ping_max: 2
}}
"""


class Host:
    """One machine with a NATS server and a node."""

    def __init__(self, number: int, machine: Namespace, folder: Path) -> None:
        self.number = number
        self.name = f"host-{number}"
        self.machine = machine
        self.folder = folder
        self.store = folder / "nats"
        self.node_environment: dict[str, str] = dict(SECRETS)
        self._others = [f"{PREFIX}{1 + (number - 1 + step) % HOSTS}" for step in range(1, HOSTS)]
        addresses = [machine.address, *self._others]
        self.cluster = ",".join(f"nats://{address}:4222" for address in addresses)
        self.nats = Program(
            machine,
            [parts.program("nats-server", "nats-server"), "-c", str(folder / "nats.conf")],
            folder / "nats.log",
        )
        self.node = Program(
            machine,
            [sys.executable, "-m", "waystation", "serve", *self._flags()],
            folder / "node.log",
            self.node_environment,
        )

    def _flags(self) -> list[str]:
        address = self.machine.address
        return [
            *("--cluster", self.cluster, "--node-id", self.name),
            *("--transport.listen", f"{address}:9326", "--host", address, "--port", "9324"),
            *("--data-dir", str(self.folder / "data")),
            *NODE_FLAGS,
        ]

    @property
    def url(self) -> str:
        """Of its node, for clients."""
        return f"http://{self.machine.address}:9324"

    @property
    def programs(self) -> list[Program]:
        return [self.nats, self.node]

    def configure(self, sync: str = "always") -> None:
        """Say how its NATS server starts next."""
        values = {
            "name": self.name,
            "address": self.machine.address,
            "store": self.store,
            "sync": sync,
            "routes": ", ".join(f'"nats://{address}:6222"' for address in self._others),
        }
        (self.folder / "nats.conf").write_text(_NATS.format(**values), encoding="utf-8")

    def start(self) -> None:
        """Start what does not run, as a machine does that is switched on."""
        for program in self.programs:
            if not program.is_running:
                program.start()

    def kill(self) -> None:
        """End all of it at once, as a power cut does."""
        for program in self.programs:
            program.kill()

    def pause(self) -> None:
        for program in self.programs:
            program.pause()

    def resume(self) -> None:
        for program in self.programs:
            program.resume()

    def is_healthy(self) -> bool:
        """Its NATS server and its node say of themselves that they can serve."""
        address = self.machine.address
        return answers_well(address, 8222, "/healthz") and answers_well(address, 9324, "/health")

    def streams(self) -> dict[str, Any]:
        """What its NATS server says of each of its streams, by name."""
        found = json.loads(get(self.machine.address, 8222, "/jsz?streams=true&accounts=true&raft=true")[1])
        accounts = found.get("account_details", [])
        return {stream["name"]: stream for account in accounts for stream in account.get("stream_detail", [])}


class Balancer:
    """One machine with HAProxy and keepalived."""

    def __init__(self, number: int, machine: Namespace, folder: Path, run_folder: Path) -> None:
        self.machine = machine
        folder.mkdir()
        name = f"n{number}"
        script = run_folder / "check-haproxy"
        (folder / "haproxy.cfg").write_text(_haproxy(run_folder / f"{name}.sock"), encoding="utf-8")
        (folder / "keepalived.conf").write_text(_keepalived(script), encoding="utf-8")
        haproxy = parts.program("haproxy", "haproxy")
        self.haproxy = Program(
            machine, [haproxy, "-db", "-f", str(folder / "haproxy.cfg")], folder / "haproxy.log"
        )
        files = [f"--pid={folder / 'main.pid'}", f"--vrrp_pid={folder / 'vrrp.pid'}"]
        command = [parts.program("keepalived", "keepalived"), "-n", "-l", "-P", *files]
        command += ["-i", name, "-f", str(folder / "keepalived.conf")]
        self.keepalived = Program(machine, command, folder / "keepalived.log")

    @property
    def programs(self) -> list[Program]:
        return [self.haproxy, self.keepalived]

    def has_the_address(self) -> bool:
        return f"{FLOATING}/" in run(*self.machine.command("ip", "-4", "address", "show", "dev", "eth0"))


def get(address: str, port: int, path: str, timeout_s: float = 2.0) -> tuple[int, bytes]:
    """Status and body of the answer. Raises `OSError`."""
    connection = HTTPConnection(address, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()


def answers_well(address: str, port: int, path: str) -> bool:
    """It says 200."""
    try:
        return get(address, port, path)[0] == 200
    except OSError:
        return False


def faketime() -> Path:
    """The library that gives a process another time of day. Skips the test where it is missing."""
    found = sorted(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("libfaketime is not installed; on Debian: apt-get install libfaketime")
    return found[0]


def _haproxy(admin_socket: Path) -> str:
    text = (parts.DEPLOY / "haproxy" / "haproxy.cfg").read_text(encoding="utf-8")
    text = parts.without_lines(text, "user haproxy", "group haproxy", "chroot ", "default-server ssl")
    changes = {
        "maxconn 16000": "maxconn 500",
        "/run/haproxy/admin.sock": str(admin_socket),
        "bind :443 ssl crt /etc/haproxy/waystation.pem alpn http/1.1": "bind :443",
    }
    changes |= {f"10.0.0.{n}:9324 verifyhost n{n}": f"{PREFIX}{n}:9324" for n in range(1, HOSTS + 1)}
    return parts.replaced(text, changes)


def _keepalived(script: Path) -> str:
    text = (parts.DEPLOY / "keepalived" / "keepalived.conf").read_text(encoding="utf-8")
    changes = {
        "/etc/keepalived/check-haproxy": str(script),
        "10.0.0.100/24": f"{FLOATING}/24",
        "unicast_src_ip 10.0.0.1": f"unicast_src_ip {PREFIX}11",
        "unicast_src_ip 10.0.0.2": f"unicast_src_ip {PREFIX}12",
        "@n1     10.0.0.2": f"@n1     {PREFIX}12",
        "@n2     10.0.0.1": f"@n2     {PREFIX}11",
    }
    return parts.replaced(text, changes)
