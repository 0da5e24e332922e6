"""What the catalogue remembers of deleted queues, and when it forgets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.log.asynchrony import async_test, until
from tests.metadata.test_catalogue import ACCOUNT, catalogues, number_of, record
from waystation.metadata.store import Conflict, MetadataUnavailable


@async_test
async def test_a_deleted_queue_leaves_its_time_and_nothing_else(tmp_path: Path) -> None:
    async with catalogues(tmp_path) as [catalogue]:
        created = await catalogue.create(record(attributes={"Policy": "{}"}, tags={"a": "b"}))
        assert catalogue.deleted_ms(ACCOUNT, "orders") == 0
        assert await catalogue.delete(created, tombstone_ms=5_000)

        assert catalogue.deleted_ms(ACCOUNT, "orders") == 5_000
        assert catalogue.deleted_ms(ACCOUNT, "others") == 0
        assert catalogue.find(ACCOUNT, "orders") is None
        assert list(catalogue.queues()) == []
        assert catalogue.names(ACCOUNT, "", "", 10) == []
        assert not await catalogue.delete(created, tombstone_ms=6_000)
        assert await catalogue.update(created, lambda old: old) is None
        assert catalogue.deleted_ms(ACCOUNT, "orders") == 5_000


@async_test
async def test_a_queue_without_a_tombstone_leaves_nothing(tmp_path: Path) -> None:
    async with catalogues(tmp_path) as [catalogue]:
        await catalogue.delete(await catalogue.create(record()))

        assert catalogue.deleted_ms(ACCOUNT, "orders") == 0
        assert await catalogue._store.list("queue/") == []


@async_test
async def test_a_restart_does_not_forget_a_deletion(tmp_path: Path) -> None:
    async with catalogues(tmp_path) as [catalogue]:
        await catalogue.delete(await catalogue.create(record()), tombstone_ms=5_000)
    async with catalogues(tmp_path) as [catalogue]:
        assert catalogue.deleted_ms(ACCOUNT, "orders") == 5_000
        assert list(catalogue.queues()) == []


@async_test
async def test_other_processes_hear_of_a_deletion_and_of_its_end(tmp_path: Path) -> None:
    async with catalogues(tmp_path, count=2) as [one, two]:
        created = await one.create(record())
        await one.delete(created, tombstone_ms=5_000)
        await until(lambda: two.deleted_ms(ACCOUNT, "orders") == 5_000)

        await one.sweep(before_ms=5_000)
        await until(lambda: two.deleted_ms(ACCOUNT, "orders") == 0)
        await until(lambda: one._gone == {} == two._gone)


@async_test
async def test_a_new_queue_takes_the_place_of_a_tombstone(tmp_path: Path) -> None:
    async with catalogues(tmp_path, count=2) as [one, two]:
        await one.delete(await one.create(record(number=1)), tombstone_ms=5_000)
        await one.create(record(number=2))

        assert number_of(one.find(ACCOUNT, "orders")) == 2
        assert one.deleted_ms(ACCOUNT, "orders") == 0
        assert one.names(ACCOUNT, "", "", 10) == ["orders"]
        await until(lambda: two.find(ACCOUNT, "orders") is not None)
        assert two.deleted_ms(ACCOUNT, "orders") == 0
        with pytest.raises(Conflict):
            await two.create(record(number=3))


@async_test
async def test_a_create_sees_a_deletion_that_its_cache_has_not_heard_of(tmp_path: Path) -> None:
    """Whether the name is free is for the caller to judge, who can do that now."""
    async with catalogues(tmp_path, count=2) as [one, two]:
        await one.delete(await one.create(record(number=1)), tombstone_ms=5_000)
        two._gone.clear()

        with pytest.raises(Conflict):
            await two.create(record(number=2))
        assert two.deleted_ms(ACCOUNT, "orders") == 5_000
        assert number_of(await two.create(record(number=2))) == 2


@async_test
async def test_a_create_goes_on_when_the_tombstone_was_swept_away_meanwhile(tmp_path: Path) -> None:
    async with catalogues(tmp_path, count=2) as [one, two]:
        await one.delete(await one.create(record(number=1)), tombstone_ms=5_000)
        await until(lambda: two.deleted_ms(ACCOUNT, "orders") == 5_000)
        remembered = dict(two._gone)
        await one.sweep(before_ms=5_000)
        await until(lambda: two._gone == {})
        two._gone.update(remembered)

        assert number_of(await two.create(record(number=2))) == 2
        await until(lambda: number_of(one.find(ACCOUNT, "orders")) == 2)


@async_test
async def test_a_sweep_takes_only_what_is_old_enough_and_only_a_few(tmp_path: Path) -> None:
    async with catalogues(tmp_path) as [catalogue]:
        for number in range(5):
            created = await catalogue.create(record(f"orders-{number}", number + 1))
            await catalogue.delete(created, tombstone_ms=1_000 + number)

        async def left() -> int:
            return len(await catalogue._store.list("queue/"))

        await catalogue.sweep(before_ms=999)
        assert await left() == 5
        await catalogue.sweep(before_ms=1_000)
        assert await left() == 4
        await until(lambda: len(catalogue._gone) == 4)
        await catalogue.sweep(before_ms=2_000)
        assert await left() == 2
        assert catalogue.deleted_ms(ACCOUNT, "orders-4") == 1_004


@async_test
async def test_tombstones_stay_few_while_queues_come_and_go(tmp_path: Path) -> None:
    async with catalogues(tmp_path) as [catalogue]:
        for number in range(1, 60):
            created = await catalogue.create(record(f"orders-{number}", number))
            await catalogue.delete(created, tombstone_ms=number * 1_000)
            await catalogue.sweep(before_ms=(number - 10) * 1_000)

        assert len(await catalogue._store.list("queue/")) <= 12


@async_test
async def test_a_sweep_that_fails_or_comes_too_late_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with catalogues(tmp_path, count=2) as [one, two]:
        await one.delete(await one.create(record(number=1)), tombstone_ms=5_000)
        await until(lambda: two.deleted_ms(ACCOUNT, "orders") == 5_000)
        stale = dict(two._gone)
        await one.create(record(number=2))
        await until(lambda: two.find(ACCOUNT, "orders") is not None)
        two._gone.update(stale)
        await two.sweep(before_ms=5_000)
        assert number_of(one.find(ACCOUNT, "orders")) == 2

        async def fail(key: str, expected: int) -> int:
            raise MetadataUnavailable("refused by the test")

        monkeypatch.setattr(one._store, "delete", fail)
        found = one.find(ACCOUNT, "orders")
        assert found is not None
        await one.delete(found, tombstone_ms=6_000)
        await one.sweep(before_ms=6_000)
        assert one.deleted_ms(ACCOUNT, "orders") == 6_000
