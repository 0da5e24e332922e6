"""AWS JSON 1.0 against botocore's own serializer and parser, with values made from its model."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.service_model import OPERATION_NAMES, SERVICE, structures, values
from waystation.protocol import operations
from waystation.protocol.errors import SerializationError
from waystation.protocol.json_codec import decode, encode, operation_of
from waystation.protocol.operations import OPERATIONS, Shape

WITH_A_RESULT = [name for name in OPERATION_NAMES if OPERATIONS[name].result is not None]
# What we always answer, beyond what the model requires.
MANDATORY = {
    name: {f.encode_name for f in msgspec.structs.fields(getattr(operations, name)) if f.required}
    for name in structures()
}


def as_written(value: Any) -> Any:
    """A structure the way a caller of boto3 would write it: absent members are left out."""
    if isinstance(value, Shape):
        return {
            field.encode_name: as_written(member)
            for field in msgspec.structs.fields(value)
            if (member := getattr(value, field.name)) is not None
        }
    if isinstance(value, dict):
        return {key: as_written(member) for key, member in value.items()}
    if isinstance(value, list):
        return [as_written(member) for member in value]
    return value


def without_empty_members(value: Any) -> Any:
    """An empty list or map may be left out of an answer or not: readers cannot tell the two apart."""
    if isinstance(value, dict):
        return {key: without_empty_members(member) for key, member in value.items() if member not in ([], {})}
    if isinstance(value, list):
        return [without_empty_members(member) for member in value]
    return value


@pytest.mark.parametrize("name", OPERATION_NAMES)
@given(data=st.data())
def test_what_botocore_sends_is_what_we_read(name: str, data: st.DataObject) -> None:
    model = SERVICE.operation_model(name)
    parameters = data.draw(values(model.input_shape, always={}))
    sent = create_serializer("json").serialize_to_request(parameters, model)

    operation = operation_of(sent["headers"]["X-Amz-Target"])

    assert operation is OPERATIONS[name]
    assert as_written(decode(operation, sent["body"])) == parameters


@pytest.mark.parametrize("name", WITH_A_RESULT)
@given(data=st.data())
def test_what_we_answer_is_what_botocore_reads(name: str, data: st.DataObject) -> None:
    shape = SERVICE.operation_model(name).output_shape
    expected = data.draw(values(shape, always=MANDATORY))
    result = msgspec.convert(expected, OPERATIONS[name].result, builtin_types=(bytes,))

    answer = {"status_code": 200, "headers": {}, "body": encode(result)}
    parsed = create_parser("json").parse(answer, shape)

    del parsed["ResponseMetadata"]
    assert without_empty_members(parsed) == without_empty_members(expected)


@given(name=st.sampled_from(OPERATION_NAMES), body=st.binary() | st.text().map(str.encode))
def test_any_bytes_are_a_request_or_refused(name: str, body: bytes) -> None:
    outcome: Shape | SerializationError
    try:
        outcome = decode(OPERATIONS[name], body)
    except SerializationError as refusal:
        outcome = refusal

    assert isinstance(outcome, OPERATIONS[name].request | SerializationError)
    assert not isinstance(outcome, SerializationError) or len(outcome.message) < 200
