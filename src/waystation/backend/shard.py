"""A shard: the single writer of one log, and the only place where its queues change.

A command is decided and applied at once, in memory, and its event joins the
open batch. The flusher appends one batch at a time as one log record; only then
are the answers of that batch given (group commit: the busier, the more messages
share one sync). It never answers from a state that could still be taken back.

Long polls wait without a polling loop: just before a batch is flushed, receives
that wait on the queues it touched are served, and join it; a timer fires when
the next hidden message of a queue with waiting receives becomes visible.

If an append fails, the state in memory is ahead of the log: it is thrown away,
whoever waits is told that the shard is unavailable, and the state is read back
from the log, again and again until that works and a new epoch can be appended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from waystation.backend.cache import EnvelopeCache
from waystation.backend.errors import ShardBusy, ShardUnavailable
from waystation.backend.housekeeping import Housekeeper
from waystation.backend.recovery import record_events, recover
from waystation.backend.settings import BackendSettings
from waystation.log.errors import LogDamaged, LogUnavailable
from waystation.log.interface import Log
from waystation.protocol.errors import Refusal, Unavailable
from waystation.queues import events
from waystation.queues.commands import Answer, Command, Received, ReceiveMessages
from waystation.queues.contents import run_messages, stored_messages
from waystation.queues.events import Event, encode_events
from waystation.queues.standard import StandardQueue
from waystation.queues.state import ShardState
from waystation.queues.waiting import Waiting

_FIRST_RETRY_S = 0.05

_logger = logging.getLogger(__name__)


def wall_clock_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class Batch:
    """Events that will be one record at `position`, and who waits for it."""

    __slots__ = ("answers", "bytes", "committed", "events", "position")

    def __init__(self, position: int) -> None:
        self.position = position
        self.bytes = 0
        self.events: list[Event] = []
        self.answers: list[tuple[asyncio.Future[Any], Answer]] = []
        self.committed: asyncio.Future[bytes] | None = None
        """Resolved with the record's checksum, when somebody asked for that."""


class _Waiter:
    """A receive that waits. `deadline` is None for one that only waits for the log to be read."""

    __slots__ = ("command", "deadline", "future")

    def __init__(self, command: ReceiveMessages, future: asyncio.Future[Answer]) -> None:
        self.command = command
        self.future = future
        self.deadline: asyncio.TimerHandle | None = None


class Shard:
    """One shard.

    Lifecycle: build it (no I/O), `open` it, run `run` as a task, `submit`
    commands; cancel the task to stop, and nobody is left waiting.
    """

    def __init__(
        self, number: int, log: Log, settings: BackendSettings, clock: Callable[[], int] = wall_clock_ms
    ) -> None:
        self.number = number
        self._log = log
        self._settings = settings
        self._clock = clock
        self._draining = False
        self._why_not: Unavailable | None = ShardUnavailable("The shard has not been opened.")
        self._reset(ShardState())

    def _reset(self, state: ShardState) -> None:
        """Everything that goes with one life of the state."""
        self.state = state
        self._cache = EnvelopeCache(self._settings.cache_bytes)
        self._waiting: Waiting[_Waiter] = Waiting(self._settings.waiting_max)
        self._due: dict[int, tuple[int, asyncio.TimerHandle]] = {}
        self._touched: set[int] = set()
        self._loading: set[int] = set()
        self._sealed: deque[Batch] = deque()
        self._open = Batch(self._log.position + 1)
        self._pending_bytes = 0
        self._work = asyncio.Event()
        self._housekeeper = Housekeeper(self, self._log, self._settings)

    # Life

    async def open(self) -> None:
        """Recover, and take the shard over. Raises `LogDamaged` or `LogUnavailable`."""
        # Kept, because asking asyncio for it costs a system call (getpid) each time.
        self._loop = asyncio.get_running_loop()
        self._reset(await recover(self._log))
        self.record(events.EpochStarted(self.now_ms(), self.state.epoch + 1))
        await self._append(self._take_batch())
        self._why_not = None

    async def run(self) -> None:
        """Serve until cancelled. Outlives every failure, except of a log that cannot be replayed."""
        try:
            while True:
                try:
                    async with asyncio.TaskGroup() as group:
                        self._group = group
                        group.create_task(self._flush())
                        group.create_task(self._housekeeper.run())
                except* LogDamaged:
                    raise
                except* Exception as failures:
                    _logger.error(
                        "shard failed", extra={"shard": self.number}, exc_info=failures.exceptions[0]
                    )
                self._stop_serving(ShardUnavailable("The shard is recovering from a failure."))
                await self._reopen()
        except* Exception as failures:
            _logger.critical(
                "shard is stopped", extra={"shard": self.number}, exc_info=failures.exceptions[0]
            )
            self._why_not = ShardUnavailable("The shard is stopped: its log cannot be replayed.")
        finally:
            stopped = ShardUnavailable("The shard is stopped.")
            self._stop_serving(stopped if self._why_not is None else self._why_not)

    async def _reopen(self) -> None:
        delay_s = _FIRST_RETRY_S
        while True:
            await asyncio.sleep(delay_s)
            try:
                await self.open()
            except LogUnavailable as error:
                _logger.warning("log is unavailable", extra={"shard": self.number, "reason": str(error)})
                delay_s = min(2 * delay_s, self._settings.retry_delay_max_s)
            else:
                _logger.warning("shard serves again", extra={"shard": self.number, "epoch": self.state.epoch})
                return

    def _stop_serving(self, why: Unavailable) -> None:
        """Forget everything in memory and tell all who wait."""
        self._why_not = why
        futures: list[asyncio.Future[Any]] = [waiter.future for waiter in self._all_waiters()]
        for batch in (*self._sealed, self._open):
            futures.extend(future for future, _ in batch.answers)
            if batch.committed is not None:
                batch.committed.cancel()
        for future in futures:
            if not future.done():
                future.set_exception(why)
        self._reset(ShardState())

    def _all_waiters(self) -> list[_Waiter]:
        for _, timer in self._due.values():
            timer.cancel()
        self._due.clear()
        waiters = self._waiting.take_all()
        for waiter in waiters:
            if waiter.deadline is not None:
                waiter.deadline.cancel()
        return waiters

    @property
    def is_serving(self) -> bool:
        """Whether it takes commands now."""
        return self._why_not is None

    def drain(self) -> None:
        """Answer all receives that wait, and let none wait from now on: before a planned stop."""
        self._draining = True
        for waiter in self._all_waiters():
            if not waiter.future.done():
                waiter.future.set_result(Received(waiter.command.queue, []))

    # Commands

    def now_ms(self) -> int:
        """Read the clock, once for a command."""
        return self.state.advance(self._clock())

    def submit(self, command: Command) -> asyncio.Future[Answer]:
        """Do a command; its answer comes when what it did is durable.

        If the future is cancelled, the command is done all the same, but a
        waiting receive no longer waits.

        Raises:
            Refusal: what the state says to the command.
            ShardBusy, ShardUnavailable: see there; also set on the future.
        """
        if self._why_not is not None:
            raise self._why_not
        if self._pending_bytes > self._settings.pending_bytes_max:
            raise ShardBusy("Too many messages are waiting for the disk.")
        self.now_ms()
        future: asyncio.Future[Answer] = self._loop.create_future()
        if isinstance(command, ReceiveMessages):
            self._receive(command, future)
            return future
        event, answer = self.state.decide(command)
        if event is None:
            future.set_result(answer)
        else:
            self.record(event)
            self._open.answers.append((future, answer))
        return future

    def record(self, event: Event) -> None:
        """Apply an event and add it to the open batch."""
        batch = self._open
        self.state.apply(event, batch.position)
        batch.events.append(event)
        if isinstance(event, events.MessagesSent):
            self._cache_sent(event, batch)
        elif isinstance(event, events.MessagesRelocated):
            self._count(batch, sum(len(message.envelope) for message in event.messages))
        number = getattr(event, "queue", 0)
        if number in self._waiting:
            self._touched.add(number)
        self._work.set()

    def _cache_sent(self, event: events.MessagesSent, batch: Batch) -> None:
        # Only what is near the head of its queue is kept; the rest is read when its turn comes.
        held = self.state.queues[event.queue].messages
        size = 0
        for sequence, entry in enumerate(event.entries, event.first_sequence):
            size += len(entry.envelope)
            if sequence in held:
                self._cache.put(event.queue, sequence, entry.envelope)
        self._count(batch, size)

    def _count(self, batch: Batch, size: int) -> None:
        batch.bytes += size
        self._pending_bytes += size
        if batch.bytes >= self._settings.record_bytes_max:
            self.seal()

    def seal(self) -> Batch:
        """Close the open batch: the state is now exactly what the log says up to its position."""
        batch = self._open
        self._sealed.append(batch)
        self._open = Batch(batch.position + 1)
        self._work.set()
        return batch

    # Receiving

    def _receive(self, command: ReceiveMessages, future: asyncio.Future[Answer]) -> None:
        queue = self.state.queue(command.queue)
        if self._try_receive(queue, command, future):
            return
        must_load = queue.number in self._loading
        may_wait = command.wait_ms > 0 and not self._draining and not self._waiting.is_full()
        if not must_load and not may_wait:
            future.set_result(Received(queue.number, []))
            return
        waiter = _Waiter(command, future)
        if may_wait:
            waiter.deadline = self._loop.call_later(
                command.wait_ms / 1_000, self._give_up, waiter
            )
        self._waiting.add(queue.number, waiter)
        future.add_done_callback(lambda _: self._leave(waiter))
        self._watch(queue)

    def _try_receive(
        self, queue: StandardQueue, command: ReceiveMessages, future: asyncio.Future[Answer]
    ) -> bool:
        """Receive what is visible now; False when nothing is. May start to load more."""
        event, answer = self.state.decide(command)
        if event is not None:
            assert isinstance(answer, Received)
            for message in answer.messages:
                message.envelope = self._cache.take(queue.number, message.sequence) or b""
            self.record(event)
            self._open.answers.append((future, answer))
        if queue.needs_load() and queue.number not in self._loading:
            self._loading.add(queue.number)
            self._group.create_task(self._load(queue))
        return event is not None

    def _give_up(self, waiter: _Waiter) -> None:
        if not waiter.future.done():
            waiter.future.set_result(Received(waiter.command.queue, []))

    def _leave(self, waiter: _Waiter) -> None:
        """The waiter was answered, gave up, or its client went away."""
        if waiter.deadline is not None:
            waiter.deadline.cancel()
        self._waiting.remove(waiter.command.queue, waiter)

    def _serve_waiting(self) -> None:
        """Let the receives that wait on touched queues take what is visible now, oldest first."""
        while self._touched:
            number = self._touched.pop()
            queue = self.state.queues.get(number)
            if queue is None:
                self._refuse_waiting(number)
                continue
            while (waiter := self._waiting.first(number)) is not None:
                if self._serve(queue, waiter):
                    self._waiting.remove(number, waiter)
                else:
                    break
            self._touched.discard(number)
            self._watch(queue)

    def _serve(self, queue: StandardQueue, waiter: _Waiter) -> bool:
        """Serve one waiting receive; False when it has to wait on."""
        if waiter.future.done():
            return True
        try:
            if self._try_receive(queue, waiter.command, waiter.future):
                return True
        except Refusal as refusal:
            waiter.future.set_exception(refusal)
            return True
        if waiter.deadline is None and queue.number not in self._loading:
            waiter.future.set_result(Received(queue.number, []))
            return True
        return False

    def _refuse_waiting(self, number: int) -> None:
        for waiter in self._waiting.take_all(number):
            if not waiter.future.done():
                try:
                    self.state.queue(number)
                except Refusal as refusal:
                    waiter.future.set_exception(refusal)

    def _watch(self, queue: StandardQueue) -> None:
        """Have a timer for when the next message shows, while receives wait for one."""
        due_ms = queue.next_due_ms() if queue.number in self._waiting else None
        planned = self._due.get(queue.number)
        if planned is not None:
            if planned[0] == due_ms:
                return
            planned[1].cancel()
            del self._due[queue.number]
        if due_ms is not None:
            delay_s = max(due_ms - self.state.now_ms, 1) / 1_000
            timer = self._loop.call_later(delay_s, self._show_due, queue.number)
            self._due[queue.number] = (due_ms, timer)

    def _show_due(self, number: int) -> None:
        del self._due[number]
        self.now_ms()
        self._touched.add(number)
        self._work.set()

    # Reading back from the log

    async def _load(self, queue: StandardQueue) -> None:
        """Fill a queue's window from its tail, then serve who waits for that."""
        try:
            runs = queue.runs_to_load()
            positions = list(dict.fromkeys(run.record for run in runs))
            await self._committed(max(positions, default=0))
            records = dict(zip(positions, await self._log.read(positions), strict=True))
            for run in runs:
                if next(iter(queue.tail), None) != run or not queue.has_room():
                    break  # purged or relocated meanwhile, or full: the next receive asks again
                record = records[run.record]
                if record is None:
                    raise LogDamaged(f"record {run.record} is missing, and live messages are in it")
                found = run_messages(record_events(record), queue.number, run)
                queue.load(run, [message for message, _ in found])
                for message, envelope in found:
                    self._cache.put(queue.number, message.sequence, envelope)
        finally:
            self._loading.discard(queue.number)
        self._touched.add(queue.number)
        self._work.set()

    async def _fetch(self, future: asyncio.Future[Any], received: Received) -> None:
        """Complete an answer with the envelopes that were not in the cache, then give it."""
        missing = [message for message in received.messages if not message.envelope]
        try:
            records = await self._log.read(list(dict.fromkeys(message.record for message in missing)))
            found = {
                (stored.queue, stored.sequence): stored.envelope
                for record in records
                if record is not None
                for stored in stored_messages(record_events(record))
            }
        except BaseException:
            if not future.done():
                future.set_exception(ShardUnavailable("The message could not be read from storage."))
            raise
        for message in missing:
            message.envelope = found.get((received.queue, message.sequence), b"")
        if not future.done():
            # One that is gone from the log was deleted while it was being read.
            held = [message for message in received.messages if message.envelope]
            future.set_result(Received(received.queue, held))

    async def _committed(self, position: int) -> None:
        """Wait until the record at a position is durable."""
        for batch in (*self._sealed, self._open):
            if batch.position == position:
                await self.commit_of(batch)

    def commit_of(self, batch: Batch) -> asyncio.Future[bytes]:
        """The checksum of a batch's record, once that is durable."""
        if batch.committed is None:
            batch.committed = self._loop.create_future()
            self._work.set()
        return batch.committed

    # Flushing

    async def _flush(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            self._serve_waiting()
            while self._sealed or self._open.events or self._open.committed is not None:
                await self._append(self._take_batch())
                # One turn of the loop: requests that have arrived meanwhile join the
                # next batch, which at moderate load halves the number of syncs.
                await asyncio.sleep(0)
                self._serve_waiting()

    def _take_batch(self) -> Batch:
        if not self._sealed:
            self.seal()
        return self._sealed[0]

    async def _append(self, batch: Batch) -> None:
        """Make a batch durable and answer. On failure it stays in `_sealed`, to be refused."""
        position = await self._log.append(encode_events(batch.events))
        assert position == batch.position, "somebody else has written to this log"
        self._sealed.popleft()
        self._pending_bytes -= batch.bytes
        self._housekeeper.count(batch)
        if batch.committed is not None and not batch.committed.done():
            batch.committed.set_result(self._log.checksum)
        for future, answer in batch.answers:
            if future.done():
                if isinstance(answer, Received):
                    self._give_back(answer)
            elif isinstance(answer, Received) and not all(message.envelope for message in answer.messages):
                self._group.create_task(self._fetch(future, answer))
            else:
                future.set_result(answer)

    def _give_back(self, received: Received) -> None:
        """Show messages again whose consumer went away before it could be told of them."""
        queue = self.state.queues.get(received.queue)
        now_ms = self.now_ms()
        changes = [
            (message.sequence, now_ms)
            for message in received.messages
            if queue is not None and queue.holds_receipt(message.sequence, message.receive_count)
        ]
        if changes:
            self.record(events.VisibilityChanged(now_ms, received.queue, changes))
