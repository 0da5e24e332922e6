"""The links of one node to all others, and what they tell of who is alive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import isinf

from waystation.cluster.codec import ShardLink
from waystation.cluster.transport_client import Link
from waystation.cluster.transport_settings import TransportSettings

_UNUSED_S = 600.0
"""After which the link to an address that nobody has asked for is closed: a node has moved, or is gone."""


class Links:
    """One link to each address, made when it is first asked for.

    Lifecycle: build it (no I/O), use, `close`.

    Args:
        address_of: where a node's transport listens; None if that is not known.
    """

    def __init__(self, settings: TransportSettings, address_of: Callable[[str], str | None]) -> None:
        self._settings = settings
        self._address_of = address_of
        self._links: dict[str, ShardLink] = {}
        self._used_s: dict[str, float] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def to(self, address: str) -> ShardLink:
        """The link to the node at an address; it connects, and stays connected."""
        now_s = asyncio.get_running_loop().time()
        self._used_s[address] = now_s
        link = self._links.get(address)
        if link is None:
            self._close_unused(now_s)
            link = self._links[address] = ShardLink(Link(address, self._settings))
            link.link.connect()
        return link

    def _close_unused(self, now_s: float) -> None:
        for address in [each for each, used_s in self._used_s.items() if now_s - used_s > _UNUSED_S]:
            del self._used_s[address]
            closing = asyncio.create_task(self._links.pop(address).link.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def heard_s(self, node: str) -> float | None:
        """Seconds since anything was heard of a node; None if nothing ever was. To ask is to connect."""
        address = self._address_of(node)
        if address is None:
            return None
        heard_s = self.to(address).link.last_heard_s
        return None if isinf(heard_s) else heard_s

    def is_refused(self, node: str) -> bool:
        """Whether nobody listens at the node's address, though its machine answers."""
        address = self._address_of(node)
        return address is not None and self.to(address).link.is_refused

    async def close(self) -> None:
        """Disconnect from all. Calls in progress fail."""
        links, self._links = self._links, {}
        await asyncio.gather(*(each.link.close() for each in links.values()), *self._closing)
