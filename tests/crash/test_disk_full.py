"""A full disk costs nothing that was acknowledged, and service resumes by itself when there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.server import Server, eventually, running

DISK_BYTES = 32_000_000
FILLER_BYTES = 8_000_000
BODY_BYTES = 100_000
SMALL = (
    ("--log.reserve-bytes", "8000000"),
    ("--log.checkpoint-bytes", "1000000"),
    ("--log.vacuum-bytes", "1000000"),
    ("--backend.garbage-bytes-max", "1000000"),
    ("--backend.idle-snapshot-s", "0.5"),
    ("--backend.retry-delay-max-s", "0.2"),
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def server(disk: Path) -> Iterator[Server]:
    """Its data and a filler file share the disk."""
    (disk / "filler").write_bytes(b"f" * FILLER_BYTES)
    flags = (word for flag in SMALL for word in flag)
    with running(disk / "data", *flags, log=disk.parent / "server.log") as server:
        yield server


@pytest.fixture
def sqs(server: Server) -> Any:
    """A client that tries once more, as all SDKs do at least."""
    return server.client(retries={"total_max_attempts": 2, "mode": "standard"})


def fill_up(disk: Path) -> None:
    """Leave no room at all for anything else than the files that are there."""
    room = os.statvfs(disk)
    with (disk / "rest").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)


def send_until_refused(sqs: Any, queue: str) -> dict[str, str]:
    """Message ids and bodies of all that were acknowledged."""
    sent: dict[str, str] = {}
    while True:
        body = f"{len(sent):06}" + "x" * BODY_BYTES
        try:
            sent[sqs.send_message(QueueUrl=queue, MessageBody=body)["MessageId"]] = body
        except ClientError as error:
            assert_unavailable(error)
            return sent


def assert_unavailable(error: ClientError) -> None:
    assert error.response["Error"]["Code"] == "ServiceUnavailable"
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert error.response["ResponseMetadata"]["RetryAttempts"] == 1


def works(call: Any) -> Any:
    """What the call gives; None while it is refused for want of room."""
    try:
        return call()
    except ClientError as error:
        assert_unavailable(error)
        return None


def receive_and_delete_all(sqs: Any, queue: str, patience: bool = False) -> dict[str, str]:
    """Message ids and bodies of all there were; with patience, in spite of refusals."""
    received: dict[str, str] = {}

    def attempt(call: Any) -> Any:
        return eventually(lambda: works(call)) if patience else call()

    while messages := attempt(lambda: sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)).get(
        "Messages"
    ):
        received.update({message["MessageId"]: message["Body"] for message in messages})
        entries = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
            for number, message in enumerate(messages)
        ]
        deleted = attempt(lambda batch=entries: sqs.delete_message_batch(QueueUrl=queue, Entries=batch))
        assert len(deleted["Successful"]) == len(entries)
    return received


def test_sends_are_refused_while_the_disk_is_nearly_full_and_consumers_make_room(sqs: Any) -> None:
    queue = sqs.create_queue(QueueName="orders")["QueueUrl"]
    sent = send_until_refused(sqs, queue)
    assert len(sent) > 20

    assert receive_and_delete_all(sqs, queue) == sent

    # Nobody does anything for it: what was deleted leaves the disk, and sends are taken again.
    assert eventually(lambda: works(lambda: sqs.send_message(QueueUrl=queue, MessageBody="hello")))
    assert len(send_until_refused(sqs, queue)) > 20


def test_a_disk_without_any_room_loses_nothing_and_service_resumes_when_there_is_room(
    disk: Path, server: Server, sqs: Any
) -> None:
    queue = sqs.create_queue(QueueName="orders")["QueueUrl"]
    sent = send_until_refused(sqs, queue)
    fill_up(disk)
    # Now not even a receive has room, which the log has to note.
    refused = eventually(lambda: receive_until_refused(sqs, queue))
    assert_unavailable(refused)
    with pytest.raises(ClientError) as not_created:
        sqs.create_queue(QueueName="another")
    assert_unavailable(not_created.value)

    with ThreadPoolExecutor() as pool:
        consumer = pool.submit(receive_and_delete_all, sqs, queue, patience=True)
        (disk / "filler").unlink()
        (disk / "rest").unlink()
        eventually(lambda: works(lambda: sqs.send_message(QueueUrl=queue, MessageBody="after")))
        received = consumer.result()
    received |= receive_and_delete_all(sqs, queue)

    assert {each: received.get(each) for each in sent} == sent
    assert server.is_running
    server.stop()


def receive_until_refused(sqs: Any, queue: str) -> ClientError | None:
    try:
        sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0)
    except ClientError as error:
        return error
    return None


def test_a_crash_on_a_full_disk_loses_nothing(disk: Path, server: Server, sqs: Any) -> None:
    queue = sqs.create_queue(QueueName="orders")["QueueUrl"]
    sent = send_until_refused(sqs, queue)
    fill_up(disk)
    eventually(lambda: receive_until_refused(sqs, queue))
    server.kill()

    code, said = server.fail_to_start()
    assert code == 1
    assert len(said.splitlines()) == 1
    assert said.startswith("waystation: cannot start: ")

    (disk / "filler").unlink()
    server.start()
    assert receive_and_delete_all(sqs, queue) == sent
