"""A message on its way in: validated, and packed into an entry for the shard of its queue.

Source: SQS API Reference, SendMessage; Developer Guide, FIFO queues; recorded
responses for the texts, and for what fails a whole batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import TypeAlias

import msgspec

from waystation.frontend import message_rules
from waystation.frontend.calls import Call
from waystation.frontend.envelope import Envelope, encode_envelope, pack_attributes
from waystation.metadata.queues import Queue
from waystation.protocol import operations
from waystation.protocol.checksums import md5_of_attributes, md5_of_body
from waystation.protocol.errors import InvalidParameterValue, MissingParameter
from waystation.queues.commands import Entry

Outgoing: TypeAlias = operations.SendMessageRequest | operations.SendMessageBatchRequestEntry


class Packed(msgspec.Struct, gc=False):
    """A validated message on its way to the shard, the bytes it counts, and the digests for the answer."""

    entry: Entry
    size: int
    body_md5: str
    attributes_md5: str | None
    system_attributes_md5: str | None


class TooLong(
    InvalidParameterValue, shape=InvalidParameterValue.shape, query_code=InvalidParameterValue.query_code
):
    """A message over its queue's maximum; `size` still counts in its batch."""

    def __init__(self, verb: str, message_bytes_max: int, size: int) -> None:
        super().__init__(
            f"One or more parameters {verb}. Reason: Message must be shorter than {message_bytes_max} bytes."
        )
        self.size = size


def check_ids(queue: Queue, message: Outgoing) -> None:
    """Check that a message has the ids that its queue asks for.

    Raises:
        MissingParameter: it is for a FIFO queue and in no group.
        InvalidParameterValue: it has no deduplication id, and its queue does not make one.
    """
    if not queue.is_fifo:
        return
    if message.message_group_id is None:
        raise MissingParameter("MessageGroupId")
    if message.message_deduplication_id is None and not queue.deduplicates_contents:
        raise InvalidParameterValue(
            "The queue should either have ContentBasedDeduplication enabled or "
            "MessageDeduplicationId provided explicitly"
        )


def check_ids_of_batch(queue: Queue, entries: Iterable[operations.SendMessageBatchRequestEntry]) -> None:
    """The same for a batch, which fails as a whole, and with another code for the same text."""
    try:
        for entry in entries:
            check_ids(queue, entry)
    except MissingParameter as missing:
        raise InvalidParameterValue(missing.message) from None


def pack(call: Call, queue: Queue, message: Outgoing, too_long: str) -> Packed:
    """Validate one message, one that has passed `check_ids`, and put it into an envelope.

    Args:
        too_long: how AWS says that a message's parameters are bad; it depends on the operation.

    Raises:
        Refusal: what is wrong with it, `TooLong` if nothing else is.
    """
    body = message.message_body
    if not body:
        raise MissingParameter("MessageBody")
    utf8 = body.encode()
    message_rules.check_text(body, utf8)
    size = len(utf8)
    envelope = Envelope(body, md5_of_body(utf8), call.caller.account, trace_header=call.trace_header)
    attributes_md5 = system_md5 = None
    message_rules.check_delay(message.delay_seconds, is_fifo=queue.is_fifo)
    if message.message_group_id is not None:
        message_rules.check_client_id(message.message_group_id, "MessageGroupId")
    message_rules.check_fifo_only(
        message.message_deduplication_id, "MessageDeduplicationId", is_fifo=queue.is_fifo
    )
    if queue.is_fifo:
        # Of the body alone: what differs in its attributes is a duplicate all the same.
        envelope.deduplication_id = message.message_deduplication_id or sha256(utf8).hexdigest()
    if message.message_attributes:
        size += message_rules.check_attributes(message.message_attributes)
        attributes_md5 = envelope.attributes_md5 = md5_of_attributes(message.message_attributes)
        envelope.attributes = pack_attributes(message.message_attributes)
    if message.message_system_attributes:
        envelope.trace_header = message_rules.check_system_attributes(message.message_system_attributes)
        system_md5 = md5_of_attributes(message.message_system_attributes)
    if size > queue.message_bytes_max:
        raise TooLong(too_long, queue.message_bytes_max, size)
    entry = _entry(queue, message, envelope)
    return Packed(entry, size, envelope.body_md5, attributes_md5, system_md5)


def _entry(queue: Queue, message: Outgoing, envelope: Envelope) -> Entry:
    encoded, group = encode_envelope(envelope), message.message_group_id or ""
    if queue.is_fifo:
        # Without a delay: it is the queue's, which the shard knows.
        name = envelope.deduplication_id
        if queue.deduplicates_in_groups:
            name = f"{group} {name}"  # neither has a blank in it, so no other pair gives this text
        return Entry(encoded, 0, group, message_rules.digest_of(name))
    delay_s = queue.delay_s if message.delay_seconds is None else message.delay_seconds
    return Entry(encoded, delay_s * 1_000, group)
