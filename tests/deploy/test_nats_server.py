"""Three NATS servers with our configuration are a cluster that takes nobody in without proof."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import nats.errors
import pytest
from nkeys import PREFIX_BYTE_USER, encode_seed

from tests.deploy import parts
from tests.server import eventually
from waystation.log.jetstream import create_log_streams
from waystation.log.nats import NatsConnection
from waystation.log.nats_checks import check_servers
from waystation.log.settings import NatsSettings

NAMES = ("n1", "n2", "n3")


@dataclass(frozen=True, kw_only=True)
class NatsCluster:
    """Three servers on 127.0.0.1 to 127.0.0.3, and how to come in."""

    clients_port: int
    routes_port: int
    monitoring_ports: list[int]
    certificates: Path
    keys: Path

    @property
    def url(self) -> str:
        return f"tls://127.0.0.1:{self.clients_port}"

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificates / "ca.pem")

    async def connect(self, user: str | None, **options: Any) -> Any:
        """A connection as one of the users of `keys.txt`. Raises as nats-py does; tries once."""
        seed = {} if user is None else {"nkeys_seed": str(self.keys / f"{user}.nk")}
        defaults = {"tls": self.tls(), "allow_reconnect": False, "connect_timeout": 3, "error_cb": _ignore}
        return await nats.connect(self.url, **{**defaults, **seed, **options})

    def monitoring(self, server: int, path: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.monitoring_ports[server]}{path}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return dict(json.load(answer))


async def _ignore(_: Exception) -> None:
    """nats-py would log every refusal, which here is what is wanted."""


def _configured(directory: Path, certificates: Path, ports: tuple[int, int, int]) -> str:
    """Our configuration with the ports and files of a test: for clients, routes and monitoring."""
    text = (parts.DEPLOY / "nats" / "nats-server.conf").read_text(encoding="utf-8")
    clients, routes, monitoring = ports
    return parts.replaced(
        text,
        {
            "port: 4222": f"port: {clients}",
            "port: 6222": f"port: {routes}",
            ":6222": f":{routes}",
            "10.0.0.": "127.0.0.",
            "127.0.0.1:8222": f"127.0.0.1:{monitoring}",
            "/var/lib/nats": str(directory / "store"),
            "/etc/nats/node.pem": str(certificates / f"{directory.name}.pem"),
            "/etc/nats/node.key": str(certificates / f"{directory.name}.key"),
            "/etc/nats/ca.pem": str(certificates / "ca.pem"),
            # As much as the disk of a test may have.
            "max_file_store: 50GB": "max_file_store: 1GB",
        },
    )


def _environment(name: str, keys: Path) -> dict[str, str]:
    """What systemd makes of `nats.env`, once the lines of `keys.txt` are in it."""
    lines = (parts.DEPLOY / "nats" / "nats.env").read_text(encoding="utf-8").splitlines()
    lines += (keys / "keys.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    found = {key: value.strip('"') for key, _, value in pairs}
    return found | {"NATS_NAME": name, "NATS_ADDRESS": f"127.0.0.{name[1:]}"}


@pytest.fixture(scope="module")
def cluster(
    certificates: Path, nats_keys: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NatsCluster]:
    """Three servers that have found each other, and agree on a leader."""
    server = parts.program("nats-server", "nats-server")
    directory = tmp_path_factory.mktemp("nats")
    clients, routes, *monitoring = parts.free_ports(5)
    found = NatsCluster(
        clients_port=clients,
        routes_port=routes,
        monitoring_ports=monitoring,
        certificates=certificates,
        keys=nats_keys,
    )
    with ExitStack() as stack:
        for name, port in zip(NAMES, monitoring, strict=True):
            home = directory / name
            home.mkdir()
            path = home / "nats-server.conf"
            path.write_text(_configured(home, certificates, (clients, routes, port)), encoding="utf-8")
            command = [server, "--config", str(path)]
            stack.enter_context(parts.background(command, home / "log", _environment(name, nats_keys)))

        def agree() -> bool:
            try:
                return all(_knows_a_leader(found, number) for number in range(len(NAMES)))
            except OSError:
                return False

        eventually(agree)
        yield found


def _knows_a_leader(cluster: NatsCluster, server: int) -> bool:
    meta = cluster.monitoring(server, "/jsz").get("meta_cluster", {})
    return bool(meta.get("leader")) and meta.get("cluster_size") == len(NAMES)


def test_nats_server_has_nothing_to_say_against_the_configuration(
    certificates: Path, nats_keys: Path, tmp_path: Path
) -> None:
    server = parts.program("nats-server", "nats-server")
    home = tmp_path / "n1"
    home.mkdir()
    path = home / "nats-server.conf"
    path.write_text(_configured(home, certificates, (4222, 6222, 8222)), encoding="utf-8")

    check = subprocess.run(
        [server, "-t", "--config", str(path)],
        env=os.environ | _environment("n1", nats_keys),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert check.returncode == 0, check.stderr
    assert "warn" not in check.stderr.lower()


def test_the_seeds_that_the_page_makes_are_for_their_owner_only(nats_keys: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in nats_keys.iterdir()} == {0o600}


def test_every_server_writes_to_the_disk_before_it_acknowledges(cluster: NatsCluster) -> None:
    configs = [cluster.monitoring(number, "/jsz")["config"] for number in range(len(NAMES))]

    assert [each.get("sync_always") for each in configs] == [True] * len(NAMES)


def test_a_node_can_make_a_stream_on_three_servers(cluster: NatsCluster) -> None:
    async def make() -> tuple[int, int]:
        connection = await cluster.connect("node")
        try:
            stream = connection.jetstream()
            info = await stream.add_stream(name="orders", subjects=["orders"], num_replicas=3)
            ack = await stream.publish("orders", b"x" * 1_000_000, timeout=5)
            return len(info.cluster.replicas), ack.seq
        finally:
            await connection.close()

    assert asyncio.run(make()) == (2, 1)


def test_a_monitor_sees_streams_and_changes_none(cluster: NatsCluster) -> None:
    async def look() -> bytes:
        connection = await cluster.connect("monitor")
        try:
            names = await connection.request("$JS.API.STREAM.NAMES", b"", timeout=5)
            with pytest.raises(nats.errors.TimeoutError):
                await connection.request("$JS.API.STREAM.PURGE.orders", b"", timeout=0.3)
            return bytes(names.data)
        finally:
            await connection.close()

    assert b"error" not in asyncio.run(look())


def test_the_system_account_has_no_streams(cluster: NatsCluster) -> None:
    async def look() -> bytes:
        connection = await cluster.connect("system")
        try:
            pong = await connection.request("$SYS.REQ.SERVER.PING", b"", timeout=5)
            return bytes(pong.data)
        finally:
            await connection.close()

    assert json.loads(asyncio.run(look()))["server"]["cluster"] == "waystation"


def test_a_node_finds_the_servers_set_up_as_they_have_to_be(cluster: NatsCluster) -> None:
    """With its own key, over TLS: no more than `waystation.env` gives it."""
    settings = NatsSettings(
        servers=cluster.url,
        nkey_file=cluster.keys / "node.nk",
        tls_ca=cluster.certificates / "ca.pem",
        tls_certificate=cluster.certificates / "n1.pem",
        tls_key=cluster.certificates / "n1.key",
    )

    async def look() -> list[str]:
        connection = NatsConnection(settings)
        await connection.open()
        try:
            await check_servers(connection, settings)
            await create_log_streams(connection, settings, 1)
            return sorted(str(server["server_name"]) for server in await connection.servers())
        finally:
            await connection.close()

    assert asyncio.run(look()) == sorted(NAMES)


@pytest.mark.parametrize("who", ["nobody", "a stranger"])
def test_without_a_known_key_nobody_comes_in(cluster: NatsCluster, who: str, tmp_path: Path) -> None:
    seed = tmp_path / "stranger.nk"
    seed.write_bytes(encode_seed(os.urandom(32), PREFIX_BYTE_USER))
    options = {"nkeys_seed": str(seed)} if who == "a stranger" else {}

    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        asyncio.run(cluster.connect(None, **options))


def test_a_client_without_tls_is_refused(cluster: NatsCluster) -> None:
    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", cluster.clients_port)
        info = await reader.readline()
        assert json.loads(info.removeprefix(b"INFO "))["tls_required"] is True
        writer.write(b'CONNECT {"verbose":true}\r\nPING\r\n')
        try:
            rest = await asyncio.wait_for(reader.read(), 8)
        except ConnectionResetError:
            rest = b""
        writer.close()
        return rest

    assert b"PONG" not in asyncio.run(talk())


@pytest.mark.parametrize("whose", ["none", "of another authority", "ours"])
def test_a_route_needs_a_certificate_of_our_authority(cluster: NatsCluster, whose: str) -> None:
    """A route is another server, which may do everything."""
    context = cluster.tls()
    if whose == "of another authority":
        context.load_cert_chain(cluster.certificates / "public.pem", cluster.certificates / "public.key")
    if whose == "ours":
        context.load_cert_chain(cluster.certificates / "n3.pem", cluster.certificates / "n3.key")

    async def talk() -> bytes:
        try:
            # Between servers TLS comes first. A client of TLS 1.3 hears of its refusal when it reads.
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", cluster.routes_port, ssl=context, server_hostname="127.0.0.1"
            )
        except (ssl.SSLError, ConnectionError):
            return b""
        try:
            return await asyncio.wait_for(reader.readline(), 5)
        except (ssl.SSLError, ConnectionError):
            return b""
        finally:
            writer.transport.abort()

    assert asyncio.run(talk()).startswith(b"INFO ") is (whose == "ours")
