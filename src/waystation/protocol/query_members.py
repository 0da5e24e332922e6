"""What the members of our structures are called in the Query protocol.

JSON and Query differ in names and nesting, not in content: a list or a map that
JSON has under one plural name is in Query a repeated element with a singular name
("flattened"), and an entry of a map is two elements, its name and its value.

Always: derived from the structures themselves, so that no member can be forgotten.

Source: the last Query model of SQS (2012-11-05): the `flattened` and
`locationName` traits of its lists and maps.
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

import msgspec

from waystation.protocol.operations import Shape

Kind: TypeAlias = Literal["one", "list", "map"]


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a structure."""

    attribute: str
    """Its name in Python: `message_attributes`."""

    name: str
    """Its name in the model and in JSON: `MessageAttributes`."""

    element: str
    """Its name in Query, of one element if there are many: `MessageAttribute`."""

    kind: Kind

    type: type
    """Of the value, or of one element's value: `str`, `int`, `bool`, `bytes` or a `Shape`."""

    @property
    def key(self) -> str:
        """What the name of a map's entry is called; its value is always `Value`."""
        return "Key" if self.element == "Tag" else "Name"


@cache
def members_of(shape: type[Shape]) -> tuple[Member, ...]:
    """The members of a structure, in the order in which AWS's answers have them."""
    return tuple(_member(field) for field in msgspec.structs.fields(shape))


def _member(field: msgspec.structs.FieldInfo) -> Member:
    hint = _without_none(field.type)
    kind: Kind
    if get_origin(hint) is list:
        kind, [value] = "list", get_args(hint)
    elif get_origin(hint) is dict:
        kind, [_, value] = "map", get_args(hint)
    else:
        kind, value = "one", hint
    element = field.encode_name if kind == "one" else _element_name(field.encode_name, value)
    return Member(field.name, field.encode_name, element, kind, value)


def _element_name(name: str, value: type) -> str:
    if name == "Actions":
        return "ActionName"
    if name.endswith("Attributes") or not issubclass(value, Shape):
        # The model writes `tags` and `queueUrls` with small letters, but only as names of the whole.
        return name[0].upper() + name[1:].removesuffix("s")
    return value.__name__


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        [hint] = [argument for argument in get_args(hint) if argument is not type(None)]
    return hint
