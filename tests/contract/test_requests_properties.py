"""Whatever a client sends: an answer or a refusal, never a failure, and a refusal changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, event, given, settings

from tests.contract.fuzz import HANDLE, QUEUE_NAME, bodies
from tests.frontend.app_driver import AppDriver


@pytest.fixture(scope="module")
def app() -> Iterator[AppDriver]:
    with AppDriver(carries=False) as driver:
        # No example may take a receive's whole waiting time.
        driver.backend.drain()
        yield driver


def prepare(app: AppDriver) -> str:
    """Have a queue with a message, whatever became of it before; returns a receipt handle."""
    queue = app.call("CreateQueue", QueueName=QUEUE_NAME)["QueueUrl"]
    defaults = {"VisibilityTimeout": "30", "MaximumMessageSize": "1048576", "DelaySeconds": "0"}
    app.call("SetQueueAttributes", QueueUrl=queue, Attributes=defaults)
    app.call("SendMessage", QueueUrl=queue, MessageBody="hello", DelaySeconds=0)
    [message] = app.call("ReceiveMessage", QueueUrl=queue, VisibilityTimeout=0)["Messages"]
    handle: str = message["ReceiptHandle"]
    return handle


@settings(max_examples=1_500, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(bodies())
def test_no_request_fails_and_a_refused_one_changes_nothing(
    app: AppDriver, request_body: tuple[str, bytes]
) -> None:
    operation, body = request_body
    body = body.replace(HANDLE.encode(), prepare(app).encode())
    before = app.picture()

    response = app.post(operation, body)

    event(f"{operation}: {response.status}")
    assert response.status in (200, 400, 403, 404)
    if response.status != 200:
        assert set(json.loads(response.body)) == {"__type", "message"}
        assert app.picture() == before


def test_the_examples_reach_behind_the_first_checks(app: AppDriver) -> None:
    """The picture tells a change, or the property above would say nothing."""
    prepare(app)
    before = app.picture()

    app.call("SendMessage", QueueUrl=QUEUE_NAME, MessageBody="x")
    assert app.picture() != before
