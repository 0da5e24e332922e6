"""Which dead-letter queue a queue may have, and who has a queue as its own, over both protocols."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.wire import refused
from tests.server import arn

NewQueue = Callable[..., str]
NewName = Callable[[], str]


def policy(target_arn: object, count: object = 3) -> str:
    return json.dumps({"deadLetterTargetArn": target_arn, "maxReceiveCount": count})


def change(sqs: Any, queue: str, **values: str) -> None:
    sqs.set_queue_attributes(QueueUrl=queue, Attributes=values)


def shown(sqs: Any, queue: str, name: str) -> str | None:
    answer = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=[name])
    value: str | None = answer.get("Attributes", {}).get(name)
    return value


def sources(sqs: Any, queue: str, **page: Any) -> list[str]:
    # XML cannot tell an empty list from none.
    answer = sqs.list_dead_letter_source_queues(QueueUrl=queue, **page)
    return list(answer.get("queueUrls", []))


@pytest.fixture
def dead(new_queue: NewQueue) -> str:
    """The URL of a queue for dead letters."""
    return new_queue()


# Redrive policies


@pytest.mark.parametrize("count", [1, 1_000, "5"])
def test_a_redrive_policy_is_echoed_as_it_was_given_and_removed_by_an_empty_one(
    sqs: Any, queue: str, dead: str, count: int | str
) -> None:
    text = policy(arn(dead), count).replace(",", " ,\n")
    change(sqs, queue, RedrivePolicy=text)
    assert shown(sqs, queue, "RedrivePolicy") == text

    change(sqs, queue, RedrivePolicy="")
    assert shown(sqs, queue, "RedrivePolicy") is None


def test_a_queue_is_created_with_a_redrive_policy_and_found_again_by_an_equal_one(
    sqs: Any, dead: str, new_name: NewName
) -> None:
    name, text = new_name(), policy(arn(dead))
    url = sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": text})["QueueUrl"]

    same = text.replace(" ", "")
    assert sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": same})["QueueUrl"] == url
    with refused("QueueAlreadyExists"):
        sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy(arn(dead), 4)})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Redrive policy is not a valid JSON map."),
        ("[]", "Redrive policy is not a valid JSON map."),
        (
            '{"maxReceiveCount":"3"}',
            "Redrive policy does not contain mandatory attribute: deadLetterTargetArn.",
        ),
        (
            '{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:x"}',
            "Redrive policy does not contain mandatory attribute: maxReceiveCount.",
        ),
        (policy("not-an-arn"), "Invalid value for deadLetterTargetArn."),
        (policy("arn:aws:sns:us-east-1:000000000000:x"), "Invalid value for deadLetterTargetArn."),
        (policy("arn:aws:sqs:us-east-1:000000000000:never-created"), "Dead letter target does not exist."),
        (
            policy("arn:aws:sqs:us-east-1:123456789012:x"),
            "Dead-letter target owner should be same as the source.",
        ),
        (
            policy("arn:aws:sqs:eu-west-1:000000000000:x"),
            "Dead-letter target must be in same region as the source.",
        ),
        (
            policy("arn:aws:sqs:us-east-1:000000000000:x.fifo"),
            "Dead-letter queue must be same type of queue as the source.",
        ),
    ],
)
def test_a_redrive_policy_that_cannot_be_is_refused(
    sqs: Any, queue: str, new_name: NewName, text: str, reason: str
) -> None:
    expected = f"Value {text} for parameter RedrivePolicy is invalid. Reason: {reason}"
    with refused("InvalidParameterValue", expected):
        change(sqs, queue, RedrivePolicy=text)
    with refused("InvalidParameterValue", expected):
        sqs.create_queue(QueueName=new_name(), Attributes={"RedrivePolicy": text})
    assert shown(sqs, queue, "RedrivePolicy") is None


@pytest.mark.parametrize("count", [0, 1_001, "0", "-1", "many"])
def test_a_message_is_received_1_to_1000_times(sqs: Any, queue: str, dead: str, count: object) -> None:
    text = policy(arn(dead), count)
    with refused(
        "InvalidParameterValue",
        f"Value {text} for parameter RedrivePolicy is invalid. Reason: Invalid value for maxReceiveCount: "
        f"{count}, valid values are from 1 to 1000 both inclusive.",
    ):
        change(sqs, queue, RedrivePolicy=text)


def test_a_queue_cannot_be_its_own_dead_letter_queue(sqs: Any, queue: str) -> None:
    with refused("InvalidParameterValue"):
        change(sqs, queue, RedrivePolicy=policy(arn(queue)))


# Redrive allow policies


def test_a_dead_letter_queue_says_whose_it_is(sqs: Any, dead: str, new_queue: NewQueue) -> None:
    friend, stranger = new_queue(), new_queue()
    document = json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [arn(friend)]})
    change(sqs, dead, RedriveAllowPolicy=document)
    assert shown(sqs, dead, "RedriveAllowPolicy") == document

    change(sqs, friend, RedrivePolicy=policy(arn(dead)))
    with refused("InvalidParameterValue"):
        change(sqs, stranger, RedrivePolicy=policy(arn(dead)))

    change(sqs, dead, RedriveAllowPolicy='{"redrivePermission":"denyAll"}')
    with refused("InvalidParameterValue"):
        change(sqs, friend, RedrivePolicy=policy(arn(dead), 4))

    change(sqs, dead, RedriveAllowPolicy="")
    change(sqs, stranger, RedrivePolicy=policy(arn(dead)))
    assert sources(sqs, dead) == [friend, stranger]


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "{}",
        '{"redrivePermission":"sometimes"}',
        '{"redrivePermission":"allowAll","colour":"red"}',
        '{"redrivePermission":"byQueue"}',
        '{"redrivePermission":"byQueue","sourceQueueArns":[]}',
        '{"redrivePermission":"byQueue","sourceQueueArns":["x"]}',
        '{"redrivePermission":"denyAll","sourceQueueArns":["arn:aws:sqs:us-east-1:000000000000:x"]}',
        json.dumps(
            {
                "redrivePermission": "byQueue",
                "sourceQueueArns": [f"arn:aws:sqs:us-east-1:000000000000:x{number}" for number in range(11)],
            }
        ),
    ],
)
def test_a_redrive_allow_policy_that_cannot_be_is_refused(sqs: Any, queue: str, document: str) -> None:
    with refused("InvalidParameterValue") as refusal:
        change(sqs, queue, RedriveAllowPolicy=document)
    assert refusal.text.startswith(f"Value {document} for parameter RedriveAllowPolicy is invalid. Reason: ")


# Listing sources


def test_the_sources_of_a_dead_letter_queue_are_listed_in_the_order_of_their_names(
    sqs: Any, dead: str, new_queue: NewQueue
) -> None:
    assert sources(sqs, dead) == []

    urls = [new_queue(RedrivePolicy=policy(arn(dead))) for _ in range(3)]
    new_queue()
    assert sources(sqs, dead) == sorted(urls)


def test_sources_are_listed_in_pages_until_there_is_no_token_more(
    sqs: Any, dead: str, new_queue: NewQueue
) -> None:
    urls = sorted(new_queue(RedrivePolicy=policy(arn(dead))) for _ in range(5))

    paginator = sqs.get_paginator("list_dead_letter_source_queues")
    pages = list(paginator.paginate(QueueUrl=dead, PaginationConfig={"PageSize": 2}))
    assert [page["queueUrls"] for page in pages] == [urls[:2], urls[2:4], urls[4:]]
    for page in ({}, {"MaxResults": 5}):
        assert "NextToken" not in sqs.list_dead_letter_source_queues(QueueUrl=dead, **page)


def test_a_page_of_sources_has_1_to_1000_and_begins_where_a_token_says(sqs: Any, dead: str) -> None:
    for size in (0, 1_001):
        with refused("InvalidParameterValue"):
            sources(sqs, dead, MaxResults=size)
    with refused("InvalidParameterValue", "Invalid or expired next token."):
        sources(sqs, dead, MaxResults=1, NextToken="garbage")


def test_a_queue_that_is_not_there_has_no_sources(sqs: Any, queue: str) -> None:
    with refused("NonExistentQueue"):
        sources(sqs, queue + "-not")
