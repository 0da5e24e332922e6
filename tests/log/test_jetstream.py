"""The JetStream log on one real server: appends whose outcome is unknown, rivals, holes and damage."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.log.asynchrony import async_test, until
from tests.log.jetstream_world import append_all, payloads, replayed, world
from tests.nats_server import nats_servers
from waystation.log.errors import Fenced, LogDamaged, LogUnavailable
from waystation.log.interface import Snapshot
from waystation.log.jetstream import JetStreamLog, create_log_streams
from waystation.log.records import NO_CHECKSUM, encode_record

# Streams


@async_test
async def test_a_log_without_its_stream_is_unavailable_and_says_what_creates_it(nats_url: str) -> None:
    async with world(nats_url) as made:
        log = JetStreamLog(await made.connect(), made.settings, 1)
        with pytest.raises(LogUnavailable, match="`waystation cluster init` creates it"):
            await log.open()


@async_test
async def test_creating_the_streams_again_changes_nothing_and_adds_what_is_missing(nats_url: str) -> None:
    async with world(nats_url) as made:
        await (await made.owner()).append(b"one")
        connection = await made.connect()
        await create_log_streams(connection, made.settings, shards=3)

        assert await payloads(await made.owner()) == [b"one"]
        await JetStreamLog(connection, made.settings, 2).open()


@async_test
async def test_a_stream_that_would_forget_records_by_itself_is_refused(nats_url: str) -> None:
    async with world(nats_url) as made:
        log = await made.owner()
        config = (await made.api(f"STREAM.INFO.{made.stream}"))["config"]
        await made.api(f"STREAM.UPDATE.{made.stream}", {**config, "max_msgs": 5, "discard": "old"})

        with pytest.raises(LogUnavailable, match="it has to be set to discard=new, max_msgs=-1"):
            await log.open()
        with pytest.raises(LogUnavailable, match="would lose records"):
            await create_log_streams(made.connections[0], made.settings, shards=1)


@async_test
async def test_more_replicas_than_there_are_servers_are_refused_at_once(nats_url: str) -> None:
    async with world(nats_url) as made:
        connection = await made.connect()
        made.settings = type(made.settings)(servers=nats_url, prefix=f"{made.settings.prefix}-3")
        with pytest.raises(LogUnavailable, match="cannot have 3 replicas"):
            await create_log_streams(connection, made.settings, shards=1)


# Unknown outcomes


@pytest.mark.parametrize(
    "faults",
    [
        ["lose the answer"],
        ["lose the request"],
        ["lose the request", "lose the request", "lose the answer"],
    ],
    ids=", ".join,
)
@async_test
async def test_an_append_that_was_not_answered_is_found_out_and_happens_once(
    faults: list[str], nats_url: str
) -> None:
    async with world(nats_url) as made:
        log = await made.owner()
        made.connections[-1].faults = list(faults)

        assert await append_all(log, b"one", b"two") == [1, 2]
        assert made.connections[-1].published == 2 + len(faults)
        assert await payloads(await made.owner()) == [b"one", b"two"]


@async_test
async def test_appends_wait_for_a_server_that_does_nothing_for_a_while(tmp_path: Path) -> None:
    with nats_servers(tmp_path) as [server]:
        async with world(server.url) as made:
            log = await made.owner()
            await log.append(b"one")
            server.pause()
            appending = asyncio.create_task(log.append(b"two"))
            await until(lambda: made.connections[-1].published == 3)  # it was sent twice
            server.resume()

            assert await appending == 2
            assert await log.append(b"three") == 3
            assert await payloads(await made.owner()) == [b"one", b"two", b"three"]


@async_test
async def test_an_append_that_stays_unknown_closes_the_log_until_it_is_opened_again(tmp_path: Path) -> None:
    with nats_servers(tmp_path) as [server]:
        async with world(server.url) as made:
            log = await made.owner(append_deadline_s=0.5)
            await log.append(b"one")
            server.pause()
            with pytest.raises(LogUnavailable, match="Record 2 may have been appended"):
                await log.append(b"two")
            server.resume()
            with pytest.raises(LogUnavailable, match="not open"):
                await log.append(b"three")
            await log.open()

            assert await payloads(log) == [b"one", b"two"][: log.position]


@async_test
async def test_a_cancelled_append_closes_the_log(nats_url: str) -> None:
    async with world(nats_url) as made:
        log = await made.owner()
        appending = asyncio.create_task(log.append(b"one"))
        await asyncio.sleep(0)
        appending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await appending

        with pytest.raises(LogUnavailable):
            await log.append(b"two")


@async_test
async def test_an_open_log_never_goes_back_behind_what_was_acknowledged(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(nats_url) as made:
        log = await made.owner(append_deadline_s=0.3)
        await append_all(log, b"one", b"two")
        await made.api(f"STREAM.DELETE.{made.stream}")
        await create_log_streams(made.connections[0], made.settings, shards=1)

        with pytest.raises(LogUnavailable, match="it ends at record 0, and 2 was acknowledged"):
            await log.open()
        assert "log ends before what was acknowledged" in caplog.text


# Rivals


@async_test
async def test_an_owner_is_fenced_by_the_append_of_another(nats_url: str) -> None:
    async with world(nats_url) as made:
        old = await made.owner()
        await old.append(b"one")
        new = await made.owner()
        await new.append(b"two, new")

        with pytest.raises(Fenced):
            await old.append(b"two, old")
        with pytest.raises(LogUnavailable):
            await old.append(b"three, old")
        assert await new.append(b"three") == 3
        assert await payloads(await made.owner()) == [b"one", b"two, new", b"three"]


@async_test
async def test_of_owners_that_take_over_at_once_exactly_one_wins(nats_url: str) -> None:
    async with world(nats_url) as made:
        owners = [await made.owner() for _ in range(5)]
        results = await asyncio.gather(
            *(owner.append(b"%d" % number) for number, owner in enumerate(owners)), return_exceptions=True
        )

        [winner] = [number for number, result in enumerate(results) if result == 1]
        assert [type(result) for number, result in enumerate(results) if number != winner] == [Fenced] * 4
        assert await payloads(await made.owner()) == [b"%d" % winner]


@async_test
async def test_an_owner_that_was_not_answered_hears_that_another_was_quicker(nats_url: str) -> None:
    async with world(nats_url) as made:
        old, new = await made.owner(), await made.owner()
        made.connections[-2].faults = ["lose the request"]
        appending = asyncio.create_task(old.append(b"old"))
        await until(lambda: not made.connections[-2].faults)
        await new.append(b"new")

        with pytest.raises(Fenced):
            await appending


@async_test
async def test_a_replay_that_another_owner_has_overtaken_is_to_begin_again(nats_url: str) -> None:
    async with world(nats_url) as made:
        old = await made.owner()
        await append_all(old, b"one", b"two", b"three")
        late = await made.owner()
        assert await late.load_snapshot() is None
        await old.save_snapshot(Snapshot(3, old.checksum, b"state"))
        await old.truncate(3)

        with pytest.raises(LogUnavailable, match="Another owner has truncated the log"):
            await replayed(late)
        with pytest.raises(LogUnavailable, match="Another owner has truncated the log"):
            await late.read([1])
        assert await (await made.owner()).read([1, 2, 4]) == [None, None, None]


# Holes and damage


@async_test
async def test_a_hole_is_never_served(nats_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with world(nats_url, deletable=True) as made:
        log = await made.owner()
        await append_all(log, b"one", b"two", b"three", b"four")
        await made.api(f"STREAM.MSG.DELETE.{made.stream}", {"seq": 3})
        log = await made.owner()
        served = []
        with pytest.raises(LogDamaged, match="record 3 is missing"):
            served += [record.payload async for record in log.replay(0, NO_CHECKSUM)]
        with pytest.raises(LogDamaged, match="record 3 is missing"):
            await log.read([1, 3])
        with pytest.raises(LogDamaged, match="record 3 is missing"):
            await log.read(range(1, 5))

        assert served == []
        assert "log is damaged" in caplog.text
        assert [record and record.payload for record in await log.read([4, 2])] == [b"four", b"two"]


@async_test
async def test_a_log_whose_last_record_is_gone_cannot_be_opened(nats_url: str) -> None:
    async with world(nats_url, deletable=True) as made:
        log = await made.owner(append_deadline_s=1.0)
        await append_all(log, b"one", b"two")
        await made.api(f"STREAM.MSG.DELETE.{made.stream}", {"seq": 2})

        with pytest.raises(LogDamaged, match="record 2, the last, is missing"):
            await made.owner()


@async_test
async def test_a_record_that_is_not_what_was_written_is_never_served(nats_url: str) -> None:
    async with world(nats_url) as made:
        log = await made.owner()
        await log.append(b"one")
        data, _ = encode_record(2, log.checksum, b"two")
        await made.connections[0].publish(made.subject, data.replace(b"two", b"tWo"), {})
        with pytest.raises(LogDamaged, match="record 2 does not match its checksum"):
            await made.owner()
        after, _ = encode_record(3, b"x" * 16, b"three")
        await made.connections[0].publish(made.subject, after, {})
        log = await made.owner()

        with pytest.raises(LogDamaged, match="record 2 does not match its checksum"):
            await replayed(log)
        with pytest.raises(LogDamaged, match="record 2 does not match its checksum"):
            await log.read([2])


@async_test
async def test_a_record_that_does_not_follow_the_one_before_it_is_never_served(nats_url: str) -> None:
    async with world(nats_url) as made:
        log = await made.owner()
        await append_all(log, b"one", b"two")
        data, _ = encode_record(3, b"x" * 16, b"three")
        await made.connections[0].publish(made.subject, data, {})

        with pytest.raises(LogDamaged, match="record 3 does not follow the record before it"):
            await replayed(await made.owner())


@async_test
async def test_records_that_the_leader_says_are_truncated_are_read_where_they_are(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(nats_url) as made:
        await append_all(await made.owner(), b"one", b"two", b"three")
        connection = await made.connect()
        api = connection.api

        async def without_the_beginning(name: str, *arguments: Any, **options: Any) -> dict[str, Any]:
            answer = await api(name, *arguments, **options)
            if name.startswith("STREAM.INFO."):
                answer["state"] |= {"first_seq": 3, "messages": 1}
            return answer

        monkeypatch.setattr(connection, "api", without_the_beginning)
        log = JetStreamLog(connection, made.settings, 0)
        await log.open()

        assert log.first == 3
        assert [record and record.payload for record in await log.read([2, 3, 4])] == [b"two", b"three", None]
        assert await payloads(log) == [b"one", b"two", b"three"]


@async_test
async def test_a_record_that_a_replica_which_is_away_may_have_is_not_given_up(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(nats_url, deletable=True) as made:
        log = await made.owner()
        await append_all(log, b"one", b"two", b"three")
        await made.api(f"STREAM.MSG.DELETE.{made.stream}", {"seq": 2})
        connection = made.connections[-1]
        api = connection.api

        async def with_one_away(name: str, *arguments: Any, **options: Any) -> dict[str, Any]:
            answer = await api(name, *arguments, **options)
            if name.startswith("STREAM.INFO."):
                answer["cluster"] = {"leader": "n1", "replicas": [{"name": "n2", "offline": True}]}
            return answer

        monkeypatch.setattr(connection, "api", with_one_away)

        with pytest.raises(LogUnavailable, match="that n2 may have"):
            await log.read([2])


# Amounts


@async_test
async def test_records_of_all_sizes_are_replayed_in_batches_of_bounded_size(nats_url: str) -> None:
    written = [
        *(b"%d" % number for number in range(500)),
        *(bytes([n]) * 1_500_000 for n in range(12)),
        b"end",
    ]
    async with world(nats_url) as made:
        await append_all(await made.owner(), *written)
        log = await made.owner()

        assert await payloads(log) == written
        assert [record and record.payload for record in await log.read([513, 511, 3, 4, 5])] == [
            written[each - 1] for each in (513, 511, 3, 4, 5)
        ]


@async_test
async def test_what_is_truncated_while_it_is_read_is_not_missed(nats_url: str) -> None:
    async with world(nats_url) as made:
        log = await made.owner()
        await append_all(log, *(b"%d" % number for number in range(1, 801)))
        reading = asyncio.create_task(log.read(range(1, 801)))
        await log.truncate(700)
        found = await reading

        assert len(found) == 800
        assert [each and int(each.payload) for each in found[699:]] == [*range(700, 801)]
        assert all(each is None or int(each.payload) == at for at, each in enumerate(found, 1))


@async_test
async def test_there_is_no_room_when_a_server_is_nearly_full(tmp_path: Path) -> None:
    with nats_servers(tmp_path, max_file_store="300MB") as [server]:
        async with world(server.url) as made:
            log = await made.owner(reserve_bytes=260_000_000)
            connection = made.connections[-1]
            await connection.room.look()
            assert log.has_room()
            await append_all(log, *([bytes(2_000_000)] * 30))
            await connection.room.look()
            assert not log.has_room()
            await log.truncate(30)
            await connection.room.look()
            assert log.has_room()


@async_test
async def test_a_server_that_is_full_refuses_appends_and_there_is_no_room(tmp_path: Path) -> None:
    with nats_servers(tmp_path, max_file_store="1MB", exports="", imports="") as [server]:
        async with world(server.url) as made:
            log = await made.owner(append_deadline_s=0.3)
            await log.append(bytes(2_000_000))  # it looks before it stores, and this is one too many
            assert log.has_room()
            with pytest.raises(LogUnavailable, match=r"Record 2 may have been appended: insufficient"):
                await log.append(b"two")
            assert not log.has_room()
            await log.open()
            assert log.position == 1
