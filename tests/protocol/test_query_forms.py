"""How forms are read: the spellings of many kinds of clients, and what no client would send."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.protocol.errors import InvalidParameterValue, MissingParameter, Refusal
from waystation.protocol.operations import (
    AddPermissionRequest,
    GetQueueAttributesRequest,
    MessageAttributeValue,
    ReceiveMessageRequest,
    SendMessageBatchRequest,
    SendMessageBatchRequestEntry,
    SendMessageRequest,
    SetQueueAttributesRequest,
    Shape,
    TagQueueRequest,
)
from waystation.protocol.query_forms import (
    PARAMETERS_MAX,
    InvalidQueryParameter,
    decode_text,
    parse_form,
    read_structure,
)


def read(shape: type[Shape], *pairs: str) -> Shape:
    return read_structure(shape, parse_form("&".join(pairs).encode()))


def refusal_of(shape: type[Shape], *pairs: str) -> Refusal:
    with pytest.raises(Refusal) as refused:
        read(shape, *pairs)
    return refused.value


# Spellings


@pytest.mark.parametrize(
    "pairs",
    [
        ["AttributeName.1=Policy", "AttributeName.2=QueueArn"],
        ["AttributeNames.member.1=Policy", "AttributeNames.member.2=QueueArn"],
        ["AttributeNames.1=Policy", "AttributeNames.2=QueueArn"],
        ["AttributeName.member.1=Policy", "AttributeName.member.2=QueueArn"],
        ["AttributeName.2=QueueArn", "AttributeName.1=Policy"],
        ["AttributeName.10=QueueArn", "AttributeName.9=Policy"],
        ["AttributeName.0=Policy", "AttributeName.999999999=QueueArn"],
    ],
)
def test_a_list_is_read_in_the_order_of_its_numbers_however_they_are_written(pairs: list[str]) -> None:
    assert read(GetQueueAttributesRequest, *pairs) == GetQueueAttributesRequest(
        attribute_names=["Policy", "QueueArn"]
    )


@pytest.mark.parametrize(
    "pairs",
    [
        ["Attribute.1.Name=DelaySeconds", "Attribute.1.Value=5"],
        ["Attribute.Name=DelaySeconds", "Attribute.Value=5"],
        ["Attributes.entry.1.key=DelaySeconds", "Attributes.entry.1.value=5"],
        ["Attributes.1.Name=DelaySeconds", "Attributes.1.Value=5"],
        ["Attribute.7.Value=5", "Attribute.7.Name=DelaySeconds"],
    ],
)
def test_a_map_is_read_however_its_entries_are_written(pairs: list[str]) -> None:
    assert read(SetQueueAttributesRequest, *pairs) == SetQueueAttributesRequest(
        attributes={"DelaySeconds": "5"}
    )


def test_the_single_elements_of_boto_2_have_no_number() -> None:
    request = read(AddPermissionRequest, "Label=x", "AWSAccountId=000000000000", "ActionName=SendMessage")

    assert request == AddPermissionRequest(
        label="x", aws_account_ids=["000000000000"], actions=["SendMessage"]
    )


def test_message_attributes_are_read_within_the_entries_of_a_batch() -> None:
    entry, attribute = "SendMessageBatchRequestEntry.2", "SendMessageBatchRequestEntry.2.MessageAttribute"
    request = read(
        SendMessageBatchRequest,
        f"{entry}.Id=b",
        f"{entry}.DelaySeconds=45",
        f"{attribute}.1.Name=text",
        f"{attribute}.1.Value.DataType=String.x",
        f"{attribute}.1.Value.StringValue=a+b%2Bc",
        f"{attribute}.2.Name=bytes",
        f"{attribute}.2.Value.DataType=Binary",
        f"{attribute}.2.Value.BinaryValue=AAEC/w%3D%3D",
        "SendMessageBatchRequestEntry.1.Id=a",
        "SendMessageBatchRequestEntry.1.MessageBody=",
    )

    assert request == SendMessageBatchRequest(
        entries=[
            SendMessageBatchRequestEntry(id="a", message_body=""),
            SendMessageBatchRequestEntry(
                id="b",
                delay_seconds=45,
                message_attributes={
                    "text": MessageAttributeValue(data_type="String.x", string_value="a b+c"),
                    "bytes": MessageAttributeValue(data_type="Binary", binary_value=b"\x00\x01\x02\xff"),
                },
            ),
        ]
    )


def test_the_entries_of_a_tag_are_a_key_and_a_value_that_may_be_empty() -> None:
    assert read(TagQueueRequest, "Tag.1.Key=a", "Tag.1.Value=", "Tag.2.Key=b", "Tag.2.Value=c") == (
        TagQueueRequest(tags={"a": "", "b": "c"})
    )


def test_an_empty_list_may_be_written_as_an_empty_parameter() -> None:
    pairs = ["AttributeNames=", "MessageAttributeName="]

    assert read(ReceiveMessageRequest, *pairs) == ReceiveMessageRequest()


def test_a_batch_without_entries_has_none_of_them_rather_than_no_list() -> None:
    assert read(SendMessageBatchRequest, "QueueUrl=x") == SendMessageBatchRequest(queue_url="x", entries=[])


# Values


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("-1", -1), ("%2B5", 5), ("007", 7)])
def test_numbers_are_decimal_integers(text: str, number: int) -> None:
    assert read(SendMessageRequest, f"DelaySeconds={text}") == SendMessageRequest(delay_seconds=number)


@pytest.mark.parametrize("text", ["", "abc", "1.5", "1e3", "0x1", "1_000", "%D9%A1", "+", "1%0A", "9" * 19])
def test_what_is_no_integer_is_refused_by_the_name_of_the_parameter(text: str) -> None:
    refusal = refusal_of(SendMessageRequest, f"DelaySeconds={text}")

    assert isinstance(refusal, InvalidParameterValue)
    assert refusal.message.endswith("for parameter DelaySeconds is invalid. Reason: Must be an integer.")


def test_a_wrong_value_deep_inside_is_named_by_its_whole_path() -> None:
    entry = "SendMessageBatchRequestEntry.3"
    refusal = refusal_of(SendMessageBatchRequest, f"{entry}.Id=a", f"{entry}.DelaySeconds=soon")

    assert refusal.message == (
        f"Value soon for parameter {entry}.DelaySeconds is invalid. Reason: Must be an integer."
    )


@pytest.mark.parametrize("text", ["not base64!", "AAE", "AA=A", "%C3%BC", "AA%0A=="])
def test_what_is_no_base64_is_refused(text: str) -> None:
    attribute = "MessageAttribute.1"
    refusal = refusal_of(SendMessageRequest, f"{attribute}.Name=a", f"{attribute}.Value.BinaryValue={text}")

    assert isinstance(refusal, InvalidParameterValue)
    assert f"{attribute}.Value.BinaryValue is invalid. Reason: Must be base64." in refusal.message


def test_a_long_wrong_value_comes_back_shortened() -> None:
    assert len(refusal_of(SendMessageRequest, "DelaySeconds=" + "x" * 1_000_000).message) < 200


@pytest.mark.parametrize(
    ("pairs", "missing"),
    [
        (["Attribute.1.Value=5"], "Attribute.1.Name"),
        (["Attribute.4.Name=DelaySeconds"], "Attribute.4.Value"),
        (["Attribute.Name=DelaySeconds"], "Attribute.Value"),
        (["Attribute.1=5"], "Attribute.1.Name"),
    ],
)
def test_half_an_entry_of_a_map_is_a_missing_parameter(pairs: list[str], missing: str) -> None:
    refusal = refusal_of(SetQueueAttributesRequest, *pairs)

    assert isinstance(refusal, MissingParameter)
    assert refusal.message == f"The request must contain the parameter {missing}."


def test_a_message_attribute_without_a_value_is_for_validation_to_refuse() -> None:
    """As in JSON: it has its own text, which says that the type is missing."""
    assert read(SendMessageRequest, "MessageAttribute.1.Name=a") == SendMessageRequest(
        message_attributes={"a": MessageAttributeValue()}
    )


def test_one_name_twice_in_a_map_is_refused() -> None:
    refusal = refusal_of(
        SetQueueAttributesRequest,
        *["Attribute.1.Name=DelaySeconds", "Attribute.1.Value=1"],
        *["Attribute.2.Name=DelaySeconds", "Attribute.2.Value=2"],
    )

    assert isinstance(refusal, InvalidParameterValue)
    assert "Attribute.2.Name" in refusal.message


def test_a_parameter_given_twice_has_its_last_value() -> None:
    assert read(SendMessageRequest, "MessageBody=a", "MessageBody=b") == SendMessageRequest(message_body="b")


# Forms


def test_unknown_parameters_are_ignored() -> None:
    pairs = [
        "Colour=red",
        "X-Amz-Date=now",
        "MessageBody.1=x",
        "AttributeName.x=y",
        "AttributeName.-1=y",
        "&",
    ]

    assert read(ReceiveMessageRequest, *pairs, ".".join("a" * 1_000)) == ReceiveMessageRequest()


@pytest.mark.parametrize("number", ["9" * 10, "9" * 5_000, "%D9%A1", "-1", "1e3", ""])
def test_what_is_no_number_of_an_element_is_ignored(number: str) -> None:
    assert read(GetQueueAttributesRequest, f"AttributeName.{number}=All") == GetQueueAttributesRequest()


def test_as_many_parameters_are_read_as_any_request_needs() -> None:
    fitting = [f"AttributeName.{number}=x" for number in range(PARAMETERS_MAX)]

    assert read(GetQueueAttributesRequest, *fitting) == GetQueueAttributesRequest(
        attribute_names=["x"] * PARAMETERS_MAX
    )
    assert isinstance(refusal_of(GetQueueAttributesRequest, *fitting, "a=b"), InvalidQueryParameter)


@pytest.mark.parametrize("pair", ["MessageBody=%FF", "%C3=x", "Colour=%ED%A0%80"])
def test_what_is_not_utf8_is_refused(pair: str) -> None:
    assert isinstance(refusal_of(SendMessageRequest, pair), InvalidQueryParameter)


@pytest.mark.parametrize("pair", ["MessageBody=100%", "MessageBody=%zz", "%=", "a=%0", "a=%%41", "a=%\n"])
def test_a_percent_sign_that_escapes_nothing_is_refused(pair: str) -> None:
    assert isinstance(refusal_of(SendMessageRequest, pair), InvalidQueryParameter)


def test_plus_signs_line_breaks_and_equals_signs_are_what_forms_mean_by_them() -> None:
    assert read(SendMessageRequest, "MessageBody=a+b%2B=3D\r\n%0d%25=") == SendMessageRequest(
        message_body="a b+=3D\r\n\r%="
    )


@given(
    st.lists(st.sampled_from(["%41", "%0a", "%3D", "=", "%c3%bc", "x", "\n", "\r", "_", " "])).map("".join)
)
def test_escapes_mean_what_urllib_says(text: str) -> None:
    assert decode_text(text.encode()).encode() == unquote_to_bytes(text)
