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


def policy(client: Any, queue: str) -> str | None:
    answer = client.get_queue_attributes(QueueUrl=queue, AttributeNames=["Policy"])
    text: str | None = answer.get("Attributes", {}).get("Policy")
    return text


def permit(client: Any, queue: str, label: str, *actions: str, accounts: tuple[str, ...] = (FRIEND,)) -> None:
    client.add_permission(
        QueueUrl=queue, Label=label, AWSAccountIds=list(accounts), Actions=list(actions or ("SendMessage",))
    )


# Tags


def test_tags_are_added_overwritten_listed_and_removed(client: Any, queue: str) -> None:
    assert "Tags" not in client.list_queue_tags(QueueUrl=queue)

    client.tag_queue(QueueUrl=queue, Tags={"team": "blue", "Team": "red", "empty": ""})
    client.tag_queue(QueueUrl=queue, Tags={"team": "green", "cost": "größe 1"})
    tags = {"team": "green", "Team": "red", "empty": "", "cost": "größe 1"}
    assert client.list_queue_tags(QueueUrl=queue)["Tags"] == tags

    client.untag_queue(QueueUrl=queue, TagKeys=["team", "empty", "cost"])
    assert client.list_queue_tags(QueueUrl=queue)["Tags"] == {"Team": "red"}


def test_the_tags_of_a_creation_are_tags_like_any_other(client: Any, new_name: Any) -> None:
    url = client.create_queue(QueueName=new_name(), tags={"team": "blue"})["QueueUrl"]

    assert client.list_queue_tags(QueueUrl=url)["Tags"] == {"team": "blue"}


def test_removing_a_tag_that_is_not_there_is_no_error(client: Any, queue: str) -> None:
    client.tag_queue(QueueUrl=queue, Tags={"team": "blue"})
    client.untag_queue(QueueUrl=queue, TagKeys=["Team", "", "x" * 200])

    assert client.list_queue_tags(QueueUrl=queue)["Tags"] == {"team": "blue"}


def test_a_queue_has_at_most_50_tags(client: Any, queue: str) -> None:
    client.tag_queue(QueueUrl=queue, Tags=FIFTY)

    with refused("InvalidParameterValue", f"Too many tags added for queue {name_of(queue)}."):
        client.tag_queue(QueueUrl=queue, Tags={"one": "more"})
    assert client.list_queue_tags(QueueUrl=queue)["Tags"] == FIFTY


@pytest.mark.parametrize(
    "tags",
    [{"k" * 129: "v"}, {"": "v"}, {"k": "v" * 257}, {"k!": "v"}, {"k": "v;"}, {"aws:k": "v"}, {"Aws:k": "v"}],
)
def test_a_bad_tag_is_refused_and_no_other_is_added(client: Any, queue: str, tags: dict[str, str]) -> None:
    with refused("InvalidParameterValue"):
        client.tag_queue(QueueUrl=queue, Tags={"good": "tag", **tags})

    assert "Tags" not in client.list_queue_tags(QueueUrl=queue)


def test_tags_and_keys_must_be_given(client: Any, queue: str) -> None:
    with refused("MissingParameter", "The request must contain the parameter Tags."):
        client.tag_queue(QueueUrl=queue)
    with refused("MissingParameter", "The request must contain the parameter Tags."):
        client.tag_queue(QueueUrl=queue, Tags={})
    with refused("MissingParameter", "The request must contain the parameter TagKeys."):
        client.untag_queue(QueueUrl=queue)
    with refused("MissingParameter", "The request must contain the parameter TagKeys."):
        client.untag_queue(QueueUrl=queue, TagKeys=[])


def test_a_queue_that_is_not_there_has_neither_tags_nor_permissions(client: Any, queue: str) -> None:
    nobody = queue + "-not"
    with refused("NonExistentQueue"):
        client.list_queue_tags(QueueUrl=nobody)
    with refused("NonExistentQueue"):
        client.tag_queue(QueueUrl=nobody, Tags={"a": "b"})
    with refused("NonExistentQueue"):
        client.untag_queue(QueueUrl=nobody, TagKeys=["a"])
    with refused("NonExistentQueue"):
        permit(client, nobody, "a")
    with refused("NonExistentQueue"):
        client.remove_permission(QueueUrl=nobody, Label="a")


# Permissions


def test_a_permission_is_a_statement_in_the_policy_as_aws_writes_it(client: Any, queue: str) -> None:
    permit(client, queue, "one")
    permit(client, queue, "many", "ReceiveMessage", "*", accounts=(FRIEND, OTHER))

    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name_of(queue)}"
    friend, other = (f"arn:aws:iam::{account}:root" for account in (FRIEND, OTHER))
    text = policy(client, queue)
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


def test_removing_the_last_permission_removes_the_policy(client: Any, queue: str) -> None:
    permit(client, queue, "a")
    permit(client, queue, "b")
    client.remove_permission(QueueUrl=queue, Label="a")
    assert "SQSDefaultPolicy" in (policy(client, queue) or "")

    client.remove_permission(QueueUrl=queue, Label="b")
    assert policy(client, queue) is None


def test_a_label_is_given_once(client: Any, queue: str) -> None:
    permit(client, queue, "crow")
    before = policy(client, queue)

    with refused(
        "InvalidParameterValue", "Value crow for parameter Label is invalid. Reason: Already exists."
    ):
        permit(client, queue, "crow", "ReceiveMessage")
    assert policy(client, queue) == before


def test_a_label_that_is_not_there_cannot_be_removed(client: Any, queue: str) -> None:
    with refused(
        "InvalidParameterValue", "Value crow for parameter Label is invalid. Reason: can't find label."
    ):
        client.remove_permission(QueueUrl=queue, Label="crow")


def test_a_permission_has_at_most_7_actions(client: Any, queue: str) -> None:
    permit(client, queue, "seven", *["SendMessage"] * 7)

    with refused("OverLimit", "8 Actions were found, maximum allowed is 7.", status=403):
        permit(client, queue, "eight", *["SendMessage"] * 8)


def test_a_policy_has_at_most_20_permissions(client: Any, queue: str) -> None:
    for number in range(20):
        permit(client, queue, f"label-{number}")

    with refused("OverLimit", "21 Statements were found, maximum allowed is 20.", status=403):
        permit(client, queue, "one-more")


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("Fly", "Please refer to the appropriate WSDL for a list of valid actions. "),
        ("DeleteQueue", "Only the queue owner is allowed to invoke this action."),
    ],
)
def test_an_action_that_cannot_be_permitted_is_refused(
    client: Any, queue: str, action: str, reason: str
) -> None:
    with refused(
        "InvalidParameterValue", f"Value SQS:{action} for parameter ActionName is invalid. Reason: {reason}"
    ):
        permit(client, queue, "a", action)


@pytest.mark.parametrize("account", ["1", "abc", "arn:aws:iam::111111111111:root", "*"])
def test_an_account_is_twelve_digits(client: Any, queue: str, account: str) -> None:
    with refused(
        "InvalidParameterValue",
        f"Value [{account}] for parameter PrincipalId is invalid. Reason: Unable to verify.",
    ):
        permit(client, queue, "a", accounts=(FRIEND, account))


def test_a_permission_has_a_label_accounts_and_actions(client: Any, queue: str) -> None:
    whole = {"Label": "a", "AWSAccountIds": [FRIEND], "Actions": ["SendMessage"]}
    for member in whole:
        part = {name: value for name, value in whole.items() if name != member}
        with refused("MissingParameter", f"The request must contain the parameter {member}."):
            client.add_permission(QueueUrl=queue, **part)
    with refused("MissingParameter", "The request must contain the parameter Label."):
        client.remove_permission(QueueUrl=queue)
    with refused("InvalidParameterValue"):
        permit(client, queue, "no label")


# Policies


def test_a_policy_is_echoed_exactly_as_it_was_sent(client: Any, queue: str) -> None:
    text = '{ "Statement":\n\t[], "Id" : "ü\\u0026<&>", "Version":"2012-10-17"}'
    client.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": text})
    assert policy(client, queue) == text

    client.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": ""})
    assert policy(client, queue) is None


def test_a_permission_is_added_to_a_policy_of_the_clients_own(client: Any, queue: str) -> None:
    mine = {"Sid": "mine", "Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Id": "my-policy", "Statement": mine})
    client.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": document})
    permit(client, queue, "yours")

    after = json.loads(policy(client, queue) or "")
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
def test_what_is_no_policy_is_refused(client: Any, queue: str, document: str) -> None:
    with refused("InvalidAttributeValue", "Invalid value for the parameter Policy."):
        client.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": document})


def test_a_policy_has_at_most_7_actions_in_a_statement(client: Any, queue: str) -> None:
    statement = {"Effect": "Allow", "Principal": "*", "Action": ["sqs:SendMessage"] * 8, "Resource": "*"}
    with refused("OverLimit", "8 Actions were found, maximum allowed is 7.", status=403):
        client.set_queue_attributes(
            QueueUrl=queue, Attributes={"Policy": json.dumps({"Statement": [statement]})}
        )
