"""Redrive policies on their own: what one may say, and which queues fit together."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.frontend.arns import QueueArn
from waystation.frontend.redrive import (
    RedriveAllowPolicy,
    RedrivePolicy,
    check_target,
    parse_redrive_allow_policy,
    parse_redrive_policy,
)
from waystation.protocol.errors import InvalidAttributeValue, InvalidParameterValue

DEAD = QueueArn("us-east-1", "111111111111", "dead")
SOURCE = QueueArn("us-east-1", "111111111111", "orders")

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
_members = st.sampled_from(
    ["deadLetterTargetArn", "maxReceiveCount", "redrivePermission", "sourceQueueArns", "other"]
)
_values = st.sampled_from([str(DEAD), [str(DEAD)], "byQueue", "allowAll", 5, "5", 0]) | _JSON


def policy(target: object = str(DEAD), count: object = 3, **more: object) -> str:
    return json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": count, **more})


def allow(permission: object, **more: object) -> str:
    return json.dumps({"redrivePermission": permission, **more})


def reason(text: str, parameter: str = "RedrivePolicy") -> str:
    """Why a document is refused; checks that the rest of the text is as AWS writes it."""
    read = parse_redrive_policy if parameter == "RedrivePolicy" else parse_redrive_allow_policy
    with pytest.raises(InvalidParameterValue) as caught:
        read(text)
    start = f"Value {text} for parameter {parameter} is invalid. Reason: "
    assert caught.value.message.startswith(start)
    return caught.value.message.removeprefix(start)


# Redrive policies


@pytest.mark.parametrize(("count", "meant"), [(1, 1), (1_000, 1_000), ("1", 1), ("1000", 1_000), ("007", 7)])
def test_a_redrive_policy_has_a_target_and_a_number_or_a_text_of_one(count: object, meant: int) -> None:
    assert parse_redrive_policy(policy(count=count)) == RedrivePolicy(DEAD, meant)


@pytest.mark.parametrize("text", ["{", "[]", "null", "x", "1", '"{}"', "[" * 5_000, '{"a":' * 1_500])
def test_what_is_no_object_is_no_redrive_policy(text: str) -> None:
    assert reason(text) == "Redrive policy is not a valid JSON map."


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("{}", "deadLetterTargetArn"),
        ('{"maxReceiveCount":3}', "deadLetterTargetArn"),
        (f'{{"deadLetterTargetArn":"{DEAD}"}}', "maxReceiveCount"),
    ],
)
def test_a_redrive_policy_lacks_neither_of_its_members(text: str, missing: str) -> None:
    assert reason(text) == f"Redrive policy does not contain mandatory attribute: {missing}."


def test_a_redrive_policy_has_no_other_members() -> None:
    expected = "Only following attributes are supported: [deadLetterTargetArn, maxReceiveCount]."
    assert reason(policy(colour="red")) == expected


@pytest.mark.parametrize("target", ["", "dead", 5, None, [str(DEAD)], "arn:aws:sns:us-east-1:111111111111:x"])
def test_a_target_is_the_arn_of_a_queue(target: object) -> None:
    assert reason(policy(target)) == "Invalid value for deadLetterTargetArn."


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0"),
        (1_001, "1001"),
        (-1, "-1"),
        ("0", "0"),
        ("x", "x"),
        ("", ""),
        ("9" * 4_000, "9" * 4_000),
        ("٣", "٣"),
        (1.0, "1.0"),
        (True, "true"),
        (None, "null"),
        ([3], "[3]"),
    ],
)
def test_a_number_of_receives_is_1_to_1000(count: object, shown: str) -> None:
    document = json.dumps({"deadLetterTargetArn": str(DEAD), "maxReceiveCount": count}, ensure_ascii=False)

    assert reason(document) == (
        f"Invalid value for maxReceiveCount: {shown}, valid values are from 1 to 1000 both inclusive."
    )


def test_a_document_has_at_most_8192_bytes() -> None:
    text = policy()

    assert parse_redrive_policy(text + " " * (8_192 - len(text))).max_receive_count == 3
    with pytest.raises(InvalidAttributeValue):
        parse_redrive_policy(text + " " * (8_193 - len(text)))
    with pytest.raises(InvalidAttributeValue):
        parse_redrive_allow_policy(allow("denyAll") + " " * 8_192)


@given(st.dictionaries(_members, _values, max_size=3))
def test_whatever_object_is_sent_is_read_or_refused(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    for read in (parse_redrive_policy, parse_redrive_allow_policy):
        with suppress(InvalidParameterValue):  # anything else would fail the test
            assert isinstance(read(text), tuple)


# Redrive allow policies


def test_a_queue_takes_the_dead_letters_of_all_of_none_or_of_some() -> None:
    some = parse_redrive_allow_policy(allow("byQueue", sourceQueueArns=[str(SOURCE)]))

    assert parse_redrive_allow_policy(allow("allowAll")).allows(SOURCE)
    assert not parse_redrive_allow_policy(allow("denyAll")).allows(SOURCE)
    assert some == RedriveAllowPolicy((SOURCE,))
    assert some.allows(SOURCE)
    assert not some.allows(SOURCE._replace(name="other"))


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", allow("some"), allow(None), allow(["allowAll"]), allow("allowAll", colour="red")],
)
def test_an_unknown_form_of_redrive_allow_policy_is_refused(text: str) -> None:
    assert reason(text, "RedriveAllowPolicy") == (
        "Amazon SQS can't create the redrive allow policy, as it's in an unsupported format."
    )


@pytest.mark.parametrize("permission", ["allowAll", "denyAll"])
@pytest.mark.parametrize("sources", [[], [str(SOURCE)], None])
def test_sources_are_listed_only_with_by_queue(permission: str, sources: object) -> None:
    text = allow(permission, sourceQueueArns=sources)

    assert "only when redrivePermission is byQueue" in reason(text, "RedriveAllowPolicy")


def test_by_queue_lists_1_to_10_sources() -> None:
    sources = [str(SOURCE._replace(name=f"orders-{number}")) for number in range(11)]

    ten = parse_redrive_allow_policy(allow("byQueue", sourceQueueArns=sources[:10])).sources
    assert ten is not None
    assert [str(source) for source in ten] == sources[:10]
    wrong: object
    for wrong in (sources, [], None, "x", {}):
        text = allow("byQueue", sourceQueueArns=wrong)
        assert reason(text, "RedriveAllowPolicy") == "byQueue needs 1 to 10 sourceQueueArns."
    assert reason(allow("byQueue"), "RedriveAllowPolicy") == "byQueue needs 1 to 10 sourceQueueArns."


@pytest.mark.parametrize("source", ["orders", 5, None, ""])
def test_a_source_is_the_arn_of_a_queue(source: object) -> None:
    text = allow("byQueue", sourceQueueArns=[str(SOURCE), source])

    assert reason(text, "RedriveAllowPolicy") == "Invalid value for sourceQueueArns."


# Both together


@pytest.mark.parametrize(
    "target_allows", ["", allow("allowAll"), allow("byQueue", sourceQueueArns=[str(DEAD), str(SOURCE)])]
)
def test_a_target_that_takes_the_sources_dead_letters_fits(target_allows: str) -> None:
    check_target(policy(), SOURCE, target_allows)
    parsed = parse_redrive_policy(policy())
    assert parsed.target_arn == DEAD


@pytest.mark.parametrize(
    ("source", "target_allows", "why"),
    [
        (SOURCE._replace(account="222222222222"), "", "owner should be same as the source"),
        (SOURCE._replace(region="eu-west-1"), "", "in same region as the source"),
        (
            SOURCE._replace(name="orders.fifo"),
            "",
            "Dead-letter queue must be same type of queue as the source.",
        ),
        (SOURCE, None, "Dead letter target does not exist."),
        (DEAD, "", "cannot be its own dead-letter queue"),
        (SOURCE, allow("denyAll"), "does not allow this source"),
        (SOURCE, allow("byQueue", sourceQueueArns=[str(DEAD)]), "does not allow this source"),
    ],
)
def test_a_target_that_does_not_fit_is_refused(source: QueueArn, target_allows: str | None, why: str) -> None:
    with pytest.raises(InvalidParameterValue, match=why):
        check_target(policy(), source, target_allows)
