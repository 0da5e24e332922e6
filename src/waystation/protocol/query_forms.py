"""The Query protocol's way in: a form of dotted names to a structure.

`MessageAttribute.1.Value.StringValue=x` says where in the request a value is. A
form is first made into a tree, one level per dot, and the structure then picks
what it knows: so unknown parameters cost little, and numbers in names are only
sorted by, never used to make room.

Clients have written lists and maps in several ways over the years; each that can
mean only one thing is understood:
`AttributeName.1=`, `AttributeNames.member.1=` and, for a single one, `AttributeName=`;
`Attribute.1.Name=`, `Attributes.entry.1.key=` and `Attribute.Name=`.

Always: linear in the size of the form, whatever it holds; the outcome is a
structure or a `Refusal`.

Source: the last Query model of SQS (2012-11-05); boto 2 and the examples of old
API References for the other spellings.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from binascii import a2b_qp
from collections.abc import Iterator
from typing import Any

from waystation.protocol.errors import CommonRefusal, InvalidParameterValue, MissingParameter
from waystation.protocol.operations import Shape
from waystation.protocol.query_members import Member, members_of

PARAMETERS_MAX = 1_000
"""In one request. The largest sensible one, a batch of ten messages with ten attributes each, has 400."""

DEPTH_MAX = 10
"""Dots and names in the longest spelling of any parameter; what is nested deeper is nothing we know."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}\Z")
_INDEX = re.compile(r"[0-9]{1,9}\Z")
_SHOWN_LENGTH_MAX = 80


class InvalidQueryParameter(CommonRefusal):
    """A form that cannot be read."""


class Node:
    """A place in a form: the value given for it, and what is below it by the next part of the name."""

    __slots__ = ("below", "text")

    def __init__(self) -> None:
        self.text: str | None = None
        self.below: dict[str, Node] = {}

    def first(self, *names: str) -> Node | None:
        """The first of these that is there."""
        return next((self.below[name] for name in names if name in self.below), None)


def parse_form(form: bytes) -> Node:
    """Read `application/x-www-form-urlencoded`, or the query of a URL, which is written the same.

    If a parameter is there twice, the last one counts.

    Raises:
        InvalidQueryParameter: more parameters than any request needs, or not UTF-8.
    """
    if form.count(b"&") >= PARAMETERS_MAX:
        raise InvalidQueryParameter(f"The request has more than {PARAMETERS_MAX} parameters.")
    root = Node()
    for pair in form.split(b"&"):
        name, _, value = pair.partition(b"=")
        parts = decode_text(name).split(".", DEPTH_MAX)
        if len(parts) > DEPTH_MAX:
            continue
        node = root
        for part in parts:
            below = node.below.get(part)
            if below is None:
                below = node.below[part] = Node()
            node = below
        node.text = decode_text(value)
    return root


def decode_text(encoded: bytes) -> str:
    """Undo a form's percent-encoding, where a plus sign is a blank.

    Raises:
        InvalidQueryParameter: a percent sign that begins no escape, or what was encoded is
            not UTF-8.
    """
    text = encoded.replace(b"+", b" ")
    try:
        return (_unescape(text) if b"%" in text else text).decode()
    except UnicodeDecodeError:
        raise InvalidQueryParameter("The request has a parameter that is not encoded as UTF-8.") from None


def _unescape(text: bytes) -> bytes:
    # Quoted-printable is the same with another sign, and its decoder is written in C: urllib's
    # would hold up everybody for half a second over the longest body. Line breaks mean
    # something there, so they are escaped as the sign itself is.
    printable = text.replace(b"=", b"=3D").replace(b"\n", b"=0A").replace(b"\r", b"=0D")
    unescaped = a2b_qp(printable.replace(b"%", b"="))
    # Every escape is three bytes for one; what is none comes out longer.
    if len(unescaped) != len(text) - 2 * text.count(b"%"):
        raise InvalidQueryParameter("The request has a percent sign that does not begin an escape.")
    return unescaped


def read_structure(shape: type[Shape], node: Node, path: str = "") -> Shape:
    """Make a structure of what a form has for it. Mandatory members may be missing.

    Args:
        shape: a request, or a structure within one.
        node: where the form has its members.
        path: the name of that place with a dot behind it, for errors; empty for the whole form.

    Raises:
        InvalidParameterValue: a text that is not the number or the base64 it should be, or
            one name twice in a map.
        MissingParameter: an entry of a map that lacks its name or its value.
    """
    values = {}
    for member in members_of(shape):
        value = _read_member(member, node, path)
        if value is not None:
            values[member.attribute] = value
    return shape(**values)


def _read_member(member: Member, node: Node, path: str) -> Any:
    if member.kind == "one":
        below = node.below.get(member.element)
        return None if below is None else _read_value(member.type, below, path + member.element)
    elements = list(_elements(member, node))
    path += member.element
    if member.kind == "map":
        return _read_map(member, elements, path) if elements else None
    if not elements and not issubclass(member.type, Shape):
        return None
    # A form cannot tell an empty batch from none: AWS takes it for an empty one.
    values = [_read_value(member.type, element, path + number) for number, element in elements]
    return [value for value in values if value is not None]


def _read_map(member: Member, elements: list[tuple[str, Node]], path: str) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for number, element in elements:
        key = element.first(member.key, "key")
        if key is None or key.text is None:
            raise MissingParameter(f"{path}{number}.{member.key}")
        if key.text in entries:
            raise InvalidParameterValue.of(
                _shown(key.text), f"{path}{number}.{member.key}", "It is given more than once."
            )
        value = _read_value(member.type, element.first("Value", "value") or Node(), f"{path}{number}.Value")
        if value is None:
            raise MissingParameter(f"{path}{number}.Value")
        entries[key.text] = value
    return entries


def _read_value(kind: type, node: Node, path: str) -> Any:
    """None where there is no value."""
    if issubclass(kind, Shape):
        return read_structure(kind, node, f"{path}.")
    text = node.text
    if text is None or kind is str:
        return text
    if kind is int:
        if not _INTEGER.match(text):
            raise InvalidParameterValue.of(_shown(text), path, "Must be an integer.")
        return int(text)
    assert kind is bytes, "no request has a member of another type"
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError):
        raise InvalidParameterValue.of(_shown(text), path, "Must be base64.") from None


def _elements(member: Member, node: Node) -> Iterator[tuple[str, Node]]:
    """The elements of a list or the entries of a map, in the order of their numbers.

    Each comes with what its name has behind that of the member: `.1`, or nothing.
    """
    for name in (member.element, member.name):
        below = node.below.get(name)
        if below is None:
            continue
        # Empty is how an empty list is written, as `AttributeNames=`.
        if below.text or member.key in below.below:
            yield "", below
        for place in (below, below.first("member"), below.first("entry")):
            if place is not None:
                numbers = [number for number in place.below if _INDEX.match(number)]
                for number in sorted(numbers, key=int):
                    yield f".{number}", place.below[number]


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_LENGTH_MAX else f"{text[:_SHOWN_LENGTH_MAX]}..."
