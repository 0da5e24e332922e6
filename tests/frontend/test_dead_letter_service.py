"""Which queues may have a dead-letter queue, and who is listed as having it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.frontend.app_driver import ACCOUNT, AppDriver, Refused

REGION = "us-east-1"


@pytest.fixture
def app() -> Iterator[AppDriver]:
    with AppDriver() as driver:
        driver.create_queue("dead")
        yield driver


def policy(target: str = "dead", count: int = 3) -> str:
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{target}"
    return json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": count})


def sources(app: AppDriver, queue: str = "dead") -> list[str]:
    listed = app.call("ListDeadLetterSourceQueues", QueueUrl=queue)
    assert set(listed) == {"queueUrls"}
    return [url.rpartition("/")[2] for url in listed["queueUrls"]]


def test_a_refused_policy_neither_creates_nor_changes_a_queue(app: AppDriver) -> None:
    app.create_queue("orders")
    before = app.picture()

    with pytest.raises(Refused, match=r"Reason: Dead letter target does not exist\."):
        app.create_queue("new", RedrivePolicy=policy("nobody"))
    with pytest.raises(Refused, match=r"Reason: Dead letter target does not exist\."):
        app.call(
            "SetQueueAttributes",
            QueueUrl="orders",
            Attributes={"RedrivePolicy": policy("nobody"), "DelaySeconds": "5"},
        )
    assert app.picture() == before


def test_a_queue_cannot_be_its_own_dead_letter_queue(app: AppDriver) -> None:
    with pytest.raises(Refused, match="its own dead-letter queue"):
        app.call("SetQueueAttributes", QueueUrl="dead", Attributes={"RedrivePolicy": policy()})


def test_creating_a_queue_again_does_not_ask_for_its_dead_letter_queue_again(app: AppDriver) -> None:
    app.create_queue("orders", RedrivePolicy=policy())
    app.call("DeleteQueue", QueueUrl="dead")

    assert app.create_queue("orders", RedrivePolicy=policy()).endswith("/orders")
    with pytest.raises(Refused, match="different value for attribute RedrivePolicy"):
        app.create_queue("orders", RedrivePolicy=policy(count=4))


def test_a_dead_letter_queue_may_refuse_its_sources(app: AppDriver) -> None:
    by_queue = {"redrivePermission": "byQueue", "sourceQueueArns": [f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders"]}
    app.call("SetQueueAttributes", QueueUrl="dead", Attributes={"RedriveAllowPolicy": json.dumps(by_queue)})

    app.create_queue("orders", RedrivePolicy=policy())
    with pytest.raises(Refused, match="does not allow this source"):
        app.create_queue("others", RedrivePolicy=policy())
    assert sources(app) == ["orders"]


def test_only_queues_with_that_very_target_are_sources(app: AppDriver) -> None:
    app.create_queue("dead-2")
    app.create_queue("a", RedrivePolicy=policy())
    app.create_queue("b", RedrivePolicy=policy("dead-2"))
    app.create_queue("c", RedrivePolicy=policy().replace(":dead", ":\\u0064ead"))
    app.create_queue("d")

    assert sources(app) == ["a", "c"]
    assert sources(app, "dead-2") == ["b"]
    assert sources(app, "d") == []


def test_a_queue_is_no_source_any_more_once_its_policy_is_removed(app: AppDriver) -> None:
    app.create_queue("a", RedrivePolicy=policy())
    app.call("SetQueueAttributes", QueueUrl="a", Attributes={"RedrivePolicy": ""})

    assert sources(app) == []
