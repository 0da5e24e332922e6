"""The catalogue: looked up without waiting, changed by compare-and-set, kept fresh by a watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.log.asynchrony import async_test, until
from waystation.metadata import catalogue as catalogue_module
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.queues import Queue, QueueRecord
from waystation.metadata.sqlite import SqliteMetadataStore
from waystation.metadata.store import Conflict, MetadataUnavailable, Stored, Watch
from waystation.queues.commands import QueueSettings

ACCOUNT = "000000000001"


def record(name: str = "orders", number: int = 1, **fields: object) -> QueueRecord:
    made = QueueRecord(name, ACCOUNT, created_s=100, modified_s=100, shard=0, number=number)
    return replace(made, **fields)


@asynccontextmanager
async def catalogues(folder: Path, count: int = 1) -> AsyncIterator[list[Catalogue]]:
    """Catalogues over one store, as those of several FrontEnds."""
    store = SqliteMetadataStore(folder / "metadata.db")
    await store.open()
    made = [Catalogue(store) for _ in range(count)]
    try:
        for each in made:
            await each.start()
        yield made
    finally:
        for each in made:
            await each.stop()
        await store.close()


def number_of(queue: Queue | None) -> int:
    assert queue is not None
    return queue.number


@async_test
async def test_a_created_queue_is_found_by_its_owner_and_name_at_once(tmp_path: Path) -> None:
    async with catalogues(tmp_path) as [catalogue]:
        created = await catalogue.create(record())

        assert [queue.record for queue in catalogue.queues()] == [record()]
        found = catalogue.find(ACCOUNT, "orders")
        assert found is not None
        assert (found.record, found.revision) == (created.record, created.revision)
        assert catalogue.find("000000000002", "orders") is None
        assert catalogue.find(ACCOUNT, "Orders") is None, "names are case-sensitive"


@async_test
async def test_a_name_is_given_once_to_each_owner(tmp_path: Path) -> None:
    async with catalogues(tmp_path) as [catalogue]:
        await catalogue.create(record(number=1))
        with pytest.raises(Conflict):
            await catalogue.create(record(number=2))
        await catalogue.create(record(account="000000000002", number=3))

        assert number_of(catalogue.find(ACCOUNT, "orders")) == 1
        assert number_of(catalogue.find("000000000002", "orders")) == 3


@async_test
async def test_queues_are_there_again_after_a_restart(tmp_path: Path) -> None:
    async with catalogues(tmp_path) as [catalogue]:
        await catalogue.create(record(attributes={"VisibilityTimeout": "7"}, tags={"team": "a"}))
        secret = catalogue.secret
        revision = (await catalogue.create(record("second", 2))).revision
    async with catalogues(tmp_path) as [catalogue]:
        found = catalogue.find(ACCOUNT, "orders")
        assert found is not None
        assert (found.record.attributes, found.record.tags) == ({"VisibilityTimeout": "7"}, {"team": "a"})
        assert catalogue.secret == secret
        second = catalogue.find(ACCOUNT, "second")
        assert second is not None
        assert second.revision == revision


@async_test
async def test_an_update_is_in_the_cache_when_it_returns(tmp_path: Path) -> None:
    async with catalogues(tmp_path) as [catalogue]:
        created = await catalogue.create(record())
        updated = await catalogue.update(created, lambda old: replace(old, attributes={"DelaySeconds": "5"}))

        assert updated is catalogue.find(ACCOUNT, "orders")
        assert updated is not None
        assert updated.delay_s == 5
        assert updated.revision > created.revision


@async_test
async def test_of_two_updates_from_the_same_state_neither_is_lost(tmp_path: Path) -> None:
    async with catalogues(tmp_path, count=2) as [one, two]:
        created = await one.create(record())
        stale = Queue(created.record, created.revision)
        await one.update(stale, lambda old: replace(old, tags={**old.tags, "one": "1"}))
        await two.update(stale, lambda old: replace(old, tags={**old.tags, "two": "2"}))

        found = two.find(ACCOUNT, "orders")
        assert found is not None
        assert found.record.tags == {"one": "1", "two": "2"}


@async_test
async def test_many_updates_at_once_all_count(tmp_path: Path) -> None:
    async with catalogues(tmp_path, count=2) as both:
        created = await both[0].create(record())

        def add(old: QueueRecord) -> QueueRecord:
            return replace(old, modified_s=old.modified_s + 1)

        await asyncio.gather(*(both[number % 2].update(created, add) for number in range(20)))
        stored = await both[0]._store.get(f"queue/{ACCOUNT}/orders")
        assert stored is not None
        await until(lambda: all(number_revision(each) == stored.revision for each in both))

        assert [modified_s(each) for each in both] == [120, 120]


def number_revision(catalogue: Catalogue) -> int:
    queue = catalogue.find(ACCOUNT, "orders")
    return 0 if queue is None else queue.revision


def modified_s(catalogue: Catalogue) -> int:
    queue = catalogue.find(ACCOUNT, "orders")
    assert queue is not None
    return queue.record.modified_s


@async_test
async def test_changes_reach_the_caches_of_others(tmp_path: Path) -> None:
    async with catalogues(tmp_path, count=2) as [one, two]:
        created = await one.create(record())
        await until(lambda: two.find(ACCOUNT, "orders") is not None)

        await one.update(created, lambda old: replace(old, attributes={"DelaySeconds": "5"}))
        await until(lambda: (queue := two.find(ACCOUNT, "orders")) is not None and queue.delay_s == 5)

        assert await one.delete(created)
        await until(lambda: two.find(ACCOUNT, "orders") is None)
        assert two.names(ACCOUNT, "", "", 10) == []


@async_test
async def test_a_deleted_queue_is_gone_at_once_and_its_name_free(tmp_path: Path) -> None:
    async with catalogues(tmp_path) as [catalogue]:
        created = await catalogue.create(record())

        assert await catalogue.delete(created)
        assert catalogue.find(ACCOUNT, "orders") is None
        assert not await catalogue.delete(created)
        assert number_of(await catalogue.create(record(number=2))) == 2


@async_test
async def test_a_queue_that_was_deleted_and_created_again_is_another(tmp_path: Path) -> None:
    """Whoever still holds the old one must neither change nor delete the new one."""
    async with catalogues(tmp_path, count=2) as [one, two]:
        old = await one.create(record(number=1))
        await until(lambda: two.find(ACCOUNT, "orders") is not None)
        await one.delete(old)
        new = await one.create(record(number=2))

        assert await two.update(old, lambda record: replace(record, tags={"wrong": "queue"})) is None
        assert not await two.delete(old)
        assert await one.update(old, lambda record: replace(record, tags={"wrong": "queue"})) is None
        assert not await one.delete(old)
        found = two.find(ACCOUNT, "orders")
        assert found is not None
        assert found.record == new.record


@async_test
async def test_an_update_of_a_queue_that_another_has_deleted_changes_nothing(tmp_path: Path) -> None:
    async with catalogues(tmp_path, count=2) as [one, two]:
        created = await one.create(record())
        await two.delete(created)

        assert await one.update(created, lambda old: replace(old, tags={"a": "b"})) is None
        assert one.find(ACCOUNT, "orders") is None


@async_test
async def test_late_news_of_older_changes_does_not_bring_them_back(tmp_path: Path) -> None:
    """A writer knows its own changes at once, and the watch tells it of them later."""
    async with catalogues(tmp_path) as [catalogue]:
        assert catalogue._watching is not None
        catalogue._watching.cancel()  # so that the news wait
        for number in range(1, 5):
            created = await catalogue.create(record(number=number))
            await catalogue.update(created, lambda old: replace(old, tags={"a": "b"}))
            await catalogue.delete(created)
        updated = await catalogue.create(record("updated", 5))
        await catalogue.update(updated, lambda old: replace(old, attributes={"DelaySeconds": "9"}))
        watch = catalogue._watch
        assert watch is not None
        news = [watch._changes.get_nowait() for _ in range(watch._changes.qsize())]
        assert len(news) == 14
        catalogue._watching = asyncio.create_task(catalogue._follow(watch))
        for change in news:
            assert change is not None
            watch.notify(change)
            await until(watch._changes.empty)
            assert catalogue.names(ACCOUNT, "", "", 10) == ["updated"]
            found = catalogue.find(ACCOUNT, "updated")
            assert found is not None
            assert found.delay_s == 9

        assert catalogue._gone == {}, "what the watch has passed is forgotten"


@async_test
async def test_a_create_whose_caller_went_away_is_known_all_the_same(tmp_path: Path) -> None:
    async with catalogues(tmp_path) as [catalogue]:
        creating = asyncio.create_task(catalogue.create(record()))
        await asyncio.sleep(0)
        creating.cancel()
        await asyncio.gather(creating, return_exceptions=True)
        await until(lambda: catalogue.find(ACCOUNT, "orders") is not None)

        with pytest.raises(Conflict):
            await catalogue.create(record(number=2))


@async_test
async def test_names_are_paged_in_their_order(tmp_path: Path) -> None:
    async with catalogues(tmp_path) as [catalogue]:
        names = [f"orders-{number}" for number in range(25)] + ["a", "orders", "orders_", "z"]
        for number, name in enumerate(names, 1):
            await catalogue.create(record(name, number))
        await catalogue.create(record("orders-x", 99, account="000000000002"))
        expected = sorted(name for name in names if name.startswith("orders-"))

        pages: list[list[str]] = []
        after = ""
        while page := catalogue.names(ACCOUNT, "orders-", after, 10):
            pages.append(page)
            after = page[-1]

        assert [len(page) for page in pages] == [10, 10, 5]
        assert [name for page in pages for name in page] == expected
        assert catalogue.names(ACCOUNT, "", "", 1_000) == sorted(names)
        assert catalogue.names(ACCOUNT, "", "y", 1_000) == ["z"]
        assert catalogue.names(ACCOUNT, "nothing", "", 10) == []
        assert catalogue.names("000000000009", "", "", 10) == []


@async_test
async def test_a_page_begins_past_a_queue_that_was_deleted_meanwhile(tmp_path: Path) -> None:
    async with catalogues(tmp_path) as [catalogue]:
        for number, name in enumerate("abcd", 1):
            created = await catalogue.create(record(name, number))
            if name == "b":
                deleted = created
        [_, last] = catalogue.names(ACCOUNT, "", "", 2)
        await catalogue.delete(deleted)

        assert last == "b"
        assert catalogue.names(ACCOUNT, "", last, 2) == ["c", "d"]


def cut_off(catalogue: Catalogue) -> None:
    """Tell its watch more than it may keep, before it gets a turn to read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watch, "_CHANGES_MAX", 2)
        assert catalogue._watch is not None
        for _ in range(5):
            catalogue._watch.notify(Stored(f"queue/{ACCOUNT}/nothing", None, 0))


@async_test
async def test_a_catalogue_whose_watch_was_cut_off_reads_everything_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_module, "_RETRY_S", 0.01)
    async with catalogues(tmp_path, count=2) as [one, two]:
        gone = await one.create(record("gone", 1))
        await until(lambda: two.find(ACCOUNT, "gone") is not None)
        cut_off(two)
        await one.create(record("new", 2))
        await one.delete(gone)
        await until(lambda: two.names(ACCOUNT, "", "", 10) == ["new"])

        await one.create(record("later", 3))
        await until(lambda: two.find(ACCOUNT, "later") is not None)


@async_test
async def test_a_catalogue_whose_store_fails_when_it_reads_again_tries_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_module, "_RETRY_S", 0.01)
    async with catalogues(tmp_path, count=2) as [one, two]:
        lists, failures = one._store.list, [MetadataUnavailable("refused by the test")] * 3

        async def list_or_fail(prefix: str) -> list[Stored]:
            if failures:
                raise failures.pop()
            return await lists(prefix)

        monkeypatch.setattr(one._store, "list", list_or_fail)
        cut_off(two)
        await one.create(record())
        await until(lambda: two.find(ACCOUNT, "orders") is not None)

        assert not failures


@async_test
async def test_a_queue_that_is_created_while_it_is_looked_for_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with catalogues(tmp_path) as [catalogue]:
        get = catalogue._store.get

        async def get_then_create(key: str) -> Stored | None:
            found = await get(key)
            await catalogue.create(record())
            return found

        monkeypatch.setattr(catalogue._store, "get", get_then_create)
        await catalogue._refresh(record())

        assert catalogue.find(ACCOUNT, "orders") is not None


@async_test
async def test_a_queue_that_is_created_while_everything_is_read_again_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with catalogues(tmp_path) as [catalogue]:
        lists = catalogue._store.list

        async def list_then_create(prefix: str) -> list[Stored]:
            found = await lists(prefix)
            await catalogue.create(record())
            return found

        monkeypatch.setattr(catalogue._store, "list", list_then_create)
        await catalogue._fill()

        assert catalogue.find(ACCOUNT, "orders") is not None


@async_test
async def test_two_catalogues_that_start_at_once_agree_on_the_secret(tmp_path: Path) -> None:
    async with catalogues(tmp_path) as [first]:
        store = first._store
        others = [Catalogue(store) for _ in range(3)]
        await asyncio.gather(*(other.start() for other in others))

        assert {len(first.secret)} == {32}
        assert {other.secret for other in others} == {first.secret}
        for other in others:
            await other.stop()


@async_test
async def test_a_stopped_catalogue_leaves_no_task_and_no_watch_behind(tmp_path: Path) -> None:
    store = SqliteMetadataStore(tmp_path / "metadata.db")
    await store.open()
    tasks = asyncio.all_tasks()
    for _ in range(3):
        catalogue = Catalogue(store)
        await catalogue.start()
        await catalogue.stop()
    await store.put("queue/a/b", b"", 0)

    assert asyncio.all_tasks() == tasks
    assert store._watches == []
    await store.close()


def test_a_queue_has_the_settings_that_were_set_and_the_defaults_for_the_others() -> None:
    attributes = {
        "DelaySeconds": "1",
        "ReceiveMessageWaitTimeSeconds": "2",
        "VisibilityTimeout": "3",
        "MaximumMessageSize": "4096",
        "MessageRetentionPeriod": "60",
    }
    given = Queue(record(attributes=attributes), 7)
    default = Queue(record(), 7)

    assert (given.delay_s, given.wait_s, given.visibility_timeout_s) == (1, 2, 3)
    assert (given.message_bytes_max, given.retention_s) == (4_096, 60)
    assert (default.delay_s, default.wait_s, default.visibility_timeout_s) == (0, 0, 30)
    assert (default.message_bytes_max, default.retention_s) == (1_048_576, 345_600)
    assert given.settings() == QueueSettings("orders", 60_000, 120_000, 7)
