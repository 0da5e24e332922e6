"""Whatever a client sends: an answer or a refusal, never a failure, and a refusal changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings

from tests.contract.fuzz import FIFO_NAME, QUEUE_NAME, bodies, prepare, still_app
from tests.frontend.app_driver import AppDriver


@pytest.fixture(scope="module")
def app() -> Iterator[AppDriver]:
    with still_app() as app:
        yield app


@settings(max_examples=1_500, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(bodies())
def test_no_request_fails_and_a_refused_one_changes_nothing(
    app: AppDriver, request_body: tuple[str, bytes]
) -> None:
    operation, body = request_body
    for stand_in, value in prepare(app).items():
        body = body.replace(stand_in.encode(), value.encode())
    before = app.picture()

    response = app.post(operation, body)

    event(f"{operation}: {response.status}")
    assert response.status in (200, 400, 403, 404)
    if response.status != 200:
        assert set(json.loads(response.body)) == {"__type", "message"}
        assert app.picture() == before


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("SendMessage", {"QueueUrl": QUEUE_NAME, "MessageBody": "x"}),
        (
            "SendMessage",
            {"QueueUrl": FIFO_NAME, "MessageBody": "x", "MessageGroupId": "a", "MessageDeduplicationId": "a"},
        ),
        ("TagQueue", {"QueueUrl": QUEUE_NAME, "Tags": {"a": "b"}}),
        ("StartMessageMoveTask", {"SourceArn": f"arn:aws:sqs:us-east-1:000000000000:{FIFO_NAME}"}),
    ],
)
def test_the_picture_tells_a_change(app: AppDriver, operation: str, members: dict[str, Any]) -> None:
    """Or the property above would say nothing."""
    prepare(app)
    before = app.picture()

    app.call(operation, **members)
    assert app.picture() != before
