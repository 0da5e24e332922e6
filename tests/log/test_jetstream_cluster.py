"""The JetStream log on three real servers: leaders that die or stall, and a disk that has lost records."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from tests.log.asynchrony import until
from tests.log.jetstream_world import World, append_all, payloads, world
from tests.nats_server import NatsServer, nats_servers, urls
from waystation.log.errors import Fenced
from waystation.log.interface import Snapshot
from waystation.log.nats import NatsFailure

PATIENCE_S = 90.0
"""An election takes six seconds, and on a busy machine may have to be held again."""


def cluster_test(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """As `async_test`, with more patience."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**arguments), PATIENCE_S))

    return run


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[NatsServer]]:
    with nats_servers(tmp_path_factory.mktemp("nats"), 3) as servers:
        yield servers


@pytest.fixture
def servers(shared: list[NatsServer]) -> list[NatsServer]:
    """All of them are well, whatever the test before has done."""
    for server in shared:
        if not server.is_running:
            server.start()
        server.resume()
        server.wait_until_healthy()
    return shared


async def leader(made: World, servers: Sequence[NatsServer]) -> NatsServer:
    name = (await made.api(f"STREAM.INFO.{made.stream}"))["cluster"]["leader"]
    return next(server for server in servers if server.name == name)


@cluster_test
async def test_nothing_is_lost_or_doubled_when_the_leader_of_the_stream_is_killed(
    servers: list[NatsServer],
) -> None:
    async with world(urls(servers), 3) as made:
        log = await made.owner(append_deadline_s=60.0)
        written: list[bytes] = []

        async def append_some() -> None:
            for _ in range(100):
                payload = b"%d" % len(written)
                await log.append(payload)
                written.append(payload)

        await append_some()
        killed = await leader(made, servers)
        appending = asyncio.create_task(append_some())
        await until(lambda: len(written) > 110)
        killed.kill()
        await appending
        await append_some()
        killed.start(wait=False)
        await append_some()

        assert len(written) == log.position == 400
        assert await payloads(log) == written


@cluster_test
async def test_an_owner_whose_append_hangs_at_a_stalled_leader_is_fenced_by_its_successor(
    servers: list[NatsServer],
) -> None:
    async with world(urls(servers), 3) as made:
        old = await made.owner(append_deadline_s=60.0)
        await old.append(b"one")
        stalled = await leader(made, servers)
        stalled.pause()
        connection = made.connections[-1]
        appending = asyncio.create_task(old.append(b"two, old"))
        await until(lambda: connection.published == 2)
        # What is on its way to the stalled leader is all that the old owner gets through.
        connection.faults = ["lose the request"] * 1_000
        new = await made.owner()
        await new.append(b"two, new")
        stalled.resume()
        connection.faults = []

        with pytest.raises(Fenced):
            await appending
        # Only an append proves where the log ends: who has just been stalled may not know it yet.
        await new.append(b"three")
        assert await payloads(new) == [b"one", b"two, new", b"three"]


@cluster_test
async def test_records_that_the_disk_of_one_replica_has_lost_are_read_from_the_others_even_if_it_leads(
    servers: list[NatsServer], caplog: pytest.LogCaptureFixture
) -> None:
    async with world(urls(servers), 3) as made:
        log = await made.owner()
        written = [b"%d" % number + bytes(1_000) for number in range(600)]
        await append_all(log, *written[:300])
        await log.save_snapshot(Snapshot(300, log.checksum, b"state"))
        await append_all(log, *written[300:])
        victim = await leader(made, servers)
        victim.stop()
        _lose_half(victim, made.stream)
        victim.start()
        await _lead(made, victim)

        assert await made.connections[0].message_at(made.stream, 599) is None  # its leader has lost it

        found = await made.owner()
        assert "a replica of a stream is damaged" in caplog.text
        assert await payloads(found) == written
        assert [record and record.payload for record in await found.read([1, 300, 599])] == [
            written[each - 1] for each in (1, 300, 599)
        ]
        assert await found.append(b"more") == 601


def _lose_half(server: NatsServer, stream: str) -> None:
    [file] = server.folder.glob(f"**/streams/{stream}/msgs/1.blk")
    with file.open("r+b") as block:
        block.truncate(file.stat().st_size // 2)


async def _lead(made: World, server: NatsServer) -> None:
    """Have a server lead the stream, as soon as the others let it."""
    request: dict[str, object] = {"placement": {"preferred": server.name}}
    leads = False
    while not leads:
        with suppress(NatsFailure):
            await made.connections[0].api(f"STREAM.LEADER.STEPDOWN.{made.stream}", request)
        with suppress(NatsFailure):
            cluster = (await made.connections[0].api(f"STREAM.INFO.{made.stream}"))["cluster"]
            leads = cluster.get("leader") == server.name
