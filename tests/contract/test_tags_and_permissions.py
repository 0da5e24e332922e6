"""Tags, and permissions in the policy of a queue, over both protocols."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.wire import refused
from tests.server import ACCOUNT, REGION

FRIEND, OTHER = "111111111111", "222222222222"
FIFTY = {f"tag-{number}": "x" for number in range(50)}


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


def policy(sqs: Any, queue: str) -> str | None:
    answer = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["Policy"])
    text: str | None = answer.get("Attributes", {}).get("Policy")
    return text


def permit(sqs: Any, queue: str, label: str, *actions: str, accounts: tuple[str, ...] = (FRIEND,)) -> None:
    sqs.add_permission(
        QueueUrl=queue, Label=label, AWSAccountIds=list(accounts), Actions=list(actions or ("SendMessage",))
    )


# Tags


def test_tags_are_added_overwritten_listed_and_removed(sqs: Any, queue: str) -> None:
    assert "Tags" not in sqs.list_queue_tags(QueueUrl=queue)

    sqs.tag_queue(QueueUrl=queue, Tags={"team": "blue", "Team": "red", "empty": ""})
    sqs.tag_queue(QueueUrl=queue, Tags={"team": "green", "cost": "größe 1"})
    tags = {"team": "green", "Team": "red", "empty": "", "cost": "größe 1"}
    assert sqs.list_queue_tags(QueueUrl=queue)["Tags"] == tags

    sqs.untag_queue(QueueUrl=queue, TagKeys=["team", "empty", "cost"])
    assert sqs.list_queue_tags(QueueUrl=queue)["Tags"] == {"Team": "red"}


def test_the_tags_of_a_creation_are_tags_like_any_other(sqs: Any, new_name: Any) -> None:
    url = sqs.create_queue(QueueName=new_name(), tags={"team": "blue"})["QueueUrl"]

    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"team": "blue"}


def test_removing_a_tag_that_is_not_there_is_no_error(sqs: Any, queue: str) -> None:
    sqs.tag_queue(QueueUrl=queue, Tags={"team": "blue"})
    sqs.untag_queue(QueueUrl=queue, TagKeys=["Team", "", "x" * 200])

    assert sqs.list_queue_tags(QueueUrl=queue)["Tags"] == {"team": "blue"}


def test_a_queue_has_at_most_50_tags(sqs: Any, queue: str) -> None:
    sqs.tag_queue(QueueUrl=queue, Tags=FIFTY)

    with refused("InvalidParameterValue", f"Too many tags added for queue {name_of(queue)}."):
        sqs.tag_queue(QueueUrl=queue, Tags={"one": "more"})
    assert sqs.list_queue_tags(QueueUrl=queue)["Tags"] == FIFTY


@pytest.mark.parametrize(
    "tags",
    [{"k" * 129: "v"}, {"": "v"}, {"k": "v" * 257}, {"k!": "v"}, {"k": "v;"}, {"aws:k": "v"}, {"Aws:k": "v"}],
)
def test_a_bad_tag_is_refused_and_no_other_is_added(sqs: Any, queue: str, tags: dict[str, str]) -> None:
    with refused("InvalidParameterValue"):
        sqs.tag_queue(QueueUrl=queue, Tags={"good": "tag", **tags})

    assert "Tags" not in sqs.list_queue_tags(QueueUrl=queue)


def test_tags_and_keys_must_be_given(sqs: Any, queue: str) -> None:
    with refused("MissingParameter", "The request must contain the parameter Tags."):
        sqs.tag_queue(QueueUrl=queue)
    with refused("MissingParameter", "The request must contain the parameter Tags."):
        sqs.tag_queue(QueueUrl=queue, Tags={})
    with refused("MissingParameter", "The request must contain the parameter TagKeys."):
        sqs.untag_queue(QueueUrl=queue)
    with refused("MissingParameter", "The request must contain the parameter TagKeys."):
        sqs.untag_queue(QueueUrl=queue, TagKeys=[])


def test_a_queue_that_is_not_there_has_neither_tags_nor_permissions(sqs: Any, queue: str) -> None:
    nobody = queue + "-not"
    with refused("NonExistentQueue"):
        sqs.list_queue_tags(QueueUrl=nobody)
    with refused("NonExistentQueue"):
        sqs.tag_queue(QueueUrl=nobody, Tags={"a": "b"})
    with refused("NonExistentQueue"):
        sqs.untag_queue(QueueUrl=nobody, TagKeys=["a"])
    with refused("NonExistentQueue"):
        permit(sqs, nobody, "a")
    with refused("NonExistentQueue"):
        sqs.remove_permission(QueueUrl=nobody, Label="a")


# Permissions


def test_a_permission_is_a_statement_in_the_policy_as_aws_writes_it(sqs: Any, queue: str) -> None:
    permit(sqs, queue, "one")
    permit(sqs, queue, "many", "ReceiveMessage", "*", accounts=(FRIEND, OTHER))

    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name_of(queue)}"
    friend, other = (f"arn:aws:iam::{account}:root" for account in (FRIEND, OTHER))
    text = policy(sqs, queue)
    assert text is not None
    assert json.loads(text) == {
        "Version": "2008-10-17",
        "Id": f"{arn}/SQSDefaultPolicy",
        "Statement": [
            {
                "Sid": "one",
                "Effect": "Allow",
                "Principal": {"AWS": friend},
                "Action": "SQS:SendMessage",
                "Resource": arn,
            },
            {
                "Sid": "many",
                "Effect": "Allow",
                "Principal": {"AWS": [friend, other]},
                "Action": ["SQS:ReceiveMessage", "SQS:*"],
                "Resource": arn,
            },
        ],
    }


def test_removing_the_last_permission_removes_the_policy(sqs: Any, queue: str) -> None:
    permit(sqs, queue, "a")
    permit(sqs, queue, "b")
    sqs.remove_permission(QueueUrl=queue, Label="a")
    assert "SQSDefaultPolicy" in (policy(sqs, queue) or "")

    sqs.remove_permission(QueueUrl=queue, Label="b")
    assert policy(sqs, queue) is None


def test_a_label_is_given_once(sqs: Any, queue: str) -> None:
    permit(sqs, queue, "crow")
    before = policy(sqs, queue)

    with refused(
        "InvalidParameterValue", "Value crow for parameter Label is invalid. Reason: Already exists."
    ):
        permit(sqs, queue, "crow", "ReceiveMessage")
    assert policy(sqs, queue) == before


def test_a_label_that_is_not_there_cannot_be_removed(sqs: Any, queue: str) -> None:
    with refused(
        "InvalidParameterValue", "Value crow for parameter Label is invalid. Reason: can't find label."
    ):
        sqs.remove_permission(QueueUrl=queue, Label="crow")


def test_a_permission_has_at_most_7_actions(sqs: Any, queue: str) -> None:
    permit(sqs, queue, "seven", *["SendMessage"] * 7)

    with refused("OverLimit", "8 Actions were found, maximum allowed is 7.", status=403):
        permit(sqs, queue, "eight", *["SendMessage"] * 8)


def test_a_policy_has_at_most_20_permissions(sqs: Any, queue: str) -> None:
    for number in range(20):
        permit(sqs, queue, f"label-{number}")

    with refused("OverLimit", "21 Statements were found, maximum allowed is 20.", status=403):
        permit(sqs, queue, "one-more")


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("Fly", "Please refer to the appropriate WSDL for a list of valid actions. "),
        ("DeleteQueue", "Only the queue owner is allowed to invoke this action."),
    ],
)
def test_an_action_that_cannot_be_permitted_is_refused(
    sqs: Any, queue: str, action: str, reason: str
) -> None:
    with refused(
        "InvalidParameterValue", f"Value SQS:{action} for parameter ActionName is invalid. Reason: {reason}"
    ):
        permit(sqs, queue, "a", action)


@pytest.mark.parametrize("account", ["1", "abc", "arn:aws:iam::111111111111:root", "*"])
def test_an_account_is_twelve_digits(sqs: Any, queue: str, account: str) -> None:
    with refused(
        "InvalidParameterValue",
        f"Value [{account}] for parameter PrincipalId is invalid. Reason: Unable to verify.",
    ):
        permit(sqs, queue, "a", accounts=(FRIEND, account))


def test_a_permission_has_a_label_accounts_and_actions(sqs: Any, queue: str) -> None:
    whole = {"Label": "a", "AWSAccountIds": [FRIEND], "Actions": ["SendMessage"]}
    for member in whole:
        part = {name: value for name, value in whole.items() if name != member}
        with refused("MissingParameter", f"The request must contain the parameter {member}."):
            sqs.add_permission(QueueUrl=queue, **part)
        if member != "Label":
            with refused("MissingParameter", f"The request must contain the parameter {member}."):
                sqs.add_permission(QueueUrl=queue, **part, **{member: []})
    with refused("MissingParameter", "The request must contain the parameter Label."):
        sqs.remove_permission(QueueUrl=queue)
    with refused("InvalidParameterValue"):
        permit(sqs, queue, "no label")


# Policies


def test_a_policy_is_echoed_exactly_as_it_was_sent(sqs: Any, queue: str) -> None:
    text = '{ "Statement":\n\t[], "Id" : "ü\\u0026<&>", "Version":"2012-10-17"}'
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": text})
    assert policy(sqs, queue) == text

    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": ""})
    assert policy(sqs, queue) is None


def test_a_permission_is_added_to_a_policy_of_the_clients_own(sqs: Any, queue: str) -> None:
    mine = {"Sid": "mine", "Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Id": "my-policy", "Statement": mine})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": document})
    permit(sqs, queue, "yours")

    after = json.loads(policy(sqs, queue) or "")
    assert (after["Version"], after["Id"]) == ("2012-10-17", "my-policy")
    assert [statement["Sid"] for statement in after["Statement"]] == ["mine", "yours"]
    assert after["Statement"][0] == mine


@pytest.mark.parametrize(
    "document",
    [
        "{}",
        '{"Statement":[{}]}',
        '{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sqs:Fly","Resource":"*"}]}',
        '{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}]}',
        '{"Statement":[{"Effect":"Allow","Action":"sqs:*","Resource":"*"}]}',
        '{"Version":"2020-01-01","Statement":[]}',
    ],
)
def test_what_is_no_policy_is_refused(sqs: Any, queue: str, document: str) -> None:
    with refused("InvalidAttributeValue", "Invalid value for the parameter Policy."):
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": document})


def test_a_policy_has_at_most_7_actions_in_a_statement(sqs: Any, queue: str) -> None:
    statement = {"Effect": "Allow", "Principal": "*", "Action": ["sqs:SendMessage"] * 8, "Resource": "*"}
    with refused("OverLimit", "8 Actions were found, maximum allowed is 7.", status=403):
        sqs.set_queue_attributes(
            QueueUrl=queue, Attributes={"Policy": json.dumps({"Statement": [statement]})}
        )
