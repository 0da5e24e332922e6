"""The Query protocol against botocore's own serializer and parser, with values made from the model."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from botocore.awsrequest import AWSRequest
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import example, given
from hypothesis import strategies as st

from tests.protocol.query_model import NESTED_SERVICE, QUERY_SERVICE
from tests.protocol.service_model import OPERATION_NAMES, SERVICE, values
from tests.protocol.test_json_codec_properties import (
    MANDATORY,
    WITH_A_RESULT,
    as_written,
    without_empty_members,
)
from waystation.protocol.errors import Refusal
from waystation.protocol.limits import FORBIDDEN_TEXT_PATTERN
from waystation.protocol.operations import OPERATIONS, Shape
from waystation.protocol.query_codec import decode, encode, operation_of

REQUEST_ID = "27daac76-34dd-47df-bd01-1f6e873584a0"

NAMES = [
    "Attribute",
    "Attributes",
    "AttributeName",
    "MessageAttribute",
    "Tag",
    "Entries",
    "Id",
    "DelaySeconds",
]
PLACES = ["SendMessageBatchRequestEntry", "entry", "member", "Name", "Value", "BinaryValue", "key", "value"]
NUMBERS = ["1", "01", "-1", "999999999", "99999999999999999999", "", "%ff", "\u0661"]
PARTS = st.sampled_from([*NAMES, *PLACES, *NUMBERS])
FORMS = st.lists(
    st.tuples(st.lists(PARTS, min_size=1, max_size=12).map(".".join), st.text(max_size=5) | st.just("1")).map(
        "=".join
    ),
    max_size=20,
).map(lambda pairs: "&".join(pairs).encode())


def form_of(service: ServiceModel, name: str, parameters: dict[str, Any]) -> bytes:
    """The body that botocore sends."""
    sent = create_serializer("query", include_validation=False).serialize_to_request(
        parameters, service.operation_model(name)
    )
    body: str | bytes = AWSRequest("POST", "http://x/", sent["headers"], sent["body"]).prepare().body
    return body if isinstance(body, bytes) else body.encode()


def as_xml_shows(value: Any) -> Any:
    """Characters that XML does not have are replaced: in messages there are none."""
    if isinstance(value, str):
        return FORBIDDEN_TEXT_PATTERN.sub("\ufffd", value)
    if isinstance(value, dict):
        return {as_xml_shows(key): as_xml_shows(member) for key, member in value.items()}
    if isinstance(value, list):
        return [as_xml_shows(member) for member in value]
    return value


@pytest.mark.parametrize("service", [QUERY_SERVICE, NESTED_SERVICE], ids=["flattened", "nested"])
@pytest.mark.parametrize("name", OPERATION_NAMES)
@given(data=st.data())
def test_what_botocore_sends_is_what_we_read(service: ServiceModel, name: str, data: st.DataObject) -> None:
    parameters = data.draw(values(SERVICE.operation_model(name).input_shape, always={}))
    form = form_of(service, name, parameters)

    operation = operation_of(form, "/")

    assert operation is OPERATIONS[name]
    read = as_written(decode(operation, form, "/"))
    assert without_empty_members(read) == without_empty_members(parameters)


@pytest.mark.parametrize("name", WITH_A_RESULT)
@given(data=st.data())
def test_what_we_answer_is_what_botocore_reads(name: str, data: st.DataObject) -> None:
    expected = data.draw(values(SERVICE.operation_model(name).output_shape, always=MANDATORY))
    result = msgspec.convert(expected, OPERATIONS[name].result, builtin_types=(bytes,))

    answer = {"status_code": 200, "headers": {}, "body": encode(OPERATIONS[name], result, REQUEST_ID)}
    parsed = create_parser("query").parse(answer, QUERY_SERVICE.operation_model(name).output_shape)

    assert parsed.pop("ResponseMetadata")["RequestId"] == REQUEST_ID
    assert without_empty_members(parsed) == without_empty_members(as_xml_shows(expected))


@given(name=st.sampled_from(OPERATION_NAMES), form=st.binary() | FORMS, path=st.sampled_from(["/", "/a/b"]))
@example(name="SetQueueAttributes", form=b"Attribute.999999999.Name=a&Attribute.999999999.Value=b", path="/")
@example(name="SetQueueAttributes", form=b"Attribute." + b"9" * 5_000 + b".Name=a", path="/")
@example(name="TagQueue", form=b"a." * 100_000 + b"=", path="/")
def test_any_bytes_are_a_request_or_refused(name: str, form: bytes, path: str) -> None:
    outcome: Shape | Refusal
    try:
        outcome = decode(OPERATIONS[name], form, path)
    except Refusal as refusal:
        outcome = refusal

    assert isinstance(outcome, OPERATIONS[name].request | Refusal)
    assert not isinstance(outcome, Refusal) or len(outcome.message) < 400


@given(form=st.binary() | FORMS | st.binary().map(lambda name: b"Action=" + name))
def test_any_bytes_name_an_operation_or_are_refused(form: bytes) -> None:
    outcome: str | int
    try:
        outcome = operation_of(form, "/").name
    except Refusal as refusal:
        outcome = refusal.status

    assert outcome in (*OPERATION_NAMES, 400, 404)
