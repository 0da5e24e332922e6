"""Tasks that move the messages of a dead-letter queue elsewhere: what is kept of them, and how long.

All tasks of one source lie under one key, newest first, so that compare-and-set guards
them together. The last ten stay, as many as a client can ask for; they go when their
queue has gone and `sweep` comes by.

Source: SQS API Reference, ListMessageMoveTasks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum

import msgspec

from waystation.metadata.store import Conflict, MetadataStore, Stored
from waystation.protocol.limits import MOVE_TASK_RESULTS_MAX

TASKS_PREFIX = "move/"


class MoveStatus(StrEnum):
    """The words of the API."""

    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


class MoveTask(msgspec.Struct, frozen=True):
    """One move. `shard` and `number` are the source's: a queue created again is another."""

    id: str
    account: str
    source: str
    """The name of the queue whose messages are moved."""
    shard: int
    number: int
    started_ms: int
    to_move: int
    """Messages that were visible in the source when it began."""
    destination: str = ""
    """The ARN of the queue that gets all messages; empty: each goes back to the one that it came from."""
    rate_max: int | None = None
    """Messages a second, if the client has set a limit."""
    status: MoveStatus = MoveStatus.RUNNING
    moved: int = 0
    """About so many have arrived: after a crash, those of the last second may be missing."""
    failure: str = ""

    @property
    def is_active(self) -> bool:
        """It has not ended yet."""
        return self.status in (MoveStatus.RUNNING, MoveStatus.CANCELLING)


class MoveTasks:
    """The tasks of all queues. Every method raises `MetadataUnavailable` as the store does."""

    def __init__(self, store: MetadataStore) -> None:
        self._store = store

    async def of(self, account: str, source: str) -> list[MoveTask]:
        """The last tasks of a queue, newest first."""
        return _tasks(await self._store.get(_key(account, source)))

    async def active(self) -> list[MoveTask]:
        """Every task that has not ended."""
        stored = await self._store.list(TASKS_PREFIX)
        return [task for each in stored for task in _tasks(each) if task.is_active]

    async def save(self, current: Callable[[], MoveTask]) -> MoveTask:
        """Add a task, or replace what was saved of it before.

        Args:
            current: gives the task as it is; asked just before each attempt, so that of two
                who save at once neither writes what the other knows to be old.

        Returns:
            The task as it was written.
        """
        while True:
            key = _key(current().account, current().source)
            stored = await self._store.get(key)
            task = current()
            value = msgspec.msgpack.encode(_with(_tasks(stored), task))
            with suppress(Conflict):
                await self._store.put(key, value, stored.revision if stored is not None else 0)
                return task

    async def sweep(self, exists: Callable[[str, str], bool]) -> None:
        """Forget the tasks of sources, by account and name, that do not exist."""
        for stored in await self._store.list(TASKS_PREFIX):
            _, account, source = stored.key.split("/")
            if not exists(account, source):
                # Who comes late has lost nothing: somebody has just written there.
                with suppress(Conflict):
                    await self._store.delete(stored.key, stored.revision)


def _with(tasks: list[MoveTask], task: MoveTask) -> list[MoveTask]:
    if any(each.id == task.id for each in tasks):
        return [task if each.id == task.id else each for each in tasks]
    return [task, *tasks][:MOVE_TASK_RESULTS_MAX]


def _tasks(stored: Stored | None) -> list[MoveTask]:
    if stored is None or stored.value is None:
        return []
    return msgspec.msgpack.decode(stored.value, type=list[MoveTask])


def _key(account: str, source: str) -> str:
    return f"{TASKS_PREFIX}{account}/{source}"
