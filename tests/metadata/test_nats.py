"""The metadata store on a real NATS server: unknown outcomes, lagging replicas, watches that fall silent."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from tests.log.asynchrony import async_test, until
from waystation.log.nats import ApiFailure, NatsConnection, NoAnswer
from waystation.log.settings import NatsSettings
from waystation.metadata import nats as nats_module
from waystation.metadata import nats_bucket, nats_feed
from waystation.metadata.nats import NatsMetadataStore, create_metadata_bucket
from waystation.metadata.nats_bucket import Bucket
from waystation.metadata.store import Conflict, MetadataUnavailable, Stored, Watch


class FaultyConnection(NatsConnection):
    """Does to the next writes, in order, what `faults` say; then behaves."""

    def __init__(self, settings: NatsSettings) -> None:
        super().__init__(settings)
        self.faults: list[str] = []
        self.before_retry: Callable[[], Awaitable[object]] | None = None
        self.invented_sequences = 0

    async def publish(
        self, subject: str, payload: bytes, headers: dict[str, Any], timeout_s: float = 1.0
    ) -> int:
        if not self.faults:
            return await super().publish(subject, payload, headers, timeout_s)
        if self.faults.pop(0) == "lose the answer":
            await super().publish(subject, payload, headers, timeout_s)
        if self.before_retry is not None:
            await self.before_retry()
        raise NoAnswer("lost by the test")

    async def api(self, name: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        answer = await super().api(name, *arguments, **options)
        if name.startswith("STREAM.INFO.KV_"):
            answer["state"]["last_seq"] += self.invented_sequences
        return answer


class Cluster:
    """A bucket of its own on the shared server, and the stores on it of several processes."""

    def __init__(self, url: str) -> None:
        self.settings = NatsSettings(servers=url, prefix=f"test-{secrets.token_hex(6)}", replicas=1)
        self._opened: list[tuple[FaultyConnection, NatsMetadataStore]] = []

    async def connect(self) -> FaultyConnection:
        connection = FaultyConnection(self.settings)
        await connection.open()
        return connection

    async def store(self) -> tuple[FaultyConnection, NatsMetadataStore]:
        connection = await self.connect()
        store = NatsMetadataStore(connection, self.settings)
        self._opened.append((connection, store))
        await store.open()
        return connection, store

    async def close(self) -> None:
        for connection, store in self._opened:
            await store.close()
            await connection.close()


@asynccontextmanager
async def cluster(url: str) -> AsyncIterator[Cluster]:
    made = Cluster(url)
    connection = await made.connect()
    await create_metadata_bucket(connection, made.settings)
    try:
        yield made
    finally:
        await made.close()
        await connection.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines that a test can wait for."""
    monkeypatch.setattr(nats_module, "_DEADLINE_S", 0.3)
    monkeypatch.setattr(nats_feed, "_CONFIRM_S", 0.05)
    monkeypatch.setattr(nats_feed, "_CATCH_UP_S", 0.1)
    monkeypatch.setattr(nats_feed, "_SILENT_S_MAX", 0.5)


async def all_of(watch: Watch) -> list[Stored]:
    """What a watch tells of until it ends."""
    return [change async for change in watch]


# The bucket


@async_test
async def test_a_store_without_its_bucket_is_unavailable_and_says_what_creates_it(nats_url: str) -> None:
    made = Cluster(nats_url)
    try:
        with pytest.raises(MetadataUnavailable, match="`waystation cluster init` creates it"):
            await made.store()
    finally:
        await made.close()


@async_test
async def test_creating_the_bucket_again_changes_nothing(nats_url: str) -> None:
    async with cluster(nats_url) as made:
        connection, store = await made.store()
        revision = await store.put("a", b"1", 0)
        await create_metadata_bucket(connection, made.settings)

        assert await store.get("a") == Stored("a", b"1", revision)
        assert await store.put("b", b"", 0) == revision + 1


@async_test
async def test_creating_a_bucket_was_not_finished_until_it_has_a_format(nats_url: str) -> None:
    async with cluster(nats_url) as made:
        connection, store = await made.store()
        await connection.api(f"STREAM.PURGE.KV_{made.settings.prefix}-metadata")
        await create_metadata_bucket(connection, made.settings)

        assert await store.list("") == []
        assert await store.get("a") is None


@async_test
async def test_a_bucket_of_another_format_is_refused(nats_url: str) -> None:
    async with cluster(nats_url) as made:
        connection, _ = await made.store()
        await Bucket(connection, made.settings).write("waystation-format", b"2", 1, nonce="")

        with pytest.raises(MetadataUnavailable, match="has format b'2'; this program reads b'1'"):
            await made.store()


@async_test
async def test_the_format_is_no_value_of_the_catalogue(nats_url: str) -> None:
    async with cluster(nats_url) as made:
        connection, store = await made.store()
        watch = store.watch("")
        assert await store.list("") == []
        await Bucket(connection, made.settings).write("waystation-format", b"1", 1, nonce="")
        revision = await store.put("a", b"1", 0)

        assert await anext(aiter(watch)) == Stored("a", b"1", revision)


# Writes


@async_test
async def test_of_several_processes_that_create_one_key_at_once_one_wins(nats_url: str) -> None:
    async with cluster(nats_url) as made:
        stores = [(await made.store())[1] for _ in range(5)]
        names = [b"%d" % number for number in range(len(stores))]
        writes = [store.put("key", name, 0) for store, name in zip(stores, names, strict=True)]
        results = await asyncio.gather(*writes, return_exceptions=True)

        [winner] = [
            (name, result)
            for name, result in zip(names, results, strict=True)
            if not isinstance(result, Conflict)
        ]
        stored = await stores[0].get("key")
        assert stored is not None
        assert (stored.value, stored.revision) == winner


@pytest.mark.parametrize("fault", ["lose the answer", "lose the request"])
@async_test
async def test_a_write_that_was_not_answered_is_found_out_and_happens_once(nats_url: str, fault: str) -> None:
    async with cluster(nats_url) as made:
        connection, store = await made.store()
        watch = store.watch("")

        connection.faults = [fault]
        created = await store.put("a", b"1", 0)
        connection.faults = [fault, fault]
        changed = await store.put("a", b"2", created)
        connection.faults = [fault]
        deleted = await store.delete("a", changed)
        connection.faults = [fault]
        again = await store.put("a", b"3", 0)

        assert (changed, deleted, again) == (created + 1, created + 2, created + 3)
        assert await store.get("a") == Stored("a", b"3", again)
        await until(lambda: watch._changes.qsize() == 4)


@async_test
async def test_a_write_that_was_not_answered_and_written_over_may_have_happened(nats_url: str) -> None:
    async with cluster(nats_url) as made:
        connection, store = await made.store()
        _, other = await made.store()

        async def write_over() -> None:
            stored = await other.get("a")
            assert stored is not None
            await other.put("a", b"other", stored.revision)

        connection.faults, connection.before_retry = ["lose the answer"], write_over
        with pytest.raises(MetadataUnavailable, match="may have happened"):
            await store.put("a", b"mine", 0)


@async_test
async def test_a_write_that_did_not_arrive_and_came_too_late_is_a_conflict(nats_url: str) -> None:
    async with cluster(nats_url) as made:
        connection, store = await made.store()
        _, other = await made.store()
        seen = await store.put("a", b"1", 0)

        connection.faults = ["lose the request"]
        connection.before_retry = lambda: other.put("a", b"other", seen)
        with pytest.raises(Conflict):
            await store.put("a", b"mine", seen)


@async_test
async def test_a_create_that_did_not_arrive_follows_a_delete_that_came_first(nats_url: str) -> None:
    async with cluster(nats_url) as made:
        connection, store = await made.store()
        _, other = await made.store()

        connection.faults = ["lose the request"]
        connection.before_retry = lambda: other.delete("a", 0)
        revision = await store.put("a", b"mine", 0)

        assert await other.get("a") == Stored("a", b"mine", revision)


@async_test
async def test_a_write_that_is_never_answered_fails_at_its_deadline(nats_url: str, hasty: None) -> None:
    async with cluster(nats_url) as made:
        connection, store = await made.store()
        connection.faults = ["lose the request"] * 100
        with pytest.raises(MetadataUnavailable, match="has not answered in time: lost by the test"):
            await store.put("a", b"1", 0)
        connection.faults = []

        assert await store.get("a") is None


# What the store leans on, of the server


@async_test
async def test_a_refused_write_says_so_by_its_number_and_uses_no_sequence(nats_url: str) -> None:
    async with cluster(nats_url) as made:
        connection, _ = await made.store()
        bucket = Bucket(connection, made.settings)
        first = await bucket.write("a", b"1", 0, nonce="")
        for expected in (0, first + 1):
            with pytest.raises(ApiFailure) as refused:
                await bucket.write("a", b"2", expected, nonce="")
            assert refused.value.code == 10_071

        assert await bucket.last_sequence() == first


@async_test
async def test_what_says_that_a_key_was_deleted_goes_by_itself_and_nobody_notices(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_bucket, "_MARKER_TTL", "1s")
    async with cluster(nats_url) as made:
        connection, store = await made.store()
        bucket = Bucket(connection, made.settings)
        kept = await store.put("kept", b"1", 0)
        deleted = await store.delete("gone", await store.put("gone", b"1", 0))
        watch = store.watch("")
        assert await store.get("gone") is None
        while await connection.message_at(bucket.stream, deleted) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

        assert await bucket.last_sequence() == deleted, "the end of the stream is a gap"
        assert await store.get("gone") is None
        assert await store.list("") == [Stored("kept", b"1", kept)]
        again = await store.put("gone", b"2", 0)
        assert again > deleted
        assert await anext(aiter(watch)) == Stored("gone", b"2", again)


@async_test
async def test_an_answer_that_is_older_than_what_the_leader_knows_is_not_believed(
    nats_url: str, hasty: None
) -> None:
    async with cluster(nats_url) as made:
        connection, store = await made.store()
        await store.put("a", b"1", 0)

        connection.invented_sequences = 1  # as if the replica that answers had not heard of one yet
        with pytest.raises(MetadataUnavailable, match="lags behind"):
            await store.get("a")


@async_test
async def test_a_list_waits_for_a_replica_that_knows_what_was_acknowledged(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(nats_url) as made:
        _, store = await made.store()
        _, other = await made.store()
        await store.put("a", b"1", 0)
        answers = 0
        read_after = Bucket.read_after

        async def lag(bucket: Bucket, sequence: int, at_least: int) -> list[nats_bucket.Entry]:
            nonlocal answers
            answers += 1
            if answers == 2:
                await other.put("b", b"1", 0)
            return await read_after(bucket, sequence, at_least) if answers > 3 else []

        monkeypatch.setattr(Bucket, "read_after", lag)
        assert [stored.key for stored in await store.list("")] == ["a", "b"]


@async_test
async def test_more_values_than_one_answer_holds_are_all_listed(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_bucket, "_BATCH_MAX", 7)
    async with cluster(nats_url) as made:
        _, store = await made.store()
        keys = [f"queue/{number:03}" for number in range(50)]
        await asyncio.gather(*(store.put(key, key.encode(), 0) for key in keys))

        assert [(stored.key, stored.value) for stored in await store.list("queue/")] == [
            (key, key.encode()) for key in keys
        ]


def lose_messages(connection: NatsConnection, monkeypatch: pytest.MonkeyPatch, lost: list[int]) -> None:
    """Of each subscription made from now on, lose the messages of these numbers."""
    subscribe = connection.client.subscribe

    async def subscribe_lossily(inbox: str, cb: Callable[[Msg], Awaitable[None]]) -> Subscription:
        received = 0

        async def take(message: Msg) -> None:
            nonlocal received
            received += 1
            if received not in lost:
                await cb(message)

        return await subscribe(inbox, cb=take)

    monkeypatch.setattr(connection.client, "subscribe", subscribe_lossily)


@async_test
async def test_an_answer_of_which_a_part_got_lost_is_not_believed(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(nats_url) as made:
        connection, store = await made.store()
        for number in range(5):
            await store.put(f"key-{number}", b"", 0)

        lost = [2]
        lose_messages(connection, monkeypatch, lost)
        with pytest.raises(NoAnswer, match="a part of an answer"):
            await Bucket(connection, made.settings).read_after(0, 1)
        listing = asyncio.create_task(store.list(""))
        await asyncio.sleep(0)
        lost.clear()
        assert len(await listing) == 5


# Watches


@async_test
async def test_a_watch_hears_of_the_changes_of_others_and_confirms_that_it_has_all(
    nats_url: str, hasty: None
) -> None:
    async with cluster(nats_url) as made:
        _, store = await made.store()
        _, other = await made.store()
        watch = store.watch("")
        assert watch.confirmed_s < asyncio.get_running_loop().time() - 60, "not yet, in any case"
        await store.get("a")
        begun_s = watch.confirmed_s
        await other.put("a", b"1", 0)
        changed_s = asyncio.get_running_loop().time()

        await until(lambda: watch.confirmed_s >= changed_s > begun_s)
        assert watch._changes.qsize() == 1


@async_test
async def test_a_watch_that_was_cut_off_is_confirmed_no_more(nats_url: str, hasty: None) -> None:
    async with cluster(nats_url) as made:
        _, store = await made.store()
        watch, other = store.watch(""), store.watch("")
        await store.get("a")
        watch.cut_off("cut off by the test")
        confirmed_s = watch.confirmed_s

        await until(lambda: other.confirmed_s > confirmed_s)
        assert watch.confirmed_s == confirmed_s


@async_test
async def test_a_watch_whose_consumer_is_gone_from_the_servers_is_cut_off(nats_url: str, hasty: None) -> None:
    async with cluster(nats_url) as made:
        connection, store = await made.store()
        watch = store.watch("")
        await store.put("a", b"1", 0)
        assert store._feed is not None
        stream = store._bucket.stream
        await connection.api(f"CONSUMER.DELETE.{stream}.{store._feed._name}")

        with pytest.raises(MetadataUnavailable, match="was lost"):
            await all_of(watch)
        again = store.watch("")
        revision = await store.put("b", b"1", 0)
        assert await anext(aiter(again)) == Stored("b", b"1", revision)


@async_test
async def test_a_watch_that_has_silently_stalled_is_cut_off(nats_url: str, hasty: None) -> None:
    async with cluster(nats_url) as made:
        connection, store = await made.store()
        watch = store.watch("")
        await store.get("a")
        assert store._feed is not None
        until_then = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        consumer = f"{store._bucket.stream}.{store._feed._name}"
        await connection.api(f"CONSUMER.PAUSE.{consumer}", {"pause_until": until_then})
        await store.put("a", b"1", 0)

        with pytest.raises(MetadataUnavailable, match="was lost"):
            await all_of(watch)


@async_test
async def test_a_watch_that_was_not_told_of_a_change_is_cut_off_by_the_next(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(nats_url) as made:
        connection, store = await made.store()
        lose_messages(connection, monkeypatch, lost := [])
        watch = store.watch("")
        first = await store.put("a", b"1", 0)
        await until(lambda: watch._changes.qsize() == 1)
        lost.append(2)
        await store.put("b", b"1", 0)
        await store.put("c", b"1", 0)

        assert await anext(aiter(watch)) == Stored("a", b"1", first)
        with pytest.raises(MetadataUnavailable, match="was lost"):
            await anext(aiter(watch))


@async_test
async def test_a_closed_store_leaves_no_consumer_on_the_servers_and_no_task(nats_url: str) -> None:
    async with cluster(nats_url) as made:
        tasks = asyncio.all_tasks()
        connection = await made.connect()
        store = NatsMetadataStore(connection, made.settings)
        await store.open()
        store.watch("")
        await store.get("a")
        await store.close()
        answer = await connection.ask(f"$JS.API.CONSUMER.NAMES.{store._bucket.stream}", b"{}")
        await connection.close()

        assert json.loads(answer.data)["consumers"] is None or json.loads(answer.data)["consumers"] == []
        await until(lambda: asyncio.all_tasks() == tasks)
