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
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from waystation.backend.batches import Batch, Batches
from waystation.backend.cache import EnvelopeCache
from waystation.backend.carrier import Carrier, Deliver, deliver_nowhere
from waystation.backend.clock import SteadyClock, wall_clock_ms
from waystation.backend.errors import ShardBusy, ShardUnavailable, StorageNearlyFull
from waystation.backend.housekeeping import Housekeeper
from waystation.backend.long_polls import LongPoll, LongPolls
from waystation.backend.reading import read_envelopes, read_runs
from waystation.backend.recovery import recover
from waystation.backend.settings import BackendSettings
from waystation.log.errors import LogDamaged, LogUnavailable
from waystation.log.interface import Log
from waystation.protocol.errors import Refusal
from waystation.queues import events
from waystation.queues.commands import (
    AcceptMessages,
    Answer,
    Arrival,
    Command,
    Entry,
    MoveMessages,
    Received,
    ReceiveMessages,
    SendMessages,
)
from waystation.queues.contents import run_messages, waiting_messages
from waystation.queues.events import Event, encode_events
from waystation.queues.state import Queue, ShardState

_FIRST_RETRY_S = 0.05

_RECOVERING = "The shard is recovering from a failure."

_TURNS_BETWEEN_APPENDS = 4
"""Of the event loop, while several clients are being answered. Measured: two are too few for
a client on the same machine to come back; eight bring no more than four."""

_logger = logging.getLogger(__name__)


class Shard:
    """One shard.

    Lifecycle: build it (no I/O), `open` it, run `run` as a task, `submit`
    commands; `end` it and cancel the task to stop, and nobody is left waiting.
    """

    def __init__(
        self,
        number: int,
        log: Log,
        settings: BackendSettings,
        clock: Callable[[], int] = wall_clock_ms,
        deliver: Deliver = deliver_nowhere,
    ) -> None:
        self.number = number
        self._deliver = deliver
        self._log = log
        self._settings = settings
        self._clock = clock
        self._draining = False
        self._ending = False
        self._why_not: str | None = "The shard has not been opened."
        self._reset(ShardState())

    def _reset(self, state: ShardState) -> None:
        """Everything that goes with one life of the state."""
        self.state = state
        self._cache = EnvelopeCache(self._settings.cache_bytes)
        self._batches = Batches(self._log.position + 1, self._settings.record_bytes_max)
        self._polls = LongPolls(self._settings.waiting_max, self._show_due)
        self._touched: set[int] = set()
        self._loading: set[int] = set()
        self._work = asyncio.Event()
        self._bug: Exception | None = None
        self._housekeeper = Housekeeper(self, self._log, self._settings)
        self._carrier = Carrier(self, self._log, self._deliver)

    # Life

    async def open(self) -> None:
        """Recover, and take the shard over. Raises `LogDamaged` or `LogUnavailable`."""
        # Kept, because asking asyncio for it costs a system call (getpid) each time.
        self._loop = asyncio.get_running_loop()
        self._steady = SteadyClock(self._loop, self._clock)
        self._reset(await recover(self._log))
        self.record(events.EpochStarted(self.now_ms(), self.state.epoch + 1))
        await self._append(self._batches.seal())
        self._why_not = None

    async def run(self) -> None:
        """Serve until cancelled. Outlives every failure, except of a log that cannot be replayed."""
        why_not = "The shard is stopped."
        try:
            while True:
                try:
                    async with asyncio.TaskGroup() as group:
                        self._group = group
                        self._start(self._flush())
                        self._start(self._housekeeper.run())
                        self._start(self._carrier.run())
                except* LogDamaged:
                    raise
                except* Exception as failures:
                    _logger.error(
                        "shard failed", extra={"shard": self.number}, exc_info=failures.exceptions[0]
                    )
                self._stop_serving(_RECOVERING)
                if self._ending:
                    return  # a task group may drop the cancellation when a task of its own fails just then
                await self._reopen()
        except* Exception as failures:
            _logger.critical(
                "shard is stopped", extra={"shard": self.number}, exc_info=failures.exceptions[0]
            )
            why_not = "The shard is stopped: its log is damaged or cannot be replayed."
        finally:
            self._stop_serving(why_not)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a part of this life of the state; when one part fails, all end."""
        self._group.create_task(self._watch_over(work))

    async def _watch_over(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except BaseException:
            # From now on nothing may be decided: the other parts are ending as well.
            self._why_not = self._why_not or _RECOVERING
            raise

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

    def _stop_serving(self, why_not: str) -> None:
        """Forget everything in memory and tell all who wait."""
        self._why_not = why_not
        self._polls.end_all(ShardUnavailable(why_not))
        for batch in self._batches:
            if batch.committed is not None:
                batch.committed.cancel()
            for future, _ in batch.answers:
                if not future.done():
                    future.set_exception(ShardUnavailable(why_not))
        self._reset(ShardState())

    def end(self) -> None:
        """Let `run` end instead of recovering; to be said before it is cancelled."""
        self._ending = True

    @property
    def is_serving(self) -> bool:
        """Whether it takes commands now."""
        return self._why_not is None

    def drain(self) -> None:
        """Answer all receives that wait, and let none wait from now on: before a planned stop."""
        self._draining = True
        self._polls.end_all()

    # Commands

    def now_ms(self) -> int:
        """Read the clock, once for a command."""
        return self.state.advance(self._steady.read(self.state.now_ms))

    def submit(self, command: Command) -> asyncio.Future[Answer]:
        """Do a command; its answer comes when what it did is durable.

        If the future is cancelled, the command is done all the same, but a
        waiting receive no longer waits.

        Raises:
            Refusal: what the state says to the command.
            ShardBusy, StorageNearlyFull, ShardUnavailable: see there; the last also comes on the future.
        """
        if self._why_not is not None:
            raise ShardUnavailable(self._why_not)
        if self._batches.pending_bytes > self._settings.pending_bytes_max:
            raise ShardBusy("Too many messages are waiting for the disk.")
        if isinstance(command, SendMessages | AcceptMessages) and not self._log.has_room():
            raise StorageNearlyFull("The disk is nearly full: messages can be received, but not sent.")
        self.now_ms()
        future: asyncio.Future[Answer] = self._loop.create_future()
        if isinstance(command, ReceiveMessages):
            self._receive(command, future)
            return future
        decided, answer = self.state.decide(command)
        # What changes nothing waits as well, for what it was decided after: a delete
        # is not confirmed while an append that fails could still bring the message back.
        batch = self._batches.last()
        for event in decided:
            batch = self.record(event)
        if batch is None:
            future.set_result(answer)
        else:
            batch.answers.append((future, answer))
        if isinstance(command, MoveMessages):
            self._load_ahead(self.state.queue(command.queue))
        return future

    def record(self, event: Event) -> Batch:
        """Apply an event and have it logged; returns the batch that it is in."""
        try:
            self.state.apply(event, self._batches.position)
        except Exception as bug:
            # Half applied, the state is not what the log says: nothing of it may be appended.
            self._bug = bug
            self._why_not = _RECOVERING
            self._work.set()
            raise ShardUnavailable(self._why_not) from bug
        noted = _NOTED.get(type(event))
        envelope_bytes = (noted(self, event) if noted is not None else None) or 0
        number = getattr(event, "queue", 0)
        if number in self._polls:
            self._touched.add(number)
        self._work.set()
        return self._batches.add(event, envelope_bytes)

    def _cache_new(self, queue: int, first_sequence: int, entries: Sequence[Entry | Arrival]) -> int:
        """Keep the envelopes of messages near the head of their queue; returns the bytes of all."""
        held = self.state.queues[queue].messages
        envelope_bytes = 0
        for sequence, entry in enumerate(entries, first_sequence):
            envelope_bytes += len(entry.envelope)
            if sequence in held:
                self._cache.put(queue, sequence, entry.envelope)
        return envelope_bytes

    def seal(self) -> Batch:
        """Close the open batch: the state is now exactly what the log says up to its position."""
        self._work.set()
        return self._batches.seal()

    # Receiving

    def _receive(self, command: ReceiveMessages, future: asyncio.Future[Answer]) -> None:
        queue = self.state.queue(command.queue)
        if self._try_receive(queue, command, future):
            return
        may_wait = command.wait_ms > 0 and not self._draining and not self._polls.is_full()
        poll = LongPoll(command, future)
        if may_wait or queue.number in self._loading:
            self._polls.add(poll, command.wait_ms if may_wait else 0)
            self._polls.watch(queue, self.state.now_ms)
        else:
            poll.give_up()

    def _try_receive(self, queue: Queue, command: ReceiveMessages, future: asyncio.Future[Answer]) -> bool:
        """Receive what is visible now; False when nothing is. May start to load more."""
        decided, answer = self.state.decide(command)
        assert isinstance(answer, Received)
        for message in answer.messages:
            message.envelope = self._cache.take(queue.number, message.sequence) or b""
        for event in decided:
            batch = self.record(event)
        if answer.messages:
            batch.answers.append((future, answer))
        elif decided:
            # Only dead messages stood here. Now that they are out of the way, others may be seen.
            return self._try_receive(queue, command, future)
        self._load_ahead(queue)
        return bool(answer.messages)

    def _show_due(self, number: int) -> None:
        self.now_ms()
        self._touched.add(number)
        self._work.set()

    def _serve_waiting(self) -> None:
        """Let the receives that wait on touched queues take what is visible now, longest waiting first."""
        if self._touched:
            self.now_ms()  # The append before this may have taken long.
        while self._touched:
            number = self._touched.pop()
            try:
                queue = self.state.queue(number)
            except Refusal as refusal:
                self._polls.end(number, refusal)
                continue
            for poll in self._polls.of(number):
                if self._serve(queue, poll):
                    self._polls.remove(poll)
            self._touched.discard(number)
            self._polls.watch(queue, self.now_ms())

    def _serve(self, queue: Queue, poll: LongPoll) -> bool:
        """Serve one waiting receive; False when it has to wait on."""
        if poll.future.done():
            return True
        try:
            if self._try_receive(queue, poll.command, poll.future):
                return True
        except Refusal as refusal:
            poll.refuse(refusal)
            return True
        if poll.deadline is None and queue.number not in self._loading:
            poll.give_up()
            return True
        return False

    # Reading back from the log

    async def fill(self, queue: Queue) -> bool:
        """Load a tail that no consumer asks for. False when one does, or when the queue is gone."""
        if queue.number in self._loading or queue.number not in self.state.queues:
            return False
        self._loading.add(queue.number)
        await self._load(queue)
        return True

    def _load_ahead(self, queue: Queue) -> None:
        """Start to load what consumers will soon ask for."""
        if queue.needs_load() and queue.number not in self._loading:
            self._loading.add(queue.number)
            self._start(self._load(queue))

    async def _load(self, queue: Queue) -> None:
        """Fill a queue's window from its tail, then serve who waits for that."""
        try:
            wanted = queue.runs_to_load()
            runs = [run for _, run in wanted]
            await self._committed(max((run.record for run in runs), default=0))
            found = {
                position: waiting_messages(record, queue.number)
                for position, record in (await read_runs(self._log, runs)).items()
            }
            for group, run in wanted:
                if self.state.queues.get(queue.number) is not queue:
                    break  # deleted meanwhile
                if not queue.takes(group, run):
                    continue  # purged or relocated meanwhile, or full: the next receive asks again
                if run.record not in found:
                    raise LogDamaged(f"record {run.record} is missing, and live messages are in it")
                loaded = run_messages(found[run.record], queue.lines[group], run)
                queue.load(group, run, [message for message, _ in loaded], self.state.now_ms)
                for message, envelope in loaded:
                    self._cache.put(queue.number, message.sequence, envelope)
        finally:
            self._loading.discard(queue.number)
        self._touched.add(queue.number)
        self._work.set()

    async def _fetch(self, future: asyncio.Future[Any], received: Received) -> None:
        """Complete an answer with the envelopes that were not in the cache, then give it."""
        looked_at: set[tuple[int, int]] = set()
        try:
            # Again when relocation has overtaken the read: what is alive is handed out.
            while places := self._missing(received) - looked_at:
                looked_at |= places
                await self._committed(max(record for _, record in places))
                await read_envelopes(self._log, received.queue, received.messages)
        except BaseException:
            if not future.done():
                future.set_exception(ShardUnavailable("The message could not be read from storage."))
            raise
        held = [message for message in received.messages if message.envelope]
        self._hand_out(future, Received(received.queue, held, received.visible_at_ms, received.attempt))

    def _missing(self, received: Received) -> set[tuple[int, int]]:
        """Sequences of the living messages that have no envelope yet, and where they lie now."""
        queue = self.state.queues.get(received.queue)
        places: set[tuple[int, int]] = set()
        for message in received.messages:
            alive = queue.messages.get(message.sequence) if queue is not None else None
            if alive is not None and not message.envelope:
                message.record = alive.record
                places.add((message.sequence, alive.record))
        return places

    async def _committed(self, position: int) -> None:
        """Wait until the record at a position is durable."""
        batch = next((batch for batch in self._batches if batch.position == position), None)
        if batch is not None:
            await self.commit_of(batch)

    async def settled(self) -> None:
        """Wait until everything that was decided so far is durable."""
        batch = self._batches.last()
        if batch is not None:
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
            self._stop_at_a_bug()
            while (batch := self._batches.first()) is not None:
                await self._append(batch)
                if len(batch.answers) > 1:
                    await self._let_others_join()
                self._serve_waiting()

    def _stop_at_a_bug(self) -> None:
        if self._bug is not None:
            raise self._bug

    async def _let_others_join(self) -> None:
        """Let clients who have just been answered put their next requests into the next batch.

        Without this, half of them would always be waiting for the append in which the
        other half is: a quarter more CPU for each message, in twice as many syncs.
        """
        for _ in range(_TURNS_BETWEEN_APPENDS):
            await asyncio.sleep(0)

    async def _append(self, batch: Batch) -> None:
        """Make the first batch durable and answer. On failure it stays, to be refused."""
        self._stop_at_a_bug()
        position = await self._log.append(encode_events(batch.events))
        assert position == batch.position, "somebody else has written to this log"
        self._housekeeper.count(batch)
        if batch.committed is not None and not batch.committed.done():
            batch.committed.set_result(self._log.checksum)
        for future, answer in batch.answers:
            if isinstance(answer, Received):
                self._hand_out(future, answer)
            elif not future.done():
                future.set_result(answer)
        self._batches.appended()

    def _hand_out(self, future: asyncio.Future[Any], received: Received) -> None:
        """Give a consumer its messages, unless it has gone, or the append took all of its time."""
        if future.done():
            self._give_back(received)
        elif received.visible_at_ms and self.now_ms() >= received.visible_at_ms:
            future.set_result(Received(received.queue, []))
        elif all(message.envelope for message in received.messages):
            future.set_result(received)
        else:
            self._start(self._fetch(future, received))

    def _give_back(self, received: Received) -> None:
        """Show messages again whose consumer went away before it could be told of them."""
        queue = self.state.queues.get(received.queue)
        now_ms = self.now_ms()
        changes = [
            (message.sequence, now_ms)
            for message in received.messages
            if queue is not None and queue.holds_receipt(message.sequence, message.receive_count)
        ]
        # Who has an attempt id asks for the same messages again, or has already.
        if changes and not received.attempt:
            self.record(events.VisibilityChanged(now_ms, received.queue, changes))


_NOTED: dict[type, Callable[[Shard, Any], int | None]] = {
    events.MessagesSent: lambda shard, event: shard._cache_new(
        event.queue, event.first_sequence, event.entries
    ),
    events.MessagesArrived: lambda shard, event: shard._cache_new(
        event.queue, event.first_sequence, event.arrivals
    ),
    events.MessagesRelocated: lambda _, event: sum(len(message.envelope) for message in event.messages),
    events.MessagesSetAside: lambda shard, event: shard._carrier.notice(event.queue, event.target),
}
"""What else is done about an event once it is applied; returns the envelope bytes that it brings, if any."""
