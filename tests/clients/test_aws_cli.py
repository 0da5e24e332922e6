"""The `aws` command line, run as its users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.clients.certificates import make_certificate
from tests.server import Server, running

AWS = Path(sys.executable).parent / "aws"


@pytest.fixture(autouse=True)
def is_installed() -> None:
    assert AWS.exists(), "the aws command line belongs to the development environment"


def run(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    connection = server.connection()
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": connection["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": connection["aws_secret_access_key"],
        "AWS_DEFAULT_REGION": connection["region_name"],
        "AWS_MAX_ATTEMPTS": "1",
    }
    # Version 1 of it does not heed AWS_ENDPOINT_URL_SQS in the regions that AWS has.
    command = [sys.executable, str(AWS), "--endpoint-url", server.url, "--output", "json", "sqs", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def aws(server: Server, *arguments: str) -> Any:
    """What a command prints."""
    done = run(server, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout or "{}")


def test_a_queue_lives_its_life(server: Server) -> None:
    url = aws(server, "create-queue", "--queue-name", "by-cli", "--attributes", "VisibilityTimeout=60")[
        "QueueUrl"
    ]
    sent = aws(
        server, "send-message", "--queue-url", url, "--message-body", "Grüße & <hello>",
        "--message-attributes", '{"n":{"DataType":"Number","StringValue":"1"}}',
    )  # fmt: skip
    [message] = aws(
        server, "receive-message", "--queue-url", url, "--attribute-names", "All",
        "--message-attribute-names", "All", "--wait-time-seconds", "5",
    )["Messages"]  # fmt: skip

    assert message["MessageId"] == sent["MessageId"]
    assert message["Body"] == "Grüße & <hello>"
    assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"

    aws(server, "delete-message", "--queue-url", url, "--receipt-handle", message["ReceiptHandle"])
    shown = aws(server, "get-queue-attributes", "--queue-url", url, "--attribute-names", "All")["Attributes"]
    assert (shown["ApproximateNumberOfMessages"], shown["VisibilityTimeout"]) == ("0", "60")

    aws(server, "delete-queue", "--queue-url", url)
    refused = run(server, "get-queue-url", "--queue-name", "by-cli")
    assert refused.returncode != 0
    assert "AWS.SimpleQueueService.NonExistentQueue" in refused.stderr


def test_it_speaks_tls_to_a_server_whose_certificate_it_was_given(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    flags = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    with running(tmp_path / "data", *flags) as server:
        assert server.url.startswith("https://127.0.0.1:")
        trust = ("--ca-bundle", str(certificate))
        url = aws(server, *trust, "create-queue", "--queue-name", "secure")["QueueUrl"]
        assert url.startswith(server.url)

        stranger = run(server, "list-queues")
        assert stranger.returncode != 0
        assert "SSL validation failed" in stranger.stderr

        # The same certificate serves the SDKs.
        sqs = boto3.client("sqs", **server.connection(), verify=str(certificate))
        assert sqs.list_queues()["QueueUrls"] == [url]
        sqs.close()
        server.stop()
