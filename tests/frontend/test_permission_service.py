"""Permissions in the policy of a queue: what is written, when, and by several at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.frontend.app_driver import ACCOUNT, START_MS, AppDriver, Refused, request_of

FRIEND = "111111111111"


@pytest.fixture
def app() -> Iterator[AppDriver]:
    with AppDriver(region="eu-west-1") as driver:
        driver.create_queue("orders")
        yield driver


def add(app: AppDriver, label: str, **changes: Any) -> None:
    members = {"AWSAccountIds": [FRIEND], "Actions": ["SendMessage"], **changes}
    assert app.call("AddPermission", QueueUrl="orders", Label=label, **members) == {}


def policy(app: AppDriver) -> Any:
    answer = app.call("GetQueueAttributes", QueueUrl="orders", AttributeNames=["Policy"])
    return json.loads(answer["Attributes"]["Policy"]) if answer else None


def test_a_permission_is_about_the_queue_in_its_own_region_and_account(app: AppDriver) -> None:
    add(app, "a")

    arn = f"arn:aws:sqs:eu-west-1:{ACCOUNT}:orders"
    assert policy(app)["Id"] == f"{arn}/SQSDefaultPolicy"
    assert [each["Resource"] for each in policy(app)["Statement"]] == [arn]


def test_permissions_count_as_modifications(app: AppDriver) -> None:
    app.advance(seconds=90)
    add(app, "a")
    names = ["LastModifiedTimestamp"]

    shown = app.call("GetQueueAttributes", QueueUrl="orders", AttributeNames=names)["Attributes"]
    assert shown["LastModifiedTimestamp"] == str(START_MS // 1_000 + 90)


def test_a_refused_permission_leaves_the_policy_as_the_client_wrote_it(app: AppDriver) -> None:
    add(app, "a")
    mine = json.dumps(policy(app), indent=2)
    app.call("SetQueueAttributes", QueueUrl="orders", Attributes={"Policy": mine})

    with pytest.raises(Refused, match=r"Reason: Already exists\."):
        add(app, "a")
    with pytest.raises(Refused, match=r"Reason: can't find label\."):
        app.call("RemovePermission", QueueUrl="orders", Label="b")
    shown = app.call("GetQueueAttributes", QueueUrl="orders", AttributeNames=["Policy"])
    assert shown["Attributes"]["Policy"] == mine


def test_all_who_add_permissions_at_once_are_heard_and_one_label_is_given_once(app: AppDriver) -> None:
    async def race() -> list[int]:
        requests = [
            request_of(
                "AddPermission",
                json.dumps(
                    {"QueueUrl": "orders", "Label": label, "AWSAccountIds": [FRIEND], "Actions": ["*"]}
                ).encode(),
            )
            for label in ("a", "b", "c", "a")
        ]
        answers = await asyncio.gather(*(app.app.handle(request) for request in requests))
        return sorted(answer.status for answer in answers)

    assert app.run(race()) == [200, 200, 200, 400]
    assert sorted(each["Sid"] for each in policy(app)["Statement"]) == ["a", "b", "c"]


def test_removing_the_last_permission_removes_the_policy(app: AppDriver) -> None:
    add(app, "a")
    app.call("RemovePermission", QueueUrl="orders", Label="a")

    assert policy(app) is None
