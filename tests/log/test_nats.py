"""The connection to a NATS cluster: what comes of servers that are away, stuck, or tired of us."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.aio.client import Client

from tests.log.asynchrony import async_test, until
from tests.nats_server import free_ports, nats_servers, urls
from waystation.log import nats as nats_module
from waystation.log.errors import LogUnavailable
from waystation.log.nats import NatsConnection, NoAnswer, NotDelivered, Retries, obedient
from waystation.log.nats_room import StorageRoom, is_nearly_full
from waystation.log.settings import NatsSettings


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[NatsConnection]:
    connection = NatsConnection(NatsSettings(servers=url))
    await connection.open()
    try:
        yield connection
    finally:
        await connection.close()


@async_test
async def test_where_no_server_listens_opening_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_module, "_OPEN_S", 0.5)
    url = f"nats://127.0.0.1:{free_ports(1)[0]}"
    connection = NatsConnection(NatsSettings(servers=url))
    began_s = time.monotonic()

    with pytest.raises(LogUnavailable, match=rf"No NATS server at {url} can be used: .*Connect call failed"):
        await connection.open()

    assert time.monotonic() - began_s < 5.0
    with pytest.raises(NotDelivered):
        await connection.api("INFO")
    await connection.close()


@async_test
async def test_wrong_credentials_end_opening_in_an_error(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_module, "_OPEN_S", 0.5)
    url = nats_url.replace("nats://", "nats://way:wrong@")

    with pytest.raises(LogUnavailable, match="Authorization Violation"):
        await NatsConnection(NatsSettings(servers=url)).open()


@async_test
async def test_a_request_that_nobody_takes_was_not_delivered(nats_url: str) -> None:
    async with connected(nats_url) as connection:
        with pytest.raises(NotDelivered):
            await connection.ask("nobody.is.here")


@async_test
async def test_while_the_server_is_away_nothing_is_delivered_nor_kept_for_later(tmp_path: Path) -> None:
    with nats_servers(tmp_path) as [server]:
        async with connected(server.url) as connection:
            server.kill()
            await until(lambda: not connection.client.is_connected)
            with pytest.raises(NotDelivered):
                await connection.api("INFO")
            server.start()
            await until(lambda: connection.client.is_connected)
            assert await connection.api("INFO")


def server_of(connection: NatsConnection) -> str:
    url = connection.client.connected_url
    return "" if url is None else f"nats://{url.netloc}"


@async_test
async def test_changing_the_server_leads_to_another_one_and_is_done_once(tmp_path: Path) -> None:
    with nats_servers(tmp_path / "a") as [one], nats_servers(tmp_path / "b") as [two]:
        async with connected(urls([one, two])) as connection:
            before = server_of(connection)
            await connection.change_server()
            await connection.change_server()
            await until(lambda: connection.client.is_connected and server_of(connection) != before)

            assert {before, server_of(connection)} == {one.url, two.url}
            await connection.change_server()
            assert connection.client.is_connected


@async_test
async def test_whoever_gets_no_answer_is_led_to_another_server_whatever_is_on_its_way_to_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_module, "_SILENT_S_MAX", 0.3)
    with nats_servers(tmp_path / "a") as [one], nats_servers(tmp_path / "b") as [two]:
        async with connected(urls([one, two])) as connection:
            stuck, other = (one, two) if server_of(connection) == one.url else (two, one)
            stuck.pause()
            retries = Retries(connection, 10.0, "Nothing was done")
            answer = b""
            while not answer:
                try:
                    # Megabytes, which fill all buffers on the way: nothing can be flushed any more.
                    await connection.ask("nobody.is.here", bytes(7_000_000), timeout_s=0.1)
                except NoAnswer as failure:
                    await retries.after(failure)
                except NotDelivered as failure:
                    if server_of(connection) == other.url and connection.client.is_connected:
                        answer = b"there is nobody, says the other server"
                    await retries.after(failure)


@async_test
async def test_retries_end_at_their_deadline(nats_url: str) -> None:
    async with connected(nats_url) as connection:
        retries = Retries(connection, 0.2, "It may have been done")

        async def try_for_ever() -> None:
            while True:
                await retries.after(NoAnswer("never mind"))

        with pytest.raises(LogUnavailable, match=r"It may have been done: never mind\."):
            await try_for_ever()


@async_test
async def test_a_connection_that_the_server_has_closed_for_good_is_opened_again(nats_url: str) -> None:
    async with connected(nats_url) as connection:
        first: Client = connection.client
        await first._process_err("'maximum connections exceeded'")
        await until(lambda: connection.client is not first and connection.client.is_connected)

        assert await connection.api("INFO")


@pytest.mark.parametrize(
    ("account", "servers", "is_full"),
    [
        ({"storage": 950, "limits": {"max_storage": 1_000}}, [], True),
        ({"storage": 850, "limits": {"max_storage": 1_000}}, [], False),
        ({"storage": 10**12, "limits": {"max_storage": -1}}, [], False),
        ({"tiers": {"R3": {"storage": 950, "limits": {"max_storage": 1_000}}}}, [], True),
        ({}, [{"jetstream": {"config": {"max_storage": 1_000}, "stats": {"storage": 900}}}], True),
        ({}, [{"jetstream": {"config": {"max_storage": 1_000}, "stats": {"storage": 899}}}], False),
        ({}, [{}, {"jetstream": {"config": {"max_storage": 1_000}, "stats": {"storage": 1_200}}}], True),
        ({}, [], False),
    ],
)
def test_room_is_short_when_any_limit_is_near(
    account: dict[str, object], servers: list[dict[str, object]], is_full: bool
) -> None:
    assert is_nearly_full(account, servers, 100) == is_full


@async_test
async def test_room_is_looked_for_behind_the_back_of_whoever_asks() -> None:
    looks: list[bool | None] = [None, True]
    seen = asyncio.Event()

    async def is_full() -> bool | None:
        seen.set()
        return looks.pop(0)

    room = StorageRoom(is_full)
    assert room.has_room()
    await seen.wait()
    assert room.has_room()
    assert looks == [True]  # it has just been looked
    await room.look()
    assert not room.has_room()


@async_test
async def test_there_is_no_room_for_a_while_after_a_server_has_refused_to_store_something() -> None:
    async def is_full() -> bool | None:
        return False

    room = StorageRoom(is_full)
    assert room.has_room()
    room.note_full()
    assert not room.has_room()
    room.stop()


@async_test
async def test_who_is_cancelled_while_an_answer_comes_ends_all_the_same() -> None:
    """The library that waits for the answer may lose the cancellation."""

    async def deaf() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return "an answer"
        return "too late"

    task = asyncio.create_task(obedient(deaf()))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert await obedient(asyncio.sleep(0, "an answer")) == "an answer"
