"""boto3 as people use it: clients and resources, threads, and its own settings."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock
from typing import Any

import boto3
import pytest

from tests.server import Server, config, running

JOBS = 300
WORKERS = 4


def test_a_job_of_300_messages_is_done_once_by_four_workers(server: Server, queue: str) -> None:
    """Producers send in batches while workers long poll; every job is done exactly once."""
    sqs = server.client()
    done: Counter[str] = Counter()
    lock, all_done = Lock(), Event()

    def produce(first: int) -> None:
        for start in range(first, first + JOBS // 2, 10):
            entries = [
                {"Id": str(number), "MessageBody": f"job {number}"} for number in range(start, start + 10)
            ]
            assert len(sqs.send_message_batch(QueueUrl=queue, Entries=entries)["Successful"]) == 10

    def work() -> None:
        while not all_done.is_set():
            answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=5, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                with lock:
                    done[message["Body"]] += 1
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            if len(done) == JOBS:
                all_done.set()

    with ThreadPoolExecutor() as pool:
        tasks = [pool.submit(work) for _ in range(WORKERS)]
        tasks += [pool.submit(produce, first) for first in (0, JOBS // 2)]
        for task in tasks:
            task.result()

    assert done == Counter(f"job {number}" for number in range(JOBS))
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    counts = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    assert set(counts.values()) == {"0"}


def test_orders_of_each_customer_are_worked_on_in_turn_by_four_workers(server: Server) -> None:
    """A FIFO queue: twelve customers' orders, each customer's in the order given, none twice."""
    sqs = server.client()
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    queue = sqs.create_queue(QueueName="orders.fifo", Attributes=attributes)["QueueUrl"]
    customers, orders = [f"customer-{number}" for number in range(12)], 10
    done: dict[str, list[int]] = {customer: [] for customer in customers}
    at_work: set[str] = set()
    lock, all_done = Lock(), Event()

    for number in range(orders):
        for customer in customers:
            for _ in range(2):  # a producer that was not sure of the first answer
                body = f"{customer} {number}"
                sqs.send_message(QueueUrl=queue, MessageBody=body, MessageGroupId=customer)

    def work() -> None:
        while not all_done.is_set():
            answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=1, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                customer, number = message["Body"].split()
                with lock:
                    assert customer not in at_work, "two workers at one customer's orders"
                    at_work.add(customer)
                done[customer].append(int(number))
                with lock:
                    at_work.discard(customer)
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            if sum(map(len, done.values())) >= orders * len(customers):
                all_done.set()

    with ThreadPoolExecutor() as pool:
        for task in [pool.submit(work) for _ in range(WORKERS)]:
            task.result()

    assert done == {customer: list(range(orders)) for customer in customers}


def resource(server: Server) -> Any:
    return boto3.resource("sqs", **server.connection(), config=config())


def test_a_resource_sends_receives_changes_and_deletes(server: Server) -> None:
    sqs = resource(server)
    queue = sqs.create_queue(QueueName="by-resource", Attributes={"VisibilityTimeout": "60"})
    queue.send_message(
        MessageBody="hello", MessageAttributes={"a": {"DataType": "Number", "StringValue": "1"}}
    )
    queue.send_messages(Entries=[{"Id": "x", "MessageBody": "world"}])

    messages = queue.receive_messages(MaxNumberOfMessages=10, MessageAttributeNames=["All"])
    assert [message.body for message in messages] == ["hello", "world"]
    assert messages[0].message_attributes["a"]["StringValue"] == "1"

    messages[0].delete()
    messages[1].change_visibility(VisibilityTimeout=0)
    [again] = queue.receive_messages()
    assert again.message_id == messages[1].message_id
    queue.delete_messages(Entries=[{"Id": "x", "ReceiptHandle": again.receipt_handle}])

    queue.reload()
    assert queue.attributes["VisibilityTimeout"] == "60"
    assert queue.attributes["ApproximateNumberOfMessages"] == "0"
    assert queue.attributes["QueueArn"].endswith(":by-resource")


def test_a_resource_finds_lists_and_deletes_queues(server: Server) -> None:
    sqs = resource(server)
    created = [sqs.create_queue(QueueName=f"listed-by-resource-{letter}") for letter in "ab"]

    assert list(sqs.queues.filter(QueueNamePrefix="listed-by-resource-")) == created
    found = sqs.get_queue_by_name(QueueName="listed-by-resource-a")
    assert found.url == created[0].url
    for queue in created:
        queue.delete()
    assert list(sqs.queues.filter(QueueNamePrefix="listed-by-resource-")) == []


def test_the_endpoint_and_the_key_may_come_from_the_environment(
    server: Server, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = server.connection()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", connection["endpoint_url"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")  # any region will do
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", connection["aws_access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", connection["aws_secret_access_key"])

    sqs = boto3.Session().client("sqs")
    assert sqs.send_message(QueueUrl=queue, MessageBody="hello")["MessageId"]


def test_a_client_survives_a_restart_of_the_server_by_its_own_retries(tmp_path: Path) -> None:
    """The messages too, though nobody has stopped the server in an orderly way."""
    with running(tmp_path / "data") as server:
        sqs = server.client(retries={"total_max_attempts": 10, "mode": "standard"})
        queue = sqs.create_queue(QueueName="orders")["QueueUrl"]
        sqs.send_message(QueueUrl=queue, MessageBody="before")
        server.kill()
        with ThreadPoolExecutor() as pool:
            sending = pool.submit(sqs.send_message, QueueUrl=queue, MessageBody="after")
            server.start()
            sending.result()

        received = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
        assert [message["Body"] for message in received] == ["before", "after"]
