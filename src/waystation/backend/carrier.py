"""Carries messages that a queue has set aside to the queues that take them, each exactly once.

Three durable steps, so that a crash between any two leaves each message in one place:
the source sets it aside (nobody receives it there any more), its destination accepts it
(and remembers from where, so that a second delivery changes nothing), the source
releases it. Until the last step the source delivers it again and again, and only for
the target that it was set aside for: any other queue may not know that it has come already.
What was released is forgotten at the destination with the next delivery, from which on that
takes no earlier one: a copy that comes late, or from an owner that was left behind.

Mostly a target is a destination. One may also leave the choice to each message: that is
for `Deliver` to know, and it always chooses the same for the same message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from waystation.backend.errors import ShardUnavailable
from waystation.backend.reading import read_envelopes
from waystation.log.errors import LogDamaged
from waystation.log.interface import Log
from waystation.protocol.errors import QueueDoesNotExist, Refusal, Unavailable
from waystation.queues import events
from waystation.queues.commands import Arrival, ReceivedMessage, ReleaseMessages, ReturnMessages
from waystation.queues.state import Queue

if TYPE_CHECKING:
    from waystation.backend.shard import Shard

_MESSAGES_AT_ONCE = 64
_RETRY_S = 1.0
"""After a target that is missing or does not answer: one is created, the other recovers."""

_logger = logging.getLogger(__name__)


class Parcel(NamedTuple):
    """Messages of one queue on their way. `settled` is by destination, and each as in `AcceptMessages`."""

    source_shard: int
    source_queue: int
    source_name: str
    target: str
    arrivals: list[Arrival]
    settled: Mapping[str, list[int]]
    delivery: tuple[int, int]
    """As in `AcceptMessages`: no two parcels of a shard have the same."""


class Delivered(NamedTuple):
    """What became of the messages of a parcel, by sequence. What is in neither is delivered again."""

    accepted: dict[str, list[int]]
    """By destination: what it has now, durably."""
    refused: dict[int, str]
    """Has no destination, nor is therefore anywhere else, and why: shown again where it was set aside."""


Deliver: TypeAlias = Callable[[Parcel], Awaitable[Delivered]]
"""Returns once something has become of the parcel, durably. Raises `QueueDoesNotExist` when what is in it
waits for a target that does not exist, nor therefore has accepted anything before; another `Refusal` or
`Unavailable` when no destination has accepted, or it may not have."""


async def deliver_nowhere(parcel: Parcel) -> Delivered:
    """For a backend that nobody has told where queues are: everything stays where it is."""
    raise ShardUnavailable(f"There is no way to {parcel.target}.")


class Carrier:
    """Works for one shard, as long as one life of its state."""

    def __init__(self, shard: Shard, log: Log, deliver: Deliver) -> None:
        self._shard = shard
        self._log = log
        self._deliver = deliver
        self._waiting: dict[tuple[int, str], float] = {}
        """Queues that have set messages aside, and for which target, and from when to carry them."""
        self._settled: dict[int, dict[str, list[int]]] = {}
        """By queue and destination: what was released last, and is not to be remembered there any more."""
        self._deliveries = 0
        self._due = asyncio.Event()

    def notice(self, queue: int, target: str) -> None:
        """A queue has set messages aside. What has to be tried again is not tried sooner for that."""
        if (queue, target) not in self._waiting:
            self._waiting[queue, target] = 0.0
            self._due.set()

    async def run(self) -> None:
        """Work until cancelled. Raises what the log raises."""
        loop = asyncio.get_running_loop()
        for number, each in self._shard.state.queues.items():
            for target in each.aside_targets.values():
                self.notice(number, target)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(self._waiting.values(), default=None)):
                    await self._due.wait()
            self._due.clear()
            for number in self._settled.keys() - self._shard.state.queues.keys():
                del self._settled[number]
            for number, target in [each for each, from_s in self._waiting.items() if from_s <= loop.time()]:
                queue = self._shard.state.queues.get(number)
                if queue is None or await self._carry_all(queue, target):
                    del self._waiting[number, target]
                else:
                    self._waiting[number, target] = loop.time() + _RETRY_S

    async def _carry_all(self, queue: Queue, target: str) -> bool:
        """Carry what a queue has set aside for a target; False when some of it has to be tried again."""
        try:
            while messages := self._next(queue, target):
                await self._carry(queue, target, messages)
        except QueueDoesNotExist:
            return self._turn_round(queue, target)
        except (Refusal, Unavailable) as error:
            _logger.warning(
                "messages that are set aside have to wait",
                extra={"queue": queue.settings.name, "target": target, "reason": str(error)},
            )
            return False
        return True

    def _next(self, queue: Queue, target: str) -> list[ReceivedMessage]:
        """Some of the messages that are set aside for a target; none when there are no more."""
        found = (message for at, message in queue.aside.items() if queue.aside_targets[at] == target)
        return [
            ReceivedMessage(
                message.sequence,
                message.receive_count,
                message.sent_at_ms,
                message.first_received_at_ms,
                message.record,
                message.group,
            )
            for message in islice(found, _MESSAGES_AT_ONCE)
        ]

    async def _carry(self, queue: Queue, target: str, messages: list[ReceivedMessage]) -> None:
        # Not before it is durable that nobody receives them here any more.
        await self._shard.settled()
        await read_envelopes(self._log, queue.number, messages)
        for message in messages:
            alive = queue.aside.get(message.sequence)
            if alive is not None and alive.record == message.record and not message.envelope:
                raise LogDamaged(f"record {message.record} is missing, and live messages are in it")
        arrivals = [
            Arrival(
                message.sequence,
                message.sent_at_ms,
                message.receive_count,
                message.envelope,
                message.group,
            )
            for message in messages
            if message.envelope and message.sequence in queue.aside
        ]
        settled = self._settled.setdefault(queue.number, {})
        name = queue.settings.name
        self._deliveries += 1
        delivery = (self._shard.state.epoch, self._deliveries)
        delivered = await self._deliver(
            Parcel(self._shard.number, queue.number, name, target, arrivals, settled, delivery)
        )
        accepted = [sequence for each in delivered.accepted.values() for sequence in each]
        await self._shard.submit(ReleaseMessages(queue.number, accepted))
        settled.update(delivered.accepted)
        if delivered.refused:
            await self._shard.submit(ReturnMessages(queue.number, list(delivered.refused)))

    def _turn_round(self, queue: Queue, target: str) -> bool:
        """Set what a target that is gone should have taken aside for the one that the queue has now.

        False when it has no other, so that the same has to be tried again.
        """
        sequences = [at for at, each in queue.aside_targets.items() if each == target]
        if not sequences or self._shard.state.queues.get(queue.number) is not queue:
            return True  # purged or deleted meanwhile
        current = queue.settings.dead_letter_target
        if current in ("", target):
            _logger.warning(
                "dead letters have no queue to go to", extra={"queue": queue.settings.name, "target": target}
            )
            return False
        now_ms = self._shard.now_ms()
        self._shard.record(events.MessagesSetAside(now_ms, queue.number, sequences, current))
        return True
