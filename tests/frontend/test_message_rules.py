"""The rules of messages on their own; `tests/contract` asks for them as a client does."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from waystation.frontend import message_rules
from waystation.protocol import limits
from waystation.protocol.checksums import md5_of_attributes
from waystation.protocol.errors import InvalidMessageContents, InvalidParameterValue, Refusal
from waystation.protocol.operations import (
    MessageAttributeValue,
    MessageSystemAttributeValue,
    SendMessageBatchRequestEntry,
)

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(any_text)
@example("\x7f")
@example("\x85")
@example("\ufffe")
@example("é\x00")
def test_the_quick_check_of_a_text_says_what_the_rule_says(text: str) -> None:
    is_allowed = limits.MESSAGE_TEXT_PATTERN.match(text) is not None
    try:
        message_rules.check_text(text, text.encode())
    except InvalidMessageContents:
        assert not is_allowed
    else:
        assert is_allowed


def test_every_single_character_is_judged_as_the_rule_says() -> None:
    for code in [*range(0xD800), *range(0xE000, 0x11000), 0x1FFFF, 0x10FFFF]:
        character = chr(code)
        if limits.MESSAGE_TEXT_PATTERN.match(character):
            message_rules.check_text(character, character.encode())
        else:
            with pytest.raises(InvalidMessageContents):
                message_rules.check_text(character, character.encode())


@given(st.none() | st.integers(), st.integers(-5, 5), st.integers(-5, 5))
def test_a_range_includes_both_its_ends_and_none(value: int | None, low: int, high: int) -> None:
    if value is None or low <= value <= high:
        message_rules.check_range(value, "Number", low, high)
    else:
        with pytest.raises(InvalidParameterValue, match=f"Value {value} for parameter Number"):
            message_rules.check_range(value, "Number", low, high)


values = st.builds(
    MessageAttributeValue,
    data_type=st.sampled_from([None, "", "String", "Number", "Binary", "String.x", "Binary.", "x"])
    | any_text,
    string_value=st.none() | st.sampled_from(["", "1", "-1.5E+7"]) | any_text,
    binary_value=st.none() | st.binary(max_size=5),
)
attribute_names = st.sampled_from(["a", "a.b", ".a", "a..b", "AWS.x", "ü", ""]) | any_text


@given(st.dictionaries(attribute_names, values, max_size=11))
def test_attributes_that_pass_can_be_counted_and_digested(
    attributes: dict[str, MessageAttributeValue],
) -> None:
    try:
        size = message_rules.check_attributes(attributes)
    except Refusal:
        return
    assert len(attributes) <= 10
    assert size == sum(
        len(name.encode())
        + len((value.data_type or "").encode())
        + len((value.string_value or "").encode() or value.binary_value or b"")
        for name, value in attributes.items()
    )
    assert len(md5_of_attributes(attributes)) == 32


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_every_number_that_python_writes_is_a_number(number: float) -> None:
    attribute = MessageAttributeValue(data_type="Number", string_value=str(number))

    assert message_rules.check_attributes({"n": attribute}) > 0


def system(text: str) -> MessageSystemAttributeValue:
    return MessageSystemAttributeValue(data_type="String", string_value=text)


def test_the_trace_header_is_the_only_system_attribute() -> None:
    assert message_rules.check_system_attributes({"AWSTraceHeader": system("Root=1")}) == "Root=1"
    assert message_rules.check_system_attributes({}) == ""

    for attributes in ({"Other": system("x")}, {"AWSTraceHeader": system("x"), "Other": system("x")}):
        with pytest.raises(InvalidParameterValue):
            message_rules.check_system_attributes(attributes)


def test_the_ids_of_a_batch_come_back_in_order() -> None:
    entries = [SendMessageBatchRequestEntry(id=each, message_body="x") for each in "cab"]

    assert message_rules.check_batch(entries, "SendMessageBatchRequestEntry") == ["c", "a", "b"]


@given(
    st.lists(
        st.builds(SendMessageBatchRequestEntry, id=st.none() | any_text, message_body=st.none() | any_text)
    )
)
def test_a_batch_that_passes_has_1_to_10_distinct_ids_and_lacks_nothing(
    entries: list[SendMessageBatchRequestEntry],
) -> None:
    try:
        ids = message_rules.check_batch(entries, "SendMessageBatchRequestEntry")
    except Refusal:
        return
    assert 1 <= len(ids) == len(set(ids)) == len(entries) <= 10
    assert all(entry.message_body is not None for entry in entries)
