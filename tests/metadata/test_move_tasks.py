"""What is kept of message move tasks: the last ten of each source, whoever writes meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec.structs import replace

from tests.log.asynchrony import async_test
from waystation.metadata.move_tasks import MoveStatus, MoveTask, MoveTasks
from waystation.metadata.sqlite import SqliteMetadataStore

ACCOUNT = "000000000001"


def task(number: int = 1, source: str = "letters", **fields: object) -> MoveTask:
    made = MoveTask(f"task-{number}", ACCOUNT, source, shard=0, number=7, started_ms=1_000, to_move=5)
    return replace(made, **fields)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[MoveTasks]:
    store = SqliteMetadataStore(folder / "metadata.db")
    await store.open()
    try:
        yield MoveTasks(store)
    finally:
        await store.close()


@async_test
async def test_a_task_is_there_as_it_was_saved_last_also_after_a_restart(tmp_path: Path) -> None:
    changed = task(moved=3, status=MoveStatus.FAILED, failure="because", destination="arn", rate_max=5)
    async with opened(tmp_path) as tasks:
        assert await tasks.of(ACCOUNT, "letters") == []
        assert await tasks.save(task) == task()
        assert await tasks.of(ACCOUNT, "letters") == [task()]
        await tasks.save(lambda: changed)
    async with opened(tmp_path) as tasks:
        assert await tasks.of(ACCOUNT, "letters") == [changed]
        assert await tasks.of(ACCOUNT, "other") == []


@async_test
async def test_the_last_ten_tasks_of_a_source_stay_newest_first(tmp_path: Path) -> None:
    async with opened(tmp_path) as tasks:
        for number in range(12):
            await tasks.save(lambda number=number: task(number))  # type: ignore[misc]
        await tasks.save(lambda: task(5, moved=1))

        kept = await tasks.of(ACCOUNT, "letters")
        assert [each.id for each in kept] == [f"task-{number}" for number in range(11, 1, -1)]
        assert [each.id for each in kept if each.moved] == ["task-5"]


@async_test
async def test_those_that_have_not_ended_are_found(tmp_path: Path) -> None:
    async with opened(tmp_path) as tasks:
        for number, status in enumerate(MoveStatus):
            await tasks.save(lambda number=number, status=status: task(number, status=status))  # type: ignore[misc]
        await tasks.save(lambda: task(9, source="other"))

        assert {each.status for each in await tasks.active()} == {MoveStatus.RUNNING, MoveStatus.CANCELLING}
        assert {each.source for each in await tasks.active()} == {"letters", "other"}


@async_test
async def test_of_those_who_save_at_once_none_writes_what_is_old(tmp_path: Path) -> None:
    async with opened(tmp_path) as tasks:
        states = [task()]
        saving = []
        for moved in range(20):
            states.append(task(moved=moved))
            saving.append(asyncio.create_task(tasks.save(lambda: states[-1])))
            await asyncio.sleep(0)
        await asyncio.gather(*saving)

        assert await tasks.of(ACCOUNT, "letters") == [states[-1]]


@async_test
async def test_tasks_of_one_source_that_are_saved_at_once_are_all_there(tmp_path: Path) -> None:
    async with opened(tmp_path) as tasks:
        made = [task(number) for number in range(8)]
        await asyncio.gather(*(tasks.save(lambda each=each: each) for each in made))  # type: ignore[misc]

        assert {each.id for each in await tasks.of(ACCOUNT, "letters")} == {each.id for each in made}


@async_test
async def test_a_sweep_forgets_the_tasks_of_queues_that_are_gone_and_no_others(tmp_path: Path) -> None:
    async with opened(tmp_path) as tasks:
        for source in ("letters", "gone.fifo", "gone"):
            await tasks.save(lambda source=source: task(source=source))  # type: ignore[misc]
        await tasks.sweep(lambda account, name: account == ACCOUNT and name == "letters")

        assert [each.source for each in await tasks.active()] == ["letters"]
