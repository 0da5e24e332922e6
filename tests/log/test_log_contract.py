"""What every log promises, whatever stores it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import TypeAlias

import pytest

from tests.log.asynchrony import async_test
from tests.simulation.disk import LogDisk, SimulatedLog
from waystation.log.errors import LogDamaged, LogUnavailable
from waystation.log.interface import Log, Snapshot
from waystation.log.jetstream import JetStreamLog, create_log_streams
from waystation.log.memory import MemoryLog
from waystation.log.nats import NatsConnection
from waystation.log.records import NO_CHECKSUM, Record
from waystation.log.settings import NatsSettings
from waystation.log.sqlite import SqliteLog

Storage: TypeAlias = Callable[[], Log]
"""Gives a log, not open yet, over the same storage each time."""


def memory_storage(_: Path) -> Storage:
    log = MemoryLog()
    return lambda: log


def sqlite_storage(folder: Path) -> Storage:
    return lambda: SqliteLog(folder / "shard.log")


def simulated_storage(_: Path) -> Storage:
    """What the simulation takes for a log has to be one, or what it finds means nothing."""
    disk = LogDisk(Random(1))
    return lambda: SimulatedLog(disk)


class ConnectedLog(JetStreamLog):
    """One over a connection of its own, and with its own stream, which is there when it is opened."""

    def __init__(self, settings: NatsSettings) -> None:
        self._own = NatsConnection(settings)
        self._settings = settings
        super().__init__(self._own, settings, 0)

    async def open(self) -> None:
        if not self._own.client.is_connected:
            await self._own.open()
            await create_log_streams(self._own, self._settings, shards=1)
        await super().open()

    async def close(self) -> None:
        await super().close()
        await self._own.close()


def jetstream_storage(url: str) -> Storage:
    settings = NatsSettings(servers=url, prefix=f"test-{secrets.token_hex(6)}", replicas=1)
    return lambda: ConnectedLog(settings)


@pytest.fixture(params=["memory", "sqlite", "simulated", "jetstream"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    match request.param:
        case "memory":
            return memory_storage(tmp_path)
        case "sqlite":
            return sqlite_storage(tmp_path)
        case "simulated":
            return simulated_storage(tmp_path)
        case _:
            return jetstream_storage(request.getfixturevalue("nats_url"))


@asynccontextmanager
async def opened(storage: Storage) -> AsyncIterator[Log]:
    log = storage()
    await log.open()
    try:
        yield log
    finally:
        await log.close()


async def append_all(log: Log, *payloads: bytes) -> list[int]:
    return [await log.append(payload) for payload in payloads]


async def replayed(log: Log, after: int = 0, checksum: bytes | None = NO_CHECKSUM) -> list[Record]:
    return [record async for record in log.replay(after, checksum)]


@async_test
async def test_an_empty_log_ends_where_it_begins(storage: Storage) -> None:
    async with opened(storage) as log:
        assert (log.first, log.position, log.checksum) == (1, 0, NO_CHECKSUM)
        assert await replayed(log) == []
        assert await log.read([1]) == [None]
        assert await log.load_snapshot() is None


@async_test
async def test_records_get_positions_from_1_without_holes(storage: Storage) -> None:
    async with opened(storage) as log:
        assert await append_all(log, b"one", b"", b"three") == [1, 2, 3]
        assert (log.first, log.position) == (1, 3)


@async_test
async def test_what_was_appended_is_replayed_as_it_was(storage: Storage) -> None:
    payloads = [b"one", b"", bytes(range(256)) * 1_000, b"four"]
    async with opened(storage) as log:
        await append_all(log, *payloads)

        assert [(record.position, record.payload) for record in await replayed(log)] == [
            *enumerate(payloads, 1)
        ]


@async_test
async def test_each_record_carries_the_checksum_of_the_one_before(storage: Storage) -> None:
    async with opened(storage) as log:
        await append_all(log, b"same", b"same", b"same")
        records = await replayed(log)

        assert [record.previous for record in records] == [
            NO_CHECKSUM,
            *(record.checksum for record in records[:-1]),
        ]
        assert len({record.checksum for record in records}) == 3
        assert log.checksum == records[-1].checksum


@async_test
async def test_more_records_than_are_read_at_once_are_replayed_in_order(storage: Storage) -> None:
    async with opened(storage) as log:
        for number in range(600):
            await log.append(b"%d" % number)

        assert [int(record.payload) for record in await replayed(log)] == list(range(600))


@async_test
async def test_a_replay_begins_after_the_record_it_is_told(storage: Storage) -> None:
    async with opened(storage) as log:
        await append_all(log, b"one", b"two", b"three")
        checksums = [record.checksum for record in await replayed(log)]

        assert [record.payload for record in await replayed(log, 2, checksums[1])] == [b"three"]
        assert [record.payload for record in await replayed(log, 2, None)] == [b"three"]
        assert await replayed(log, 3, checksums[2]) == []


@async_test
async def test_a_replay_that_begins_after_another_record_than_expected_is_refused(storage: Storage) -> None:
    async with opened(storage) as log:
        await append_all(log, b"one", b"two", b"three")

        with pytest.raises(LogDamaged, match="record 3 does not follow"):
            await replayed(log, 2, b"x" * 16)


@async_test
async def test_records_are_read_in_the_order_asked(storage: Storage) -> None:
    async with opened(storage) as log:
        await append_all(log, b"one", b"two", b"three")
        found = await log.read([3, 9, 1, 3])

        assert [record and record.payload for record in found] == [b"three", None, b"one", b"three"]
        assert await log.read([]) == []
        assert [record and record.position for record in await log.read(range(2, 4))] == [2, 3]


@async_test
async def test_a_log_goes_on_where_it_ended_when_it_is_opened_again(storage: Storage) -> None:
    async with opened(storage) as log:
        await append_all(log, b"one", b"two")
        checksum = log.checksum
    async with opened(storage) as log:
        assert (log.first, log.position, log.checksum) == (1, 2, checksum)
        assert await log.append(b"three") == 3
        assert [record.payload for record in await replayed(log)] == [b"one", b"two", b"three"]


@async_test
async def test_an_open_log_may_be_opened_again(storage: Storage) -> None:
    async with opened(storage) as log:
        await log.append(b"one")
        await log.open()

        assert await log.append(b"two") == 2
        assert [record.payload for record in await replayed(log)] == [b"one", b"two"]


@async_test
async def test_truncated_records_are_gone_and_positions_stay(storage: Storage) -> None:
    async with opened(storage) as log:
        await append_all(log, *(b"%d" % number for number in range(1, 1_001)))
        [kept] = await log.read([899])
        assert kept is not None
        await log.truncate(900)

        assert (log.first, log.position) == (900, 1_000)
        assert await log.read([1, 899]) == [None, None]
        assert [record and record.payload for record in await log.read([900])] == [b"900"]
        assert len(await replayed(log, 899, kept.checksum)) == 101
        assert await log.append(b"more") == 1_001


@async_test
async def test_a_replay_from_before_the_first_record_that_is_left_is_refused(storage: Storage) -> None:
    async with opened(storage) as log:
        await append_all(log, b"one", b"two", b"three")
        await log.truncate(3)

        with pytest.raises(LogDamaged, match="records 1 to 2 are missing"):
            await replayed(log)


@async_test
async def test_truncating_what_is_truncated_already_does_nothing(storage: Storage) -> None:
    async with opened(storage) as log:
        await append_all(log, b"one", b"two", b"three")
        await log.truncate(3)
        await log.truncate(2)
        await log.truncate(0)

        assert (log.first, log.position) == (3, 3)


@async_test
async def test_the_last_record_is_never_truncated_as_it_tells_where_the_log_ends(storage: Storage) -> None:
    async with opened(storage) as log:
        await append_all(log, b"one", b"two", b"three")
        await log.truncate(99)
        assert (log.first, log.position) == (3, 3)
        checksum = log.checksum
    async with opened(storage) as log:
        assert (log.first, log.position, log.checksum) == (3, 3, checksum)
        assert await log.append(b"four") == 4


@async_test
async def test_the_size_follows_what_is_stored(storage: Storage) -> None:
    async with opened(storage) as log:
        for _ in range(40):
            await log.append(b"x" * 50_000)
        full = log.size_bytes
        await log.truncate(40)

        assert 2_000_000 <= full <= 2_400_000
        assert 50_000 <= log.size_bytes <= 400_000


@async_test
async def test_the_snapshot_that_was_saved_last_is_loaded(storage: Storage) -> None:
    async with opened(storage) as log:
        await append_all(log, b"one", b"two")
        first, second = Snapshot(1, b"1" * 16, b""), Snapshot(2, b"2" * 16, b"state" * 200_000)
        await log.save_snapshot(first)
        assert await log.load_snapshot() == first
        await log.save_snapshot(second)
        assert await log.load_snapshot() == second
    async with opened(storage) as log:
        assert await log.load_snapshot() == second


@async_test
async def test_truncation_and_snapshots_do_not_touch_each_other(storage: Storage) -> None:
    async with opened(storage) as log:
        await append_all(log, b"one", b"two", b"three")
        snapshot = Snapshot(2, b"2" * 16, b"state")
        await log.save_snapshot(snapshot)
        await log.truncate(3)

        assert await log.load_snapshot() == snapshot
        assert [record and record.payload for record in await log.read([3])] == [b"three"]


@pytest.mark.parametrize("was_open", [False, True])
@async_test
async def test_a_log_that_is_not_open_is_unavailable(storage: Storage, was_open: bool) -> None:
    log = storage()
    if was_open:
        await log.open()
        await log.append(b"one")
        await log.close()
        await log.close()

    with pytest.raises(LogUnavailable):
        await log.append(b"two")
    with pytest.raises(LogUnavailable):
        await log.read([1])
    with pytest.raises(LogUnavailable):
        await replayed(log)
    with pytest.raises(LogUnavailable):
        await log.save_snapshot(Snapshot(1, NO_CHECKSUM, b""))
    with pytest.raises(LogUnavailable):
        await log.load_snapshot()
    with pytest.raises(LogUnavailable):
        await log.truncate(1)
