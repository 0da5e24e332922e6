"""Makes the queues of the shards that are here those of the catalogue, with the catalogue's settings.

A queue exists once the catalogue has it. Its shard hears of it before that, and of its end
after; a change of its settings, after as well. Whatever a crash, or a shard that did not
answer, leaves half done in between, no client can have seen, and it is cleared up here.

In a cluster others may be in the middle of it just now, and this process may not have heard
of all that they have done. So a queue is dropped only after it has been unknown for longer
than it takes to create one, and nothing is dropped or said to be lost for what a cache says.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import msgspec

from waystation.backend.interface import Shards
from waystation.frontend.stored_queues import StoredQueues
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.queues import Queue
from waystation.protocol.errors import QueueDoesNotExist, Unavailable
from waystation.queues import commands

GRACE_S = 60.0
"""A queue that the catalogue does not know may be on its way there for so long, and is then dropped.
Far longer than any request may take; shorter than anybody would mind the space that it takes."""

_EVERY_S = 10.0
"""Between two looks at a shard that is here."""

_logger = logging.getLogger(__name__)


class Reconciler:
    """Works for the shards of this process, each by itself.

    Lifecycle: build it (no I/O); `reconcile` shards while nobody else is there, or `follow`
    those that are here, and `leave` them; `stop`.

    Args:
        shards: those of this process.
    """

    def __init__(self, catalogue: Catalogue, stored: StoredQueues, shards: Shards) -> None:
        self._catalogue = catalogue
        self._stored = stored
        self._shards = shards
        self._following: dict[int, asyncio.Task[None]] = {}

    def follow(self, shard: int) -> None:
        """Reconcile a shard now, and again and again."""
        self.leave(shard)
        self._following[shard] = asyncio.create_task(self._follow(shard), name=f"reconcile-{shard}")

    def leave(self, shard: int) -> None:
        """The shard is not here any more, or about to go."""
        following = self._following.pop(shard, None)
        if following is not None:
            following.cancel()

    async def stop(self) -> None:
        """Leave all shards."""
        following = list(self._following.values())
        for shard in list(self._following):
            self.leave(shard)
        await asyncio.gather(*following, return_exceptions=True)

    async def _follow(self, shard: int) -> None:
        strangers: dict[int, float] = {}
        while True:
            try:
                await self._reconcile(shard, strangers, GRACE_S)
            except Unavailable as error:
                _logger.warning(
                    "a shard cannot be compared with the catalogue now",
                    extra={"shard": shard, "reason": str(error)},
                )
            await asyncio.sleep(_EVERY_S)

    async def reconcile(self, shard: int) -> None:
        """Reconcile a shard while nobody else is there: what the catalogue does not know is dropped at once.

        Raises `Unavailable` when the shard or the store does not answer.
        """
        await self._reconcile(shard, {}, 0.0)

    async def _reconcile(self, shard: int, strangers: dict[int, float], grace_s: float) -> None:
        """`strangers` are the queues that the catalogue did not know at the last look, and since when."""
        # In this order: what was in the catalogue before was in the shard before that.
        missing = {
            place.number: queue
            for queue in self._catalogue.queues()
            for place in queue.places
            if place.shard == shard
        }
        answer = await self._shards.submit(shard, commands.ListQueues())
        assert isinstance(answer, commands.Queues)
        now_s = asyncio.get_running_loop().time()
        unknown: dict[int, float] = {}
        for number, settings in answer.settings.items():
            queue = missing.pop(number, None)
            if queue is None:
                unknown[number] = strangers.get(number, now_s)
            elif _is_behind(settings, queue.settings(), anyway=not grace_s):
                with suppress(QueueDoesNotExist):  # just deleted
                    await self._shards.submit(shard, commands.ConfigureQueue(number, queue.settings()))
        strangers.clear()
        strangers.update(unknown)
        overdue = [number for number, since_s in unknown.items() if now_s - since_s >= grace_s]
        if missing or overdue:
            await self._mend(shard, missing, overdue)

    async def _mend(self, shard: int, missing: dict[int, Queue], overdue: list[int]) -> None:
        """Drop or restore what the store itself, and not only a cache of it, says is wrong."""
        stored = await self._stored.of_shard(shard)
        for number in overdue:
            if number not in stored:
                await self._shards.submit(shard, commands.DeleteQueue(number))
        for number in missing.keys() & stored.keys():
            await self._restore(stored[number], shard)

    async def _restore(self, queue: Queue, shard: int) -> None:
        """Give a queue, or the part of it, that its shard does not know a new, empty place there."""
        # No crash leads here: one of the two is from another time than the other.
        _logger.error(
            "queue is missing in its shard, so its messages are lost",
            extra={"queue": queue.record.name, "shard": shard},
        )
        made = await self._shards.submit(shard, commands.CreateQueue(queue.settings()))
        assert isinstance(made, commands.QueueId)
        number = made.queue
        await self._catalogue.update(queue, lambda record: record.renumbered(shard, number))


def _is_behind(known: commands.QueueSettings, wanted: commands.QueueSettings, *, anyway: bool) -> bool:
    """Whether a shard has to be told of the catalogue's settings.

    Not when it has newer ones, which have not reached this process yet; `anyway` when there are
    no others from whom it could have them, so that the catalogue was put back to an older time.
    """
    if known.revision > wanted.revision and not anyway:
        return False
    return known != msgspec.structs.replace(wanted, revision=known.revision)
