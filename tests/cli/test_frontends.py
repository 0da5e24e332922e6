"""A node whose FrontEnds are processes of their own is one node to its clients, whatever ends."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.cli.front_end_processes import front_ends, lives, sockets_of
from tests.clients.certificates import make_certificate
from tests.cluster.transport_driver import serving
from tests.log.asynchrony import async_test, until
from tests.server import Server, eventually, running
from waystation.cli.errors import ExitCode, UsageError
from waystation.cli.frontend_process import (
    COMMAND,
    IS_SERVING,
    Orders,
    RemoteShards,
    encode_orders,
    read_orders,
)
from waystation.cli.frontends import SOCKET_NAME, SplitNode, hold_port, socket_path
from waystation.cli.settings import RootKeySettings, Settings, load_settings
from waystation.cluster.transport_client import Link
from waystation.cluster.transport_settings import TransportSettings
from waystation.frontend import reconciler
from waystation.frontend.auth import AccessKey
from waystation.frontend.settings import AuthSettings, HttpSettings
from waystation.queues.commands import CreateQueue, ListQueues, Queues, QueueSettings

TWO = ("--frontends", "2", "--no-auth")


class Connection:
    """One connection, and so always the same FrontEnd."""

    def __init__(self, server: Server) -> None:
        parts = urlsplit(server.url)
        assert parts.hostname is not None
        self.http = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        self.http.connect()

    def send(self, operation: str, **members: Any) -> None:
        self.http.request("POST", "/", json.dumps(members), {"X-Amz-Target": f"AmazonSQS.{operation}"})

    def answer(self) -> Any:
        """What the server answers; the name of the error if it is one."""
        response = self.http.getresponse()
        answer = json.loads(response.read() or b"{}")
        return answer if response.status == 200 else answer["__type"].rpartition("#")[2]

    def call(self, operation: str, **members: Any) -> Any:
        self.send(operation, **members)
        return self.answer()


@contextmanager
def connections_to(server: Server, count: int) -> Iterator[list[Connection]]:
    """So many that none of two FrontEnds is left out, but once in thousands of times."""
    made = [Connection(server) for _ in range(count)]
    try:
        yield made
    finally:
        for each in made:
            each.http.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests that leave it as it was."""
    with running(tmp_path_factory.mktemp("frontends") / "data", *TWO) as server:
        yield server


def test_connections_are_shared_out_among_the_front_ends(server: Server) -> None:
    pids = front_ends(server)
    assert len(pids) == 2
    before = {pid: sockets_of(pid) for pid in pids}
    with connections_to(server, 32):
        eventually(lambda: all(sockets_of(pid) > before[pid] for pid in pids))
        eventually(lambda: sum(sockets_of(pid) - before[pid] for pid in pids) == 32)


def test_what_one_front_end_has_done_all_others_know_at_once(server: Server) -> None:
    """
    A client that was told that a queue is created, changed, tagged or deleted finds it so,
    whichever FrontEnd its next connection leads to.
    """
    with connections_to(server, 16) as connections:
        for number, writer in enumerate(connections):
            name = f"known-{number}"
            writer.call("CreateQueue", QueueName=name)
            assert all("QueueUrl" in each.call("GetQueueUrl", QueueName=name) for each in connections)

            writer.call("SetQueueAttributes", QueueUrl=name, Attributes={"DelaySeconds": "7"})
            asked = {"QueueUrl": name, "AttributeNames": ["DelaySeconds"]}
            seen = [each.call("GetQueueAttributes", **asked) for each in connections]
            assert seen == [{"Attributes": {"DelaySeconds": "7"}}] * 16

            writer.call("TagQueue", QueueUrl=name, Tags={"a": "b"})
            tags = [each.call("ListQueueTags", QueueUrl=name) for each in connections]
            assert tags == [{"Tags": {"a": "b"}}] * 16

            writer.call("DeleteQueue", QueueUrl=name)
            errors = {each.call("GetQueueUrl", QueueName=name) for each in connections}
            assert errors == {"QueueDoesNotExist"}


def test_a_long_poll_gets_what_is_sent_through_another_front_end(server: Server) -> None:
    with connections_to(server, 16) as connections:
        consumers, producer = connections[1:], connections[0]
        producer.call("CreateQueue", QueueName="polled")
        for each in consumers:
            each.send("ReceiveMessage", QueueUrl="polled", WaitTimeSeconds=20)
        bodies = {f"body-{number}" for number in range(len(consumers))}
        for body in bodies:
            producer.call("SendMessage", QueueUrl="polled", MessageBody=body)

        assert {each.answer()["Messages"][0]["Body"] for each in consumers} == bodies


def test_a_receipt_handle_is_good_at_every_front_end(server: Server) -> None:
    with connections_to(server, 8) as connections:
        connections[0].call("CreateQueue", QueueName="handles")
        for each in connections[1:]:
            connections[0].call("SendMessage", QueueUrl="handles", MessageBody="hello")
            [message] = connections[0].call("ReceiveMessage", QueueUrl="handles")["Messages"]
            handle = message["ReceiptHandle"]
            assert each.call("DeleteMessage", QueueUrl="handles", ReceiptHandle=handle) == {}
        asked = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        counted = connections[0].call("GetQueueAttributes", QueueUrl="handles", AttributeNames=asked)
        assert counted["Attributes"] == dict.fromkeys(asked, "0")


def test_a_move_task_that_is_started_at_one_front_end_is_seen_and_done(server: Server) -> None:
    with connections_to(server, 8) as connections:
        one, *others = connections
        one.call("CreateQueue", QueueName="letters")
        letters = "arn:aws:sqs:us-east-1:000000000000:letters"
        policy = json.dumps({"deadLetterTargetArn": letters, "maxReceiveCount": 1})
        one.call("CreateQueue", QueueName="source", Attributes={"RedrivePolicy": policy})
        one.call("SendMessage", QueueUrl="letters", MessageBody="hello")
        destination = letters.replace("letters", "source")
        one.call("StartMessageMoveTask", SourceArn=letters, DestinationArn=destination)

        for each in others:
            assert len(each.call("ListMessageMoveTasks", SourceArn=letters)["Results"]) == 1
        polled = others[0].call("ReceiveMessage", QueueUrl="source", WaitTimeSeconds=20)
        assert [message["Body"] for message in polled["Messages"]] == ["hello"]


def test_a_front_end_that_is_killed_is_started_again(server: Server) -> None:
    with connections_to(server, 1) as [connection]:
        connection.call("CreateQueue", QueueName="survivor")
    killed, other = front_ends(server)
    os.kill(killed, signal.SIGKILL)

    eventually(lambda: len(set(front_ends(server)) - {killed, other}) == 1)
    assert "FrontEnd process has ended" in server.log.read_text()
    [started] = set(front_ends(server)) - {killed, other}
    eventually(lambda: sockets_of(started) >= 2)  # it is connected, and listens
    with connections_to(server, 16) as connections:
        eventually(lambda: sockets_of(started) > 2 or not lives(started))
        assert all("QueueUrl" in each.call("GetQueueUrl", QueueName="survivor") for each in connections)
    assert other in front_ends(server)


def test_its_health_is_that_of_the_backend(server: Server) -> None:
    with connections_to(server, 8) as connections:
        for each in connections:
            each.http.request("GET", "/health")
            assert each.http.getresponse().status == 200


def test_no_process_shows_a_secret_on_its_command_line(server: Server) -> None:
    for pid in front_ends(server):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert words[1:] == [b"-m", b"waystation", COMMAND.encode(), b""]


def test_a_node_that_is_killed_takes_its_front_ends_with_it_and_comes_back(tmp_path: Path) -> None:
    """In a directory whose path is too long for a Unix socket."""
    data_dir = tmp_path / ("long" * 25)
    with running(data_dir, *TWO) as server:
        with connections_to(server, 1) as [connection]:
            connection.call("CreateQueue", QueueName="orders")
            connection.call("SendMessage", QueueUrl="orders", MessageBody="kept")
        pids = front_ends(server)
        server.kill()
        eventually(lambda: not any(map(lives, pids)))

        server.start()
        with connections_to(server, 1) as [connection]:
            [message] = connection.call("ReceiveMessage", QueueUrl="orders")["Messages"]
        assert message["Body"] == "kept"
        assert not (data_dir / SOCKET_NAME).exists()
        server.stop()


def test_a_stop_answers_what_is_in_progress_and_ends_all_processes(tmp_path: Path) -> None:
    with running(tmp_path / "data", *TWO) as server:
        assert (tmp_path / "data" / SOCKET_NAME).stat().st_mode & 0o777 == 0o600
        pids = front_ends(server)
        with connections_to(server, 16) as polls:
            polls[0].call("CreateQueue", QueueName="orders")
            for each in polls:
                each.send("ReceiveMessage", QueueUrl="orders", WaitTimeSeconds=20)
            with connections_to(server, 16) as others:  # come after the polls, so those have been read
                for each in others:
                    each.call("ListQueues")
            server.ask_to_stop()
            for pid in pids:  # as systemd does, which tells all processes of a service
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

            assert [each.answer() for each in polls] == [{}] * 16
        assert server.exit_code() == 0
        assert server.log.read_text() == ""
        assert not any(map(lives, pids))
        assert not (tmp_path / "data" / SOCKET_NAME).exists()


def test_a_second_signal_ends_all_processes_at_once(tmp_path: Path) -> None:
    with running(tmp_path / "data", *TWO) as server:
        pids = front_ends(server)
        os.kill(pids[0], signal.SIGSTOP)  # so that the stop takes long
        server.ask_to_stop()
        eventually(lambda: not lives(pids[1]))
        server.ask_to_stop()
        assert server.exit_code() == ExitCode.FAILED
        os.kill(pids[0], signal.SIGCONT)
        eventually(lambda: not lives(pids[0]))


def test_a_front_end_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    with running(tmp_path / "data", *TWO, "--http.shutdown-grace-s", "0") as server:
        pids = front_ends(server)
        os.kill(pids[0], signal.SIGSTOP)
        server.stop()
        assert not any(map(lives, pids))


def test_a_port_that_others_have_is_not_shared_with_them(server: Server, tmp_path: Path) -> None:
    """Also not with another node that would share it: clients would get to either."""
    port = urlsplit(server.url).port
    second = Server(tmp_path / "data", *TWO, "--port", str(port))
    code, said = second.fail_to_start()

    assert code == ExitCode.FAILED
    expected = f"waystation: cannot start: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    assert said == expected


def test_what_keeps_a_front_end_from_starting_is_told_in_one_line(tmp_path: Path) -> None:
    certificate, _ = make_certificate(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    _, key = make_certificate(other)
    pair = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    code, said = Server(tmp_path / "data", *TWO, *pair).fail_to_start()

    assert code == ExitCode.FAILED
    [line] = said.splitlines()
    assert line.startswith("waystation: cannot start: ")
    assert f"the TLS certificate {certificate} and key {key} cannot be used" in line


def test_nobody_runs_a_front_end_by_hand() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "waystation", COMMAND],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == ExitCode.USAGE
    assert "is for `waystation serve --frontends` to start" in done.stderr


# The parts


def test_orders_arrive_as_they_were(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        root=RootKeySettings(access_key_id="AKIA", secret_access_key="secret"),
        http=HttpSettings(tls_certificate=tmp_path / "certificate.pem", tls_key=tmp_path / "key.pem"),
    )
    orders = Orders(settings, AccessKey("AKIA", "secret", "000000000000"), "unix:/socket", "abc", 3)

    assert read_orders(BytesIO(encode_orders(orders))) == orders
    assert read_orders(BytesIO(b"")) is None


def test_the_socket_is_in_the_data_directory_if_its_path_is_not_too_long() -> None:
    assert socket_path(Path("/data")) == Path("/data") / SOCKET_NAME
    assert socket_path(Path("relative")) == Path.cwd() / "relative" / SOCKET_NAME
    longest = Path("/" + "x" * (106 - len(f"/{SOCKET_NAME}")))
    assert socket_path(longest).parent == longest
    elsewhere = socket_path(longest.with_name(longest.name + "x"))
    assert elsewhere.parent.stat().st_mode & 0o777 == 0o700
    elsewhere.parent.rmdir()


@async_test
async def test_a_held_port_gets_no_connections_but_can_be_listened_on_by_those_who_share_it() -> None:
    [held] = await hold_port(HttpSettings(port=0))
    with held:
        port = held.getsockname()[1]
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) != 0
        with socket.socket() as one, socket.socket() as other:
            for each in (one, other):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                each.bind(("127.0.0.1", port))
                each.listen()
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                pass
            with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
                await hold_port(HttpSettings(port=port))


@async_test
async def test_a_front_end_is_well_only_while_its_backend_answers_that_it_serves() -> None:
    answers = [b"\1"]

    async def answer(kind: int, _: bytes) -> bytes:
        assert kind == IS_SERVING
        return answers[0]

    async with serving(answer) as backend:
        link = Link(backend.address, TransportSettings(node="frontend"))
        shards = RemoteShards(link, 1)
        try:
            await shards.start()
            assert shards.is_serving()
            answers[0] = b"\0"
            await until(lambda: not shards.is_serving())
            answers[0] = b"\1"
            await until(shards.is_serving)
            await backend.stop()
            await until(lambda: not shards.is_serving())
        finally:
            await shards.stop()
            await link.close()


@async_test
async def test_what_a_killed_front_end_has_left_half_done_is_cleared_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that its shard knows, and the catalogue never got to know."""
    monkeypatch.setattr(reconciler, "GRACE_S", 0.1)
    monkeypatch.setattr(reconciler, "_EVERY_S", 0.05)
    node = in_process(tmp_path)
    try:
        await node.start()
        assert node._plane is not None
        backend = node._plane.backend
        assert backend is not None
        await backend.submit(0, CreateQueue(QueueSettings("half-made")))

        async def is_there() -> bool:
            answer = await backend.submit(0, ListQueues())
            assert isinstance(answer, Queues)
            return bool(answer.settings)

        assert await is_there()
        while await is_there():  # noqa: ASYNC110 (nothing announces it)
            await asyncio.sleep(0.01)
    finally:
        await node.stop()


@async_test
async def test_a_start_that_fails_or_is_cancelled_leaves_nothing_behind(tmp_path: Path) -> None:
    node = in_process(tmp_path)
    await node.stop()
    with socket.create_server(("127.0.0.1", 0)) as other:
        refused = SplitNode(replace(node._settings, http=HttpSettings(port=other.getsockname()[1])))
        with pytest.raises(OSError, match="cannot listen on"):
            await refused.start()
        await refused.stop()

    starting = asyncio.create_task(node.start())
    await until(lambda: len(processes_of(node)) == 2)
    processes = list(processes_of(node))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await node.stop()

    assert not any(lives(each.pid) for each in processes)
    assert set(os.listdir(tmp_path)) == {"lock", "metadata.db", "shard-000.db"}


def in_process(data_dir: Path) -> SplitNode:
    """A node whose backend is this process."""
    auth = AuthSettings(enabled=False)
    return SplitNode(Settings(data_dir=data_dir, frontends=2, http=HttpSettings(port=0), auth=auth))


def processes_of(node: SplitNode) -> set[Process]:
    return node._front_ends._processes if node._front_ends is not None else set()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--frontends", "65"], "flag --frontends: 65 must be at most 64"),
        (["--frontends", "-1"], "flag --frontends: -1 must be 0 or more"),
        (
            ["--frontends", "2", "--cluster", "nats://127.0.0.1:4222"],
            "flag --frontends: 2 must be 0 with --cluster, where more nodes use more cores",
        ),
    ],
)
def test_so_many_front_ends_are_allowed(flags: list[str], expected: str) -> None:
    with pytest.raises(UsageError) as refused:
        load_settings(flags, {})

    assert refused.value.problems == (expected,)
