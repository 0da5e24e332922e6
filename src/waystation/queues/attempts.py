"""Receives that may be asked for again: what each attempt has got, for five minutes.

A consumer whose connection broke repeats its receive with the same attempt id, and gets
the same messages under the same receipt handles, as long as all of them are still in
flight as that receive left them. Source: SQS API Reference, ReceiveMessage,
`ReceiveRequestAttemptId`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

import msgspec

from waystation.protocol.limits import RECEIVE_ATTEMPT_S
from waystation.queues.commands import Receipt
from waystation.queues.message import IN_FLIGHT, Message

ATTEMPT_MS = RECEIVE_ATTEMPT_S * 1_000
"""How long an attempt may be repeated. SQS API Reference, ReceiveMessage."""
ATTEMPTS_MAX = 20_000
"""Attempts that are remembered, some 200 bytes each; past it, the oldest cannot be repeated any more."""


class Attempt(msgspec.Struct, array_like=True, gc=False):
    """One receive: `digest` of its id, and what it got."""

    digest: bytes
    at_ms: int
    visible_at_ms: int
    receipts: list[Receipt]


class Attempts:
    """The attempts of a queue by digest, oldest first."""

    __slots__ = ("_by_digest",)

    def __init__(self, saved: Iterable[Attempt] = ()) -> None:
        self._by_digest = OrderedDict((attempt.digest, attempt) for attempt in saved)

    def __len__(self) -> int:
        return len(self._by_digest)

    def messages(self, digest: bytes, held: Mapping[int, Message], now_ms: int) -> list[Message]:
        """What an attempt has got, if it may have it again; otherwise nothing."""
        attempt = self._by_digest.get(digest)
        if attempt is None or attempt.at_ms <= now_ms - ATTEMPT_MS:
            return []
        found: list[Message] = []
        for receipt in attempt.receipts:
            message = held.get(receipt.sequence)
            if (
                message is None
                or message.state != IN_FLIGHT
                or message.receive_count != receipt.receive_count
                or message.visible_at_ms != attempt.visible_at_ms
            ):
                return []
            found.append(message)
        return found

    def note(self, digest: bytes, at_ms: int, visible_at_ms: int, messages: Iterable[Message]) -> None:
        """An attempt got these messages. Attempts that are too old, or too many, are forgotten."""
        receipts = [Receipt(message.sequence, message.receive_count) for message in messages]
        self._by_digest.pop(digest, None)
        self._by_digest[digest] = Attempt(digest, at_ms, visible_at_ms, receipts)
        if len(self._by_digest) > ATTEMPTS_MAX:
            self._by_digest.popitem(last=False)
        self.forget(at_ms)

    def forget(self, now_ms: int) -> None:
        """Forget what is too old to be repeated."""
        by_digest = self._by_digest
        while by_digest and next(iter(by_digest.values())).at_ms <= now_ms - ATTEMPT_MS:
            by_digest.popitem(last=False)

    def extend(self, digest: bytes, visible_at_ms: int) -> list[Receipt]:
        """An attempt was repeated; returns what it got. It is not younger for that."""
        attempt = self._by_digest[digest]
        attempt.visible_at_ms = visible_at_ms
        return attempt.receipts

    def saved(self) -> list[Attempt]:
        """For a snapshot."""
        return list(self._by_digest.values())
