"""Tells the watches of one process of every change in the metadata bucket, for as long as it can.

A feed is one consumer on the servers. It is never repaired: once it may have missed a change,
or has not been known to have told of everything for a while, it is lost. Its watches are cut off,
and whoever watches lists and watches again, which begins a new feed. So there is no state here in
which a change can be missed unnoticed; a watch has been seen to be silent for 18 s, otherwise.

A change may be left out when a newer one to the same key has been made meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from contextlib import suppress

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error

from waystation.log.nats import NatsFailure, NoAnswer
from waystation.metadata.nats_bucket import FORMAT_KEY, Bucket
from waystation.metadata.store import Watch

_CONFIRM_S = 2.0
_CATCH_UP_S = 1.0
"""A change that the leader knows of is told by then, or not confirmed this time."""
_SILENT_S_MAX = 6.0
"""Without confirmation. Less than the ten seconds for which a catalogue may be out of date, and longer
than servers that are well ever take; an election of a new leader may take longer, which costs a list."""
_CONSUMER_IDLE_NS = 30_000_000_000
"""After which the servers forget the consumer of a process that has died."""
_PAUSE_S = 0.05
_END_S = 1.0

_logger = logging.getLogger(__name__)


class _Lost(Exception):
    """The feed may have missed something; says why."""


class Feed:
    """Lifecycle: build it (no I/O), `await run()` once; it returns when it is lost. Cancel it to stop."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._name = secrets.token_hex(8)
        self._watches: dict[Watch, int] = {}
        self._position = 0
        self._delivered = 0
        self._moved = asyncio.Event()
        self._confirmed_s = -math.inf
        self._lost = ""
        self._subscription: Subscription | None = None
        self.is_set_up = asyncio.Event()
        """Whether its watches can miss nothing any more: they would hear of it, or be cut off."""
        self.is_over = False

    def add(self, watch: Watch, after: int) -> None:
        """Tell a watch of all changes past a sequence that are still to be told of."""
        self._watches = {each: begin for each, begin in self._watches.items() if not each.is_over}
        self._watches[watch] = after
        watch.confirmed_s = self._confirmed_s

    def close_watches(self) -> None:
        """End them in peace, before it is stopped."""
        for watch in self._watches:
            watch.close()

    async def run(self) -> None:
        """Serve until it is lost."""
        try:
            await self._set_up(asyncio.get_running_loop().time() + _SILENT_S_MAX)
            self.is_set_up.set()
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_CONFIRM_S):
                        await self._reach(math.inf)
                await self._confirm()
        except (_Lost, NatsFailure, Error, OSError) as reason:
            _logger.warning("the watch on the metadata store was lost", extra={"reason": str(reason)})
            if isinstance(reason, NoAnswer):
                # The server may be on the wrong side of a partition, connected to us and to nobody else.
                await self._bucket.connection.change_server()
        finally:
            self.is_over = True
            self.is_set_up.set()
            for watch in self._watches:
                watch.cut_off("The watch on the metadata store was lost.")
            await self._end()

    async def _set_up(self, deadline_s: float) -> None:
        """Begin at the end of the stream. Raises `NatsFailure` when that cannot be done by the deadline."""
        bucket, client = self._bucket, self._bucket.connection.client
        loop = asyncio.get_running_loop()
        inbox = client.new_inbox()
        self._subscription = await client.subscribe(inbox, cb=self._take)
        while True:
            asked_s = loop.time()
            try:
                last = await bucket.last_sequence()
                self._position = last
                await self._create_consumer(inbox, last + 1)
            except NatsFailure:
                if loop.time() >= deadline_s:
                    raise
                await asyncio.sleep(_PAUSE_S)
            else:
                self._note_confirmed(asked_s)
                return

    async def _create_consumer(self, inbox: str, begin: int) -> None:
        self._name, self._delivered = secrets.token_hex(8), 0
        configuration = {
            "name": self._name,
            "deliver_subject": inbox,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": begin,
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _CONSUMER_IDLE_NS,
        }
        stream = self._bucket.stream
        request = {"stream_name": stream, "config": configuration, "action": "create"}
        await self._bucket.connection.api(f"CONSUMER.CREATE.{stream}.{self._name}", request)

    async def _take(self, message: Msg) -> None:
        """Called for each message, in order."""
        metadata = message.metadata
        if metadata.consumer != self._name:
            return  # of an attempt to begin that seemed to fail
        self._delivered += 1
        if metadata.sequence.consumer != self._delivered:
            self._lose("a change was not delivered")
        entry = self._bucket.entry(message)
        if entry.sequence <= self._position or self._lost:
            return  # a replica that lagged behind when it began the consumer begins earlier
        self._position = entry.sequence
        self._moved.set()
        if entry.key != FORMAT_KEY:
            for watch, after in self._watches.items():
                if entry.sequence > after:
                    watch.notify(entry.stored)

    def _lose(self, reason: str) -> None:
        self._lost = self._lost or reason
        self._moved.set()

    async def _confirm(self) -> None:
        """Compare with the stream's leader. Raises `_Lost`, or why it has not been confirmed for so long."""
        asked_s, told = asyncio.get_running_loop().time(), self._position
        try:
            last = await self._bucket.last_sequence()
        except NatsFailure:
            if self._is_silent():
                raise
            return
        try:
            await self._bucket.connection.api(f"CONSUMER.INFO.{self._bucket.stream}.{self._name}")
        except NatsFailure as failure:
            # It lives on one server alone, and nothing else would tell that this one has died.
            raise _Lost(f"the servers have lost it: {failure}") from failure
        if last < told:
            raise _Lost("the bucket is older than what was told of it")
        with suppress(TimeoutError):
            async with asyncio.timeout(_CATCH_UP_S):
                await self._reach(last)
            self._note_confirmed(asked_s)
        if self._is_silent():
            raise _Lost("it has stalled")

    async def _reach(self, sequence: float) -> None:
        while self._position < sequence:
            await self._moved.wait()
            self._moved.clear()
            if self._lost:
                raise _Lost(self._lost)

    def _is_silent(self) -> bool:
        return asyncio.get_running_loop().time() - self._confirmed_s > _SILENT_S_MAX

    def _note_confirmed(self, asked_s: float) -> None:
        self._confirmed_s = asked_s
        for watch in self._watches:
            if not watch.is_over:
                watch.confirmed_s = asked_s

    async def _end(self) -> None:
        """Leave nothing on the servers, if they can be told; what stays goes by itself after a while."""
        with suppress(TimeoutError, Error, NatsFailure, OSError):
            if self._subscription is not None:
                await self._subscription.unsubscribe()
                name = f"CONSUMER.DELETE.{self._bucket.stream}.{self._name}"
                await self._bucket.connection.api(name, timeout_s=_END_S)
