"""The MD5 digests that SQS clients verify: of a body, and of message attributes.

They detect damage, not malice: MD5 because the API says so.

Source: SQS Developer Guide, "Calculating the MD5 message digest for message
attributes". Strings are UTF-8, lengths are four bytes, big-endian.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import md5

from waystation.protocol.operations import MessageAttributeValue

# What precedes each value: its kind on the wire.
_STRING = b"\x01"
_BINARY = b"\x02"


def md5_of_body(body_utf8: bytes) -> str:
    """Returns 32 hexadecimal digits, lower case: `MD5OfMessageBody`, `MD5OfBody`."""
    return md5(body_utf8, usedforsecurity=False).hexdigest()


def md5_of_attributes(attributes: Mapping[str, MessageAttributeValue]) -> str:
    """Digest message attributes, or message system attributes: the encoding is the same.

    Args:
        attributes: validated and not empty: each has a data type, and either a
            string or a binary value. AWS leaves the digest out when there are none.

    Returns:
        32 hexadecimal digits, lower case.
    """
    parts: list[bytes] = []
    for name, attribute in sorted(attributes.items()):
        _add(parts, name.encode())
        _add(parts, (attribute.data_type or "").encode())
        if attribute.binary_value is not None:
            parts.append(_BINARY)
            _add(parts, attribute.binary_value)
        else:
            parts.append(_STRING)
            _add(parts, (attribute.string_value or "").encode())
    return md5(b"".join(parts), usedforsecurity=False).hexdigest()


def _add(parts: list[bytes], value: bytes) -> None:
    parts.append(len(value).to_bytes(4, "big"))
    parts.append(value)
