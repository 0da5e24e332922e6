"""What several processes write about one move, and which of it holds."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from tests.backend.virtual_time import settle, virtual_time
from tests.frontend.move_world import ACCOUNT, InstantStore
from waystation.metadata.move_register import MoveRegister, entry_of
from waystation.metadata.move_tasks import MoveStatus, MoveTask
from waystation.protocol import limits
from waystation.protocol.errors import InvalidParameterValue, OverLimit


def task(number: int, source: str = "letters", **fields: object) -> MoveTask:
    return MoveTask(f"task-{number}", ACCOUNT, source, 0, 1, 1_000 + number, 10, **fields)  # type: ignore[arg-type]


async def register() -> MoveRegister:
    store = InstantStore()
    await store.open()
    return MoveRegister(store)


@virtual_time
async def test_one_task_at_a_time_is_active_whoever_begins_it() -> None:
    moves = await register()
    results = await asyncio.gather(moves.begin(task(1)), moves.begin(task(2)), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), InvalidParameterValue]

    await moves.save(lambda: replace(task(1), status=MoveStatus.COMPLETED))
    await moves.begin(task(3))
    assert [each.id for each in await moves.of(ACCOUNT, "letters")] == ["task-3", "task-1"]
    assert [each.id for each in await moves.active()] == ["task-3"]


@virtual_time
async def test_the_last_ten_tasks_of_a_source_stay_newest_first() -> None:
    moves = await register()
    for number in range(12):
        await moves.begin(task(number))
        ended = task(number, moved=3, status=MoveStatus.FAILED, failure="because")
        await moves.save(lambda ended=ended: ended)  # type: ignore[misc]

    kept = await moves.of(ACCOUNT, "letters")
    assert [each.id for each in kept] == [f"task-{number}" for number in range(11, 1, -1)]
    assert kept[0] == task(11, moved=3, status=MoveStatus.FAILED, failure="because")
    assert await moves.of(ACCOUNT, "other") == []


@virtual_time
async def test_another_account_is_not_held_up_by_one_that_has_as_many_as_it_may() -> None:
    moves = await register()
    for number in range(limits.MOVE_TASKS_RUNNING_MAX):
        await moves.begin(task(number, f"letters-{number}"))
    with pytest.raises(OverLimit):
        await moves.begin(task(1_000, "one-more"))
    assert await moves.of(ACCOUNT, "one-more") == []

    await moves.begin(replace(task(1_000, "one-more"), account="000000000009"))
    assert await moves.cancel(task(5, "letters-5")) is not None
    with pytest.raises(OverLimit):  # it is still about to end
        await moves.begin(task(1_000, "one-more"))
    await moves.save(lambda: replace(task(5, "letters-5"), status=MoveStatus.CANCELLED))
    await moves.begin(task(1_000, "one-more"))


@virtual_time
async def test_a_task_that_has_ended_stays_so_whatever_a_process_that_comes_late_says() -> None:
    moves = await register()
    await moves.begin(task(1))
    ended = replace(task(1), status=MoveStatus.FAILED, failure="gone", moved=5)
    assert await moves.save(lambda: ended) == ended

    assert await moves.save(lambda: replace(task(1), moved=9)) == ended
    assert await moves.save(lambda: replace(task(1), status=MoveStatus.COMPLETED)) == ended
    assert await moves.cancel(task(1)) is None
    assert await moves.of(ACCOUNT, "letters") == [ended]


@virtual_time
async def test_a_task_that_is_cancelled_is_not_running_again_and_ends_as_cancelled() -> None:
    moves = await register()
    await moves.begin(task(1))
    assert await moves.cancel(task(1)) == replace(task(1), status=MoveStatus.CANCELLING)

    saved = await moves.save(lambda: replace(task(1), moved=3))
    assert saved == replace(task(1), status=MoveStatus.CANCELLING, moved=3)
    ended = await moves.save(lambda: replace(task(1), status=MoveStatus.FAILED, failure="gone"))
    assert ended == replace(task(1), status=MoveStatus.CANCELLED, moved=3)


@virtual_time
async def test_a_task_that_is_not_there_is_neither_cancelled_nor_saved() -> None:
    moves = await register()
    assert await moves.cancel(task(1)) is None
    assert await moves.save(lambda: task(1)) is None
    assert await moves.entries() == []


@virtual_time
async def test_tasks_of_a_queue_that_is_gone_are_forgotten_once_they_have_ended() -> None:
    moves = await register()
    await moves.begin(task(1))
    await moves.begin(task(2, "others"))
    await moves.save(lambda: replace(task(2, "others"), status=MoveStatus.COMPLETED))
    await moves.sweep(lambda _account, _source: False)

    assert [each.id for entry in await moves.entries() for each in entry.tasks] == ["task-1"]


@virtual_time
async def test_a_watch_tells_of_every_change_in_order() -> None:
    moves = await register()
    watch = moves.watch()
    await moves.begin(task(1))
    await moves.cancel(task(1))
    await settle()
    watch.close()

    entries = [entry_of(change) async for change in watch]
    assert [entry.tasks[0].status for entry in entries] == [MoveStatus.RUNNING, MoveStatus.CANCELLING]
    assert entries[0].revision < entries[1].revision
