"""A receive that waits at all parts of a queue at once: a long poll over several shards.

The part that has messages first wins, and the others are told that nobody waits any more. What they have
handed out meanwhile joins the answer if it comes in the same moment and there is room, and is given back
otherwise: by the shard, by the link on which the answer comes too late, or here. So it is shown again at
once, and whoever waits next is woken by it.

Each poll waits first of all in one part, and on standby in the others, where those whose first part that is
are served before it: so messages that come to several parts at once wake as many who wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from waystation.backend.giving_back import give_back, give_back_if_answered
from waystation.backend.interface import Shards
from waystation.metadata.queues import Place, Queue
from waystation.protocol.errors import Refusal, Unavailable
from waystation.queues.commands import Answer, Command, Received, ReceivedMessage, ReceiveMessages

Handed: TypeAlias = tuple[Place, ReceivedMessage]
"""A message that was handed out, and by which part."""

_AGAIN_S = 1.0
"""After a part has failed, or let nobody wait, it is asked again: it may be on another node by then."""


def submitted(shards: Shards, shard: int, command: Command) -> asyncio.Future[Answer]:
    """Give a command to a shard. Nothing is raised: all errors are the future's."""
    try:
        answering = shards.submit(shard, command)
    except (Refusal, Unavailable) as error:
        refused: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        refused.set_exception(error)
        return refused
    return asyncio.ensure_future(answering)


def give_back_all(shards: Shards, handed: Iterable[Handed]) -> None:
    """Show messages again that nobody was told of."""
    by_part: dict[Place, list[ReceivedMessage]] = {}
    for place, message in handed:
        by_part.setdefault(place, []).append(message)
    for place, messages in by_part.items():
        give_back(shards.submit, place.shard, Received(place.number, messages))


class PartPoll:
    """One such receive.

    Lifecycle: build it and `run` it once. If that is cancelled, it waits no more, and takes no message along.
    """

    def __init__(self, shards: Shards, queue: Queue, command: ReceiveMessages) -> None:
        self._shards = shards
        self._places = queue.places
        # What it waits for has no attempt: a part that loses could not give back what belongs to one.
        self._command = replace(command, attempt=b"")
        self._waiting: dict[asyncio.Future[Answer], int] = {}
        self._found: list[Handed] = []
        self.may_have_more: set[int] = set()
        """The parts that had at least as many messages as there was room for, by index."""
        self.failures: dict[int, Refusal | Unavailable] = {}
        """Why parts have ended without an answer."""

    async def run(self, order: Sequence[int]) -> list[Handed]:
        """Wait until a part has messages, or until all of them have ended with none.

        Args:
            order: the indexes of all parts; in the first of them others give way to it.

        Raises:
            Refusal, Unavailable: of a part that does not answer to the end, when no other has anything.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._command.wait_ms / 1_000
        absent: set[int] = set(order)
        try:
            self._join(order, order[0], self._command.wait_ms)
            while self._waiting and not self._found:
                absent = set(order) - set(self._waiting.values())
                done, _ = await asyncio.wait(
                    self._waiting,
                    timeout=_AGAIN_S if absent else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for future in done:
                    self._take(future, self._waiting.pop(future))
                left_ms = int((deadline_s - loop.time()) * 1_000)
                if not done and left_ms > 0:
                    self._join(sorted(absent), order[0], left_ms)
        finally:
            self._leave()
        if not self._found and self.failures:
            raise next(iter(self.failures.values()))
        return self._found

    def _join(self, indexes: Iterable[int], first: int, wait_ms: int) -> None:
        for index in indexes:
            place = self._places[index]
            ask = replace(self._command, queue=place.number, wait_ms=wait_ms, standby=index != first)
            self._waiting[submitted(self._shards, place.shard, ask)] = index

    def _take(self, answered: asyncio.Future[Answer], index: int) -> None:
        """A part has ended: with messages, as many of which are taken as there is room for, or with none."""
        place = self._places[index]
        error = answered.exception()
        if isinstance(error, Refusal | Unavailable):
            self.failures[index] = error
            return
        received = answered.result()
        assert isinstance(received, Received)
        self.failures.pop(index, None)
        room = self._command.max_messages - len(self._found)
        if len(received.messages) >= max(room, 1):
            self.may_have_more.add(index)
        self._found += [(place, message) for message in received.messages[:room]]
        give_back(self._shards.submit, place.shard, Received(place.number, received.messages[room:]))

    def _leave(self) -> None:
        """Wait nowhere any more; what is handed out all the same is given back."""
        for future, index in self._waiting.items():
            if not future.cancel():
                give_back_if_answered(self._shards.submit, self._places[index].shard, future)
