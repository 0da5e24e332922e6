"""Moves messages out of dead-letter queues, as fast as each task allows, until none is left.

A move sets visible messages of its source aside, ten times a second, never more than
are allowed in that time, and never more while as many are still on their way. The
shard's carrier takes them to their destination, each exactly once. So little is on its
way at any moment, and a task that is cancelled, or a node that crashes, leaves none behind:
what was set aside still arrives, or is shown again in the source when it has no destination.

A task ends when its source is empty, when it is cancelled, when a queue that it needs is
gone, when a message turns up that came from no queue and so cannot go back to one, or
after 36 hours. It has ended only once nothing of it is on its way.

Source: SQS API Reference, StartMessageMoveTask; Developer Guide, dead-letter queue redrive
(reasons of failures); recorded responses.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from msgspec.structs import replace

from waystation.backend.backend import Backend
from waystation.backend.carrier import Deliver, Delivered, Parcel
from waystation.frontend.dead_letters import NO_QUEUE, move_target
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.move_tasks import MoveStatus, MoveTask, MoveTasks
from waystation.metadata.queues import Queue
from waystation.metadata.store import MetadataUnavailable
from waystation.protocol import limits
from waystation.protocol.errors import InvalidParameterValue, OverLimit, QueueDoesNotExist, Unavailable
from waystation.queues.commands import Moved, MoveMessages

TOO_LONG = f"The task was stopped after {limits.MOVE_TASK_S_MAX // 3_600} hours."
OUR_FAULT = "InternalError"
"""Why a task fails, in our words."""

_TICK_S = 0.1
"""Work ahead: what is set aside at once, and may be on its way, is what a task may move in this time."""
_SAVE_S = 1.0
"""Between two times that a running task's progress is saved."""
_RETRY_S = 1.0
"""After a shard or a store that does not answer."""

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
    """One task at work. `task` is what holds; what is saved of it is at most a second older."""

    def __init__(
        self,
        task: MoveTask,
        tasks: MoveTasks,
        catalogue: Catalogue,
        backend: Backend,
        clock: Callable[[], float],
    ) -> None:
        self.task = task
        self.target = move_target(task.destination)
        self._tasks = tasks
        self._catalogue = catalogue
        self._backend = backend
        self._clock = clock
        self._saved: MoveTask | None = None
        self._failure = ""
        self._is_source_empty = False
        self._cancelled = asyncio.Event()

    def cancel(self) -> None:
        """Set nothing aside any more, and end when what is on its way has arrived."""
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

    async def save(self) -> None:
        """Raises `MetadataUnavailable`; then it may be saved, or not."""
        if self._saved != self.task:
            self._saved = await self._tasks.save(lambda: self.task)

    async def run(self) -> None:
        """Work until the task has ended, and that is saved."""
        now_s = asyncio.get_running_loop().time
        pace = Pace(self.task.rate_max or limits.MOVE_RATE_MAX, now_s())
        save_at_s = now_s()  # A task that is lost by a crash has moved nothing.
        while True:
            try:
                if now_s() >= save_at_s or not self.task.is_active:
                    await self.save()
                    save_at_s = now_s() + _SAVE_S
                if not self.task.is_active:
                    return
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
        self.fail(self._trouble())
        on_their_way = self._on_their_way()
        ending = self._ending()
        if ending is not None:
            if on_their_way:
                return _TICK_S
            self.task = ending
            return 0.0
        wanted = min(pace.ready(now_s()), pace.burst - on_their_way)
        if wanted <= 0:
            return _TICK_S
        command = MoveMessages(self.task.number, self.target, wanted)
        try:
            moved = await self._backend.submit(self.task.shard, command)
        except QueueDoesNotExist:
            self.fail(NO_QUEUE)
            return 0.0
        assert isinstance(moved, Moved)
        pace.spend(moved.messages)
        self._is_source_empty = not moved.remaining
        return pace.wait_s() or _TICK_S

    def _trouble(self) -> str:
        """Why the task cannot go on; empty if it can. Whether there is a destination, delivery shows."""
        task = self.task
        source = self._catalogue.find(task.account, task.source)
        if source is None or (source.shard, source.number) != (task.shard, task.number):
            return NO_QUEUE
        if self._clock() * 1_000 - task.started_ms > limits.MOVE_TASK_S_MAX * 1_000:
            return TOO_LONG
        return ""

    def _ending(self) -> MoveTask | None:
        """What the task is once nothing of it is on its way; None while it goes on."""
        if self.task.status is MoveStatus.CANCELLING:
            return replace(self.task, status=MoveStatus.CANCELLED)
        if self._failure:
            return replace(self.task, status=MoveStatus.FAILED, failure=self._failure)
        if self._is_source_empty:
            return replace(self.task, status=MoveStatus.COMPLETED)
        return None

    def _on_their_way(self) -> int:
        """Messages that are set aside and neither taken over nor shown again. Raises `Unavailable`."""
        shard = self._backend.shards[self.task.shard]
        if not shard.is_serving:  # Its queues are not those that it will have.
            raise Unavailable
        queue = shard.state.queues.get(self.task.number)
        return 0 if queue is None else list(queue.aside_targets.values()).count(self.target)


class MoveRunner:
    """All moves out of the queues of this node.

    Lifecycle: build it (no I/O), `start` once the backend serves, `begin` and `cancel`
    moves, `stop` before the backend. Moves that have not ended go on at the next start.

    Args:
        deliver: how messages get from queue to queue; `MoveRunner.deliver` does the same and
            counts those that are moved.
    """

    def __init__(
        self,
        tasks: MoveTasks,
        catalogue: Catalogue,
        backend: Backend,
        deliver: Deliver,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tasks = tasks
        self._catalogue = catalogue
        self._backend = backend
        self._deliver = deliver
        self._clock = clock
        self._moves: dict[tuple[int, int], Move] = {}
        """By shard and number of the source."""
        self._running: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Go on with the moves of an earlier life. Raises `MetadataUnavailable`."""
        await self._sweep()
        for task in await self._tasks.active():
            self._run(self._add(task))

    async def stop(self) -> None:
        """Let all moves rest, and save how far they are if that can be."""
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for move in self._moves.values():
            with suppress(MetadataUnavailable):
                await move.save()

    async def deliver(self, parcel: Parcel) -> Delivered:
        """Deliver a parcel: see `Deliver`."""
        delivered = await self._deliver(parcel)
        move = self._moves.get((parcel.source_shard, parcel.source_queue))
        if move is not None and move.target == parcel.target:
            move.note(delivered)
        return delivered

    def move_of(self, queue: Queue) -> Move | None:
        """The move out of a queue, if there is one that has not ended."""
        return self._moves.get((queue.shard, queue.number))

    async def begin(self, task: MoveTask) -> None:
        """Start a move; it goes on whatever becomes of the caller.

        Raises:
            InvalidParameterValue: there is one out of the same queue.
            OverLimit: its account has as many as it may have.
            MetadataUnavailable: it has not begun; or it has, and is saved once the store answers.
        """
        await self._sweep()
        if (task.shard, task.number) in self._moves:
            raise InvalidParameterValue(
                "There is already a task running. Only one active task is allowed for a source queue arn at "
                "a given time."
            )
        active_max = limits.MOVE_TASKS_RUNNING_MAX
        if sum(move.task.account == task.account for move in self._moves.values()) >= active_max:
            raise OverLimit(f"The maximum number of active message move tasks, {active_max}, is reached.")
        move = self._add(task)
        try:
            await move.save()
        finally:
            self._run(move)

    async def cancel(self, move: Move) -> None:
        """Let a move end, durably. Raises `MetadataUnavailable`: it ends all the same, unless we crash."""
        move.cancel()
        await move.save()

    def _add(self, task: MoveTask) -> Move:
        move = Move(task, self._tasks, self._catalogue, self._backend, self._clock)
        self._moves[task.shard, task.number] = move
        return move

    def _run(self, move: Move) -> None:
        running = asyncio.create_task(self._watch_over(move), name=f"move-{move.task.source}")
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def _watch_over(self, move: Move) -> None:
        try:
            await move.run()
        except Exception:
            _logger.exception("a move was ended by a bug", extra={"queue": move.task.source})
            # Its queue must not be kept for ever from being moved.
            move.task = replace(move.task, status=MoveStatus.FAILED, failure=OUR_FAULT)
            with suppress(MetadataUnavailable):
                await move.save()
        del self._moves[move.task.shard, move.task.number]

    async def _sweep(self) -> None:
        """Forget the tasks of queues that nobody can ask about any more."""
        await self._tasks.sweep(lambda account, name: self._catalogue.find(account, name) is not None)
