"""The SDK for JavaScript with sqs-consumer and sqs-producer, run by node where there is one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.server import Server

FOLDER = Path(__file__).parent / "javascript"
MESSAGES = 100

_NO_NETWORK = re.compile(
    r"\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|EHOSTUNREACH|E\w*TIMEDOUT)\b"
)


@pytest.fixture(scope="module")
def node() -> str:
    """The path of node, once the packages of `package.json` are there."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    wanted = FOLDER / "package.json"
    installed = FOLDER / "node_modules" / "installed.json"
    if not installed.exists() or installed.read_bytes() != wanted.read_bytes():
        _install(npm)
        shutil.copyfile(wanted, installed)
    return node


def _install(npm: str) -> None:
    flags = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
    flags += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    try:
        done = subprocess.run(
            [npm, "install", *flags], cwd=FOLDER, capture_output=True, text=True, timeout=90, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not answer in time")
    if done.returncode and _NO_NETWORK.search(done.stderr):
        pytest.skip("npm cannot reach its registry")
    assert done.returncode == 0, done.stderr


def run(node: str, server: Server, *arguments: str) -> Any:
    """What a job of `jobs.js` saw."""
    connection = server.connection()
    environment = os.environ | {
        "AWS_ENDPOINT_URL_SQS": connection["endpoint_url"],
        "AWS_REGION": connection["region_name"],
        "AWS_ACCESS_KEY_ID": connection["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": connection["aws_secret_access_key"],
    }
    done = subprocess.run(
        [node, "jobs.js", *arguments],
        cwd=FOLDER,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_consumer_handles_what_a_producer_sends_and_gets_back_what_it_failed_on(
    node: str, server: Server, queue: str
) -> None:
    saw = run(node, server, "many", queue)

    assert saw["sent"] == MESSAGES
    bodies = [f"{number} — Grüße 🚉" for number in range(MESSAGES)]
    assert saw["handled"] == {body: 2 if number % 10 == 0 else 1 for number, body in enumerate(bodies)}
    assert saw["attributes"] == {body: number for number, body in enumerate(bodies)}
    assert saw["failures"] == ["1"] * (MESSAGES // 10)
    assert saw["left"] == 0


def test_a_heartbeat_keeps_a_long_job_from_other_consumers(node: str, server: Server, queue: str) -> None:
    saw = run(node, server, "long", queue)

    assert saw == {"handled": {"takes long": 1}, "meanwhile": []}


def test_the_sdk_pages_checks_sums_and_knows_errors_by_their_class(node: str, server: Server) -> None:
    saw = run(node, server, "sdk")

    assert saw["pages"] == [saw["urls"][:2], saw["urls"][2:]]
    assert saw["bodyIsSame"]
    assert saw["binary"] == [0, 1, 255]
    assert saw["error"] == {"isOfItsClass": True, "name": "QueueDoesNotExist", "status": 400}
