"""How a received message is shown: with the attributes that the consumer has asked for."""

from __future__ import annotations

from waystation.frontend.envelope import Envelope, decode_envelope, unpack_attributes
from waystation.frontend.handles import sequence_number
from waystation.protocol import operations
from waystation.protocol.checksums import md5_of_attributes
from waystation.protocol.errors import InvalidAttributeName
from waystation.queues.commands import ReceivedMessage

_SYSTEM_ATTRIBUTES = frozenset(
    (
        "All",
        "AWSTraceHeader",
        "ApproximateFirstReceiveTimestamp",
        "ApproximateReceiveCount",
        "DeadLetterQueueSourceArn",
        "MessageDeduplicationId",
        "MessageGroupId",
        "SenderId",
        "SentTimestamp",
        "SequenceNumber",
    )
)
_EVERYTHING = ("All", "*", ".*")


class Wanted:
    """What one receive wants to see of each message.

    Args:
        system: names of system attributes; "All" is all of them.
        user: names of message attributes; "All" and ".*" are all, "prefix.*" those that begin so.
    """

    def __init__(self, system: set[str], user: list[str]) -> None:
        self._system = system
        # Looked up and never gone through: a request has room for a million names.
        self._user = frozenset(user)
        self._prefixes = frozenset(name[:-2] for name in self._user if name.endswith(".*"))
        self._all_user = not self._user.isdisjoint(_EVERYTHING)

    def show(self, message: ReceivedMessage, message_id: str, receipt_handle: str) -> operations.Message:
        """The message as the consumer sees it; one that came from another queue keeps its id."""
        envelope = decode_envelope(message.envelope)
        shown = operations.Message(
            message_id=envelope.message_id or message_id,
            receipt_handle=receipt_handle,
            md5_of_body=envelope.body_md5,
            body=envelope.body,
        )
        if self._system:
            shown.attributes = self._system_attributes(message, envelope) or None
        if self._user and envelope.attributes:
            self._add_attributes(shown, envelope)
        return shown

    def _system_attributes(self, message: ReceivedMessage, envelope: Envelope) -> dict[str, str]:
        found = {
            "SenderId": envelope.sender,
            "SentTimestamp": str(message.sent_at_ms),
            "ApproximateReceiveCount": str(message.receive_count),
            "ApproximateFirstReceiveTimestamp": str(message.first_received_at_ms),
        }
        if envelope.trace_header:
            found["AWSTraceHeader"] = envelope.trace_header
        group = message.group or envelope.group
        if group:
            found["MessageGroupId"] = group
        if envelope.deduplication_id:
            found["MessageDeduplicationId"] = envelope.deduplication_id
            found["SequenceNumber"] = sequence_number(message.sequence)
        if envelope.source_arn:
            found["DeadLetterQueueSourceArn"] = envelope.source_arn
        if "All" in self._system:
            return found
        return {name: value for name, value in found.items() if name in self._system}

    def _add_attributes(self, shown: operations.Message, envelope: Envelope) -> None:
        attributes = unpack_attributes(envelope.attributes)
        if self._all_user:
            shown.md5_of_message_attributes = envelope.attributes_md5
        else:
            attributes = {name: value for name, value in attributes.items() if self._wants(name)}
            if not attributes:
                return
            # The digest covers what is shown, or SDKs would find it wrong.
            shown.md5_of_message_attributes = md5_of_attributes(attributes)
        shown.message_attributes = attributes

    def _wants(self, name: str) -> bool:
        if name in self._user or not self._prefixes:
            return name in self._user
        return not self._prefixes.isdisjoint(name[:end] for end in range(len(name) + 1))


_NOTHING = Wanted(set(), [])


def wanted_of(request: operations.ReceiveMessageRequest) -> Wanted:
    """What a request asks to see. Raises `InvalidAttributeName` for an unknown system attribute."""
    system = {*(request.attribute_names or ()), *(request.message_system_attribute_names or ())}
    user = request.message_attribute_names or []
    if not system and not user:
        return _NOTHING
    for name in system:
        if name not in _SYSTEM_ATTRIBUTES:
            raise InvalidAttributeName.unknown(name)
    return Wanted(system, user)
