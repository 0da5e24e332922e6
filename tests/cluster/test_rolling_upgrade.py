"""Nodes of an earlier build and of this one work together, as they do while a cluster is upgraded.

The earlier build is the first that could be a node of a cluster: what it wrote and what it says has to be
understood for as long as there may be nodes of it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.server import NAMES_ARE_FREE_AT_ONCE, Server, cluster, eventually

ROOT = Path(__file__).parent.parent.parent
EARLIER_BUILD = "3de342ca17b225612dd9a05989f1aec87447aea7"
FLAGS = ("--nats.prefix", "rolling-upgrade", "--nats.replicas", "1", "--cluster.shards", "4")


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of the earlier build."""
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", EARLIER_BUILD, "src"], capture_output=True, check=False
    )
    if archive.returncode != 0:
        pytest.skip("the history of this repository is not here, and the earlier build is in it")
    folder = tmp_path_factory.mktemp("earlier")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder / "src"


@contextmanager
def node(folder: Path, name: str, nats_url: str, source: Path | None) -> Iterator[Server]:
    """A node of this build, or of the one with that source."""
    server = Server(folder / name, "--cluster", nats_url, *FLAGS, "--node-id", name, *NAMES_ARE_FREE_AT_ONCE)
    with pytest.MonkeyPatch.context() as patch:
        if source is not None:
            patch.setenv("PYTHONPATH", f"{source}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        try:
            server.start()
            yield server
        finally:
            server.kill()


def fill(client: Any, names: list[str], text: str) -> None:
    for name in names:
        url = client.create_queue(QueueName=name)["QueueUrl"]
        client.send_message(QueueUrl=url, MessageBody=f"{text} {name}")


def drain(client: Any, names: list[str]) -> list[str]:
    """The bodies that wait in queues, in the order of the queues; they are deleted."""
    found = []
    for name in names:
        url = client.get_queue_url(QueueName=name)["QueueUrl"]
        received = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=5)
        for message in received.get("Messages", []):
            found.append(message["Body"])
            client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def test_a_cluster_goes_on_while_its_nodes_are_upgraded_one_after_the_other(
    earlier: Path, nats_url: str, tmp_path: Path
) -> None:
    assert cluster("init", "--cluster", nats_url, *FLAGS).returncode == 0
    names = [f"orders-{number}" for number in range(8)]
    with node(tmp_path, "first", nats_url, earlier) as first:
        fill(first.client(), names, "from before")
        with node(tmp_path, "second", nats_url, None) as second:
            # Both have shards now, so that each gives commands to the other.
            eventually(lambda: "shards: none" not in cluster("status", "--cluster", nats_url, *FLAGS).stdout)
            assert drain(second.client(), names) == [f"from before {name}" for name in names]
            fill(second.client(), names, "from the new")
            assert drain(first.client(), names) == [f"from the new {name}" for name in names]
            fill(first.client(), names, "from the old")
            first.stop()
            with node(tmp_path, "first", nats_url, None) as upgraded:
                assert drain(upgraded.client(), names) == [f"from the old {name}" for name in names]
