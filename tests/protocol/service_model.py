"""Botocore's own model of SQS, and Hypothesis strategies made from its shapes."""

from __future__ import annotations

from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape, StructureShape
from hypothesis import strategies as st

SERVICE: ServiceModel = ServiceModel(Loader().load_service_model("sqs", "service-2"), "sqs")
OPERATION_NAMES: list[str] = sorted(SERVICE.operation_names)


def structures() -> dict[str, StructureShape]:
    """Every structure that an operation takes or gives, at any depth, by name. Errors are not among them."""
    found: dict[str, StructureShape] = {}
    for name in OPERATION_NAMES:
        operation = SERVICE.operation_model(name)
        for shape in (operation.input_shape, operation.output_shape):
            if shape is not None:
                _collect(shape, found)
    return found


def error_shapes() -> dict[str, StructureShape]:
    """Every error of the model by name."""
    return {shape.name: shape for shape in SERVICE.error_shapes}


def input_names() -> set[str]:
    """Names of the structures that a client sends."""
    found: dict[str, StructureShape] = {}
    for name in OPERATION_NAMES:
        _collect(SERVICE.operation_model(name).input_shape, found)
    return set(found)


def values(shape: Shape, always: dict[str, set[str]]) -> st.SearchStrategy[Any]:
    """Values of a shape as a caller of boto3 writes them.

    Args:
        shape: any shape of the model.
        always: by name of a structure, members that must be there beside the required ones.
    """
    match shape.type_name:
        case "structure":
            needed = set(shape.required_members) | always.get(shape.name, set())
            members = {name: values(member, always) for name, member in shape.members.items()}
            return st.fixed_dictionaries(
                {name: strategy for name, strategy in members.items() if name in needed},
                optional={name: strategy for name, strategy in members.items() if name not in needed},
            )
        case "list":
            return st.lists(values(shape.member, always), max_size=3)
        case "map":
            return st.dictionaries(st.text(max_size=8), values(shape.value, always), max_size=3)
        case "string":
            return st.text(max_size=20)
        case "integer" | "long":
            return st.integers(min_value=-(2**31), max_value=2**31 - 1)
        case "boolean":
            return st.booleans()
        case "blob":
            return st.binary(max_size=20)
    raise NotImplementedError(f"the model has a new kind of shape: {shape.type_name}")


def _collect(shape: Shape, found: dict[str, StructureShape]) -> None:
    match shape.type_name:
        case "structure" if shape.name not in found:
            found[shape.name] = shape
            for member in shape.members.values():
                _collect(member, found)
        case "list":
            _collect(shape.member, found)
        case "map":
            _collect(shape.value, found)
