"""Tags of queues: which there may be, and that two who add some at once both do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from tests.frontend.app_driver import AppDriver, Refused, request_of
from waystation.frontend.tag_service import check_tags
from waystation.protocol.errors import InvalidParameterValue

FIFTY = {f"tag-{number}": "x" for number in range(50)}


@pytest.fixture
def app() -> Iterator[AppDriver]:
    with AppDriver() as driver:
        driver.create_queue("orders")
        yield driver


def tags(app: AppDriver) -> dict[str, str]:
    found: dict[str, str] = app.call("ListQueueTags", QueueUrl="orders").get("Tags", {})
    return found


@pytest.mark.parametrize(
    "good",
    [
        {},
        FIFTY,
        {"k" * 128: "v" * 256},
        {"k": ""},
        {"Cost centre": "a_b.c:d/e=f+g-h@i 1"},
        {"größe": "大きい", "\u3000": "\u00a0"},
        {"my-aws:key": "aws:value", "aws": "x"},
    ],
)
def test_tags_may_be(good: dict[str, str]) -> None:
    check_tags("orders", good)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (FIFTY | {"one": "more"}, r"Too many tags added for queue orders\."),
        ({"": "v"}, "between 1 and 128 characters"),
        ({"k" * 129: "v"}, "between 1 and 128 characters"),
        ({"k": "v" * 257}, "at most 256 characters"),
        ({"a*b": "v"}, "can only include"),
        ({"k": "a,b"}, "can only include"),
        ({"k": "line\n"}, "can only include"),
        ({"tab\t": "v"}, "can only include"),
        ({"k": "🎉"}, "can only include"),
        ({"aws:x": "v"}, "reserved"),
        ({"AWS:": "v"}, "reserved"),
    ],
)
def test_tags_may_not_be(bad: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidParameterValue, match=why):
        check_tags("orders", bad)


def test_the_tags_of_a_creation_follow_the_same_rules(app: AppDriver) -> None:
    with pytest.raises(Refused, match="are reserved"):
        app.call("CreateQueue", QueueName="new", tags={"aws:x": "y"})

    app.call("CreateQueue", QueueName="new", tags={"team": "blue"})
    assert app.call("ListQueueTags", QueueUrl="new") == {"Tags": {"team": "blue"}}


def test_fifty_tags_are_counted_with_those_that_are_there(app: AppDriver) -> None:
    app.call("TagQueue", QueueUrl="orders", Tags=FIFTY)

    with pytest.raises(Refused, match="Too many tags added for queue orders"):
        app.call("TagQueue", QueueUrl="orders", Tags={"one": "more"})
    assert tags(app) == FIFTY

    app.call("TagQueue", QueueUrl="orders", Tags={"tag-7": "changed"})
    assert tags(app) == FIFTY | {"tag-7": "changed"}


def test_all_who_tag_and_untag_at_once_are_heard(app: AppDriver) -> None:
    app.call("TagQueue", QueueUrl="orders", Tags={f"old-{number}": "x" for number in range(10)})

    async def change() -> list[int]:
        requests = []
        for number in range(10):
            add = {"QueueUrl": "orders", "Tags": {f"new-{number}": "y"}}
            remove = {"QueueUrl": "orders", "TagKeys": [f"old-{number}"]}
            requests.append(request_of("TagQueue", json.dumps(add).encode()))
            requests.append(request_of("UntagQueue", json.dumps(remove).encode()))
        answers = await asyncio.gather(*(app.app.handle(request) for request in requests))
        return [answer.status for answer in answers]

    assert app.run(change()) == [200] * 20
    assert tags(app) == {f"new-{number}": "y" for number in range(10)}


def test_tags_do_not_count_as_a_modification(app: AppDriver) -> None:
    names = ["CreatedTimestamp", "LastModifiedTimestamp"]
    app.advance(seconds=90)
    app.call("TagQueue", QueueUrl="orders", Tags={"a": "b"})

    shown = app.call("GetQueueAttributes", QueueUrl="orders", AttributeNames=names)["Attributes"]
    assert shown["CreatedTimestamp"] == shown["LastModifiedTimestamp"]


def test_tags_of_a_queue_that_is_deleted_meanwhile_are_refused(app: AppDriver) -> None:
    async def race() -> list[int]:
        requests = [
            request_of("DeleteQueue", b'{"QueueUrl":"orders"}'),
            request_of("TagQueue", b'{"QueueUrl":"orders","Tags":{"a":"b"}}'),
        ]
        answers = await asyncio.gather(*(app.app.handle(request) for request in requests))
        return [answer.status for answer in answers]

    assert app.run(race()) == [200, 400]
    assert list(app.catalogue.queues()) == []
