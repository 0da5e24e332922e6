"""The Query protocol through the app: which requests speak it, to which queue, and who has signed them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from tests.frontend.app_driver import ACCOUNT, BASE_URL, AppDriver
from tests.frontend.signing import KEY, SIGNED_AT_S, Clock, authenticator, changed, presigned, signed
from waystation.frontend.app import App
from waystation.frontend.http_messages import Request, Response
from waystation.protocol.operations import OPERATIONS

FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
QUEUE_PATH = f"/{ACCOUNT}/orders"
OWN_QUEUE_PATH = f"/{KEY.account}/orders"


@pytest.fixture
def app() -> Iterator[AppDriver]:
    with AppDriver() as driver:
        yield driver


@pytest.fixture
def strict(app: AppDriver) -> App:
    """The app as it is for KEY, who has a queue, and for nobody else."""
    strict = app.app_for(authenticator())
    created = signed_form("/", Action="CreateQueue", QueueName="orders")
    assert app.run(strict.handle(created)).status == 200
    return strict


def form(path: str = "/", **parameters: str | int) -> Request:
    """A POST; `_` in names of parameters stands for a dot."""
    body = urlencode({name.replace("_", "."): value for name, value in parameters.items()}).encode()
    return Request("POST", path, path, "", {"host": "queues.test:9324", **FORM}, body, secure=False)


def get(path: str = "/", **parameters: str | int) -> Request:
    query = urlencode({name.replace("_", "."): value for name, value in parameters.items()})
    headers = {"host": "queues.test:9324"}
    return Request("GET", f"{path}?{query}", path, query, headers, b"", secure=False)


def signed_form(path: str, **parameters: str | int) -> Request:
    return signed("POST", f"http://localhost:9324{path}", dict(FORM), urlencode(parameters).encode())


def signed_url(path: str, **parameters: str | int) -> Request:
    return presigned("GET", f"http://localhost:9324{path}?{urlencode(parameters)}")


def code(response: Response) -> tuple[int, str]:
    """Status and code of an error in XML."""
    return response.status, response.body.decode().partition("<Code>")[2].partition("</Code>")[0]


def text(response: Response) -> str:
    assert response.status == 200, response
    return response.body.decode()


# Which requests


def test_a_form_is_answered_in_xml_and_json_in_json(app: AppDriver) -> None:
    answer = app.handle(form(Action="CreateQueue", QueueName="orders", Attribute_1_Name="DelaySeconds"))
    assert (answer.content_type, code(answer)) == ("text/xml", (400, "MissingParameter"))

    answer = app.handle(form(Action="CreateQueue", QueueName="orders"))
    assert (answer.content_type, answer.status) == ("text/xml", 200)
    assert f"<QueueUrl>{BASE_URL}{QUEUE_PATH}</QueueUrl>" in text(answer)
    assert app.call("ListQueues") == {"QueueUrls": [f"{BASE_URL}{QUEUE_PATH}"]}


def test_both_protocols_see_the_same_messages(app: AppDriver) -> None:
    url = app.create_queue("orders")
    app.handle(form(Action="SendMessage", QueueUrl=url, MessageBody="from a form <&> 🎉\r\n"))
    app.call("SendMessage", QueueUrl=url, MessageBody="from json\r\n")

    [message] = app.call("ReceiveMessage", QueueUrl=url)["Messages"]
    assert message["Body"] == "from a form <&> 🎉\r\n"
    received = text(app.handle(form(Action="ReceiveMessage", QueueUrl=url)))
    assert "<Body>from json&#xD;\n</Body>" in received


def test_the_parameters_may_be_in_the_url_of_a_get_or_of_a_post(app: AppDriver) -> None:
    app.create_queue("orders")
    query = get(Action="SendMessage", QueueUrl="orders", MessageBody="a b+c").query
    in_a_post = changed(form(MessageBody="in the body"), query=query, headers={"content-type": None})

    assert "<MessageId>" in text(
        app.handle(get(Action="SendMessage", QueueUrl="orders", MessageBody="a b+c"))
    )
    assert "<MessageId>" in text(app.handle(in_a_post))
    bodies = [app.call("ReceiveMessage", QueueUrl="orders")["Messages"][0]["Body"] for _ in range(2)]
    assert bodies == ["a b+c", "in the body"]


def test_a_body_that_is_no_form_is_not_read_as_one(app: AppDriver) -> None:
    request = changed(form(Action="ListQueues"), headers={"content-type": "text/plain"})

    assert app.handle(request).status == 404


def test_the_header_of_aws_json_goes_before_the_content_type(app: AppDriver) -> None:
    request = changed(form(), body=b"{}", headers={"x-amz-target": "AmazonSQS.ListQueues"})

    assert app.handle(request).body == b"{}"


def test_the_content_type_of_aws_json_without_its_header_is_told_so_in_json(app: AppDriver) -> None:
    request = changed(form(Action="ListQueues"), headers={"content-type": "application/x-amz-json-1.0"})

    assert json.loads(app.handle(request).body)["__type"].endswith("UnknownOperationException")


@pytest.mark.parametrize("path", ["/", QUEUE_PATH, "/favicon.ico"])
@pytest.mark.parametrize("accept", ["*/*", "application/json"])
def test_a_visit_without_an_action_is_an_unknown_operation_in_xml(
    app: AppDriver, path: str, accept: str
) -> None:
    visit = dataclasses.replace(get(path), query="", headers={"host": "x", "accept": accept})

    answer = app.run(app.app_for(authenticator()).handle(visit))
    assert (answer.status, answer.content_type) == (404, "text/xml")
    assert answer.body == b"<UnknownOperationException/>\n"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "PATCH"])
def test_other_methods_do_nothing(app: AppDriver, method: str) -> None:
    request = changed(get(Action="CreateQueue", QueueName="orders"), method=method)

    assert app.handle(request).status == 404
    assert app.call("ListQueues") == {}


@pytest.mark.parametrize("name", sorted(set(OPERATIONS)))
def test_every_action_is_known_and_answers_in_xml(app: AppDriver, name: str) -> None:
    answer = app.handle(form(Action=name))

    assert answer.body.startswith(b'<?xml version="1.0"?><')
    assert code(answer)[1] in ("", "MissingParameter", "AWS.SimpleQueueService.UnsupportedOperation")


def test_every_answer_has_its_request_id_in_a_header_as_well(app: AppDriver) -> None:
    for answer in (app.handle(form(Action="ListQueues")), app.handle(form(Action="Fly"))):
        [(name, request_id)] = answer.headers
        assert name == "x-amzn-RequestId"
        assert f"<RequestId>{request_id}</RequestId>" in answer.body.decode()


# Which queue


def test_a_request_to_the_url_of_a_queue_is_about_that_queue(app: AppDriver) -> None:
    app.create_queue("orders")

    assert "<MessageId>" in text(app.handle(form(QUEUE_PATH, Action="SendMessage", MessageBody="x")))
    assert "<Body>x</Body>" in text(app.handle(get(QUEUE_PATH, Action="ReceiveMessage")))
    app.handle(form(QUEUE_PATH, Action="DeleteQueue"))
    assert app.call("ListQueues") == {}


def test_the_queue_url_of_the_form_goes_before_that_of_the_request(app: AppDriver) -> None:
    app.create_queue("orders")
    other = app.create_queue("other")

    app.handle(form(QUEUE_PATH, Action="SendMessage", QueueUrl=other, MessageBody="x"))
    assert "Messages" not in app.call("ReceiveMessage", QueueUrl="orders")
    assert len(app.call("ReceiveMessage", QueueUrl="other")["Messages"]) == 1


def test_a_queue_that_is_not_there_is_missing_for_this_wsdl_version(app: AppDriver) -> None:
    answer = app.handle(form("/000000000000/nothing", Action="GetQueueAttributes"))

    assert code(answer) == (400, "AWS.SimpleQueueService.NonExistentQueue")
    assert b"<Message>The specified queue does not exist for this wsdl version.</Message>" in answer.body


def test_queues_are_not_created_or_listed_at_the_url_of_one(app: AppDriver) -> None:
    app.create_queue("orders")

    for name in ("CreateQueue", "ListQueues"):
        answer = app.handle(get(QUEUE_PATH, Action=name, QueueName="other"))
        assert code(answer) == (400, "InvalidAction")
        assert f"The action {name} is not valid for this endpoint." in answer.body.decode()


# The older JSON


def test_whoever_accepts_json_gets_the_older_json(app: AppDriver) -> None:
    app.create_queue("orders")
    app.call("SendMessage", QueueUrl="orders", MessageBody="x")
    accept = {"accept": "application/json"}

    answer = app.handle(changed(get(QUEUE_PATH, Action="ReceiveMessage"), headers=accept))
    assert answer.content_type == "application/json"
    [message] = json.loads(answer.body)["ReceiveMessageResponse"]["ReceiveMessageResult"]["messages"]
    assert message["Body"] == "x"
    refused = app.handle(changed(get(QUEUE_PATH, Action="ListQueues"), headers=accept))
    assert json.loads(refused.body)["Error"]["Code"] == "InvalidAction"


# Who has signed it


def test_a_signed_form_is_served(app: AppDriver, strict: App) -> None:
    request = signed_form(OWN_QUEUE_PATH, Action="SendMessage", MessageBody="a b+c%20&=\r\n ü")
    assert "<MessageId>" in text(app.run(strict.handle(request)))

    received = text(app.run(strict.handle(signed_form(OWN_QUEUE_PATH, Action="ReceiveMessage"))))
    assert "<Body>a b+c%20&amp;=&#xD;\n ü</Body>" in received


def test_a_presigned_url_is_served_until_it_ends(app: AppDriver) -> None:
    clock = Clock()
    strict = app.app_for(authenticator(clock))
    app.run(strict.handle(signed_form("/", Action="CreateQueue", QueueName="orders")))
    url = signed_url(OWN_QUEUE_PATH, Action="SendMessage", MessageBody="a b+c~ü")

    assert "<MessageId>" in text(app.run(strict.handle(url)))
    clock.now_s = SIGNED_AT_S + 3_601
    assert code(app.run(strict.handle(url))) == (400, "RequestExpired")


def test_a_signed_get_is_served(app: AppDriver, strict: App) -> None:
    url = f"http://localhost:9324{OWN_QUEUE_PATH}?Action=GetQueueAttributes&AttributeName.1=All"

    assert "<Name>QueueArn</Name>" in text(app.run(strict.handle(signed("GET", url, {}, b""))))


def test_a_parameter_changed_after_signing_is_refused(app: AppDriver, strict: App) -> None:
    request = signed_form(OWN_QUEUE_PATH, Action="SendMessage", MessageBody="one")
    url = signed_url(OWN_QUEUE_PATH, Action="SendMessage", MessageBody="one")
    post_to_url = presigned(
        "POST", f"http://localhost:9324{OWN_QUEUE_PATH}?Action=SendMessage&MessageBody=one"
    )
    tampered = [
        changed(request, body=request.body.replace(b"one", b"two")),
        changed(request, query="MessageBody=two"),
        changed(request, path="/", target="/"),
        changed(url, query=url.query.replace("one", "two")),
        changed(url, query=f"{url.query}&MessageBody=two"),
        changed(post_to_url, body=b"MessageBody=two", headers=FORM),
    ]

    for each in tampered:
        assert code(app.run(strict.handle(each))) == (403, "SignatureDoesNotMatch"), each
    assert "<MessageId>" in text(app.run(strict.handle(post_to_url)))
    received = signed_form(OWN_QUEUE_PATH, Action="ReceiveMessage", MaxNumberOfMessages=10)
    assert text(app.run(strict.handle(received))).count("<Body>") == 1


def test_an_unsigned_request_is_refused_in_xml_before_it_is_read(app: AppDriver, strict: App) -> None:
    unreadable = changed(form(QUEUE_PATH, Action="SendMessage"), body=b"Action=SendMessage&a=%ff")

    assert code(app.run(strict.handle(unreadable))) == (403, "MissingAuthenticationToken")
