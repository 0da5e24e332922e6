"""The rules of queue attributes on their own; `tests/contract` asks for them as a client does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.frontend.queue_attributes import (
    READ_ONLY,
    READABLE,
    check_attributes,
    effective_attributes,
    first_difference,
    merge_attributes,
)
from waystation.protocol.errors import (
    InvalidAttributeName,
    InvalidAttributeValue,
    InvalidParameterValue,
    Refusal,
)

names = st.sampled_from(sorted(READABLE)) | st.text(max_size=10)
values = st.sampled_from(
    ["", "0", "007", "true", "false", "{}", "60", "alias/x", "messageGroup", "perMessageGroupId"]
) | st.text(max_size=10)
wishes = st.dictionaries(names, values, max_size=4)
FIFO_DEFAULTS = {
    "FifoQueue": "true",
    "ContentBasedDeduplication": "false",
    "DeduplicationScope": "queue",
    "FifoThroughputLimit": "perQueue",
}


@given(wishes, st.booleans())
def test_whatever_is_wished_is_checked_or_refused(given_attributes: dict[str, str], is_fifo: bool) -> None:
    """What has passed is stable: checked again, and after a change, it is the same."""
    try:
        checked = check_attributes(given_attributes, is_fifo=is_fifo)
    except (InvalidAttributeName, InvalidAttributeValue, InvalidParameterValue):
        return  # anything else would fail the test
    assert check_attributes(checked, is_fifo=is_fifo) == checked
    assert set(checked) == set(given_attributes)
    assert not set(checked) & set(READ_ONLY)


@given(wishes, st.booleans())
def test_a_queue_created_twice_alike_is_the_same_queue(
    given_attributes: dict[str, str], is_fifo: bool
) -> None:
    try:
        checked = check_attributes(given_attributes, is_fifo=is_fifo)
        created = merge_attributes({}, checked)
    except Refusal:
        return

    if not (checked.get("KmsMasterKeyId") and checked.get("SqsManagedSseEnabled")):
        assert first_difference(created, checked) is None
    assert all(created.values())


def test_numbers_are_kept_without_leading_zeros() -> None:
    assert check_attributes({"DelaySeconds": "007", "VisibilityTimeout": "00"}) == {
        "DelaySeconds": "7",
        "VisibilityTimeout": "0",
    }


@pytest.mark.parametrize("value", ["+5", "-0", " 5", "5 ", "5.0", "5e1", "0x5", "٥", "²", "1_0", "0" * 21])
def test_a_number_is_made_of_digits_alone(value: str) -> None:
    with pytest.raises(InvalidAttributeValue):
        check_attributes({"DelaySeconds": value})


@pytest.mark.parametrize(
    ("current", "change", "after"),
    [
        ({}, {"Policy": "{}"}, {"Policy": "{}"}),
        ({"Policy": "{}", "DelaySeconds": "1"}, {"Policy": ""}, {"DelaySeconds": "1"}),
        ({}, {"Policy": ""}, {}),
        ({}, {"KmsMasterKeyId": "k"}, {"KmsMasterKeyId": "k", "SqsManagedSseEnabled": "false"}),
        (
            {"KmsMasterKeyId": "k", "SqsManagedSseEnabled": "false"},
            {"KmsMasterKeyId": ""},
            {"SqsManagedSseEnabled": "false"},
        ),
        (
            {"KmsMasterKeyId": "k", "SqsManagedSseEnabled": "false"},
            {"SqsManagedSseEnabled": "true"},
            {"SqsManagedSseEnabled": "true"},
        ),
        (
            {"KmsMasterKeyId": "k"},
            {"SqsManagedSseEnabled": "false"},
            {"KmsMasterKeyId": "k", "SqsManagedSseEnabled": "false"},
        ),
    ],
)
def test_a_change_gives_the_attributes_after_it(
    current: dict[str, str], change: dict[str, str], after: dict[str, str]
) -> None:
    before = dict(current)

    assert merge_attributes(current, change) == after
    assert current == before


@pytest.mark.parametrize(
    ("current", "wished", "difference"),
    [
        ({}, {}, None),
        ({"DelaySeconds": "5"}, {}, None),
        ({"DelaySeconds": "5"}, {"DelaySeconds": "5"}, None),
        ({"DelaySeconds": "5"}, {"DelaySeconds": "0"}, "DelaySeconds"),
        ({}, {"DelaySeconds": "0", "VisibilityTimeout": "31"}, "VisibilityTimeout"),
        ({}, {"Policy": ""}, None),
        ({"Policy": "{}"}, {"Policy": ""}, "Policy"),
        ({}, {"Policy": "{}"}, "Policy"),
        ({}, {"SqsManagedSseEnabled": "true"}, None),
        ({}, {"KmsDataKeyReusePeriodSeconds": "300"}, None),
        ({}, {"KmsDataKeyReusePeriodSeconds": "301"}, "KmsDataKeyReusePeriodSeconds"),
        ({"KmsMasterKeyId": "k"}, {"KmsDataKeyReusePeriodSeconds": "300"}, None),
        ({"KmsMasterKeyId": "k"}, {"KmsMasterKeyId": "other"}, "KmsMasterKeyId"),
        ({"Policy": '{"Id":"a","Statement":[]}'}, {"Policy": '{ "Statement": [], "Id":"a"}'}, None),
        ({"Policy": '{"Id":"a","Statement":[]}'}, {"Policy": '{"Id":"b","Statement":[]}'}, "Policy"),
    ],
)
def test_the_first_attribute_that_differs_is_named(
    current: dict[str, str], wished: dict[str, str], difference: str | None
) -> None:
    assert first_difference(current, wished) == difference


def test_what_is_shown_is_what_was_set_over_the_defaults() -> None:
    shown = effective_attributes({"DelaySeconds": "5", "KmsMasterKeyId": "k"})

    assert shown["DelaySeconds"] == "5"
    assert shown["VisibilityTimeout"] == "30"
    assert shown["KmsDataKeyReusePeriodSeconds"] == "300"


@pytest.mark.parametrize(
    ("current", "shown"),
    [
        ({}, None),
        ({"KmsDataKeyReusePeriodSeconds": "300"}, None),
        ({"KmsDataKeyReusePeriodSeconds": "600"}, "600"),
        ({"KmsMasterKeyId": "k"}, "300"),
        ({"KmsMasterKeyId": "k", "KmsDataKeyReusePeriodSeconds": "600"}, "600"),
    ],
)
def test_the_reuse_period_of_a_key_is_shown_with_a_key_or_when_it_is_not_the_default(
    current: dict[str, str], shown: str | None
) -> None:
    assert effective_attributes(current).get("KmsDataKeyReusePeriodSeconds") == shown


def test_two_kinds_of_encryption_at_once_are_refused() -> None:
    with pytest.raises(InvalidAttributeName, match="one type of server-side encryption"):
        check_attributes({"KmsMasterKeyId": "k", "SqsManagedSseEnabled": "true"})

    for apart in ({"KmsMasterKeyId": "", "SqsManagedSseEnabled": "true"}, {"KmsMasterKeyId": "k"}):
        assert check_attributes(apart) == apart


@pytest.mark.parametrize("name", ["Policy", "RedrivePolicy", "RedriveAllowPolicy"])
def test_every_document_is_read_before_it_is_kept(name: str) -> None:
    with pytest.raises(Refusal, match=name):
        check_attributes({name: "{}"})
    assert check_attributes({name: ""}) == {name: ""}
    assert "KmsDataKeyReusePeriodSeconds" not in effective_attributes({})


# FIFO queues


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FifoQueue", "true"),
        ("ContentBasedDeduplication", "true"),
        ("ContentBasedDeduplication", "false"),
        ("DeduplicationScope", "queue"),
        ("DeduplicationScope", "messageGroup"),
        ("FifoThroughputLimit", "perQueue"),
        ("FifoThroughputLimit", "perMessageGroupId"),
        ("DelaySeconds", "5"),
    ],
)
def test_a_fifo_queue_has_attributes_of_its_own_and_those_of_all_queues(name: str, value: str) -> None:
    assert check_attributes({name: value}, is_fifo=True) == {name: value}


@pytest.mark.parametrize(
    "name", ["ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit", "SqsManagedSseEnabled"]
)
@pytest.mark.parametrize("value", ["", "yes", "True", "TRUE", "QUEUE", "messagegroup", "perqueue"])
def test_an_attribute_with_a_choice_has_one_of_its_values_as_they_are_written(name: str, value: str) -> None:
    with pytest.raises(InvalidAttributeValue, match=rf"^Invalid value for the parameter {name}\.$"):
        check_attributes({name: value}, is_fifo=True)


@pytest.mark.parametrize("value", ["false", "", "TRUE", "no"])
def test_a_fifo_queue_stays_one(value: str) -> None:
    with pytest.raises(InvalidAttributeValue, match="Modifying queue type is not supported"):
        check_attributes({"FifoQueue": value}, is_fifo=True)


@pytest.mark.parametrize("value", ["true", "false", ""])
def test_a_standard_queue_does_not_become_a_fifo_queue(value: str) -> None:
    with pytest.raises(InvalidAttributeName, match=r"^Unknown Attribute FifoQueue\.$"):
        check_attributes({"FifoQueue": value})


@pytest.mark.parametrize(
    ("current", "change"),
    [
        ({}, {"FifoThroughputLimit": "perMessageGroupId"}),
        ({}, {"FifoThroughputLimit": "perMessageGroupId", "DeduplicationScope": "queue"}),
        ({"DeduplicationScope": "queue"}, {"FifoThroughputLimit": "perMessageGroupId"}),
        (
            {"FifoThroughputLimit": "perMessageGroupId", "DeduplicationScope": "messageGroup"},
            {"DeduplicationScope": "queue"},
        ),
    ],
)
def test_throughput_by_group_needs_deduplication_by_group_after_every_change(
    current: dict[str, str], change: dict[str, str]
) -> None:
    with pytest.raises(InvalidAttributeValue) as refused:
        merge_attributes(current, change)
    assert refused.value.message == (
        "Invalid value for the parameter FifoThroughputLimit. Reason: The value perMessageGroupId is allowed "
        "only when DeduplicationScope is messageGroup."
    )


@pytest.mark.parametrize(
    ("current", "change"),
    [
        ({}, {"FifoThroughputLimit": "perMessageGroupId", "DeduplicationScope": "messageGroup"}),
        ({"DeduplicationScope": "messageGroup"}, {"FifoThroughputLimit": "perMessageGroupId"}),
        ({"DeduplicationScope": "messageGroup"}, {"FifoThroughputLimit": "perQueue"}),
        (
            {"FifoThroughputLimit": "perMessageGroupId", "DeduplicationScope": "messageGroup"},
            {"FifoThroughputLimit": "perQueue", "DeduplicationScope": "queue"},
        ),
    ],
)
def test_only_what_comes_out_of_a_change_has_to_go_together(
    current: dict[str, str], change: dict[str, str]
) -> None:
    assert merge_attributes(current, change) == {**current, **change}


def test_a_fifo_queue_shows_defaults_of_its_own_and_a_standard_queue_does_not() -> None:
    shown = effective_attributes({"FifoQueue": "true", "DeduplicationScope": "messageGroup"})

    assert shown.items() >= {**FIFO_DEFAULTS, "DeduplicationScope": "messageGroup"}.items()
    assert not FIFO_DEFAULTS.keys() & effective_attributes({}).keys()


def test_a_fifo_queue_agrees_with_its_defaults_when_it_is_created_again() -> None:
    assert first_difference({"FifoQueue": "true"}, FIFO_DEFAULTS) is None
    assert (
        first_difference({"FifoQueue": "true"}, {**FIFO_DEFAULTS, "ContentBasedDeduplication": "true"})
        == "ContentBasedDeduplication"
    )
