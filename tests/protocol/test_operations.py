"""Our operations, structures and errors are those of botocore's model: nothing missing, nothing extra."""

from __future__ import annotations

import types
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from botocore.model import Shape as ModelShape

from tests.protocol.service_model import OPERATION_NAMES, SERVICE, error_shapes, input_names, structures
from waystation.protocol import errors, operations
from waystation.protocol.errors import CommonRefusal, MissingParameter, Refusal
from waystation.protocol.operations import OPERATIONS, Shape, require, wire_name

BASES_OF_OUR_OWN = {"Shape", "QueueRequest"}
ERRORS_OUTSIDE_THE_MODEL = {"InvalidParameterValueException", "MissingRequiredParameterException"}
# AWS leaves these out when they are empty, although its model calls them required.
REQUIRED_BUT_LEFT_OUT_WHEN_EMPTY = {"Successful", "Failed"}

STRUCTURES = structures()
SCALARS = {"string": str, "integer": int, "long": int, "boolean": bool, "blob": bytes}


def our(name: str) -> type[Shape]:
    shape: type[Shape] = getattr(operations, name)
    assert issubclass(shape, Shape)
    return shape


def our_refusals() -> list[type[Refusal]]:
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, Refusal) and value not in (Refusal, CommonRefusal)
    ]


def without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        [hint] = [argument for argument in get_args(hint) if argument is not type(None)]
    return hint


def type_of(shape: ModelShape) -> Any:
    """The Python type that a shape of the model has here."""
    match shape.type_name:
        case "structure":
            return our(shape.name)
        case "list":
            return list[type_of(shape.member)]  # type: ignore[misc]
        case "map":
            assert shape.key.type_name == "string"
            return dict[str, type_of(shape.value)]  # type: ignore[misc]
    return SCALARS[shape.type_name]


def test_every_operation_is_here_and_no_other() -> None:
    assert sorted(OPERATIONS) == OPERATION_NAMES


@pytest.mark.parametrize("name", OPERATION_NAMES)
def test_an_operation_takes_and_gives_what_the_model_says(name: str) -> None:
    model, operation = SERVICE.operation_model(name), OPERATIONS[name]

    assert operation.name == name
    assert operation.request.__name__ == model.input_shape.name
    assert operation.decoder.type is operation.request
    if model.output_shape is None:
        assert operation.result is None
    else:
        assert operation.result is not None
        assert operation.result.__name__ == model.output_shape.name


def test_every_structure_is_here_and_no_other() -> None:
    ours = {
        name
        for name, value in vars(operations).items()
        if isinstance(value, type) and issubclass(value, Shape) and name not in BASES_OF_OUR_OWN
    }

    assert ours == set(STRUCTURES)


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_has_the_members_and_types_of_the_model(name: str) -> None:
    ours = our(name)
    hints = get_type_hints(ours)

    members = {wire_name(ours, member): without_none(hints[member]) for member in ours.__struct_fields__}

    assert members == {member: type_of(shape) for member, shape in STRUCTURES[name].members.items()}


@pytest.mark.parametrize("name", sorted(input_names()))
def test_what_a_client_must_send_is_what_the_model_requires(name: str) -> None:
    ours = our(name)

    assert [wire_name(ours, member) for member in ours.required] == STRUCTURES[name].required_members
    assert all(field.default is None for field in msgspec.structs.fields(ours))


@pytest.mark.parametrize("name", sorted(set(STRUCTURES) - input_names()))
def test_what_the_model_requires_of_an_answer_is_always_there(name: str) -> None:
    mandatory = {field.encode_name for field in msgspec.structs.fields(our(name)) if field.required}

    assert set(STRUCTURES[name].required_members) - REQUIRED_BUT_LEFT_OUT_WHEN_EMPTY <= mandatory


def test_every_error_of_the_model_is_here_and_no_other() -> None:
    ours = [refusal for refusal in our_refusals() if not issubclass(refusal, CommonRefusal)]

    assert {refusal.shape for refusal in ours} - ERRORS_OUTSIDE_THE_MODEL == set(error_shapes())
    assert len({refusal.shape for refusal in ours}) == len(ours)


@pytest.mark.parametrize("name", error_shapes())
def test_an_error_is_named_as_in_the_model(name: str) -> None:
    refusal = getattr(errors, name)

    assert refusal.shape == name
    # Botocore used to carry code and status; should it do so again, they must agree.
    told = error_shapes()[name].metadata.get("error", {})
    assert refusal.status == told.get("httpStatusCode", refusal.status)
    assert refusal.query_code == told.get("code", refusal.query_code)


@pytest.mark.parametrize("name", OPERATION_NAMES)
def test_the_first_missing_member_is_named(name: str) -> None:
    request = OPERATIONS[name].request
    for count, member in enumerate(request.required):
        partial = request(**dict.fromkeys(request.required[:count], "given"))

        with pytest.raises(MissingParameter) as refused:
            require(partial)

        assert (
            refused.value.message == f"The request must contain the parameter {wire_name(request, member)}."
        )
    require(request(**dict.fromkeys(request.required, "given")))


def test_a_missing_member_of_a_batch_entry_is_named_with_its_place() -> None:
    with pytest.raises(MissingParameter) as refused:
        require(operations.DeleteMessageBatchRequestEntry(id="a"), "DeleteMessageBatchRequestEntry.2.")

    assert refused.value.message == (
        "The request must contain the parameter DeleteMessageBatchRequestEntry.2.ReceiptHandle."
    )
