"""The Query protocol's way out: results and errors as XML.

Always: well-formed XML 1.0, whatever a text holds. Message bodies come out as they
went in, for they were checked then; of what was not (an error that repeats a
client's own words, say), a character that XML does not have becomes U+FFFD.

Source: the examples of the SQS API Reference, and recorded responses for what they
do not show: the declaration, the escapes and the empty `Detail`.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from waystation.protocol.limits import FORBIDDEN_TEXT_PATTERN
from waystation.protocol.operations import Operation, Shape
from waystation.protocol.query_members import members_of

NAMESPACE = "http://queue.amazonaws.com/doc/2012-11-05/"
_DECLARATION = '<?xml version="1.0"?>'


def write_result(operation: Operation, result: Shape | None, request_id: str) -> bytes:
    """An answer; None, from an operation that gives nothing, is one without a result."""
    name = operation.name
    parts = [f'{_DECLARATION}<{name}Response xmlns="{NAMESPACE}">']
    if result is not None:
        _write_element(parts, f"{name}Result", result)
    parts.append(f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{name}Response>")
    return "".join(parts).encode()


def write_error(blame: str, code: str, message: str, request_id: str) -> bytes:
    """An error; `blame` is `Sender` or `Receiver`."""
    return (
        f'{_DECLARATION}<ErrorResponse xmlns="{NAMESPACE}"><Error><Type>{blame}</Type><Code>{code}</Code>'
        f"<Message>{escape(message)}</Message><Detail/></Error>"
        f"<RequestId>{request_id}</RequestId></ErrorResponse>"
    ).encode()


def escape(text: str) -> str:
    """Text as the content of an element.

    A carriage return is written as a reference, because a parser makes a line feed of a
    bare one. Quotation marks need none here, but AWS escapes them.
    """
    text = (
        text.replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace('"', "&quot;")
        .replace("\r", "&#xD;")
    )
    # Nothing that XML lacks is printable, and asking that is quicker than looking for it.
    return text if text.isprintable() else FORBIDDEN_TEXT_PATTERN.sub("\ufffd", text)


def _write_structure(parts: list[str], structure: Shape) -> None:
    for member in members_of(type(structure)):
        value = getattr(structure, member.attribute)
        if value is None:
            continue
        if member.kind == "one":
            _write_element(parts, member.element, value)
        elif member.kind == "list":
            for element in value:
                _write_element(parts, member.element, element)
        else:
            for key, element in value.items():
                parts.append(f"<{member.element}><{member.key}>{escape(key)}</{member.key}>")
                _write_element(parts, "Value", element)
                parts.append(f"</{member.element}>")


def _write_element(parts: list[str], name: str, value: Any) -> None:
    if isinstance(value, Shape):
        parts.append(f"<{name}>")
        _write_structure(parts, value)
        parts.append(f"</{name}>")
    else:
        parts.append(f"<{name}>{_text(value)}</{name}>")


def _text(value: str | int | bytes) -> str:
    match value:
        case str():
            return escape(value)
        case bool():
            return "true" if value else "false"
        case bytes():
            return b64encode(value).decode()
    return str(value)
