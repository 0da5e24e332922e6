"""What is no request, or nobody's: how it is refused on the wire, and that nothing secret is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.forms import Ask, told
from tests.contract.wire import Answer, post, refused
from tests.protocol.service_model import OPERATION_NAMES
from tests.server import Server

COMMON = "com.amazon.coral.service#"


def is_well_formed(answer: Answer) -> bool:
    return (
        set(answer.json) == {"__type", "message"}
        and answer.headers["content-type"] == "application/x-amz-json-1.0"
        and len(answer.headers["x-amzn-requestid"]) == 36
    )


def test_all_23_operations_are_known(server: Server, ask: Ask) -> None:
    assert len(OPERATION_NAMES) == 23

    for operation in OPERATION_NAMES:
        answer = ask(server.url, operation, {})
        assert answer.status == 200 or told(answer).code in ("MissingParameter", "EmptyBatchRequest")


@pytest.mark.parametrize(
    "target", ["AmazonSQS.Fly", "AmazonSQS.", "SendMessage", "Other.SendMessage", "amazonsqs.SendMessage"]
)
def test_an_unknown_operation_is_status_404(server: Server, target: str) -> None:
    answer = post(server.url, "", {}, headers={"X-Amz-Target": target})

    assert answer.error == (404, f"{COMMON}UnknownOperationException", "UnknownOperationException;Sender")
    assert is_well_formed(answer)


# What is not a request


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"1",
        b"{}{}",
        b"\xff\xfe",
        b"QueueUrl=x",
        b"{'QueueUrl':1}",
        b"[" * 100_000,
    ],
)
def test_what_is_no_json_object_is_refused_without_repeating_it(server: Server, body: bytes) -> None:
    answer = post(server.url, "SendMessage", body)

    assert answer.error == (400, f"{COMMON}SerializationException", "SerializationException;Sender")
    assert is_well_formed(answer)


@pytest.mark.parametrize(
    "members",
    [
        {"QueueUrl": 1},
        {"QueueUrl": ["x"]},
        {"DelaySeconds": "1"},
        {"DelaySeconds": 1.5},
        {"DelaySeconds": True},
        {"MessageAttributes": []},
        {"MessageAttributes": {"a": "x"}},
        {"MessageAttributes": {"a": {"BinaryValue": "not base64!"}}},
    ],
)
def test_a_member_of_another_type_is_refused(server: Server, queue: str, members: dict[str, Any]) -> None:
    answer = post(server.url, "SendMessage", {"QueueUrl": queue, "MessageBody": "x", **members})

    assert answer.status == 400
    assert answer.json["__type"] == f"{COMMON}SerializationException"
    assert next(iter(members)) in answer.json["message"] or "JSON" in answer.json["message"]


def test_unknown_and_null_members_are_ignored(server: Server, queue: str) -> None:
    members = {"QueueUrl": queue, "MessageBody": "x", "Colour": "red", "DelaySeconds": None}

    assert post(server.url, "SendMessage", members).status == 200


def test_an_empty_body_is_a_request_without_members(server: Server) -> None:
    assert post(server.url, "ListQueues", b"").status == 200
    assert (
        post(server.url, "SendMessage", b"").json["message"]
        == "The request must contain the parameter QueueUrl."
    )


def test_every_answer_has_a_request_id_of_its_own(server: Server, ask: Ask) -> None:
    ids = {ask(server.url, "ListQueues", {}).headers["x-amzn-requestid"] for _ in range(3)}
    ids.add(ask(server.url, "Fly", {}).headers["x-amzn-requestid"])

    assert len(ids) == 4


def test_an_operation_that_gives_nothing_answers_with_an_empty_body(
    server: Server, new_queue: Callable[..., str]
) -> None:
    answer = post(server.url, "DeleteQueue", {"QueueUrl": new_queue()})

    assert (answer.status, answer.body) == (200, b"")


# Who asks


@pytest.mark.parametrize("late_s", [-400.0, 400.0])
def test_a_signature_of_another_time_is_refused(server: Server, ask: Ask, late_s: float) -> None:
    error = told(ask(server.url, "ListQueues", {}, late_s=late_s))

    assert (error.status, error.code) == (403, "SignatureDoesNotMatch")
    assert error.text.startswith("Signature expired" if late_s > 0 else "Signature not yet current")


@pytest.mark.parametrize("late_s", [-200.0, 200.0])
def test_a_clock_that_is_a_little_off_is_forgiven(server: Server, ask: Ask, late_s: float) -> None:
    assert ask(server.url, "ListQueues", {}, late_s=late_s).status == 200


def test_a_body_changed_after_signing_is_refused(server: Server, json_sqs: Any, queue: str) -> None:
    def tamper(request: Any, **_: Any) -> None:
        request.body = request.body.replace(b"one", b"two")

    client = server.client()
    client.meta.events.register("before-send.sqs.SendMessage", tamper)
    with refused("SignatureDoesNotMatch", status=403):
        client.send_message(QueueUrl=queue, MessageBody="one")
    assert "Messages" not in json_sqs.receive_message(QueueUrl=queue)


def test_nobody_learns_of_a_queue_without_a_signature(server: Server, ask: Ask, queue: str) -> None:
    exists = told(ask(server.url, "SendMessage", {"QueueUrl": queue}, signed=False))
    does_not = told(ask(server.url, "SendMessage", {"QueueUrl": "no-such-queue"}, signed=False))

    assert (exists.status, exists.code, exists.text) == (does_not.status, does_not.code, does_not.text)
