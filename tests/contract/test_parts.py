"""Queues of four parts under stock clients: what holds for a queue in one shard holds for them.

Every test of `test_receipts` and `test_dead_letters` is run again here, on such queues, and those of
`test_receive` that do not ask for the order, which a standard queue never promises.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.contract.query_client import query_client
from tests.contract.test_dead_letters import *  # noqa: F403
from tests.contract.test_receipts import *  # noqa: F403
from tests.contract.test_receive import (  # noqa: F401
    bodies,
    test_a_long_poll_ends_when_its_queue_is_deleted,
    test_a_long_poll_is_answered_at_once_when_a_message_is_there,
    test_a_long_poll_waits_its_time_and_then_answers_with_nothing,
    test_a_long_poll_wakes_when_a_message_is_made_visible,
    test_a_long_poll_wakes_when_a_message_is_sent,
    test_a_received_message_is_hidden_and_comes_back_after_its_timeout,
    test_a_timeout_of_0_leaves_a_message_visible,
    test_an_empty_queue_answers_a_short_poll_at_once_without_any_member,
    test_twenty_long_polls_share_twenty_messages,
)
from tests.contract.wire import refused
from tests.server import Server, running

TAG = "waystation:partitions"
BY_GROUP = {
    "FifoQueue": "true",
    "ContentBasedDeduplication": "true",
    "DeduplicationScope": "messageGroup",
    "FifoThroughputLimit": "perMessageGroupId",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its queues have four parts, whatever they are made with."""
    data_dir: Path = tmp_path_factory.mktemp("parts") / "data"
    with running(data_dir, "--backend.shards", "4", "--service.partitions", "4") as server:
        yield server
        server.stop()


@pytest.fixture(scope="module")
def json_sqs(server: Server) -> Any:
    return server.client(parameter_validation=False)


@pytest.fixture(scope="module")
def query_sqs(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return query_client(server, tmp_path_factory.mktemp("model"), parameter_validation=False)


@pytest.fixture(scope="module", params=["json", "query"])
def sqs(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(f"{request.param}_sqs")


def test_the_tag_is_read_when_a_queue_is_created_and_shown_like_any_other(
    sqs: Any, new_name: Callable[[], str]
) -> None:
    url = sqs.create_queue(QueueName=new_name(), tags={TAG: "2"})["QueueUrl"]

    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {TAG: "2"}
    for text in ("0", "5", "two"):
        with refused(
            "InvalidParameterValue",
            f"The tag {TAG} must be a number from 1 to 4: a queue has at most 64 partitions, each in a shard "
            "of its own, and there are 4 shards.",
        ):
            sqs.create_queue(QueueName=new_name(), tags={TAG: text})


def test_only_a_fifo_queue_that_is_by_group_in_everything_has_several_parts(
    sqs: Any, new_name: Callable[[], str]
) -> None:
    with refused("InvalidParameterValue"):
        sqs.create_queue(QueueName=f"{new_name()}.fifo", Attributes={"FifoQueue": "true"}, tags={TAG: "2"})

    assert sqs.create_queue(QueueName=f"{new_name()}.fifo", Attributes=BY_GROUP, tags={TAG: "2"})["QueueUrl"]


def test_groups_are_received_in_order_by_many_consumers(sqs: Any, new_name: Callable[[], str]) -> None:
    url = sqs.create_queue(QueueName=f"{new_name()}.fifo", Attributes=BY_GROUP, tags={TAG: "4"})["QueueUrl"]
    for number in range(5):
        entries = [
            {"Id": str(group), "MessageBody": f"{group} {number}", "MessageGroupId": f"g{group}"}
            for group in range(10)
        ]
        for _ in range(2):
            assert len(sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 10
    found: list[str] = []

    def consume(_: int) -> None:
        while len(found) < 50:
            answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=3, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                found.append(message["Body"])
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(consume, range(6)))

    assert len(found) == 50
    for group in range(10):
        assert [body for body in found if body.startswith(f"{group} ")] == [f"{group} {n}" for n in range(5)]


def test_a_message_in_any_part_soon_wakes_who_waits(sqs: Any, queue: str) -> None:
    took_s = []
    with ThreadPoolExecutor(1) as pool:
        for _ in range(8):
            polling = pool.submit(sqs.receive_message, QueueUrl=queue, WaitTimeSeconds=10)
            time.sleep(0.05)  # for it to wait already, mostly; it must not matter
            sqs.send_message(QueueUrl=queue, MessageBody="hello")
            sent_s = time.monotonic()
            assert bodies(polling.result()) == ["hello"]
            took_s.append(time.monotonic() - sent_s)

    assert median(took_s) < 0.1
