"""What the backend keeps of a message without looking inside.

MessagePack arrays; a field may be added at the end with a default, and order
never changes, since envelopes written by older versions have to be read.
"""

from __future__ import annotations

import msgspec

from waystation.protocol.operations import MessageAttributeValue


class Attribute(msgspec.Struct, array_like=True, omit_defaults=True, frozen=True, gc=False):
    """One message attribute: `text` of a String or Number type, or `binary` of a Binary one."""

    name: str
    type: str
    text: str | None = None
    binary: bytes | None = None


class Envelope(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    """A message as sent: what a receive has to give back. Digests are hexadecimal MD5s."""

    body: str
    body_md5: str
    sender: str
    attributes: list[Attribute] = []
    attributes_md5: str = ""
    trace_header: str = ""
    group: str = ""
    """The message group, as older versions have kept it; empty since the backend keeps it itself."""
    message_id: str = ""
    """Set once it has come from another queue, where it got its id."""
    source_arn: str = ""
    """The queue whose dead letter it is; empty for none."""
    deduplication_id: str = ""
    """Given by the sender or made from the body. Every message of a FIFO queue has one, and no other."""


encode_envelope = msgspec.msgpack.Encoder().encode
decode_envelope = msgspec.msgpack.Decoder(Envelope).decode


def pack_attributes(attributes: dict[str, MessageAttributeValue]) -> list[Attribute]:
    """Validated attributes, as the envelope holds them."""
    return [
        Attribute(name, attribute.data_type or "", attribute.string_value, attribute.binary_value)
        for name, attribute in attributes.items()
    ]


def unpack_attributes(attributes: list[Attribute]) -> dict[str, MessageAttributeValue]:
    """The reverse of `pack_attributes`."""
    return {
        attribute.name: MessageAttributeValue(
            data_type=attribute.type, string_value=attribute.text, binary_value=attribute.binary
        )
        for attribute in attributes
    }
