"""What the catalogue needs of a storage engine: small values, compare-and-set, and a watch.

Every change raises the store's revision; a value's revision is that of the
change that wrote it. So a writer can say which value it has seen, and of two
writers who have seen the same one, only the first succeeds.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from waystation.protocol.errors import Unavailable

KEY_PATTERN = r"[A-Za-z0-9_.=/-]+"
"""Characters of a key: those that every engine we think of allows."""


class Stored(NamedTuple):
    """A value and the revision of the change that wrote it. `value` is None once it is deleted."""

    key: str
    value: bytes | None
    revision: int


class Conflict(Exception):
    """The value has another revision than the writer expected; nothing was written."""


class MetadataUnavailable(Unavailable):
    """The store cannot answer now. A write that failed so may have happened or not."""


class MetadataStore(Protocol):
    """Keys and values. Every method raises `MetadataUnavailable` when the store cannot answer."""

    async def open(self) -> None:
        """Connect, or create what is not there yet."""

    async def get(self, key: str) -> Stored | None:
        """The newest value; None if there is none."""

    async def list(self, prefix: str) -> list[Stored]:
        """All values whose keys begin so, by key."""

    async def put(self, key: str, value: bytes, expected: int) -> int:
        """Write durably, if the key's revision is the expected one; 0 expects that there is no value.

        Returns the new revision. Raises `Conflict`.
        """

    async def delete(self, key: str, expected: int) -> int:
        """Delete durably, if the key's revision is the expected one. Raises `Conflict`."""

    def watch(self, prefix: str) -> Watch:
        """All changes from now on to keys that begin so.

        A list that is asked for after a watch misses nothing that the watch does not tell of. A
        change may be left out when a newer one to the same key has been made meanwhile.
        """

    async def close(self) -> None:
        """Release what it holds. All watches end."""


class Watch:
    """Changes to keys with a prefix, in the order made. Iterate it; `close` it when done.

    A reader that falls `_CHANGES_MAX` changes behind is cut off, and so is one whose store may
    have missed something: iterating then raises `MetadataUnavailable`, and it has to list and
    watch again.
    """

    _CHANGES_MAX = 65_536

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._changes: asyncio.Queue[Stored | None] = asyncio.Queue()
        self._is_cut_off = False
        self._reason = "The watch has fallen too far behind."
        self.is_over = False
        """Nobody needs to be told any more."""
        self.confirmed_s = math.inf
        """Time of the event loop at which it was last known to have been told of everything.

        Infinite while it always has been: all changes are made in this process.
        """

    def notify(self, change: Stored) -> None:
        """For stores: tell of a change, if it is of interest."""
        if not change.key.startswith(self.prefix) or self.is_over:
            return
        if self._changes.qsize() >= self._CHANGES_MAX:
            self.cut_off(self._reason)
        else:
            self._changes.put_nowait(change)

    def cut_off(self, reason: str) -> None:
        """For stores: end the iteration with `MetadataUnavailable`, unless it is over already."""
        if not self.is_over:
            self._is_cut_off, self._reason = True, reason
            self.close()

    def close(self) -> None:
        """End the iteration once it has seen what was told so far."""
        self.is_over = True
        self._changes.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Stored]:
        while (change := await self._changes.get()) is not None:
            yield change
        if self._is_cut_off:
            raise MetadataUnavailable(self._reason)
