"""HAProxy with our configuration is a good front for nodes: it loses no request that it need not lose."""

from __future__ import annotations

import itertools
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any, Self

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from tests.deploy import parts
from tests.deploy.balancer import Balancer, balancing, configured
from tests.server import Server, config, eventually, running
from waystation.cli.settings import Settings
from waystation.protocol.limits import WAIT_S_MAX

Cluster = tuple[Balancer, list[Server]]


@pytest.fixture(scope="module")
def cluster(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """HAProxy in front of two nodes that speak TLS; nobody is at the address of the third."""
    parts.program("haproxy", "haproxy")
    directory = tmp_path_factory.mktemp("haproxy")
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(running(directory / name, *_flags(certificates, name)))
            for name in ("n1", "n2")
        ]
        addresses = [node.url.removeprefix("https://") for node in nodes]
        [nobody] = parts.free_ports(1)
        addresses.append(f"127.0.0.1:{nobody}")
        balancer = stack.enter_context(balancing("haproxy.cfg", certificates, directory, addresses, up=2))
        yield balancer, nodes


def _flags(certificates: Path, name: str) -> list[str]:
    files = [str(certificates / f"{name}.{kind}") for kind in ("pem", "key")]
    here = ["--host", f"127.0.0.{name[1:]}", "--public-url", "https://queues.example.com"]
    return [*here, "--tls-certificate", files[0], "--tls-key", files[1]]


def client_of(balancer: Balancer, node: Server, certificates: Path, **settings: Any) -> Any:
    """A boto3 client that knows the balancer only."""
    connection = node.connection() | {
        "endpoint_url": balancer.url,
        "verify": str(certificates / "public.pem"),
    }
    return boto3.client("sqs", **connection, config=config(**settings))


def direct_client(node: Server, certificates: Path) -> Any:
    """A boto3 client of one node, past the balancer."""
    connection = node.connection() | {"verify": str(certificates / "ca.pem")}
    return boto3.client("sqs", **connection, config=config())


def queue_on_all(nodes: list[Server], name: str, certificates: Path) -> str:
    """The same queue on every node, which share nothing here. Returns its URL."""
    for node in nodes:
        url: str = direct_client(node, certificates).create_queue(QueueName=name)["QueueUrl"]
    return url


def healthy(cluster: Cluster) -> None:
    """All nodes run, and HAProxy knows."""
    balancer, nodes = cluster
    for node in nodes:
        if not node.is_running:
            node.start()
    eventually(lambda: balancer.nodes_up() == len(nodes))


@pytest.mark.parametrize("name", ["haproxy.cfg", "haproxy-passthrough.cfg"])
def test_haproxy_has_nothing_to_say_against_the_configuration(
    name: str, certificates: Path, tmp_path: Path
) -> None:
    haproxy = parts.program("haproxy", "haproxy")
    text, _, _ = configured(name, certificates, tmp_path, [f"127.0.0.1:{port}" for port in (1, 2, 3)])
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")

    check = subprocess.run(
        [haproxy, "-c", "-f", str(path)], capture_output=True, text=True, timeout=20, check=False
    )

    assert check.returncode == 0, check.stderr
    assert "[WARNING]" not in check.stderr
    assert "[ALERT]" not in check.stderr


@pytest.mark.parametrize("name", ["haproxy.cfg", "haproxy-passthrough.cfg"])
def test_a_long_poll_fits_all_timeouts(name: str) -> None:
    """A receive waits for a message, and in a cluster also for its shard to have an owner."""
    text = (parts.DEPLOY / "haproxy" / name).read_text(encoding="utf-8")
    lines = [line.split() for line in text.splitlines()]
    timeouts = {words[1]: int(words[2].removesuffix("s")) for words in lines if words[:1] == ["timeout"]}
    settings = Settings()
    poll_s = WAIT_S_MAX + settings.routing.retry_s + settings.routing.call_timeout_s

    assert timeouts["client"] > poll_s
    assert timeouts["server"] > poll_s
    assert timeouts.get("http-keep-alive", 0) < settings.http.idle_timeout_s


def test_signed_requests_pass_unchanged_and_reach_every_node(cluster: Cluster, certificates: Path) -> None:
    """The signature covers the Host header, the path and the body."""
    healthy(cluster)
    balancer, nodes = cluster
    url = queue_on_all(nodes, "signed", certificates)
    client = client_of(balancer, nodes[0], certificates)

    assert url == "https://queues.example.com/000000000000/signed"
    for number in range(4):
        client.send_message(QueueUrl=url, MessageBody=f"{number} é" * 10_000)

    for node in nodes:
        direct = direct_client(node, certificates)
        answer = direct.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        assert int(answer["Attributes"]["ApproximateNumberOfMessages"]) == 2


def test_a_receive_whose_client_has_gone_takes_no_message(cluster: Cluster, certificates: Path) -> None:
    """
    A consumer that dies in a long poll must not have a message hidden for it: HAProxy has to
    tell the node at once that its client has closed.
    """
    healthy(cluster)
    balancer, nodes = cluster
    url = queue_on_all(nodes, "gone", certificates)
    impatient = client_of(balancer, nodes[0], certificates, read_timeout=1)
    patient = client_of(balancer, nodes[0], certificates)
    for _ in nodes:
        with pytest.raises(HTTPClientError):
            impatient.receive_message(QueueUrl=url, WaitTimeSeconds=20)
    eventually(lambda: _sessions(balancer) == 0, within_s=5)

    for number in range(len(nodes)):
        patient.send_message(QueueUrl=url, MessageBody=str(number))

    received: list[dict[str, Any]] = []
    for _ in nodes:
        received += patient.receive_message(QueueUrl=url, WaitTimeSeconds=0).get("Messages", [])
    assert len(received) == len(nodes)


def test_nothing_fails_when_a_node_is_stopped_in_the_middle_of_traffic(
    cluster: Cluster, certificates: Path
) -> None:
    """
    A node that stops answers what it has; the rest goes to the others. At most a request that met a
    connection just being closed fails, and an SDK repeats it: here without a single retry
    one may fail for each client.
    """
    healthy(cluster)
    balancer, nodes = cluster
    url = queue_on_all(nodes, "stopped", certificates)

    with Traffic(balancer, nodes[0], url, certificates) as traffic:
        traffic.goes_on()
        nodes[1].stop()
        traffic.goes_on()

    assert traffic.failed <= Traffic.CLIENTS, traffic.errors
    print(f"SIGTERM: {traffic.failed} of {traffic.done + traffic.failed} failed: {traffic.errors}")


def test_an_sdk_that_retries_sees_nothing_of_a_killed_node(cluster: Cluster, certificates: Path) -> None:
    """Requests that were at the node may have been done: HAProxy does not repeat them, the SDK may."""
    healthy(cluster)
    balancer, nodes = cluster
    url = queue_on_all(nodes, "killed", certificates)

    with Traffic(balancer, nodes[0], url, certificates, total_max_attempts=3) as traffic:
        traffic.goes_on()
        nodes[1].kill()
        traffic.goes_on()

    assert traffic.errors == []


def test_requests_for_a_node_that_cannot_be_reached_go_to_another(
    cluster: Cluster, certificates: Path
) -> None:
    """
    At first HAProxy believes that a node which was just killed is there. New connections are refused,
    which proves that nothing was done: no client hears of it.
    """
    healthy(cluster)
    balancer, nodes = cluster
    url = queue_on_all(nodes, "refused", certificates)
    nodes[1].kill()

    for number in range(8):
        client = client_of(balancer, nodes[0], certificates)
        client.send_message(QueueUrl=url, MessageBody=str(number))

    eventually(lambda: balancer.nodes_up() == 1, within_s=5)


def test_without_any_node_clients_get_an_error_that_sdks_retry(cluster: Cluster, certificates: Path) -> None:
    balancer, nodes = cluster
    assert balancer.ask_operator("/alive")[0] == 200  # one is enough
    for node in nodes:
        node.kill()
    eventually(lambda: balancer.nodes_up() == 0, within_s=5)

    with pytest.raises(ClientError) as caught:
        client_of(balancer, nodes[0], certificates).list_queues()

    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert balancer.ask_operator("/alive")[0] == 503
    assert "haproxy_backend_active_servers" in balancer.ask_operator("/metrics")[1]


def test_passthrough_leaves_tls_to_the_nodes(certificates: Path, tmp_path: Path) -> None:
    parts.program("haproxy", "haproxy")
    with running(tmp_path / "n1", *_flags(certificates, "n1")) as node:
        nobody = [f"127.0.0.1:{port}" for port in parts.free_ports(2)]
        addresses = [node.url.removeprefix("https://"), *nobody]
        with balancing("haproxy-passthrough.cfg", certificates, tmp_path, addresses, up=1) as balancer:
            connection = node.connection() | {"endpoint_url": balancer.url, "verify": False}
            client = boto3.client("sqs", **connection, config=config())
            with pytest.warns(Warning, match="Unverified HTTPS"):
                url = client.create_queue(QueueName="through")["QueueUrl"]
            host, _, port = balancer.url.removeprefix("https://").partition(":")
            with socket.create_connection((host, int(port)), timeout=5) as plain:
                plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                refused = plain.recv(100)

    assert url.endswith("/through")
    assert refused == b""


class Traffic:
    """Clients that send and receive without a pause, and count what fails.

    Lifecycle: a context; `goes_on` returns once every client has had some more answers.
    """

    CLIENTS = 4

    def __init__(
        self, balancer: Balancer, node: Server, url: str, certificates: Path, total_max_attempts: int = 1
    ) -> None:
        retries = {"total_max_attempts": total_max_attempts, "mode": "standard"}
        self._client = client_of(balancer, node, certificates, retries=retries)
        self._url = url
        self._stop = Event()
        self._counts = [0] * self.CLIENTS
        self._pool = ThreadPoolExecutor(self.CLIENTS)
        self.errors: list[str] = []

    @property
    def done(self) -> int:
        return sum(self._counts)

    @property
    def failed(self) -> int:
        return len(self.errors)

    def __enter__(self) -> Self:
        self._runs = [self._pool.submit(self._run, number) for number in range(self.CLIENTS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown()
        for run in self._runs:
            run.result()

    def goes_on(self) -> None:
        aims = [count + 20 for count in self._counts]
        eventually(lambda: all(count >= aim for count, aim in zip(self._counts, aims, strict=True)))

    def _run(self, number: int) -> None:
        for turn in itertools.count():
            if self._stop.is_set():
                return
            try:
                if turn % 2:
                    self._client.receive_message(QueueUrl=self._url, WaitTimeSeconds=0)
                else:
                    self._client.send_message(QueueUrl=self._url, MessageBody="x" * 100)
            except (BotoCoreError, ClientError) as error:
                self.errors.append(f"{time.monotonic():.3f} {type(error).__name__}: {error}")
            else:
                self._counts[number] += 1


def _sessions(balancer: Balancer) -> int:
    """Requests that are at the nodes now."""
    _, page = balancer.ask_operator("/;csv")
    [backend] = [line for line in page.splitlines() if line.startswith("nodes,BACKEND")]
    return int(backend.split(",")[4])
