"""Queues come, are found, listed and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.forms import Ask, told
from tests.contract.wire import refused
from tests.server import ACCOUNT, Server

NewQueue = Callable[..., str]
NewName = Callable[[], str]

NAME_RULE = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
NO_QUEUE = "The specified queue does not exist."


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


# Creating


def test_a_queue_url_is_the_host_the_client_used_and_account_and_name(
    server: Server, sqs: Any, new_name: NewName
) -> None:
    name = new_name()

    assert sqs.create_queue(QueueName=name)["QueueUrl"] == f"{server.url}/{ACCOUNT}/{name}"


def test_creating_a_queue_again_with_equal_attributes_gives_the_same_queue(
    sqs: Any, new_name: NewName
) -> None:
    name = new_name()
    attributes = {"VisibilityTimeout": "5", "DelaySeconds": "1"}
    first = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    sqs.send_message(QueueUrl=first, MessageBody="still here", DelaySeconds=0)

    assert sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"] == first
    assert len(sqs.receive_message(QueueUrl=first)["Messages"]) == 1


def test_creating_an_existing_queue_compares_only_the_attributes_given(sqs: Any, new_name: NewName) -> None:
    name = new_name()
    url = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "5"})["QueueUrl"]

    assert sqs.create_queue(QueueName=name)["QueueUrl"] == url
    # A default that nobody has set agrees as well.
    assert sqs.create_queue(QueueName=name, Attributes={"DelaySeconds": "0"})["QueueUrl"] == url


def test_creating_an_existing_queue_with_another_attribute_names_the_attribute(
    sqs: Any, new_name: NewName
) -> None:
    name = new_name()
    sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "5"})

    with refused(
        "QueueAlreadyExists",
        "A queue already exists with the same name and a different value for attribute VisibilityTimeout",
    ):
        sqs.create_queue(QueueName=name, Attributes={"DelaySeconds": "0", "VisibilityTimeout": "6"})


@pytest.mark.parametrize("length", [1, 80])
def test_a_queue_name_has_up_to_80_characters(sqs: Any, length: int) -> None:
    name = "a-Z_0123456789" * 6
    name = name[:length]

    assert name_of(sqs.create_queue(QueueName=name)["QueueUrl"]) == name


@pytest.mark.parametrize("name", ["", "a" * 81, "a b", "a.b", "a/b", "ü", "orders.fifo", "a\n"])
def test_other_queue_names_are_refused(sqs: Any, name: str) -> None:
    with refused("InvalidParameterValue", NAME_RULE):
        sqs.create_queue(QueueName=name)


def test_a_queue_name_must_be_given(sqs: Any) -> None:
    with refused("MissingParameter", "The request must contain the parameter QueueName."):
        sqs.create_queue()


def test_queue_names_are_case_sensitive(sqs: Any, new_name: NewName) -> None:
    name = new_name()
    lower = sqs.create_queue(QueueName=name)["QueueUrl"]

    assert sqs.create_queue(QueueName=name.upper())["QueueUrl"] != lower


@pytest.mark.parametrize(
    ("tags", "ok"),
    [
        ({f"tag-{number}": "x" for number in range(50)}, True),
        ({f"tag-{number}": "x" for number in range(51)}, False),
        ({"k" * 128: "v" * 256}, True),
        ({"k" * 129: ""}, False),
        ({"": "v"}, False),
        ({"k": "v" * 257}, False),
    ],
)
def test_a_queue_is_created_with_up_to_50_tags_of_limited_length(
    sqs: Any, new_name: NewName, tags: dict[str, str], ok: bool
) -> None:
    name = new_name()
    if ok:
        assert sqs.create_queue(QueueName=name, tags=tags)["QueueUrl"]
    else:
        with refused("InvalidParameterValue"):
            sqs.create_queue(QueueName=name, tags=tags)
        with refused("NonExistentQueue", NO_QUEUE):
            sqs.get_queue_url(QueueName=name)


# Finding


def test_the_url_of_a_queue_is_found_by_its_name(sqs: Any, queue: str) -> None:
    assert sqs.get_queue_url(QueueName=name_of(queue))["QueueUrl"] == queue


def test_the_url_of_a_queue_is_found_by_its_name_and_owner(sqs: Any, queue: str) -> None:
    found = sqs.get_queue_url(QueueName=name_of(queue), QueueOwnerAWSAccountId=ACCOUNT)

    assert found["QueueUrl"] == queue


def test_a_queue_of_another_owner_does_not_exist(sqs: Any, queue: str) -> None:
    with refused("NonExistentQueue", NO_QUEUE):
        sqs.get_queue_url(QueueName=name_of(queue), QueueOwnerAWSAccountId="123456789012")
    with refused("NonExistentQueue", NO_QUEUE):
        sqs.purge_queue(QueueUrl=queue.replace(ACCOUNT, "123456789012"))


def test_a_queue_that_was_never_created_does_not_exist(sqs: Any, new_name: NewName) -> None:
    with refused("NonExistentQueue", NO_QUEUE):
        sqs.get_queue_url(QueueName=new_name())


@pytest.mark.parametrize(
    "form",
    [
        "{name}",
        "/{account}/{name}",
        "https://sqs.us-east-1.amazonaws.com/{account}/{name}",
        "http://somewhere.else:1234/{account}/{name}",
    ],
)
def test_a_queue_is_named_by_a_url_with_any_host_by_its_path_or_by_its_bare_name(
    server: Server, json_sqs: Any, ask: Ask, queue: str, form: str
) -> None:
    url = form.format(account=ACCOUNT, name=name_of(queue))

    assert ask(server.url, "SendMessage", {"QueueUrl": url, "MessageBody": "hello"}).status == 200

    assert json_sqs.receive_message(QueueUrl=queue)["Messages"][0]["Body"] == "hello"


def test_a_bare_name_deletes_a_queue_too(server: Server, json_sqs: Any, ask: Ask, queue: str) -> None:
    assert ask(server.url, "DeleteQueue", {"QueueUrl": name_of(queue)}).status == 200

    with refused("NonExistentQueue"):
        json_sqs.get_queue_url(QueueName=name_of(queue))


def test_a_request_may_be_posted_to_the_path_of_its_queue(ask: Ask, queue: str) -> None:
    assert ask(queue, "SendMessage", {"QueueUrl": queue, "MessageBody": "hello"}).status == 200


def test_the_queue_url_of_a_request_overrides_the_path_it_is_posted_to(
    json_sqs: Any, ask: Ask, new_queue: NewQueue
) -> None:
    meant, path = new_queue(), new_queue()

    assert ask(path, "SendMessage", {"QueueUrl": meant, "MessageBody": "hello"}).status == 200

    assert len(json_sqs.receive_message(QueueUrl=meant)["Messages"]) == 1
    assert "Messages" not in json_sqs.receive_message(QueueUrl=path)


@pytest.mark.parametrize(
    "url",
    ["http://localhost/", "http://localhost/one", "http://localhost/a/b/c", "a/b", "http://[::1/a/b", "//"],
)
def test_what_is_no_url_of_a_queue_is_an_invalid_address(server: Server, ask: Ask, url: str) -> None:
    error = told(ask(server.url, "SendMessage", {"QueueUrl": url, "MessageBody": "hello"}))

    assert (error.status, error.code) == (404, "InvalidAddress")


# Listing


def test_queues_are_listed_by_prefix_in_the_order_of_their_names(sqs: Any, new_name: NewName) -> None:
    prefix = f"{new_name()}-listed-"
    urls = [sqs.create_queue(QueueName=prefix + letter)["QueueUrl"] for letter in "cab"]

    assert sqs.list_queues(QueueNamePrefix=prefix)["QueueUrls"] == sorted(urls)


def test_a_list_of_no_queues_has_no_member_for_them(sqs: Any) -> None:
    assert "QueueUrls" not in sqs.list_queues(QueueNamePrefix="no-queue-begins-like-this")


def test_queues_are_listed_in_pages_until_there_is_no_token_more(sqs: Any, new_name: NewName) -> None:
    prefix = f"{new_name()}-paged-"
    urls = [sqs.create_queue(QueueName=f"{prefix}{number}")["QueueUrl"] for number in range(5)]

    pages = list(
        sqs.get_paginator("list_queues").paginate(QueueNamePrefix=prefix, PaginationConfig={"PageSize": 2})
    )

    assert [len(page["QueueUrls"]) for page in pages] == [2, 2, 1]
    assert [url for page in pages for url in page["QueueUrls"]] == urls


def test_a_token_for_more_comes_only_when_a_page_size_was_asked_for_and_more_remain(
    sqs: Any, new_name: NewName
) -> None:
    prefix = f"{new_name()}-tokens-"
    for number in range(3):
        sqs.create_queue(QueueName=f"{prefix}{number}")

    assert "NextToken" not in sqs.list_queues(QueueNamePrefix=prefix)
    assert "NextToken" not in sqs.list_queues(QueueNamePrefix=prefix, MaxResults=3)
    assert "NextToken" in sqs.list_queues(QueueNamePrefix=prefix, MaxResults=2)


@pytest.mark.parametrize("max_results", [0, 1_001, -1])
def test_a_page_has_1_to_1000_queues(sqs: Any, max_results: int) -> None:
    with refused("InvalidParameterValue"):
        sqs.list_queues(MaxResults=max_results)


@pytest.mark.parametrize("token", ["garbage", "####", "w7w=", "AAAA"])
def test_a_token_that_was_not_given_out_is_refused(sqs: Any, token: str) -> None:
    with refused("InvalidParameterValue", "Invalid or expired next token."):
        sqs.list_queues(MaxResults=1, NextToken=token)


# Deleting


def test_a_deleted_queue_does_not_exist_for_any_operation(sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="gone with it")
    sqs.delete_queue(QueueUrl=queue)

    with refused("NonExistentQueue", NO_QUEUE):
        sqs.send_message(QueueUrl=queue, MessageBody="hello")
    with refused("NonExistentQueue", NO_QUEUE):
        sqs.receive_message(QueueUrl=queue)
    with refused("NonExistentQueue", NO_QUEUE):
        sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])
    with refused("NonExistentQueue", NO_QUEUE):
        sqs.delete_queue(QueueUrl=queue)
    assert queue not in sqs.list_queues().get("QueueUrls", [])


def test_the_name_of_a_deleted_queue_is_free_at_once_and_its_messages_do_not_come_back(
    sqs: Any, queue: str
) -> None:
    """AWS makes clients wait 60 s for its own caches; ours need no such time."""
    sqs.send_message(QueueUrl=queue, MessageBody="of the old queue")
    [message] = sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0)["Messages"]
    sqs.delete_queue(QueueUrl=queue)

    assert sqs.create_queue(QueueName=name_of(queue))["QueueUrl"] == queue

    assert "Messages" not in sqs.receive_message(QueueUrl=queue)
    with refused("ReceiptHandleIsInvalid"):
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


# Purging


def test_a_purge_drops_messages_whatever_their_state(sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="in flight")
    assert sqs.receive_message(QueueUrl=queue, VisibilityTimeout=600)["Messages"]
    sqs.send_message(QueueUrl=queue, MessageBody="visible")
    sqs.send_message(QueueUrl=queue, MessageBody="delayed", DelaySeconds=900)

    sqs.purge_queue(QueueUrl=queue)

    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert [value for name, value in sorted(attributes.items()) if name.startswith("Approx")] == ["0"] * 3


def test_a_second_purge_within_60_seconds_is_refused(sqs: Any, queue: str) -> None:
    sqs.purge_queue(QueueUrl=queue)

    with refused(
        "PurgeQueueInProgress",
        f"Only one PurgeQueue operation on {name_of(queue)} is allowed every 60 seconds.",
        status=403,
    ):
        sqs.purge_queue(QueueUrl=queue)
