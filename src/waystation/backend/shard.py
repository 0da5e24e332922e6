"""A shard: the single writer of one log, and the only place where its queues change.

A command is decided and applied at once, in memory, and its event joins the
open batch. The flusher appends one batch at a time as one log record; only then
are the answers of that batch given (group commit: the busier, the more messages
share one sync). It never answers from a state that could still be taken back.

If an append fails, the state in memory is ahead of the log: it is thrown away,
whoever waits is told that the shard is unavailable, and the state is read back
from the log, again and again until that works and a new epoch can be appended.
Only another owner ends that: once the log shows one, the shard never takes itself back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeAlias

from waystation.backend.batches import Batch, Batches
from waystation.backend.cache import EnvelopeCache
from waystation.backend.carrier import Carrier, Deliver, deliver_nowhere
from waystation.backend.clock import SteadyClock, wall_clock_ms
from waystation.backend.errors import NotOwner, ShardBusy, ShardUnavailable, StorageNearlyFull
from waystation.backend.housekeeping import Housekeeper
from waystation.backend.loading import Loader
from waystation.backend.receiving import Receiver
from waystation.backend.recovery import recover
from waystation.backend.settings import BackendSettings
from waystation.log.errors import Fenced, LogDamaged, LogUnavailable
from waystation.log.interface import Log
from waystation.protocol.errors import Unavailable
from waystation.queues import events
from waystation.queues.commands import (
    AcceptMessages,
    Answer,
    Arrival,
    Command,
    DeleteMessages,
    Entry,
    MoveMessages,
    Received,
    ReceiveMessages,
    SendMessages,
)
from waystation.queues.events import Event, encode_events
from waystation.queues.state import Queue, ShardState

_FIRST_RETRY_S = 0.05

_TURNS_BETWEEN_APPENDS = 4
"""Of the event loop, while several clients are being answered. Measured: two are too few for
a client on the same machine to come back; eight bring no more than four."""

_Refuse: TypeAlias = Callable[[], Unavailable]
"""Makes the error that whoever asks is told; each gets one of his own."""

_NOT_OPEN = partial(ShardUnavailable, "The shard has not been opened.")
_RECOVERING = partial(ShardUnavailable, "The shard is recovering from a failure.")
_STOPPED = partial(ShardUnavailable, "The shard is stopped.")
_DAMAGED = partial(ShardUnavailable, "The shard is stopped: its log is damaged or cannot be replayed.")
_IN_DOUBT = partial(ShardUnavailable, "Another node has taken the shard over.")
_NOT_OWNER = partial(NotOwner, "The shard is on another node now.")

_logger = logging.getLogger(__name__)


class Shard:
    """One shard.

    Lifecycle: build it (no I/O), `open` it, run `run` as a task, `submit`
    commands; `end` it and cancel the task to stop, and nobody is left waiting.
    `hand_over` before that, and nobody is refused what has been decided.

    Args:
        owner: who writes to the log here, like nobody else ever does.
    """

    def __init__(
        self,
        number: int,
        log: Log,
        settings: BackendSettings,
        clock: Callable[[], int] = wall_clock_ms,
        deliver: Deliver = deliver_nowhere,
        owner: str = "",
    ) -> None:
        self.number = number
        self._deliver = deliver
        self._log = log
        self._settings = settings
        self._clock = clock
        self._owner = owner
        self._has_owned = False
        self._is_append_fenced = False
        self.is_draining = False
        """No receive may wait any more."""
        self._ending = False
        self._why_not: _Refuse | None = _NOT_OPEN
        self._reset(ShardState())

    def _reset(self, state: ShardState) -> None:
        """Everything that goes with one life of the state."""
        self.state = state
        self._cache = EnvelopeCache(self._settings.cache_bytes)
        self._batches = Batches(self._log.position + 1, self._settings.record_bytes_max)
        self._work = asyncio.Event()
        self._bug: Exception | None = None
        self._loader = Loader(self, self._log, self._cache)
        self._receiver = Receiver(self, self._loader, self._cache, self._settings.waiting_max)
        self._hand_out = self._receiver.hand_out
        self._housekeeper = Housekeeper(self, self._log, self._settings)
        self._carrier = Carrier(self, self._log, self._deliver)

    # Life

    async def open(self) -> None:
        """Recover, and take the shard over. Raises `LogDamaged`, `LogUnavailable`, or `Fenced` of them."""
        # Kept, because asking asyncio for it costs a system call (getpid) each time.
        self._loop = asyncio.get_running_loop()
        self._steady = SteadyClock(self._loop, self._clock)
        state = await recover(self._log)
        if self._has_owned and state.owner != self._owner:
            # A failure may be how one hears of another owner. Taking the shard back would only
            # make that one fail in turn.
            raise Fenced(f"Another owner has shard {self.number} since epoch {state.epoch}.")
        self._reset(state)
        self.record(events.EpochStarted(self.now_ms(), self.state.epoch + 1, self._owner))
        await self._append(self._batches.seal())
        self._has_owned = True
        self._why_not = None

    async def run(self) -> None:
        """Serve until cancelled. Outlives every failure but these.

        Raises:
            Fenced: another owner has the shard. Commands that only waited are refused with `NotOwner`.
            LogDamaged: the log cannot be replayed; so does any other error that replay leads to.
        """
        why_not: _Refuse = _STOPPED
        waiting: _Refuse = _STOPPED
        try:
            while True:
                await self._live()
                self._stop_serving(_RECOVERING, _RECOVERING)
                if self._ending:
                    return  # a task group may drop the cancellation when a task of its own fails just then
                await self._reopen()
        except Fenced as fenced:
            # Only an append that was itself fenced is certain not to be in the log.
            why_not, waiting = _NOT_OWNER, _NOT_OWNER if self._is_append_fenced else _IN_DOUBT
            _logger.warning("shard is lost", extra={"shard": self.number, "reason": str(fenced)})
            raise
        except Exception as failure:
            why_not = waiting = _DAMAGED
            _logger.critical("shard is stopped", extra={"shard": self.number}, exc_info=failure)
            raise
        finally:
            self._stop_serving(why_not, waiting)

    async def _live(self) -> None:
        """One life of the state, until it fails. Raises only what no new life would help against."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                parts = (self._flush(), self._housekeeper.run(), self._carrier.run())
                _, *self._background = [self.start(part) for part in parts]
        except ExceptionGroup as failures:
            for kind in (Fenced, LogDamaged):
                for failure in failures.exceptions:
                    if isinstance(failure, kind):
                        raise failure from None
            failure = failures.exceptions[0]
            if isinstance(failure, LogUnavailable):
                # Nothing that was promised is broken: who waits is told that the outcome is unknown.
                facts = {"shard": self.number, "reason": str(failure)}
                _logger.warning("log is unavailable", extra=facts)
            else:
                _logger.error("shard failed", extra={"shard": self.number}, exc_info=failure)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a part of this life of the state; when one part fails, all end."""
        return self._group.create_task(self._watch_over(work))

    async def _watch_over(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except BaseException as error:
            # From now on nothing may be decided: the other parts are ending as well.
            self._why_not = self._why_not or (_NOT_OWNER if isinstance(error, Fenced) else _RECOVERING)
            raise

    async def _reopen(self) -> None:
        delay_s = _FIRST_RETRY_S
        while True:
            await asyncio.sleep(delay_s)
            try:
                await self.open()
            except Fenced:
                raise
            except LogUnavailable as error:
                _logger.warning("log is unavailable", extra={"shard": self.number, "reason": str(error)})
                delay_s = min(2 * delay_s, self._settings.retry_delay_max_s)
            else:
                _logger.warning("shard serves again", extra={"shard": self.number, "epoch": self.state.epoch})
                return

    def _stop_serving(self, why_not: _Refuse, waiting: _Refuse) -> None:
        """Forget everything in memory and tell all who wait: those for an append, with `waiting`."""
        self._why_not = why_not
        self._receiver.end_all(why_not())
        for batch in self._batches:
            if batch.committed is not None:
                batch.committed.cancel()
            for future, _ in batch.answers:
                if not future.done():
                    future.set_exception(waiting())
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
        self.is_draining = True
        self._receiver.end_all()

    async def hand_over(self) -> None:
        """Take no more commands, and let all that was decided become durable and be answered.

        Returns once the next owner finds a snapshot of it, or once the log has failed: then those
        who waited are refused. If cancelled, some of it may not be durable yet, and goes on.
        """
        self.end()
        self.drain()
        if self._why_not is not None:
            return  # nothing is under way
        self._why_not = _NOT_OWNER
        for task in self._background:
            task.cancel()
        await asyncio.wait([self.start(self._settle_all())])

    async def _settle_all(self) -> None:
        while (batch := self._batches.last()) is not None or self._receiver.fetching:
            if batch is not None:
                await self.commit_of(batch)
            else:
                await asyncio.wait(self._receiver.fetching)
        await self._housekeeper.save()

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
            ShardBusy, StorageNearlyFull, NotOwner, ShardUnavailable: see there; the last two also
                come on the future.
        """
        if self._why_not is not None:
            raise self._why_not()
        if self._batches.pending_bytes > self._settings.pending_bytes_max:
            raise ShardBusy("Too many messages are waiting for the disk.")
        if isinstance(command, SendMessages | AcceptMessages) and not self._log.has_room():
            raise StorageNearlyFull("The disk is nearly full: messages can be received, but not sent.")
        self.now_ms()
        future: asyncio.Future[Answer] = self._loop.create_future()
        if isinstance(command, ReceiveMessages):
            self._receiver.receive(command, future)
            return future
        decided, answer = self.state.decide(command)
        # What changes nothing waits as well, for what it was decided after: a delete
        # is not confirmed while an append that fails could still bring the message back.
        batch = self._batches.last()
        for event in decided:
            batch = self.record(event)
        if batch is None and isinstance(command, DeleteMessages):
            # There is nothing to delete, as far as is known here: another owner may have it.
            # Then this record is refused; that it is durable shows that there is none.
            batch = self.seal()
        if batch is None:
            future.set_result(answer)
        else:
            batch.answers.append((future, answer))
        if isinstance(command, MoveMessages):
            self._loader.load_ahead(self.state.queue(command.queue))
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
            raise _RECOVERING() from bug
        noted = _NOTED.get(type(event))
        envelope_bytes = (noted(self, event) if noted is not None else None) or 0
        self._receiver.notice(getattr(event, "queue", 0))
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

    def serve_soon(self, queue: int) -> None:
        """Look for what those who wait on a queue can have now."""
        self._receiver.touch(queue)
        self._work.set()

    async def fill(self, queue: Queue) -> bool:
        """Load a tail that no consumer asks for: see `Loader.fill`."""
        return await self._loader.fill(queue)

    # What is durable

    async def committed(self, position: int) -> None:
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
            self._receiver.serve_waiting()
            self._stop_at_a_bug()
            while (batch := self._batches.first()) is not None:
                await self._append(batch)
                if len(batch.answers) > 1:
                    await self._let_others_join()
                self._receiver.serve_waiting()

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
        try:
            position = await self._log.append(encode_events(batch.events))
        except Fenced:
            self._is_append_fenced = True
            raise
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
