"""Dispatch: a command goes to the owner of its shard, in this process or behind a link.

What is certain not to have been done is tried again, at whoever owns the shard by then, until
its time is over: so clients do not notice when a shard moves. What may have been done is not:
the client is told that it does not know, as with any lost answer.

A shard that does not answer must not take the others with it: only so many commands may be
on their way to any one of them (a bulkhead), and a link that fails again and again is not
tried for a while (its circuit breaker).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol
from zlib import crc32

import msgspec

from waystation.backend.errors import NotDone, ShardBusy, ShardUnavailable, StorageNearlyFull, was_not_done
from waystation.backend.giving_back import give_back_if_answered
from waystation.cluster.settings import RoutingSettings
from waystation.protocol.errors import Unavailable
from waystation.queues.commands import Answer, Command, DeliveryOutdated, ReceiveMessages


class LocalShards(Protocol):
    """The shards of this process."""

    def serves(self, shard: int) -> bool:
        """Whether that shard is here and takes commands."""

    def submit(self, shard: int, command: Command) -> asyncio.Future[Answer]:
        """Give it a command: see `Shard.submit`."""


class Owners(Protocol):
    """Where shards are, as far as this node knows."""

    def address_of(self, shard: int) -> str | None:
        """Of the node that owns it; None when nobody is known to."""

    def note_wrong(self, shard: int, address: str) -> None:
        """The node at that address does not own it, or cannot be reached: look again."""

    async def changed(self, shard: int, timeout_s: float) -> None:
        """Return when something new is known of the shard, or the time is over."""


class OwnerLink(Protocol):
    """The way to the shards of another node."""

    def submit(self, shard: int, command: Command, timeout_s: float) -> asyncio.Future[Answer]:
        """Fails with errors of which `was_not_done` tells whether that is certain."""


class Router:
    """Implements `Shards` for the FrontEnd of one node.

    Args:
        shards: how many there are in the cluster.
        link_to: the link to the node at an address; the same one each time.
        is_useful: whether requests should be sent to this node, as a load balancer wants to know.
    """

    def __init__(
        self,
        settings: RoutingSettings,
        shards: int,
        local: LocalShards,
        owners: Owners,
        link_to: Callable[[str], OwnerLink],
        is_useful: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._shards = shards
        self._local = local
        self._owners = owners
        self._link_to = link_to
        self._is_useful = is_useful
        self._on_their_way: Counter[int] = Counter()

    @property
    def count(self) -> int:
        """How many there are."""
        return self._shards

    def place(self, name: str) -> int:
        """The shard for a new queue of that name."""
        return crc32(name.encode()) % self._shards

    def is_serving(self) -> bool:
        """Whether this node can do its work. One shard without an owner is no reason to leave it."""
        return self._is_useful()

    def submit(self, shard: int, command: Command) -> Awaitable[Answer]:
        """Give a command to a shard, wherever it is; raises, or its awaiting does, as `Shard.submit`.

        The answer has to be awaited, or the command may never be given. If that is cancelled,
        the command is done or not, but a waiting receive no longer waits.
        """
        if self._local.serves(shard):
            return self._local.submit(shard, command)
        if self._on_their_way[shard] >= self._settings.calls_per_shard_max:
            raise ShardBusy("Too many requests are waiting for the shard of this queue.")
        return self._send(shard, command)

    async def _send(self, shard: int, command: Command) -> Answer:
        self._on_their_way[shard] += 1
        try:
            address = self._owners.address_of(shard)
            if address is not None:
                try:
                    return await self._give(address, shard, command)
                except Unavailable as error:
                    if not _should_try_again(error):
                        raise
                    self._owners.note_wrong(shard, address)
            # In a task, because whoever drives this coroutine may have none, and `changed` needs one.
            return await self._answer(shard, asyncio.create_task(self._send_again(shard, command)))
        finally:
            self._on_their_way[shard] -= 1
            if not self._on_their_way[shard]:
                del self._on_their_way[shard]

    async def _send_again(self, shard: int, command: Command) -> Answer:
        """Try whoever owns the shard, until it is done or may have been, or its time is over."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        deadline_s = began_s + self._settings.retry_s
        while (now_s := loop.time()) < deadline_s:
            await self._owners.changed(shard, min(self._settings.retry_pause_s, deadline_s - now_s))
            command = _shortened(command, loop.time() - now_s)
            address = self._owners.address_of(shard)
            try:
                if self._local.serves(shard) or address is not None:
                    return await self._give(address, shard, command)
            except Unavailable as error:
                if not _should_try_again(error):
                    raise
                if address is not None:
                    self._owners.note_wrong(shard, address)
        nobody = ShardUnavailable("No node serves the shard of this queue at the moment.")
        raise nobody from NotDone("Nobody was given the command.")

    async def _give(self, address: str | None, shard: int, command: Command) -> Answer:
        """Give a command to a shard that is here, or else at an address."""
        if self._local.serves(shard):
            answering = self._local.submit(shard, command)
        else:
            assert address is not None
            answering = self._link_to(address).submit(shard, command, self._timeout_s(command))
        return await self._answer(shard, answering)

    async def _answer(self, shard: int, answering: asyncio.Future[Answer]) -> Answer:
        try:
            return await answering
        except asyncio.CancelledError:
            give_back_if_answered(self.submit, shard, answering)
            raise

    def _timeout_s(self, command: Command) -> float:
        wait_ms = command.wait_ms if isinstance(command, ReceiveMessages) else 0
        return self._settings.call_timeout_s + wait_ms / 1_000


def _should_try_again(error: Unavailable) -> bool:
    """Whether the command was not done, and another owner, or the same a moment later, may well do it."""
    return was_not_done(error) and not isinstance(error, ShardBusy | StorageNearlyFull | DeliveryOutdated)


def _shortened(command: Command, waited_s: float) -> Command:
    """The same, but a receive does not wait for the time that has passed already."""
    if not isinstance(command, ReceiveMessages) or not command.wait_ms:
        return command
    return msgspec.structs.replace(command, wait_ms=max(command.wait_ms - int(waited_s * 1_000), 0))
