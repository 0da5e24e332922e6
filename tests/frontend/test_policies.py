"""Access policies on their own: which documents are some, and what permissions make of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.frontend.arns import QueueArn
from waystation.frontend.policies import (
    OWNER_ONLY,
    add_permission,
    check_permission,
    check_policy,
    remove_permission,
)
from waystation.protocol.errors import (
    InvalidAttributeValue,
    InvalidParameterValue,
    OverLimit,
)
from waystation.protocol.operations import OPERATIONS

QUEUE = QueueArn("us-east-1", "000000000000", "orders")
ONE, TWO = "111111111111", "222222222222"


def statement(**changes: object) -> dict[str, object]:
    """One that any queue may have, with members changed, added, or by None taken away."""
    usual = {
        "Sid": "one",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ONE}:root"},
        "Action": "sqs:SendMessage",
        "Resource": str(QUEUE),
    }
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


def policy(*statements: object, **members: object) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements), **members})


def is_policy(text: str) -> bool:
    try:
        check_policy(text)
    except InvalidAttributeValue:
        return False
    return True


# Documents


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Sid": None},
        {"Sid": ""},
        {"Effect": "Deny"},
        {"Principal": "*"},
        {"Principal": {"AWS": "*"}},
        {"Principal": {"AWS": [ONE, TWO], "Service": "sns.amazonaws.com"}},
        {"Principal": None, "NotPrincipal": {"AWS": ONE}},
        {"Action": "*"},
        {"Action": "SQS:*"},
        {"Action": "sqs:Get*"},
        {"Action": ["sqs:sendmessage", "SQS:ReceiveMessage"]},
        {"Action": "SQS:CreateQueue"},
        {"Action": None, "NotAction": "sqs:DeleteQueue"},
        {"Resource": "*"},
        {"Resource": ["*", str(QUEUE)]},
        {"Resource": None, "NotResource": "*"},
        {"Condition": {"ArnEquals": {"aws:SourceArn": "arn:aws:sns:us-east-1:111111111111:topic"}}},
        {"Condition": {"Bool": {"aws:SecureTransport": False}, "NumericLessThan": {"x": [1, 2.5, "3"]}}},
    ],
)
def test_a_statement_may_be(changes: dict[str, object]) -> None:
    assert is_policy(policy(statement(**changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"Sid": 1},
        {"Effect": None},
        {"Effect": "allow"},
        {"Principal": None},
        {"Principal": "everybody"},
        {"Principal": ""},
        {"Principal": {"AWS": 5}},
        {"Principal": {"AWS": ""}},
        {"Principal": {"Neighbours": "*"}},
        {"NotPrincipal": "*"},
        {"Action": None},
        {"Action": ""},
        {"Action": "SendMessage"},
        {"Action": "s3:GetObject"},
        {"Action": "sqs:"},
        {"Action": "sqs:Fly"},
        {"Action": "sqs:Send Message"},
        {"Action": ["sqs:SendMessage", 5]},
        {"Action": {"sqs": "*"}},
        {"NotAction": "*"},
        {"Resource": None},
        {"Resource": ""},
        {"Resource": [None]},
        {"NotResource": "*"},
        {"Condition": []},
        {"Condition": {"Bool": "true"}},
        {"Condition": {"Bool": {"x": {"y": "z"}}}},
        {"Colour": "red"},
    ],
)
def test_a_statement_may_not_be(changes: dict[str, object]) -> None:
    assert not is_policy(policy(statement(**changes)))


def test_a_policy_has_a_list_of_statements_or_a_single_one() -> None:
    assert is_policy(policy())
    assert is_policy(policy(Statement=statement()))
    assert is_policy(policy(statement(), statement(Sid="two"), Id="mine"))
    assert is_policy(json.dumps({"Statement": []}))

    wrong: object
    for wrong in (None, "x", 5, {}, [[]], ["x"], [None]):
        assert not is_policy(policy(Statement=wrong))
    assert not is_policy("{}")


@pytest.mark.parametrize("members", [{"Version": "2020-01-01"}, {"Version": 1}, {"Id": 1}, {"Colour": "red"}])
def test_a_policy_has_a_version_that_there_is_and_no_members_that_there_are_not(
    members: dict[str, object],
) -> None:
    assert not is_policy(policy(statement(), **members))


@pytest.mark.parametrize("version", ["2008-10-17", "2012-10-17"])
def test_a_policy_is_of_one_of_two_versions(version: str) -> None:
    assert is_policy(policy(statement(), Version=version))


def test_two_statements_with_one_sid_are_no_policy() -> None:
    assert not is_policy(policy(statement(), statement()))
    assert is_policy(policy(statement(Sid=None), statement(Sid=None))), "to have none is not to have the same"


def test_a_policy_has_at_most_8192_bytes() -> None:
    text = policy(statement(Sid="ü"))
    padding = 8_192 - len(text.encode())

    assert is_policy(text + " " * padding)
    assert not is_policy(text + " " * (padding + 1))


@pytest.mark.parametrize(
    ("what", "allowed", "text_of"),
    [
        ("Statements", 20, lambda count: policy(*(statement(Sid=f"s{each}") for each in range(count)))),
        ("Actions", 7, lambda count: policy(statement(Action=["sqs:*"] * count))),
        ("Principals", 50, lambda count: policy(statement(Principal={"AWS": [ONE] * count}))),
        (
            "Conditions",
            10,
            lambda count: policy(statement(Condition={"Bool": {f"x{each}": True for each in range(count)}})),
        ),
    ],
)
def test_a_policy_has_a_limited_number_of_each(what: str, allowed: int, text_of: Any) -> None:
    assert is_policy(text_of(allowed))
    with pytest.raises(OverLimit) as caught:
        check_policy(text_of(allowed + 1))
    assert caught.value.message == f"{allowed + 1} {what} were found, maximum allowed is {allowed}."


def test_principals_and_conditions_count_over_all_statements_and_actions_in_each() -> None:
    def of(*sizes: int) -> str:
        statements = (
            statement(Sid=f"s{number}", Principal={"AWS": ["*"] * size, "Service": "x"}, Action=["*"] * 7)
            for number, size in enumerate(sizes)
        )
        return policy(*statements)

    assert is_policy(of(24, 24))
    with pytest.raises(OverLimit):
        check_policy(of(24, 25))


@given(st.text(max_size=20) | st.binary(max_size=20).map(lambda data: data.decode("latin-1")))
def test_whatever_is_sent_is_a_policy_or_refused(text: str) -> None:
    assert not is_policy(text)


# Permissions


@pytest.mark.parametrize("label", ["a", "A-z_09", "x" * 80])
@pytest.mark.parametrize("actions", [["*"], ["SendMessage"], ["SendMessage", "*", "PurgeQueue"], ["*"] * 7])
def test_a_permission_may_be(label: str, actions: list[str]) -> None:
    check_permission(label, [ONE, TWO], actions)
    written = add_permission("", QUEUE, label, [ONE, TWO], actions)
    assert is_policy(written)


@pytest.mark.parametrize("label", ["", "x" * 81, "a b", "a.b", "ü", "a\n"])
def test_a_label_is_1_to_80_letters_digits_hyphens_and_underscores(label: str) -> None:
    with pytest.raises(InvalidParameterValue, match="for parameter Label is invalid"):
        check_permission(label, [ONE], ["*"])


@pytest.mark.parametrize(
    ("accounts", "shown"),
    [
        (["*"], "[*]"),
        ([ONE, "1"], "[1]"),
        (["x", "1"], "[x, 1]"),
        (["١" * 12], ""),
    ],
)
def test_an_account_is_twelve_digits(accounts: list[str], shown: str) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        check_permission("label", accounts, ["*"])
    assert caught.value.message.endswith("for parameter PrincipalId is invalid. Reason: Unable to verify.")
    assert caught.value.message.startswith(f"Value {shown}")


def test_a_permission_has_at_most_7_actions() -> None:
    with pytest.raises(OverLimit, match=r"^8 Actions were found, maximum allowed is 7\.$"):
        check_permission("label", [ONE], ["SendMessage"] * 8)


@pytest.mark.parametrize("action", ["", "Fly", "sendmessage", "SQS:SendMessage", "Send*"])
def test_an_action_that_there_is_not_is_refused(action: str) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        check_permission("label", [ONE], ["SendMessage", action])
    assert caught.value.message == (
        f"Value SQS:{action} for parameter ActionName is invalid. Reason: Please refer to the appropriate "
        "WSDL for a list of valid actions. "
    )


@pytest.mark.parametrize("action", sorted(OWNER_ONLY))
def test_an_action_of_the_owner_alone_cannot_be_permitted(action: str) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        check_permission("label", [ONE], [action])
    assert caught.value.message == (
        f"Value SQS:{action} for parameter ActionName is invalid. "
        "Reason: Only the queue owner is allowed to invoke this action."
    )


def test_every_action_of_the_owner_alone_is_an_action() -> None:
    assert set(OPERATIONS) > OWNER_ONLY


def test_the_first_permission_writes_a_policy_as_aws_does() -> None:
    written = json.loads(add_permission("", QUEUE, "label", [ONE], ["SendMessage"]))

    assert written == {
        "Version": "2008-10-17",
        "Id": f"{QUEUE}/SQSDefaultPolicy",
        "Statement": [
            {
                "Sid": "label",
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{ONE}:root"},
                "Action": "SQS:SendMessage",
                "Resource": str(QUEUE),
            }
        ],
    }


def test_several_accounts_and_actions_are_lists() -> None:
    [written] = json.loads(add_permission("", QUEUE, "label", [ONE, TWO], ["*", "SendMessage"]))["Statement"]

    assert written["Principal"] == {"AWS": [f"arn:aws:iam::{ONE}:root", f"arn:aws:iam::{TWO}:root"]}
    assert written["Action"] == ["SQS:*", "SQS:SendMessage"]


@pytest.mark.parametrize("before", [policy(statement(), Id="mine"), policy(Statement=statement(), Id="mine")])
def test_a_permission_is_added_to_the_policy_that_is_there(before: str) -> None:
    written = json.loads(add_permission(before, QUEUE, "two", [TWO], ["*"]))

    assert (written["Version"], written["Id"]) == ("2012-10-17", "mine")
    assert [each["Sid"] for each in written["Statement"]] == ["one", "two"]
    assert written["Statement"][0] == statement()
    assert json.loads(remove_permission(json.dumps(written), "two"))["Statement"] == [statement()]


def test_a_label_is_given_once() -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        add_permission(policy(statement()), QUEUE, "one", [ONE], ["*"])
    assert caught.value.message == "Value one for parameter Label is invalid. Reason: Already exists."


def test_permissions_end_where_a_policy_does() -> None:
    full = policy(*(statement(Sid=f"s{each}") for each in range(20)))
    long = policy(statement(Resource="x" * 7_900))

    with pytest.raises(OverLimit, match="21 Statements"):
        add_permission(full, QUEUE, "one-more", [ONE], ["*"])
    with pytest.raises(OverLimit, match="51 Principals"):
        add_permission("", QUEUE, "one", [ONE] * 51, ["*"])
    with pytest.raises(OverLimit, match="Bytes were found, maximum allowed is 8192"):
        add_permission(long, QUEUE, "two", [ONE], ["*"])


def test_a_permission_is_removed_by_its_label_and_the_last_one_takes_the_policy_with_it() -> None:
    two = add_permission(add_permission("", QUEUE, "a", [ONE], ["*"]), QUEUE, "b", [ONE], ["*"])
    one = remove_permission(two, "a")

    assert [each["Sid"] for each in json.loads(one)["Statement"]] == ["b"]
    assert remove_permission(one, "b") == ""


@pytest.mark.parametrize("before", ["", policy(statement(Sid=None)), policy(statement())])
def test_a_label_that_is_not_there_cannot_be_removed(before: str) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        remove_permission(before, "two")
    assert caught.value.message == "Value two for parameter Label is invalid. Reason: can't find label."
