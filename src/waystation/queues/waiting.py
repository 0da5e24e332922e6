"""Receives that wait for a message: who is served next, and who no longer waits.

A plain structure: tokens in, tokens out. The owner of the tokens keeps the time.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Token = TypeVar("Token")


class Waiting(Generic[Token]):
    """The waiting receives of a shard by queue, each queue's served in the order of arrival.

    Args:
        waiting_max: receives that may wait at once, over all queues.
    """

    def __init__(self, waiting_max: int) -> None:
        self._waiting_max = waiting_max
        self._by_queue: dict[int, dict[Token, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, queue: int) -> bool:
        return queue in self._by_queue

    def is_full(self) -> bool:
        """Whether no more may wait."""
        return self._count >= self._waiting_max

    def add(self, queue: int, token: Token) -> None:
        """Wait, behind all who wait on that queue already."""
        self._by_queue.setdefault(queue, {})[token] = None
        self._count += 1

    def first(self, queue: int) -> Token | None:
        """Who has waited longest on a queue."""
        tokens = self._by_queue.get(queue)
        return next(iter(tokens)) if tokens else None

    def remove(self, queue: int, token: Token) -> bool:
        """Wait no more. False when it did not wait."""
        tokens = self._by_queue.get(queue)
        if tokens is None or token not in tokens:
            return False
        del tokens[token]
        self._count -= 1
        if not tokens:
            del self._by_queue[queue]
        return True

    def take_all(self, queue: int | None = None) -> list[Token]:
        """Everybody who waits on one queue, or on any; nobody waits there afterwards."""
        chosen = list(self._by_queue) if queue is None else [queue]
        taken = [token for number in chosen for token in self._by_queue.pop(number, ())]
        self._count -= len(taken)
        return taken
