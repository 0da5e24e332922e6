"""From an HTTP request to an answer, without HTTP."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from uuid import UUID

import pytest

from tests.frontend.app_driver import ACCOUNT, AppDriver, request_of
from tests.frontend.signing import KEY, authenticator, signed
from waystation.frontend.http_messages import Response
from waystation.protocol.errors import Unavailable


@pytest.fixture
def app() -> Iterator[AppDriver]:
    with AppDriver() as driver:
        yield driver


def header(response: Response, name: str) -> str:
    [value] = [value for each, value in response.headers if each == name]
    return value


def test_a_queue_url_has_the_host_and_the_scheme_that_the_client_used(app: AppDriver) -> None:
    request = request_of("CreateQueue", b'{"QueueName":"a"}', host="Example.com:1234")

    plain = json.loads(app.handle(request).body)["QueueUrl"]
    secure = json.loads(app.handle(dataclasses.replace(request, secure=True)).body)["QueueUrl"]
    assert plain == f"http://Example.com:1234/{ACCOUNT}/a"
    assert secure == f"https://Example.com:1234/{ACCOUNT}/a"


@pytest.mark.parametrize("public_url", ["https://sqs.example.com", "https://sqs.example.com/"])
def test_a_configured_public_url_goes_before_the_host_of_the_client(public_url: str) -> None:
    with AppDriver(public_url=public_url) as app:
        url = app.create_queue("a")

        assert url == f"https://sqs.example.com/{ACCOUNT}/a"
        assert app.call("ListQueues")["QueueUrls"] == [url]
        assert app.call("GetQueueUrl", QueueName="a")["QueueUrl"] == url


def test_every_answer_has_a_request_id_that_looks_like_a_uuid(app: AppDriver) -> None:
    answers = [app.post("ListQueues", b"{}"), app.post("ListQueues", b"["), app.post("Fly", b"{}")]
    ids = [header(answer, "x-amzn-RequestId") for answer in answers]

    assert len(set(ids)) == 3
    assert all(str(UUID(each)) == each and UUID(each).version == 4 for each in ids)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_anything_but_a_post_is_an_unknown_operation(app: AppDriver, method: str) -> None:
    request = dataclasses.replace(request_of("ListQueues", b"{}"), method=method)

    answer = app.handle(request)
    assert answer.status == 404
    assert header(answer, "x-amzn-query-error") == "UnknownOperationException;Sender"


def test_a_post_that_names_no_operation_is_an_unknown_operation(app: AppDriver) -> None:
    request = request_of("ListQueues", b"{}")
    del request.headers["x-amz-target"]

    assert app.handle(request).status == 404


def test_who_calls_is_found_out_before_what_is_asked_is_read(app: AppDriver) -> None:
    strict = app.app_for(authenticator())

    stranger = app.run(strict.handle(request_of("ListQueues", b"not json")))
    friend = app.run(
        strict.handle(signed(headers={"X-Amz-Target": "AmazonSQS.ListQueues"}, body=b"not json"))
    )

    assert "MissingAuthenticationToken" in header(stranger, "x-amzn-query-error")
    assert "SerializationException" in header(friend, "x-amzn-query-error")


def test_a_caller_owns_the_queues_of_its_account_only(app: AppDriver) -> None:
    app.create_queue("mine")
    strict = app.app_for(authenticator())
    request = signed(headers={"X-Amz-Target": "AmazonSQS.ListQueues"}, body=b"{}")

    assert KEY.account != ACCOUNT
    assert app.run(strict.handle(request)).body == b"{}"


def test_a_node_that_cannot_serve_now_answers_503_and_takes_the_blame(app: AppDriver) -> None:
    queue = app.create_queue()
    app.run(app.backend.stop())

    answer = app.post("SendMessage", json.dumps({"QueueUrl": queue, "MessageBody": "x"}).encode())
    assert answer.status == 503
    assert header(answer, "x-amzn-query-error") == "ServiceUnavailable;Receiver"
    assert json.loads(answer.body)["__type"] == "com.amazon.coral.service#ServiceUnavailable"


def test_a_bug_is_not_taken_for_a_refusal(app: AppDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The HTTP server answers 500 and logs it: here it must come through."""

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(app.catalogue, "names", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        app.post("ListQueues", b"{}")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health_is_answered_to_anybody(app: AppDriver, method: str) -> None:
    strict = app.app_for(authenticator())
    request = dataclasses.replace(
        request_of("", b""), method=method, target="/health", path="/health", headers={}
    )

    assert app.run(strict.handle(request)).status == 200
    app.run(app.backend.stop())
    assert app.run(strict.handle(request)).status == 503


def test_unavailability_is_told_in_its_own_words(app: AppDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object) -> None:
        raise Unavailable("Come back later.")

    monkeypatch.setattr(app.catalogue, "names", busy)
    assert json.loads(app.post("ListQueues", b"{}").body)["message"] == "Come back later."
