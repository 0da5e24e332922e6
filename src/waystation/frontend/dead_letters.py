"""Delivers dead letters: finds their target by its ARN, and writes on them where they come from."""

from __future__ import annotations

import msgspec

from waystation.backend.backend import Backend
from waystation.backend.carrier import Parcel
from waystation.frontend.arns import QueueArn
from waystation.frontend.envelope import decode_envelope, encode_envelope
from waystation.frontend.handles import Handles
from waystation.metadata.catalogue import Catalogue
from waystation.protocol.errors import QueueDoesNotExist
from waystation.queues.commands import AcceptMessages, Arrival


class DeadLetterDelivery:
    """How a backend's shards reach each other's queues.

    A dead letter keeps its id, its attributes, its age and its receive count, and says
    which queue it comes from (SQS Developer Guide, dead-letter queues; recorded responses).
    """

    def __init__(self, catalogue: Catalogue, backend: Backend, handles: Handles) -> None:
        self._catalogue = catalogue
        self._backend = backend
        self._handles = handles

    async def deliver(self, parcel: Parcel) -> None:
        """Have the target accept a parcel, durably.

        Raises:
            QueueDoesNotExist: there is no target, for now.
            Unavailable: its shard does not answer; it may have accepted.
        """
        arn = QueueArn.parse(parcel.target)
        target = None if arn is None else self._catalogue.find(arn.account, arn.name)
        if arn is None or target is None:
            raise QueueDoesNotExist
        # A dead-letter queue is of the same account and region as its sources.
        source_arn = str(arn._replace(name=parcel.source_name))
        command = AcceptMessages(
            target.number,
            parcel.source_shard,
            parcel.source_queue,
            [self._label(parcel, arrival, source_arn) for arrival in parcel.arrivals],
            parcel.settled,
        )
        await self._backend.submit(target.shard, command)

    def _label(self, parcel: Parcel, arrival: Arrival, source_arn: str) -> Arrival:
        envelope = decode_envelope(arrival.envelope)
        if not envelope.message_id:
            envelope.message_id = self._handles.message_id_at(
                parcel.source_shard, parcel.source_queue, arrival.sequence
            )
        envelope.source_arn = source_arn
        return msgspec.structs.replace(arrival, envelope=encode_envelope(envelope))
