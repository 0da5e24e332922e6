"""Delivers what queues have set aside: finds where each message goes, and relabels it.

Two kinds of messages are on their way. A dead letter goes to the queue whose ARN is its
target, remains the message that it was, and says where it comes from; its age, too, is that
which it was, except in FIFO queues, where it begins again. A message that is moved out of a
dead-letter queue is a new message in its new place, with a new id and a new age, that
nobody has received yet. Both keep their contents and their group.

Source: SQS Developer Guide, dead-letter queues (message retention) and their redrive;
recorded responses.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from waystation.backend.carrier import Delivered, Parcel
from waystation.backend.interface import Shards
from waystation.frontend.arns import QueueArn
from waystation.frontend.envelope import Envelope, decode_envelope, encode_envelope
from waystation.frontend.handles import Handles
from waystation.frontend.parts import parts_for
from waystation.frontend.stored_queues import StoredQueues
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.queues import Queue
from waystation.protocol.errors import QueueDoesNotExist, Refusal, Unavailable
from waystation.queues.commands import AcceptMessages, Arrival

NO_QUEUE = QueueDoesNotExist.query_code
NO_SOURCE = "CouldNotDetermineMessageSource"
"""Why a move fails, in AWS's words: the queue is gone; or the message was sent here and not dead-lettered."""

_MOVE = "move:"


def move_target(destination: str) -> str:
    """The target of messages that are moved to the queue of an ARN; empty, each to where it came from."""
    return _MOVE + destination


class DeadLetterDelivery:
    """How a backend's shards reach each other's queues."""

    def __init__(
        self,
        catalogue: Catalogue,
        stored: StoredQueues,
        shards: Shards,
        handles: Handles,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._catalogue = catalogue
        self._stored = stored
        self._shards = shards
        self._handles = handles
        self._clock = clock

    async def deliver(self, parcel: Parcel) -> Delivered:
        """Have a parcel's messages accepted, durably, each by its destination: see `Deliver`."""
        if parcel.target.startswith(_MOVE):
            return await self._move(parcel, parcel.target.removeprefix(_MOVE))
        arn = QueueArn.parse(parcel.target)
        if arn is None:
            raise QueueDoesNotExist
        letters = [self._label(parcel, arrival, arn) for arrival in parcel.arrivals]
        delivered = await self._hand_over(parcel, {str(arn): letters})
        if delivered.refused:
            raise QueueDoesNotExist
        return delivered

    async def _move(self, parcel: Parcel, destination: str) -> Delivered:
        routes: dict[str, list[Arrival]] = {}
        homeless: dict[int, str] = {}
        for arrival in parcel.arrivals:
            envelope = decode_envelope(arrival.envelope)
            route = destination or envelope.source_arn
            if route:
                routes.setdefault(route, []).append(self._renew(arrival, envelope))
            else:
                homeless[arrival.sequence] = NO_SOURCE
        delivered = await self._hand_over(parcel, routes)
        return Delivered(delivered.accepted, delivered.refused | homeless)

    async def _hand_over(self, parcel: Parcel, routes: dict[str, list[Arrival]]) -> Delivered:
        """Give each destination what goes there. One that does not answer holds up no other."""
        accepted: dict[str, list[int]] = {}
        refused: dict[int, str] = {}
        failure: Refusal | Unavailable | None = None
        for destination, arrivals in routes.items():
            sequences = [arrival.sequence for arrival in arrivals]
            try:
                await self._accept(parcel, destination, arrivals)
            except QueueDoesNotExist:
                refused |= dict.fromkeys(sequences, NO_QUEUE)
            except (Refusal, Unavailable) as error:
                failure = error
            else:
                accepted[destination] = sequences
        if failure is not None and not accepted and not refused:
            raise failure
        return Delivered(accepted, refused)

    async def _accept(self, parcel: Parcel, destination: str, arrivals: list[Arrival]) -> None:
        queue = await self._find(QueueArn.parse(destination))
        settled = parcel.settled.get(destination, [])
        for place, arriving in parts_for(queue, parcel.source_shard, arrivals).items():
            command = AcceptMessages(
                place.number, parcel.source_shard, parcel.source_queue, arriving, settled, parcel.delivery
            )
            await self._shards.submit(place.shard, command)

    async def _find(self, arn: QueueArn | None) -> Queue:
        """Raises `QueueDoesNotExist` only if there is none, whatever this process has heard of yet."""
        if arn is not None:
            queue = self._catalogue.find(arn.account, arn.name)
            queue = queue or await self._stored.find(arn.account, arn.name)
            if queue is not None:
                return queue
        raise QueueDoesNotExist

    def _label(self, parcel: Parcel, arrival: Arrival, target: QueueArn) -> Arrival:
        """A dead letter keeps its id, attributes and receive count, and on standard queues its age."""
        envelope = decode_envelope(arrival.envelope)
        if not envelope.message_id:
            envelope.message_id = self._handles.message_id_at(
                parcel.source_shard, parcel.source_queue, arrival.sequence
            )
        # A dead-letter queue is of the same account and region as its sources.
        envelope.source_arn = str(target._replace(name=parcel.source_name))
        sent_at_ms = self._now_ms() if target.is_fifo else arrival.sent_at_ms
        return msgspec.structs.replace(arrival, envelope=encode_envelope(envelope), sent_at_ms=sent_at_ms)

    def _now_ms(self) -> int:
        return int(self._clock() * 1_000)

    def _renew(self, arrival: Arrival, envelope: Envelope) -> Arrival:
        """A moved message gets its id from its new place, and has just been sent."""
        envelope.message_id = envelope.source_arn = ""
        return msgspec.structs.replace(
            arrival,
            envelope=encode_envelope(envelope),
            sent_at_ms=self._now_ms(),
            receive_count=0,
        )
