"""What is special about the Query protocol: its forms and URLs, its XML, and its older JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.contract.forms import FORM_TYPE, get, post_form, told
from tests.contract.query_client import query_client
from tests.contract.wire import Answer, exchange, refused
from tests.server import ACCOUNT, Server

XMLNS = 'xmlns="http://queue.amazonaws.com/doc/2012-11-05/"'


def older_json(url: str, action: str, **parameters: str) -> Any:
    """The answer to a GET that accepts JSON."""
    answer = get(url, {"Action": action, **parameters}, Accept="application/json")
    assert answer.headers["content-type"] == "application/json"
    return json.loads(answer.body)


def bodies(sqs: Any, queue: str) -> list[str]:
    answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
    return [message["Body"] for message in answer.get("Messages", [])]


# Forms


def test_both_protocols_give_the_same_digests(query_sqs: Any, json_sqs: Any, queue: str) -> None:
    message = {
        "QueueUrl": queue,
        "MessageBody": "x\r\n",
        "MessageAttributes": {"a": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}},
    }
    of_json, of_query = (sqs.send_message(**message) for sqs in (json_sqs, query_sqs))

    for digest in ("MD5OfMessageBody", "MD5OfMessageAttributes"):
        assert of_json[digest] == of_query[digest]


def test_a_text_that_is_not_the_number_it_should_be_is_refused(query_sqs: Any, queue: str) -> None:
    with refused(
        "InvalidParameterValue",
        "Value many for parameter MaxNumberOfMessages is invalid. Reason: Must be an integer.",
    ):
        query_sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages="many")


def test_the_longest_message_may_be_all_escapes(query_sqs: Any, queue: str) -> None:
    body = "ü" * 524_288
    query_sqs.send_message(QueueUrl=queue, MessageBody=body)

    assert bodies(query_sqs, queue) == [body]


def test_a_form_changed_after_signing_is_refused(
    server: Server, json_sqs: Any, tmp_path: Path, queue: str
) -> None:
    def tamper(request: Any, **_: Any) -> None:
        request.body = request.body.replace("one", "two")

    client = query_client(server, tmp_path)
    client.meta.events.register("before-send.sqs.SendMessage", tamper)
    with refused("SignatureDoesNotMatch", status=403):
        client.send_message(QueueUrl=queue, MessageBody="one")
    assert bodies(json_sqs, queue) == []


def test_unknown_parameters_are_ignored(server: Server, queue: str) -> None:
    form = b"Action=ReceiveMessage&QueueUrl=%s&Colour=red&A.1.B=2" % queue.encode()

    assert exchange("POST", server.url, FORM_TYPE, form).status == 200


@pytest.mark.parametrize(
    ("form", "code"),
    [
        (b"Action=ListQueues&QueueNamePrefix=%zz", "InvalidQueryParameter"),
        (b"Action=ListQueues&QueueNamePrefix=%ff", "InvalidQueryParameter"),
        (b"Action=ListQueues&Version=1999-01-01", "NoSuchVersion"),
        (b"Action=Fly", "InvalidAction"),
    ],
)
def test_a_form_that_means_nothing_is_refused_in_xml(server: Server, form: bytes, code: str) -> None:
    error = told(exchange("POST", server.url, FORM_TYPE, form))

    assert (error.status, error.code, error.blame) == (400, code, "Sender")


def test_an_operation_that_gives_nothing_answers_with_a_request_id_only(server: Server, queue: str) -> None:
    answer = post_form(server.url, "DeleteQueue", {"QueueUrl": queue})

    request_id = answer.headers["x-amzn-requestid"]
    assert answer.body.decode() == (
        f'<?xml version="1.0"?><DeleteQueueResponse {XMLNS}><ResponseMetadata><RequestId>{request_id}'
        "</RequestId></ResponseMetadata></DeleteQueueResponse>"
    )


# URLs


@pytest.mark.parametrize(("method", "presigned"), [("GET", False), ("GET", True), ("POST", False)])
def test_the_url_of_a_queue_takes_requests_about_it(queue: str, method: str, presigned: bool) -> None:
    def ask(action: str, **parameters: str) -> Answer:
        if method == "POST":
            return post_form(queue, action, parameters)
        return get(queue, {"Action": action, **parameters}, presigned=presigned)

    sent = ask("SendMessage", MessageBody="a b+c")
    received = ask("ReceiveMessage")

    assert (sent.status, sent.headers["content-type"]) == (200, "text/xml")
    assert sent.body.decode().startswith(
        f'<?xml version="1.0"?><SendMessageResponse {XMLNS}><SendMessageResult><MD5OfMessageBody>'
    )
    assert b"<Body>a b+c</Body>" in received.body
    assert received.headers["x-amzn-requestid"].encode() in received.body


def test_the_root_takes_gets_of_every_action(server: Server, json_sqs: Any, new_name: Any) -> None:
    name, root = new_name(), f"{server.url}/"
    created = get(root, {"Action": "CreateQueue", "QueueName": name})
    url = f"{server.url}/{ACCOUNT}/{name}"

    assert f"<QueueUrl>{url}</QueueUrl>" in created.body.decode()
    assert url.encode() in get(root, {"Action": "ListQueues", "QueueNamePrefix": name}).body
    assert get(root, {"Action": "SendMessage", "QueueUrl": url, "MessageBody": "x"}).status == 200
    assert bodies(json_sqs, url) == ["x"]


def test_a_queue_url_among_the_parameters_overrides_that_of_the_request(
    json_sqs: Any, new_queue: Any
) -> None:
    meant, path = new_queue(), new_queue()
    for number, queue_url in enumerate((meant, meant.rpartition("/")[2])):
        parameters = {"Action": "SendMessage", "QueueUrl": queue_url, "MessageBody": str(number)}
        assert get(path, parameters).status == 200

    assert bodies(json_sqs, meant) == ["0", "1"]
    assert bodies(json_sqs, path) == []


def test_an_action_that_a_queue_does_not_have_is_not_valid_there(queue: str) -> None:
    for action in ("ListQueues", "CreateQueue", "Fly"):
        error = told(get(queue, {"Action": action, "QueueName": "x"}))
        assert (error.status, error.code) == (400, "InvalidAction")
        assert error.text == f"The action {action} is not valid for this endpoint."


@pytest.mark.parametrize("accept", ["application/json", "*/*"])
def test_a_visit_without_an_action_is_an_unknown_operation_in_xml(
    server: Server, queue: str, accept: str
) -> None:
    for url in (queue, f"{server.url}/"):
        answer = get(url, {}, Accept=accept)
        assert (answer.status, answer.body) == (404, b"<UnknownOperationException/>\n")
        assert answer.headers["content-type"] == "text/xml"


# The older JSON


def test_whoever_accepts_json_gets_messages_in_the_older_json(json_sqs: Any, queue: str) -> None:
    json_sqs.send_message(QueueUrl=queue, MessageBody="x")
    names = {"AttributeName.1": "ApproximateReceiveCount"}

    answer = older_json(queue, "ReceiveMessage", **names)["ReceiveMessageResponse"]
    [message] = answer["ReceiveMessageResult"]["messages"]
    assert message["Body"] == "x"
    assert message["Attributes"] == [{"Name": "ApproximateReceiveCount", "Value": "1"}]
    assert len(answer["ResponseMetadata"]["RequestId"]) == 36
    nothing = older_json(queue, "ReceiveMessage")["ReceiveMessageResponse"]["ReceiveMessageResult"]
    assert nothing == {"messages": None}


def test_attributes_are_lists_of_names_and_values_in_the_older_json(queue: str) -> None:
    names = {"AttributeName.1": "DelaySeconds", "AttributeName.2": "VisibilityTimeout"}

    answer = older_json(queue, "GetQueueAttributes", **names)["GetQueueAttributesResponse"]
    shown = {each["Name"]: each["Value"] for each in answer["GetQueueAttributesResult"]["Attributes"]}
    assert shown == {"DelaySeconds": "0", "VisibilityTimeout": "30"}


def test_an_error_in_the_older_json_has_the_code_and_the_text_of_query(queue: str) -> None:
    answer = older_json(f"{queue}-not", "ReceiveMessage")

    assert answer["Error"] == {
        "Code": "AWS.SimpleQueueService.NonExistentQueue",
        "Message": "The specified queue does not exist for this wsdl version.",
        "Type": "Sender",
    }
    assert len(answer["RequestId"]) == 36
