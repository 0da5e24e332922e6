"""A node is started, stopped and started again on one data directory."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from waystation.backend.settings import BackendSettings
from waystation.cli.errors import CannotStart
from waystation.cli.node import Node
from waystation.cli.settings import RootKeySettings, Settings
from waystation.frontend.settings import AuthSettings, HttpSettings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A new data directory, a free port, and nobody to authenticate."""
    return Settings(data_dir=tmp_path / "data", http=HttpSettings(port=0), auth=AuthSettings(enabled=False))


@asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[Node]:
    node = Node(settings)
    try:
        await node.start()
        yield node
    finally:
        await node.stop()


async def call(node: Node, operation: str, body: str) -> str:
    """Status line and body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(
        f"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AmazonSQS.{operation}\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    answer = (await reader.read()).decode()
    writer.close()
    return answer.partition("\r\n")[0] + answer.partition("\r\n\r\n")[2]


async def starts_not(settings: Settings) -> str:
    """Why it does not start. What it had taken is given back."""
    node = Node(settings)
    with pytest.raises(CannotStart) as refused:
        await node.start()
    await node.stop()
    reason = str(refused.value)
    assert "\n" not in reason
    return reason


async def start_and_stop(settings: Settings) -> None:
    async with started(settings):
        pass


def test_queues_and_messages_are_there_after_a_restart(settings: Settings) -> None:
    async def scenario() -> None:
        async with started(settings) as node:
            await call(node, "CreateQueue", '{"QueueName":"orders","Attributes":{"DelaySeconds":"0"}}')
            await call(node, "SendMessage", '{"QueueUrl":"orders","MessageBody":"hello"}')
        async with started(settings) as node:
            assert "hello" in await call(node, "ReceiveMessage", '{"QueueUrl":"orders"}')
            assert "/orders" in await call(node, "ListQueues", "{}")

    asyncio.run(scenario())


def test_handles_and_ids_stay_valid_over_a_restart(settings: Settings) -> None:
    async def scenario() -> None:
        async with started(settings) as node:
            await call(node, "CreateQueue", '{"QueueName":"orders"}')
            await call(node, "SendMessage", '{"QueueUrl":"orders","MessageBody":"hello"}')
            received = await call(node, "ReceiveMessage", '{"QueueUrl":"orders"}')
            handle = received.partition('"ReceiptHandle":"')[2].partition('"')[0]
        async with started(settings) as node:
            body = f'{{"QueueUrl":"orders","ReceiptHandle":"{handle}"}}'
            assert await call(node, "DeleteMessage", body) == "HTTP/1.1 200 OK"

    asyncio.run(scenario())


def test_a_move_goes_on_over_a_restart(settings: Settings) -> None:
    def arn(name: str) -> str:
        return f"arn:aws:sqs:us-east-1:000000000000:{name}"

    async def scenario() -> None:
        policy = json.dumps({"deadLetterTargetArn": arn("letters"), "maxReceiveCount": 1})
        orders = {"QueueName": "orders", "Attributes": {"RedrivePolicy": policy}}
        move = {"SourceArn": arn("letters"), "DestinationArn": arn("orders")}
        async with started(settings) as node:
            await call(node, "CreateQueue", '{"QueueName":"letters"}')
            await call(node, "CreateQueue", json.dumps(orders))
            for _ in range(3):
                await call(node, "SendMessage", '{"QueueUrl":"letters","MessageBody":"hello"}')
            slowly = json.dumps({**move, "MaxNumberOfMessagesPerSecond": 2})
            assert "TaskHandle" in await call(node, "StartMessageMoveTask", slowly)
        assert len(asyncio.all_tasks()) == 1
        async with started(settings) as node, asyncio.timeout(20):
            source = json.dumps({"SourceArn": arn("letters")})
            while "COMPLETED" not in (task := await call(node, "ListMessageMoveTasks", source)):
                assert "RUNNING" in task
            assert '"ApproximateNumberOfMessagesMoved":3' in task

    asyncio.run(scenario())


def test_two_nodes_do_not_share_a_data_directory(settings: Settings) -> None:
    async def scenario() -> None:
        async with started(settings):
            assert await starts_not(settings) == (
                f"the data directory {settings.data_dir} is in use by another node"
            )
        # The first one's lock is gone with it, and the second never had one.
        await start_and_stop(settings)

    asyncio.run(scenario())


def test_a_first_key_is_made_once_and_kept_for_the_owner_alone(settings: Settings) -> None:
    async def scenario() -> None:
        strict = replace(settings, auth=AuthSettings())
        async with started(strict) as first:
            assert first.root_key_created
        async with started(strict) as second:
            assert not second.root_key_created
        assert second.root_key == first.root_key is not None

    asyncio.run(scenario())
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((settings.data_dir / "root-access-key.json").stat().st_mode) == 0o600


def test_a_given_key_is_taken_and_not_written_down(settings: Settings) -> None:
    async def scenario() -> None:
        root = RootKeySettings(access_key_id="AKIAGIVEN", secret_access_key="given-secret")
        async with started(replace(settings, auth=AuthSettings(), root=root)) as node:
            assert node.root_key is not None
            assert node.root_key.id == "AKIAGIVEN"
            assert "MissingAuthenticationToken" in await call(node, "ListQueues", "{}")

    asyncio.run(scenario())
    content = b"".join(path.read_bytes() for path in settings.data_dir.iterdir())
    assert b"given-secret" not in content


def test_half_a_given_key_keeps_a_node_from_starting(settings: Settings) -> None:
    half = replace(settings, auth=AuthSettings(), root=RootKeySettings(access_key_id="AKIAGIVEN"))

    assert "the secret access key is missing" in asyncio.run(starts_not(half))


def test_without_authentication_there_is_no_key(settings: Settings) -> None:
    async def scenario() -> None:
        async with started(settings) as node:
            assert node.root_key is None
            assert not node.root_key_created
            assert "HTTP/1.1 200 OK" in await call(node, "ListQueues", "{}")

    asyncio.run(scenario())


def test_a_data_directory_keeps_its_number_of_shards(settings: Settings) -> None:
    asyncio.run(start_and_stop(replace(settings, backend=BackendSettings(shards=3))))
    asyncio.run(start_and_stop(replace(settings, backend=BackendSettings(shards=5))))

    assert len(list(settings.data_dir.glob("shard-*.db"))) == 3


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_node_does_not_start_without_one_of_its_shards(settings: Settings, missing: int) -> None:
    """A new, empty one in its place would lose the messages that were in it without a word."""

    async def fill() -> None:
        async with started(replace(settings, backend=BackendSettings(shards=3))) as node:
            for number in range(20):
                await call(node, "CreateQueue", f'{{"QueueName":"queue-{number}"}}')

    asyncio.run(fill())
    path = settings.data_dir / f"shard-00{missing}.db"
    path.unlink()

    assert f"{path} is missing" in asyncio.run(starts_not(settings))
    assert not path.exists()


def test_a_node_does_not_start_without_its_only_shard(settings: Settings) -> None:
    async def fill() -> None:
        async with started(settings) as node:
            await call(node, "CreateQueue", '{"QueueName":"orders"}')

    asyncio.run(fill())
    (settings.data_dir / "shard-000.db").unlink()

    assert "shard-000.db is missing" in asyncio.run(starts_not(settings))


def test_a_node_does_not_start_without_its_catalogue(settings: Settings) -> None:
    async def fill() -> None:
        async with started(settings) as node:
            await call(node, "CreateQueue", '{"QueueName":"orders"}')
            await call(node, "SendMessage", '{"QueueUrl":"orders","MessageBody":"hello"}')

    asyncio.run(fill())
    catalogue = settings.data_dir / "metadata.db"
    kept = catalogue.rename(settings.data_dir / "kept")
    assert "metadata.db is missing" in asyncio.run(starts_not(settings))

    kept.rename(catalogue)

    async def look() -> None:
        async with started(settings) as node:
            assert "hello" in await call(node, "ReceiveMessage", '{"QueueUrl":"orders"}')

    asyncio.run(look())


@pytest.mark.parametrize("name", ["metadata.db", "shard-000.db"])
def test_a_file_that_is_no_database_is_named(settings: Settings, name: str) -> None:
    asyncio.run(start_and_stop(settings))
    (settings.data_dir / name).write_bytes(b"something else entirely" * 1_000)

    assert name in asyncio.run(starts_not(settings))


def test_a_port_that_is_taken_keeps_a_node_from_starting_and_nothing_is_left_behind(
    settings: Settings,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        async def scenario() -> None:
            node = Node(replace(settings, http=HttpSettings(port=port)))
            with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
                await node.start()
            await node.stop()
            assert len(asyncio.all_tasks()) == 1
            await start_and_stop(settings)

        asyncio.run(scenario())


def test_a_node_that_was_never_started_and_one_that_is_stopped_can_be_stopped(settings: Settings) -> None:
    async def scenario() -> None:
        node = Node(settings)
        await node.stop()
        await node.start()
        await node.stop()
        await node.stop()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("http", "url"),
    [
        (HttpSettings(host="127.0.0.1"), "http://127.0.0.1:0"),
        (HttpSettings(host="0.0.0.0"), "http://127.0.0.1:0"),
        (HttpSettings(host="::"), "http://[::1]:0"),
        (HttpSettings(host="::1"), "http://[::1]:0"),
        (HttpSettings(host="queues.example"), "http://queues.example:0"),
        (HttpSettings(tls_certificate=Path("cert.pem")), "https://127.0.0.1:0"),
    ],
)
def test_the_url_is_one_that_clients_on_this_machine_can_use(
    settings: Settings, http: HttpSettings, url: str
) -> None:
    assert Node(replace(settings, http=http)).url == url
