"""The move tasks of all queues, as every process of a cluster sees and changes them.

All tasks of one source lie under one key, newest first, so that compare-and-set guards that
at most one of them is active. Whoever is asked for a move writes its task; whoever has the
source's shard hears of it from here, works at it, and writes how far it is. A client that
cancels it writes that, and the one at work hears of it in turn. The last ten stay, as many as
a client can ask for, until their queue has gone and `sweep` comes by.

A task that has ended never changes again, and one that is being cancelled is never just
running again: a process that does not know yet that a shard has gone on to another cannot
undo what that one has written.

Source: SQS API Reference, StartMessageMoveTask and ListMessageMoveTasks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from waystation.metadata.move_tasks import TASKS_PREFIX, MoveStatus, MoveTask
from waystation.metadata.store import Conflict, MetadataStore, Stored, Watch
from waystation.protocol import limits
from waystation.protocol.errors import InvalidParameterValue, OverLimit


class MoveEntry(NamedTuple):
    """The tasks of one source, newest first; none when they were forgotten."""

    key: str
    revision: int
    tasks: list[MoveTask]


class MoveRegister:
    """Every method that waits raises `MetadataUnavailable` as the store does."""

    def __init__(self, store: MetadataStore) -> None:
        self._store = store

    # Looking

    async def of(self, account: str, source: str) -> list[MoveTask]:
        """The last tasks of a queue, newest first."""
        key = _key(account, source)
        return _entry(key, await self._store.get(key)).tasks

    async def entries(self) -> list[MoveEntry]:
        """The tasks of all queues that have had any."""
        return [entry_of(stored) for stored in await self._store.list(TASKS_PREFIX)]

    async def active(self) -> list[MoveTask]:
        """Every task that has not ended."""
        return [task for entry in await self.entries() for task in entry.tasks if task.is_active]

    def watch(self) -> Watch:
        """All changes from now on; `entry_of` says what each means."""
        return self._store.watch(TASKS_PREFIX)

    # Changing

    async def begin(self, task: MoveTask) -> None:
        """Add a task, for whoever has its source's shard.

        Raises:
            InvalidParameterValue: there is an active one out of the same queue.
            OverLimit: its account has as many active ones as it may have.
            MetadataUnavailable: it may have begun, or not.
        """
        before = {each.id for each in await self.active() if each.account == task.account}
        if len(before) < limits.MOVE_TASKS_RUNNING_MAX:
            revision = await self._add(task)
            # Those that have begun at the same time are counted in the order in which they were written.
            ahead = [
                each
                for entry in await self.entries()
                for each in entry.tasks
                if each.is_active
                and each.account == task.account
                and (entry.revision < revision or each.id in before)
            ]
            if len(ahead) < limits.MOVE_TASKS_RUNNING_MAX:
                return
            await self._write(task, lambda tasks: [each for each in tasks if each.id != task.id])
        raise OverLimit(
            f"The maximum number of active message move tasks, {limits.MOVE_TASKS_RUNNING_MAX}, is reached."
        )

    async def _add(self, task: MoveTask) -> int:
        def added(tasks: list[MoveTask]) -> list[MoveTask]:
            places = {task.place, *task.ahead}
            if any(each.is_active and not places.isdisjoint((each.place, *each.ahead)) for each in tasks):
                raise InvalidParameterValue(
                    "There is already a task running. Only one active task is allowed for a source queue arn "
                    "at a given time."
                )
            return [task, *tasks][: limits.MOVE_TASK_RESULTS_MAX]

        return await self._write(task, added)

    async def cancel(self, task: MoveTask) -> MoveTask | None:
        """Have a task end; returns it as it is then, and None when it is not active any more."""

        def cancelling(stored: MoveTask) -> MoveTask:
            return replace(stored, status=MoveStatus.CANCELLING) if stored.is_active else stored

        cancelled = await self._change(task, cancelling)
        return cancelled if cancelled is not None and cancelled.is_active else None

    async def save(self, current: Callable[[], MoveTask]) -> MoveTask | None:
        """Write how far a task is.

        Args:
            current: gives the task as it is; asked just before each attempt to write it.

        Returns:
            The task as it is from now on: maybe being cancelled, or ended by another process. None
            when it was withdrawn.
        """

        def saved(stored: MoveTask) -> MoveTask:
            task = current()
            if not stored.is_active:
                return stored
            if stored.status is MoveStatus.CANCELLING:
                # Also when it would have ended otherwise: the client was told.
                status = MoveStatus.CANCELLING if task.is_active else MoveStatus.CANCELLED
                task = replace(task, status=status, failure="")
            # Whoever was at work before may have come further than this one has heard.
            task = replace(task, moved=max(task.moved, stored.moved))
            if len(stored.ahead) < len(task.ahead):
                return replace(task, shard=stored.shard, number=stored.number, ahead=stored.ahead)
            return task

        return await self._change(current(), saved)

    async def sweep(self, exists: Callable[[str, str], bool]) -> None:
        """Forget the tasks of sources, by account and name, that do not exist, if all have ended."""
        for entry in await self.entries():
            _, account, source = entry.key.split("/")
            if not exists(account, source) and not any(task.is_active for task in entry.tasks):
                # Who comes late has lost nothing: somebody has just written there.
                with suppress(Conflict):
                    await self._store.delete(entry.key, entry.revision)

    async def _change(self, task: MoveTask, change: Callable[[MoveTask], MoveTask]) -> MoveTask | None:
        """Change what is stored of a task; returns it as it is from now on, None when it is not there."""
        found: MoveTask | None = None

        def changed(tasks: list[MoveTask]) -> list[MoveTask]:
            nonlocal found
            result = [change(each) if each.id == task.id else each for each in tasks]
            found = next((each for each in result if each.id == task.id), None)
            return result

        await self._write(task, changed)
        return found

    async def _write(self, task: MoveTask, change: Callable[[list[MoveTask]], list[MoveTask]]) -> int:
        """Change the tasks of one source, whoever else does so meanwhile; returns the revision since."""
        key = _key(task.account, task.source)
        while True:
            stored = await self._store.get(key)
            before = _entry(key, stored)
            tasks = change(before.tasks)
            if tasks == before.tasks:
                return before.revision
            with suppress(Conflict):
                if not tasks:
                    return await self._store.delete(key, before.revision)
                return await self._store.put(key, msgspec.msgpack.encode(tasks), before.revision)


def entry_of(stored: Stored) -> MoveEntry:
    """What a watch has told of."""
    return _entry(stored.key, stored)


def _entry(key: str, stored: Stored | None) -> MoveEntry:
    if stored is None or stored.value is None:
        return MoveEntry(key, stored.revision if stored is not None else 0, [])
    return MoveEntry(key, stored.revision, msgspec.msgpack.decode(stored.value, type=list[MoveTask]))


def _key(account: str, source: str) -> str:
    return f"{TASKS_PREFIX}{account}/{source}"
