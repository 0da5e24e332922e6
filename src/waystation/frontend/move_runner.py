"""Moves messages out of dead-letter queues, as fast as each task allows, until none is left.

A move sets visible messages of its source aside, ten times a second, never more than
are allowed in that time, and never more while as many are still on their way. The
shard's carrier takes them to their destination, each exactly once. So little is on its
way at any moment, and a task that is cancelled, or a node that crashes, leaves none behind:
what was set aside still arrives, or is shown again in the source when it has no destination.

A task ends when its source is empty, when it is cancelled, when a queue that it needs is
gone, when a message turns up that came from no queue and so cannot go back to one, or
after 36 hours. It has ended only once nothing of it is on its way.

A move runs in the process that has its source's shard, where the carrier counts what has arrived. When the
shard goes on to another process, so does the move, from what is saved of it.

Source: SQS API Reference, StartMessageMoveTask; Developer Guide, dead-letter queue redrive
(reasons of failures); recorded responses.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from msgspec.structs import replace

from waystation.backend.carrier import Deliver, Delivered, Parcel
from waystation.backend.interface import Shards
from waystation.frontend.dead_letters import NO_QUEUE, move_target
from waystation.frontend.stored_queues import StoredQueues
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.move_register import MoveEntry, MoveRegister, entry_of
from waystation.metadata.move_tasks import MoveStatus, MoveTask
from waystation.metadata.queues import Place, Queue
from waystation.metadata.store import MetadataUnavailable
from waystation.protocol import limits
from waystation.protocol.errors import QueueDoesNotExist, Unavailable
from waystation.queues.commands import Aside, CountAside, Moved, MoveMessages

TOO_LONG = f"The task was stopped after {limits.MOVE_TASK_S_MAX // 3_600} hours."
OUR_FAULT = "InternalError"
"""Why a task fails, in our words."""

_TICK_S = 0.1
"""Work ahead: what is set aside at once, and may be on its way, is what a task may move in this time."""
_SAVE_S = 1.0
"""Between two times that a running task's progress is saved."""
_RETRY_S = 1.0
"""After a shard or a store that does not answer."""
_LOOK_S = 10.0
"""Between two looks at the register, should its watch be silent: it may be, while a server fails."""

_logger = logging.getLogger(__name__)


class Pace:
    """A token bucket: how many messages may go now, so that in the long run no more than so many go a second.

    Args:
        rate: messages a second.
        now_s: any clock's time, here and below.
    """

    def __init__(self, rate: int, now_s: float) -> None:
        self._rate = rate
        self._full = max(rate * _TICK_S, 1.0)
        self._tokens = self._full
        self._at_s = now_s

    @property
    def burst(self) -> int:
        """The most that may go at once."""
        return int(self._full)

    def ready(self, now_s: float) -> int:
        """How many may go now."""
        self._tokens = min(self._full, self._tokens + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        # Sums of tenths are not exact, and a bucket that is full but for that has to count as full.
        return int(self._tokens + 1e-6)

    def spend(self, messages: int) -> None:
        """So many have gone; no more than were ready."""
        self._tokens -= messages

    def wait_s(self) -> float:
        """How long after the last look as many will be ready as may go at once."""
        return (self._full - self._tokens) / self._rate


class Move:
    """One task at work. `task` is what holds; what is saved of it is at most a second older.

    It works in one part of its source. When that is empty the task goes on to the next part, and whoever has
    that goes on with it.
    """

    def __init__(
        self,
        task: MoveTask,
        register: MoveRegister,
        has_source: Callable[[], Awaitable[bool]],
        shards: Shards,
        clock: Callable[[], float],
    ) -> None:
        self.task = task
        self.place = task.place
        self.target = move_target(task.destination)
        self._register = register
        self._has_source = has_source
        self._shards = shards
        self._clock = clock
        self._saved: MoveTask | None = None
        self._failure = ""
        self._is_source_empty = False
        self._cancelled = asyncio.Event()

    def cancel(self) -> None:
        """Set nothing aside any more, and end when what is on its way has arrived."""
        if self.task.is_active:
            self.task = replace(self.task, status=MoveStatus.CANCELLING)
            self._cancelled.set()

    def fail(self, reason: str) -> None:
        """End like that, unless it is cancelled anyway. The first reason counts."""
        self._failure = self._failure or reason

    def note(self, delivered: Delivered) -> None:
        """Some of its messages have arrived, or turned out to have no destination."""
        arrived = sum(map(len, delivered.accepted.values()))
        self.task = replace(self.task, moved=self.task.moved + arrived)
        for reason in delivered.refused.values():
            self.fail(reason)

    async def save(self) -> bool:
        """Write how far it is; False once it is none of ours any more: withdrawn, or at another part.

        Raises `MetadataUnavailable`; then it may be saved, or not.
        """
        if self._saved != self.task:
            self._saved = await self._register.save(lambda: self.task)
            if self._saved is None:
                return False
            # More may have arrived while that was written.
            self.task = replace(self._saved, moved=max(self._saved.moved, self.task.moved))
        return self.task.place == self.place

    async def run(self) -> None:
        """Work until the task has ended, and that is saved."""
        now_s = asyncio.get_running_loop().time
        pace = Pace(self.task.rate_max or limits.MOVE_RATE_MAX, now_s())
        save_at_s = now_s()  # At once: it may have ended already, and this be old news of it.
        while True:
            try:
                if now_s() >= save_at_s or not self.task.is_active or self.task.place != self.place:
                    if not await self.save() or not self.task.is_active:
                        return
                    save_at_s = now_s() + _SAVE_S
                wait_s = await self._advance(pace, now_s)
            except Unavailable as error:
                wait_s = _RETRY_S
                _logger.warning(
                    "a move has to wait",
                    extra={"queue": self.task.source, "task": self.task.id, "reason": str(error)},
                )
            await self._rest(wait_s)

    async def _rest(self, wait_s: float) -> None:
        """Wait, but not on when it is just being cancelled."""
        self._cancelled.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._cancelled.wait()

    async def _advance(self, pace: Pace, now_s: Callable[[], float]) -> float:
        """Set aside what may go now, or end; returns how many seconds there is nothing more to do."""
        try:
            return await self._work(pace, now_s)
        except QueueDoesNotExist:  # with the queue, all that was on its way is gone
            self.fail(NO_QUEUE)
            self.task = self._ending() or self.task
            return 0.0

    async def _work(self, pace: Pace, now_s: Callable[[], float]) -> float:
        self.fail(await self._trouble())
        on_their_way = await self._on_their_way()
        ending = self._ending()
        if ending is not None:
            if on_their_way:
                return _TICK_S
            self.task = ending
            return 0.0
        wanted = min(pace.ready(now_s()), pace.burst - on_their_way)
        if wanted <= 0:
            return _TICK_S
        command = MoveMessages(self.place.number, self.target, wanted)
        moved = await self._shards.submit(self.place.shard, command)
        assert isinstance(moved, Moved)
        pace.spend(moved.messages)
        self._is_source_empty = not moved.remaining
        return pace.wait_s() or _TICK_S

    async def _trouble(self) -> str:
        """Why the task cannot go on; empty if it can. Whether there is a destination, delivery shows."""
        if self._clock() * 1_000 - self.task.started_ms > limits.MOVE_TASK_S_MAX * 1_000:
            return TOO_LONG
        return "" if await self._has_source() else NO_QUEUE

    def _ending(self) -> MoveTask | None:
        """What the task is once nothing of it is on its way; None while it goes on here."""
        if self.task.status is MoveStatus.CANCELLING:
            return replace(self.task, status=MoveStatus.CANCELLED)
        if self._failure:
            return replace(self.task, status=MoveStatus.FAILED, failure=self._failure)
        if self._is_source_empty and self.task.ahead:
            [(shard, number), *ahead] = self.task.ahead
            return replace(self.task, shard=shard, number=number, ahead=tuple(ahead))
        if self._is_source_empty:
            return replace(self.task, status=MoveStatus.COMPLETED)
        return None

    async def _on_their_way(self) -> int:
        """Messages that are set aside and neither taken over nor shown again."""
        aside = await self._shards.submit(self.place.shard, CountAside(self.place.number, self.target))
        assert isinstance(aside, Aside)
        return aside.messages


class MoveRunner:
    """All moves out of the queues of the shards that are here.

    Lifecycle: build it (no I/O), `take` shards that are here and `leave` them, before or after
    `start`; `stop` before the backend, and `save` after it. Moves that have not ended go on with
    the shard's next owner.

    Args:
        shards: those of this process.
        deliver: how messages get from queue to queue; `MoveRunner.deliver` does the same and
            counts those that are moved.
    """

    def __init__(
        self,
        register: MoveRegister,
        catalogue: Catalogue,
        stored: StoredQueues,
        shards: Shards,
        deliver: Deliver,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._register = register
        self._catalogue = catalogue
        self._stored = stored
        self._shards = shards
        self._deliver = deliver
        self._clock = clock
        self._here: set[int] = set()
        self._seen: dict[str, int] = {}
        """By key: the newest entry that was looked at, as the watch may tell of older ones later."""
        self._moves: dict[Place, Move] = {}
        """By shard and number of the source."""
        self._running: dict[Move, asyncio.Task[None]] = {}
        self._look_now = asyncio.Event()
        self._following: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Go on with the moves of the shards that are here. Raises `MetadataUnavailable`."""
        await self._look()
        self._following = [
            asyncio.create_task(self._follow(), name="moves-watch"),
            asyncio.create_task(self._look_now_and_then(), name="moves-look"),
        ]

    def take(self, shard: int) -> None:
        """A shard is here from now on: go on with its moves."""
        self._here.add(shard)
        self._seen.clear()
        self._look_now.set()

    def leave(self, shard: int) -> None:
        """A shard is not here any more: its moves are somebody else's."""
        self._here.discard(shard)
        for place, move in list(self._moves.items()):
            if place.shard == shard:
                del self._moves[place]
                self._running[move].cancel()

    async def stop(self) -> None:
        """Let all moves rest. What is on its way still arrives, until the backend stops."""
        ending = [*self._following, *self._running.values()]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def save(self) -> None:
        """Save how far all moves are, if that can be, for who goes on with them."""
        for move in self._moves.values():
            with suppress(MetadataUnavailable):
                await move.save()

    async def deliver(self, parcel: Parcel) -> Delivered:
        """Deliver a parcel: see `Deliver`."""
        delivered = await self._deliver(parcel)
        move = self._moves.get(Place(parcel.source_shard, parcel.source_queue))
        if move is not None and move.target == parcel.target:
            move.note(delivered)
        return delivered

    def move_of(self, queue: Queue) -> Move | None:
        """The move out of a queue, or a part of it that is here, if there is one that has not ended."""
        return next((self._moves[place] for place in queue.places if place in self._moves), None)

    # What there is to do

    async def _follow(self) -> None:
        while True:
            watch = self._register.watch()
            self._look_now.set()  # for what came before it
            try:
                async for change in watch:
                    self._note(entry_of(change))
                return
            except MetadataUnavailable as error:
                _logger.warning("the watch on moves was lost", extra={"reason": str(error)})
            finally:
                watch.close()
            await asyncio.sleep(_RETRY_S)

    async def _look_now_and_then(self) -> None:
        """What a watch does not tell of, or not soon, is found as well."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._look_now.wait()
            self._look_now.clear()
            try:
                await self._look()
            except MetadataUnavailable as error:
                _logger.warning("moves cannot be looked up", extra={"reason": str(error)})
                await asyncio.sleep(_RETRY_S)
                self._look_now.set()

    async def _look(self) -> None:
        for entry in await self._register.entries():
            self._note(entry)

    def _note(self, entry: MoveEntry) -> None:
        """Start what is to be done here, and cancel what was cancelled."""
        if entry.revision <= self._seen.get(entry.key, 0):
            return
        self._seen[entry.key] = entry.revision
        for task in entry.tasks:
            move = self._moves.get(task.place)
            if not task.is_active or task.shard not in self._here:
                continue
            if move is None:
                self._run(task)
            elif move.task.id == task.id and task.status is MoveStatus.CANCELLING:
                move.cancel()

    def _run(self, task: MoveTask) -> None:
        move = Move(task, self._register, lambda: self._has_source(task), self._shards, self._clock)
        self._moves[move.place] = move
        running = asyncio.create_task(self._watch_over(move), name=f"move-{task.source}")
        self._running[move] = running
        running.add_done_callback(lambda done: self._forget(move, done))

    def _forget(self, move: Move, running: asyncio.Task[None]) -> None:
        del self._running[move]
        if not running.cancelled():
            del self._moves[move.place]
            # There may be another already, which had to wait for the end of this one.
            self._seen.clear()
            self._look_now.set()

    async def _has_source(self, task: MoveTask) -> bool:
        """Whether the queue is there, and not another in its place."""
        source = self._catalogue.find(task.account, task.source)
        if not _is_source(source, task):
            source = await self._stored.find(task.account, task.source)
        return _is_source(source, task)

    async def _watch_over(self, move: Move) -> None:
        try:
            await move.run()
        except Exception:
            _logger.exception("a move was ended by a bug", extra={"queue": move.task.source})
            # Its queue must not be kept for ever from being moved.
            move.task = replace(move.task, status=MoveStatus.FAILED, failure=OUR_FAULT)
            with suppress(MetadataUnavailable):
                await move.save()


def _is_source(queue: Queue | None, task: MoveTask) -> bool:
    return queue is not None and task.place in queue.places
