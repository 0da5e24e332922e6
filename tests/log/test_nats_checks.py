"""What is asked of NATS servers before anything is trusted to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.log.asynchrony import async_test
from tests.nats_server import nats_servers, urls
from waystation.log.nats import NatsConnection
from waystation.log.nats_checks import ServersUnchecked, ServersUnsafe, check_servers
from waystation.log.settings import NatsSettings


async def check(url: str, *, unchecked: bool = False) -> None:
    settings = NatsSettings(servers=url, unchecked=unchecked)
    connection = NatsConnection(settings)
    await connection.open()
    try:
        await check_servers(connection, settings)
    finally:
        await connection.close()


@async_test
async def test_a_server_that_is_set_up_well_passes(nats_url: str) -> None:
    await check(nats_url)


@async_test
async def test_a_server_that_does_not_sync_each_append_is_refused(tmp_path: Path) -> None:
    with nats_servers(tmp_path, sync="sync_interval: 2m", max_payload="1MB") as [server]:
        with pytest.raises(ServersUnsafe) as refused:
            await check(server.url)
        with pytest.raises(ServersUnsafe):
            await check(server.url, unchecked=True)

    assert "n1: a loss of power would lose acknowledged messages: set `sync_interval: always`" in str(
        refused.value
    )
    assert "n1: max_payload is 1048576 bytes: set `max_payload: 8MB`" in str(refused.value)


@async_test
async def test_a_server_that_does_not_tell_is_refused_unless_told_otherwise(tmp_path: Path) -> None:
    with nats_servers(tmp_path, exports="", imports="") as [server]:
        with pytest.raises(ServersUnchecked, match=r'exports: \[ { service: "\$SYS.REQ.SERVER.PING.VARZ"'):
            await check(server.url)
        await check(server.url, unchecked=True)


@async_test
async def test_every_server_of_a_cluster_is_checked_as_far_as_it_is_there(tmp_path: Path) -> None:
    with nats_servers(tmp_path, 3) as servers:
        await check(urls(servers))
        servers[2].kill()
        await check(urls(servers[:2]))
        servers[2].configuration = servers[2].configuration.replace("sync_interval: always", "")
        servers[2].start()

        with pytest.raises(ServersUnsafe, match="n3: a loss of power"):
            await check(urls(servers[:2]))


@pytest.mark.parametrize(("version", "is_refused"), [("2.15.0", True), ("2.16.0-RC.1", False), ("3", False)])
@async_test
async def test_a_server_has_to_be_new_enough(
    version: str, is_refused: bool, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = NatsConnection.servers

    async def of_that_version(connection: NatsConnection) -> list[dict[str, object]]:
        return [{**server, "version": version} for server in await servers(connection)]

    monkeypatch.setattr(NatsConnection, "servers", of_that_version)
    if not is_refused:
        await check(nats_url)
        return
    with pytest.raises(ServersUnsafe, match=r"n1: version 2.15.0 is too old: install 2.15.1 or newer"):
        await check(nats_url)
