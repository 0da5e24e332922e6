"""Opens, serves and hands over the shards that placement gives to this node.

Each shard has at most one task here, from the moment it is taken until it is lost: it opens the
shard, writes the record that leads FrontEnds here, and waits for its end. A shard serves before its
record says so, and never the other way round.

What always holds: nothing is done with a shard here while something else is; the log's fence alone
decides who may write, so that whatever goes wrong here, a message is not lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Literal, Protocol

from waystation.cluster.bucket import ClusterBucket
from waystation.cluster.membership import SHARD_KEYS, Membership, ShardRecord, decode, encode, wait_for
from waystation.cluster.placement import Placement, ShardSeen, View
from waystation.cluster.settings import ClusterSettings
from waystation.log.errors import Fenced, LogDamaged
from waystation.metadata.store import Conflict, MetadataUnavailable
from waystation.protocol.errors import Unavailable

_FENCED_S = 2.0
"""After another owner was met in the log, until this node tries again: by then its record should be here."""

_logger = logging.getLogger(__name__)


class LocalShards(Protocol):
    """The shards of this process. Of one shard, only one of these is called at a time, but for `ended`."""

    async def take(self, number: int) -> int:
        """Open a shard, replay it and serve it; returns its epoch.

        Raises `Fenced`, `LogUnavailable` or `LogDamaged`. After that, or if cancelled, it is dropped.
        """

    async def ended(self, number: int) -> None:
        """Wait until a shard that was taken serves no more. Raises why, if it ended by itself."""

    async def release(self, number: int) -> None:
        """End it so that its next owner has little to replay; if cancelled, it is dropped."""

    async def drop(self, number: int) -> None:
        """End it at once; nothing happens if it is not here."""


def shard_key(number: int) -> str:
    """Under which the record of a shard is."""
    return f"{SHARD_KEYS}{number}"


class Ownership:
    """Of one node.

    Lifecycle: build it (no I/O); `run` it as a task, once the node has joined; `leave` while that runs, for
    a planned stop; cancel `run`, and whatever is still here is dropped.

    Args:
        shards: how many there are in the cluster.
        shard_taken: hears of each shard that serves here now; must not block or raise.
        shard_lost: hears of each that does not serve here any more.
    """

    def __init__(
        self,
        bucket: ClusterBucket,
        membership: Membership,
        local: LocalShards,
        shards: int,
        settings: ClusterSettings,
        shard_taken: Callable[[int], None],
        shard_lost: Callable[[int], None],
    ) -> None:
        self._bucket = bucket
        self._membership = membership
        self._local = local
        self._shards = range(shards)
        self._settings = settings
        self._taken = shard_taken
        self._lost = shard_lost
        self._placement = Placement(membership.me.id, shards, settings)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        """Each takes and serves one shard."""
        self._cancelled: set[int] = set()
        """Shards whose task is coming to its end because it was told to."""
        self.serving: dict[int, int] = {}
        """The shards that serve here, and in which epoch."""
        self._handing_over: asyncio.Task[None] | None = None
        self._has_left = False
        self._retry_at_s: dict[int, float] = {}
        self._failures: dict[int, int] = {}
        self._opening = asyncio.Semaphore(settings.takes_max)
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        bucket.listen(self._note)

    def _note(self, key: str) -> None:
        """Renewed leases are no news: the next tick sees them."""
        if key.startswith(SHARD_KEYS):
            self._wake.set()

    # Life

    async def run(self) -> None:
        """Do what placement says, until cancelled."""
        try:
            while True:
                if not self._has_left:
                    self._step(asyncio.get_running_loop().time())
                await wait_for(self._wake, self._settings.tick_s)
        finally:
            for number in list(self._tasks):
                self._cancel(number)
            tasks = [*self._tasks.values(), *([self._handing_over] if self._handing_over else [])]
            await asyncio.gather(*tasks, return_exceptions=True)

    async def leave(self) -> None:
        """Hand over all shards; returns when none is left, or the time is over. `run` runs meanwhile."""
        self._membership.begin_to_leave()
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + self._settings.leave_s
        for number in self._tasks.keys() - self.serving.keys():
            self._cancel(number)
        self._wake.set()
        while self._handing_over is not None or (
            self.serving and loop.time() < give_up_s and self._has_heirs()
        ):
            await wait_for(self._progress, self._settings.tick_s)
        self._has_left = True
        # Nobody is there to take these now. Who comes need not wait for this node's lease to run out.
        await asyncio.gather(*(self._hand_over(number, "") for number in list(self.serving)))

    def _has_heirs(self) -> bool:
        view = self._view(asyncio.get_running_loop().time())
        return view.reaches_nats and bool(self._placement.candidates(view))

    def _view(self, now_s: float) -> View:
        return View(
            nodes=self._membership.nodes(now_s),
            records={number: seen for number in self._shards if (seen := self._seen(number, now_s))},
            serving=self.serving,
            reaches_nats=self._membership.reaches_nats(now_s),
            is_handing_over=self._handing_over is not None,
        )

    def _seen(self, number: int, now_s: float) -> ShardSeen | None:
        entry = self._bucket.entry(shard_key(number))
        record = decode(ShardRecord, entry.value)
        if record is None:
            return None
        is_released = record.state == "released"
        unchanged_s = now_s - entry.seen_s
        return ShardSeen(record.owner, record.incarnation, record.epoch, is_released, record.to, unchanged_s)

    def _step(self, now_s: float) -> None:
        view = self._view(now_s)
        decision = self._placement.decide(now_s, view)
        for number in decision.give_up:
            if number not in self._cancelled:
                _logger.warning("another node has taken a shard of this one", extra={"shard": number})
            self._cancel(number)
        for number in self._tasks.keys() - self.serving.keys():
            # Somebody else serves it by now: to replay it to the end would only fence them.
            if not self._placement.is_free(view, number):
                self._cancel(number)
        for number in decision.take:
            if number not in self._tasks and self._retry_at_s.get(number, now_s) <= now_s:
                self._begin(number)
        if decision.hand_over is not None and self._handing_over is None:
            number, heir = decision.hand_over
            self._handing_over = asyncio.create_task(
                self._hand_over(number, heir), name=f"hand-over-{number}"
            )

    def _begin(self, number: int) -> None:
        task = self._tasks[number] = asyncio.create_task(self._own(number), name=f"own-{number}")
        task.add_done_callback(partial(self._forget, number))

    def _cancel(self, number: int) -> None:
        """Once: what ends must not be disturbed at that."""
        if number not in self._cancelled:
            self._cancelled.add(number)
            self._tasks[number].cancel()

    # One shard

    async def _own(self, number: int) -> None:
        """Take a shard, and serve it until it is released, given up, or lost."""
        try:
            async with self._opening, asyncio.timeout(self._settings.take_s):
                epoch = await self._local.take(number)
            self.serving[number] = epoch
            self._failures.pop(number, None)
            self._taken(number)
            _logger.info("took a shard", extra={"shard": number, "epoch": epoch})
            await self._serve(number, epoch)
        except Fenced as error:
            self._pause(number, _FENCED_S, error)
            with suppress(MetadataUnavailable):
                await self._bucket.read(shard_key(number))
        except LogDamaged as error:
            _logger.error(
                "a shard is not served: its log is damaged", extra={"shard": number, "reason": str(error)}
            )
            self._pause(number, self._settings.damaged_s, error)
        except (Unavailable, TimeoutError) as error:
            failures = self._failures[number] = self._failures.get(number, -1) + 1
            pause_s = self._settings.retry_min_s * 2 ** min(failures, 16)
            self._pause(number, min(pause_s, self._settings.retry_max_s), error)
        except Exception as error:
            # A bug that one shard's log brings out would do so on every node: it must not end them.
            _logger.exception("a shard is not served: it has failed", extra={"shard": number})
            self._pause(number, self._settings.damaged_s, error)
        finally:
            await self._end(number)

    async def _serve(self, number: int, epoch: int) -> None:
        """Lead FrontEnds to a shard that serves here, until it does no more. Raises why."""
        ended = asyncio.create_task(self._local.ended(number))
        recorded = asyncio.create_task(self._record(number, epoch, "serving"))
        try:
            await asyncio.wait({ended, recorded}, return_when=asyncio.FIRST_COMPLETED)
            if recorded.done() and not recorded.result():
                raise Fenced(f"Another owner has shard {number} since an epoch after {epoch}.")
            await ended
        finally:
            ended.cancel()
            recorded.cancel()
            await asyncio.gather(ended, recorded, return_exceptions=True)

    async def _end(self, number: int) -> None:
        try:
            await self._local.drop(number)
        finally:
            if self.serving.pop(number, None) is not None:
                self._lost(number)

    def _forget(self, number: int, task: asyncio.Task[None]) -> None:
        """Not a part of the task: one that is cancelled before its first step does nothing at all."""
        self._cancelled.discard(number)
        del self._tasks[number]
        self._wake.set()
        self._progress.set()

    def _pause(self, number: int, pause_s: float, error: Exception) -> None:
        self._retry_at_s[number] = asyncio.get_running_loop().time() + pause_s
        facts = {"shard": number, "reason": str(error) or type(error).__name__, "pause_s": pause_s}
        _logger.warning("a shard is not served here", extra=facts)

    async def _hand_over(self, number: int, heir: str) -> None:
        """Release a shard, and say so: to `heir`, or to anybody if that is empty."""
        try:
            if number not in self.serving:
                return  # it was lost a moment ago
            epoch, owning = self.serving[number], self._tasks[number]
            async with asyncio.timeout(self._settings.release_s):
                await self._local.release(number)
                await asyncio.wait([owning])
                await self._record(number, epoch, "released", heir)
            _logger.info("handed a shard over", extra={"shard": number, "heir": heir})
        except (Unavailable, TimeoutError) as error:
            # It is dropped. If the record does not say so, it is still this node's, which takes it again.
            self._cancel_if_here(number)
            reason = str(error) or type(error).__name__
            _logger.warning("a shard was not handed over", extra={"shard": number, "reason": reason})
        finally:
            self._handing_over = None
            self._wake.set()
            self._progress.set()

    def _cancel_if_here(self, number: int) -> None:
        if number in self._tasks:
            self._cancel(number)

    async def _record(
        self, number: int, epoch: int, state: Literal["serving", "released"], heir: str = ""
    ) -> bool:
        """Write the record of a shard, however long that takes. False if a later owner has written it."""
        key, me = shard_key(number), self._membership.me
        value = encode(ShardRecord(me.id, me.address, me.incarnation, epoch, state, heir))
        entry = self._bucket.entry(key)
        while True:
            found = decode(ShardRecord, entry.value)
            if found is not None and found.epoch >= epoch and found.incarnation != me.incarnation:
                return False
            try:
                await self._bucket.write(key, value, entry.revision)
                return True
            except (Conflict, MetadataUnavailable) as error:
                reason = str(error) or type(error).__name__
                _logger.warning("an owner could not be recorded", extra={"shard": number, "reason": reason})
            with suppress(MetadataUnavailable):
                entry = await self._bucket.read(key)
                continue
            await asyncio.sleep(self._settings.retry_min_s)
