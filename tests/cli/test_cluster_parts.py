"""A queue whose parts are on two nodes: either one takes and wakes, and nothing is lost between them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.cli.test_cluster import node
from tests.server import Server, cluster, eventually

TAG = "waystation:partitions"


@pytest.fixture(scope="module")
def flags(nats_url: str) -> tuple[str, ...]:
    """Of the nodes of a new cluster of four shards."""
    flags = ("--cluster", nats_url, "--nats.prefix", "parts-tests", "--nats.replicas", "1")
    made = cluster("init", *flags, "--cluster.shards", "4")
    assert made.returncode == 0, made.stderr
    return flags


@pytest.fixture(scope="module")
def nodes(flags: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Two nodes, each with half of the shards."""
    folder: Path = tmp_path_factory.mktemp("nodes")
    with node(folder, "one", flags) as one, node(folder, "two", flags) as two:
        eventually(lambda: _both_have_shards(flags), every_s=0.5)
        yield [one, two]


def _both_have_shards(flags: tuple[str, ...]) -> bool:
    status = cluster("status", *flags).stdout
    return "shards: none" not in status and "  every shard is served\n" in status


def queue_on(nodes: list[Server], name: str) -> list[tuple[Any, str]]:
    """A client of each node, and the URL of the same queue of four parts there."""
    clients = [each.client() for each in nodes]
    clients[0].create_queue(QueueName=name, tags={TAG: "4"})
    # The other node hears of it a moment later.
    return [(client, eventually_url(client, name)) for client in clients]


def eventually_url(client: Any, name: str) -> str:
    url = ""

    def is_known() -> bool:
        nonlocal url
        try:
            url = client.get_queue_url(QueueName=name)["QueueUrl"]
        except client.exceptions.QueueDoesNotExist:
            return False
        return True

    eventually(is_known)
    return url


def test_messages_that_are_sent_to_either_node_are_received_from_either(nodes: list[Server]) -> None:
    ends = queue_on(nodes, "both-ways")
    sent = []
    for number in range(20):
        client, url = ends[number % 2]
        sent.append(f"message {number}")
        client.send_message(QueueUrl=url, MessageBody=sent[-1])
    found = []
    for number in range(40):
        client, url = ends[number // 2 % 2]
        for message in client.receive_message(QueueUrl=url).get("Messages", []):
            found.append(message["Body"])
            other, there = ends[len(found) % 2]
            other.delete_message(QueueUrl=there, ReceiptHandle=message["ReceiptHandle"])

    assert sorted(found) == sorted(sent)


def test_who_waits_at_either_node_is_woken_within_100_ms_by_a_message_in_any_part(
    nodes: list[Server],
) -> None:
    ends = queue_on(nodes, "woken")
    took_s = []
    with ThreadPoolExecutor(1) as pool:
        for number in range(16):
            (waiter, there), (sender, here) = ends[number % 2], ends[number // 2 % 2]
            polling = pool.submit(waiter.receive_message, QueueUrl=there, WaitTimeSeconds=10)
            time.sleep(0.1)  # for it to wait already, mostly; it must not matter
            sender.send_message(QueueUrl=here, MessageBody=str(number))
            sent_s = time.monotonic()
            [message] = polling.result()["Messages"]
            took_s.append(time.monotonic() - sent_s)
            assert message["Body"] == str(number)
            sender.delete_message(QueueUrl=here, ReceiptHandle=message["ReceiptHandle"])

    assert median(took_s) < 0.1, took_s


def test_many_who_wait_at_both_nodes_share_what_comes_and_none_is_left_hidden(nodes: list[Server]) -> None:
    ends = queue_on(nodes, "shared")

    def consume(number: int) -> list[str]:
        client, url = ends[number % 2]
        found: list[str] = []
        while received := client.receive_message(QueueUrl=url, WaitTimeSeconds=3).get("Messages"):
            found += [message["Body"] for message in received]
        return found

    with ThreadPoolExecutor(20) as pool:
        consumers = [pool.submit(consume, number) for number in range(16)]
        for first in range(0, 100, 10):
            client, url = ends[first // 10 % 2]
            list(
                pool.map(
                    lambda each: client.send_message(QueueUrl=url, MessageBody=str(each)),  # noqa: B023
                    range(first, first + 10),
                )
            )
        found = [body for consumer in consumers for body in consumer.result()]

    assert sorted(map(int, found)) == list(range(100))


def test_a_queue_of_parts_outlives_one_of_its_nodes(nodes: list[Server], flags: tuple[str, ...]) -> None:
    ends = queue_on(nodes, "outlives")
    for number in range(12):
        ends[0][0].send_message(QueueUrl=ends[0][1], MessageBody=str(number))
    nodes[0].kill()
    client = nodes[1].client(retries={"total_max_attempts": 5, "mode": "standard"})
    found: list[str] = []
    while len(found) < 12:
        received = client.receive_message(QueueUrl=ends[1][1], MaxNumberOfMessages=10, WaitTimeSeconds=5)
        found += [message["Body"] for message in received.get("Messages", [])]

    assert sorted(map(int, found)) == list(range(12))
