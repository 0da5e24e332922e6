"""Whether the NATS servers have room for more: looked at every few seconds, and asked for at each send."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

_LOOK_S = 2.0
_FULL_S = 5.0
"""After a server has refused something for want of room, until sends are tried again."""

_logger = logging.getLogger(__name__)


class StorageRoom:
    """Lifecycle: build it (no I/O), ask `has_room` in an event loop, `stop`.

    Args:
        is_nearly_full: looks; None when it could not.
    """

    def __init__(self, is_nearly_full: Callable[[], Coroutine[Any, Any, bool | None]]) -> None:
        self._is_nearly_full = is_nearly_full
        self._is_full = False
        self._full_until_s = 0.0
        self._look_at_s = 0.0
        self._look: asyncio.Task[None] | None = None

    def has_room(self) -> bool:
        """What the last look has seen, at once; True before the first. Starts a look when one is due."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._look_at_s and (self._look is None or self._look.done()):
            self._look_at_s = now_s + _LOOK_S
            self._look = asyncio.create_task(self.look(), name="nats-room")
        return not self._is_full and now_s >= self._full_until_s

    def note_full(self) -> None:
        """A server has refused to store something."""
        self._full_until_s = asyncio.get_running_loop().time() + _FULL_S

    def stop(self) -> None:
        """End a look that is under way."""
        if self._look is not None:
            self._look.cancel()

    async def look(self) -> None:
        """Look now. What cannot be seen is taken to be as it was."""
        seen = await self._is_nearly_full()
        if seen is None:
            return
        if seen and not self._is_full:
            _logger.error("NATS servers are nearly full")
        self._is_full = seen


def is_nearly_full(account: Mapping[str, Any], servers: Iterable[Mapping[str, Any]], reserve: int) -> bool:
    """Whether a limit is closer than `reserve` bytes.

    Args:
        account: what the JetStream API tells of ours, whose limits may be set for each number of replicas.
        servers: what each server says of itself.
    """
    tiers = [account, *account.get("tiers", {}).values()]
    jetstream = [server.get("jetstream", {}) for server in servers]
    amounts = [(tier.get("storage", 0), tier.get("limits", {}).get("max_storage", -1)) for tier in tiers]
    amounts += [
        (each.get("stats", {}).get("storage", 0), each.get("config", {}).get("max_storage", -1))
        for each in jetstream
    ]
    # A limit of 0 or less is none.
    return any(0 < limit <= used + reserve for used, limit in amounts)
