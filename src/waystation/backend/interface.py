"""What FrontEnds need of all shards together, wherever each of them is.

`Backend` has all shards in this process; in a cluster, others stand between.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from waystation.queues.commands import Answer, Command


class Shards(Protocol):
    """All shards of a data directory or a cluster, by number from 0."""

    @property
    def count(self) -> int:
        """How many there are."""

    def place(self, name: str) -> int:
        """The shard for a new queue of that name."""

    def submit(self, shard: int, command: Command) -> Awaitable[Answer]:
        """Give a command to a shard; its answer comes when what it did is durable.

        If whoever awaits it goes away, the command is done all the same, but a waiting
        receive no longer waits. A command is done at most once. Raises, here or when awaited:

            Refusal: what the shard says to the command.
            Unavailable: not now. The classes say whether it may have been done.
        """

    def is_serving(self) -> bool:
        """Whether every shard can be expected to answer."""
