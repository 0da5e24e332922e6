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


client_ids = st.from_regex(r"[!-~]{1,128}", fullmatch=True)


@given(client_ids)
@example("x" * 128)
def test_a_client_id_is_made_of_letters_digits_and_punctuation(client_id: str) -> None:
    message_rules.check_client_id(client_id, "MessageGroupId")


@pytest.mark.parametrize("client_id", ["", "x" * 129, "a b", " a", "a\n", "\t", "é", "\x7f"])
@pytest.mark.parametrize("name", ["MessageGroupId", "MessageDeduplicationId", "ReceiveRequestAttemptId"])
def test_any_other_client_id_is_refused_by_the_name_of_its_parameter(client_id: str, name: str) -> None:
    with pytest.raises(InvalidParameterValue) as refused:
        message_rules.check_client_id(client_id, name)
    assert refused.value.message == (
        f"Value {client_id} for parameter {name} is invalid. Reason: {name} can only include alphanumeric "
        "and punctuation characters. 1 to 128 in length."
    )


def test_what_is_for_fifo_queues_only_is_checked_there_and_refused_elsewhere() -> None:
    for is_fifo in (False, True):
        message_rules.check_fifo_only(None, "MessageDeduplicationId", is_fifo=is_fifo)
    message_rules.check_fifo_only("id", "MessageDeduplicationId", is_fifo=True)

    with pytest.raises(InvalidParameterValue, match="can only include alphanumeric"):
        message_rules.check_fifo_only("a b", "MessageDeduplicationId", is_fifo=True)
    for given_id in ("id", "", "a b"):
        with pytest.raises(InvalidParameterValue) as refused:
            message_rules.check_fifo_only(given_id, "MessageDeduplicationId", is_fifo=False)
        assert refused.value.message == (
            f"Value {given_id} for parameter MessageDeduplicationId is invalid. "
            "Reason: The request includes a parameter that is not valid for this queue type."
        )


@pytest.mark.parametrize("delay_s", [-1, 901])
@pytest.mark.parametrize("is_fifo", [False, True])
def test_a_delay_outside_its_range_is_refused_on_every_queue(delay_s: int, is_fifo: bool) -> None:
    with pytest.raises(InvalidParameterValue, match="DelaySeconds must be >= 0 and <= 900"):
        message_rules.check_delay(delay_s, is_fifo=is_fifo)


def test_a_message_of_a_fifo_queue_has_no_delay_of_its_own() -> None:
    for none in (None, 0):
        message_rules.check_delay(none, is_fifo=True)
    message_rules.check_delay(900, is_fifo=False)

    with pytest.raises(InvalidParameterValue) as refused:
        message_rules.check_delay(2, is_fifo=True)
    assert refused.value.message == (
        "Value 2 for parameter DelaySeconds is invalid. Reason: "
        "The request include parameter that is not valid for this queue type."
    )


@given(client_ids, client_ids)
def test_digests_of_client_ids_are_of_16_bytes_and_as_different_as_the_ids(one: str, other: str) -> None:
    digests = [message_rules.digest_of(each) for each in (one, other)]

    assert [len(digest) for digest in digests] == [16, 16]
    assert (digests[0] == digests[1]) == (one == other)


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
