"""What is decided and not yet durable: batches of events, each to become one log record."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Any

from waystation.queues.commands import Answer
from waystation.queues.events import Event


class Batch:
    """Events that will be the record at `position`, and who waits for that."""

    __slots__ = ("answers", "bytes", "committed", "events", "position")

    def __init__(self, position: int) -> None:
        self.position = position
        self.bytes = 0
        self.events: list[Event] = []
        self.answers: list[tuple[asyncio.Future[Any], Answer]] = []
        self.committed: asyncio.Future[bytes] | None = None
        """Resolved with the record's checksum, when somebody asked for that."""


class Batches:
    """The open batch, which takes events, and the sealed ones, which wait for their append.

    Args:
        position: of the record that the first batch will be.
        bytes_max: envelope bytes with which a batch is full, and the next begun.
    """

    def __init__(self, position: int, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._open = Batch(position)
        self._sealed: deque[Batch] = deque()
        self.pending_bytes = 0
        """Envelope bytes in all of them."""

    def __iter__(self) -> Iterator[Batch]:
        yield from self._sealed
        yield self._open

    @property
    def position(self) -> int:
        """Of the record that the next event will be in."""
        return self._open.position

    def add(self, event: Event, envelope_bytes: int) -> Batch:
        """Put an event into the open batch; returns that, for the answer to be put there too."""
        batch = self._open
        batch.events.append(event)
        batch.bytes += envelope_bytes
        self.pending_bytes += envelope_bytes
        if batch.bytes >= self._bytes_max:
            self.seal()
        return batch

    def seal(self) -> Batch:
        """Begin a new batch; what was decided so far is in the returned one and those before it."""
        batch = self._open
        self._sealed.append(batch)
        self._open = Batch(batch.position + 1)
        return batch

    def last(self) -> Batch | None:
        """The batch of the newest event that is not durable yet; None when all are."""
        if self._open.events:
            return self._open
        return self._sealed[-1] if self._sealed else None

    def first(self) -> Batch | None:
        """The batch to append next; None when there is nothing to append."""
        if not self._sealed and (self._open.events or self._open.committed is not None):
            self.seal()
        return self._sealed[0] if self._sealed else None

    def appended(self) -> None:
        """The first batch is durable."""
        self.pending_bytes -= self._sealed.popleft().bytes
