"""Whatever a client asks for, both protocols do and say the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, event, given, settings

from tests.contract.fuzz import prepare, requests, still_app
from tests.contract.in_process import caller
from tests.frontend.app_driver import AppDriver
from waystation.protocol.limits import FORBIDDEN_TEXT_PATTERN

INTEGER_MAX = 10**18 - 1
MADE_WITH_CHANCE = {"MessageId", "ReceiptHandle", "TaskHandle", "ResponseMetadata"}


@pytest.fixture(scope="module")
def apps() -> Iterator[tuple[AppDriver, AppDriver]]:
    """Two that have gone through the same: one over AWS JSON, the other over Query."""
    with still_app() as first, still_app() as second:
        yield first, second


def expressible(value: Any) -> Any:
    """Members as a form can say them: numbers have 18 digits at most."""
    match value:
        case dict():
            return {name: expressible(each) for name, each in value.items()}
        case list():
            return [expressible(each) for each in value]
        case int():
            return max(-INTEGER_MAX, min(value, INTEGER_MAX))
    return value


def comparable(value: Any) -> Any:
    """A result without what differs between two apps, and what XML cannot say."""
    match value:
        case dict():
            kept = {name: each for name, each in value.items() if name not in MADE_WITH_CHANCE}
            return {name: comparable(each) for name, each in kept.items() if each not in ([], {})}
        case list():
            return [comparable(each) for each in value]
        case str():
            text = value.replace(" for this wsdl version", "")
            return FORBIDDEN_TEXT_PATTERN.sub("\ufffd", text)
    return value


def outcome(app: AppDriver, protocol: str, operation: str, members: Any) -> Any:
    """What the request leads to: a status and a result or an error."""
    stand_ins = prepare(app)
    filled = json.dumps(members)
    for stand_in, value in stand_ins.items():
        filled = filled.replace(stand_in, value)
    try:
        answer = 200, caller(app, protocol)(operation, **json.loads(filled))
    except ClientError as error:
        told = error.response["Error"]
        answer = error.response["ResponseMetadata"]["HTTPStatusCode"], [told["Code"], told["Message"]]
    shown = json.dumps(comparable(answer[1]), default=repr)
    for stand_in, value in stand_ins.items():
        shown = shown.replace(value, stand_in)
    return answer[0], json.loads(shown)


@settings(max_examples=1_000, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(requests())
def test_both_protocols_answer_alike(
    apps: tuple[AppDriver, AppDriver], request_: tuple[str, dict[str, Any]]
) -> None:
    operation, members = request_[0], expressible(request_[1])

    of_json, of_query = (
        outcome(app, protocol, operation, members)
        for app, protocol in zip(apps, ("json", "query"), strict=True)
    )

    event(f"{operation}: {of_json[0]}")
    assert of_query == of_json
