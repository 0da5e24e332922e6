"""Tasks that move the messages of a dead-letter queue elsewhere: what is kept of each.

Source: SQS API Reference, ListMessageMoveTasks.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from waystation.metadata.queues import Place

TASKS_PREFIX = "move/"


class MoveStatus(StrEnum):
    """The words of the API."""

    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


class MoveTask(msgspec.Struct, frozen=True):
    """One move. `shard` and `number` are the source's: a queue created again is another.

    A source of several parts is moved from one after another: those are the part's that it is at.
    """

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
    ahead: tuple[Place, ...] = ()
    """The parts of the source that come after this one."""

    @property
    def place(self) -> Place:
        """The queue, in a shard, that messages are moved out of now."""
        return Place(self.shard, self.number)

    @property
    def is_active(self) -> bool:
        """It has not ended yet."""
        return self.status in (MoveStatus.RUNNING, MoveStatus.CANCELLING)
