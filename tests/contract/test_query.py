"""What a client of the Query protocol sees: a real one, and requests as one would write them by hand."""

from __future__ import annotations

import hashlib
import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.contract.query_client import query_client
from tests.contract.wire import Answer, refused
from tests.server import ACCESS_KEY_ID, ACCOUNT, REGION, SECRET_ACCESS_KEY, Server

KEY = Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY)
GARBAGE = 'The input receipt handle "garbage" is not a valid receipt handle.'


@pytest.fixture(scope="module")
def query(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A botocore client that speaks Query and lets wrong parameters through."""
    return query_client(server, tmp_path_factory.mktemp("query"), parameter_validation=False)


def request(
    method: str, url: str, parameters: dict[str, str], *, presigned: bool = False, **headers: str
) -> Answer:
    """One signed request with its parameters in the query of a GET, or in the form of a POST."""
    body = urlencode(parameters, quote_via=quote).encode()
    if method == "GET":
        url, body = f"{url}?{body.decode()}", b""
    else:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    signed = AWSRequest(method, url, headers, body)
    signer = SigV4QueryAuth(KEY, "sqs", REGION) if presigned else SigV4Auth(KEY, "sqs", REGION)
    signer.add_auth(signed)
    parts = urlsplit(signed.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        target = f"{parts.path or '/'}?{parts.query}"
        connection.request(method, target.rstrip("?"), body, dict(signed.headers.items()))
        response = connection.getresponse()
        received = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, received, response.read())
    finally:
        connection.close()


# A real client


def test_a_queue_is_created_found_listed_and_deleted(query: Any, server: Server, new_name: Any) -> None:
    name = new_name()
    created = query.create_queue(QueueName=name, Attributes={"DelaySeconds": "5"}, tags={"team": "blue"})
    url = f"{server.url}/{ACCOUNT}/{name}"

    assert created["QueueUrl"] == url
    assert query.get_queue_url(QueueName=name)["QueueUrl"] == url
    assert query.list_queues(QueueNamePrefix=name)["QueueUrls"] == [url]
    shown = query.get_queue_attributes(QueueUrl=url, AttributeNames=["DelaySeconds", "QueueArn"])
    assert shown["Attributes"] == {"DelaySeconds": "5", "QueueArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"}
    query.delete_queue(QueueUrl=url)
    assert "QueueUrls" not in query.list_queues(QueueNamePrefix=name)


def test_pages_of_queues_follow_each_other(query: Any, new_name: Any) -> None:
    prefix = new_name()
    urls = [query.create_queue(QueueName=f"{prefix}-{number}")["QueueUrl"] for number in range(3)]

    first = query.list_queues(QueueNamePrefix=prefix, MaxResults=2)
    second = query.list_queues(QueueNamePrefix=prefix, MaxResults=2, NextToken=first["NextToken"])
    assert first["QueueUrls"] + second["QueueUrls"] == urls
    assert "NextToken" not in second


def test_a_message_goes_through_with_all_that_belongs_to_it(query: Any, queue: str) -> None:
    body = "text <&>\"' with a tab\t, both line ends \r\n \n, ü, 🎉 and \ufffd"
    attributes = {
        "text": {"DataType": "String.x", "StringValue": "a b+c&d=e\r"},
        "number": {"DataType": "Number", "StringValue": "-1.5e3"},
        "bytes": {"DataType": "Binary", "BinaryValue": bytes(range(256))},
    }
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-2-3"}}
    sent = query.send_message(
        QueueUrl=queue, MessageBody=body, MessageAttributes=attributes, MessageSystemAttributes=trace
    )
    [message] = query.receive_message(
        QueueUrl=queue,
        AttributeNames=["ApproximateReceiveCount"],
        MessageSystemAttributeNames=["AWSTraceHeader"],
        MessageAttributeNames=["All"],
    )["Messages"]

    assert message["Body"] == body
    assert sent["MD5OfMessageBody"] == message["MD5OfBody"] == hashlib.md5(body.encode()).hexdigest()
    assert sent["MessageId"] == message["MessageId"]
    assert message["MessageAttributes"] == attributes
    assert sent["MD5OfMessageAttributes"] == message["MD5OfMessageAttributes"]
    assert message["Attributes"] == {"ApproximateReceiveCount": "1", "AWSTraceHeader": "Root=1-2-3"}
    query.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    assert "Messages" not in query.receive_message(QueueUrl=queue, WaitTimeSeconds=0)


def test_both_protocols_give_the_same_digests(query: Any, sqs: Any, queue: str) -> None:
    message = {
        "QueueUrl": queue,
        "MessageBody": "x\r\n",
        "MessageAttributes": {"a": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}},
    }
    of_json, of_query = (client.send_message(**message) for client in (sqs, query))

    for digest in ("MD5OfMessageBody", "MD5OfMessageAttributes"):
        assert of_json[digest] == of_query[digest]


def test_batches_answer_each_entry(query: Any, queue: str) -> None:
    entries = [{"Id": f"id-{number}", "MessageBody": f"body {number}"} for number in range(9)]
    sent = query.send_message_batch(QueueUrl=queue, Entries=[*entries, {"Id": "bad", "MessageBody": "\x01"}])
    assert [each["Id"] for each in sent["Successful"]] == [each["Id"] for each in entries]
    [failed] = sent["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == ("bad", "InvalidMessageContents", True)

    received = query.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    handles = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(received)]
    changed = query.change_message_visibility_batch(
        QueueUrl=queue, Entries=[each | {"VisibilityTimeout": 600} for each in handles]
    )
    assert len(changed["Successful"]) == len(handles) == 9
    deleted = query.delete_message_batch(
        QueueUrl=queue, Entries=[*handles, {"Id": "bad", "ReceiptHandle": "garbage"}]
    )
    assert len(deleted["Successful"]) == 9
    assert [each["Code"] for each in deleted["Failed"]] == ["ReceiptHandleIsInvalid"]


def test_a_long_poll_waits_for_a_message(query: Any, sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="delayed", DelaySeconds=1)

    [message] = query.receive_message(QueueUrl=queue, WaitTimeSeconds=20)["Messages"]
    assert message["Body"] == "delayed"


# Refusals, as a real client sees them


def test_a_missing_queue_is_missing_for_this_wsdl_version(query: Any) -> None:
    with refused("NonExistentQueue") as seen:
        query.send_message(QueueUrl="no-such-queue", MessageBody="x")
    assert seen.text == "The specified queue does not exist for this wsdl version."
    with pytest.raises(query.exceptions.QueueDoesNotExist):
        query.get_queue_url(QueueName="no-such-queue")


def test_wrong_values_are_refused_in_the_words_of_aws(query: Any, queue: str) -> None:
    wrong = "Value {} for parameter MaxNumberOfMessages is invalid. Reason: {}"
    with refused("InvalidParameterValue", wrong.format("11", "Must be between 1 and 10, if provided.")):
        query.receive_message(QueueUrl=queue, MaxNumberOfMessages=11)
    with refused("InvalidParameterValue", wrong.format("many", "Must be an integer.")):
        query.receive_message(QueueUrl=queue, MaxNumberOfMessages="many")
    with refused("MissingParameter", "The request must contain the parameter MessageBody."):
        query.send_message(QueueUrl=queue, MessageBody="")
    with refused("ReceiptHandleIsInvalid", GARBAGE):
        query.delete_message(QueueUrl=queue, ReceiptHandle="garbage")


def test_wrong_batches_are_refused_as_a_whole(query: Any, queue: str) -> None:
    entry = {"Id": "a", "MessageBody": "x"}
    with refused(
        "EmptyBatchRequest", "There should be at least one SendMessageBatchRequestEntry in the request."
    ):
        query.send_message_batch(QueueUrl=queue, Entries=[])
    with refused("BatchEntryIdsNotDistinct", "Id a repeated."):
        query.send_message_batch(QueueUrl=queue, Entries=[entry, entry])
    with refused("TooManyEntriesInBatchRequest"):
        query.send_message_batch(QueueUrl=queue, Entries=[entry | {"Id": str(n)} for n in range(11)])
    with refused("BatchRequestTooLong"):
        query.send_message_batch(QueueUrl=queue, Entries=[entry | {"MessageBody": "x" * 1_048_577}])


def test_the_longest_message_may_be_all_escapes(query: Any, queue: str) -> None:
    body = "ü" * 524_288
    query.send_message(QueueUrl=queue, MessageBody=body)

    assert query.receive_message(QueueUrl=queue)["Messages"][0]["Body"] == body


def test_a_form_changed_after_signing_is_refused(server: Server, tmp_path: Path, queue: str) -> None:
    def tamper(request: Any, **_: Any) -> None:
        request.body = request.body.replace("one", "two")

    client = query_client(server, tmp_path)
    client.meta.events.register("before-send.sqs.SendMessage", tamper)
    with refused("SignatureDoesNotMatch", status=403):
        client.send_message(QueueUrl=queue, MessageBody="one")


# Requests by hand


@pytest.mark.parametrize(("method", "presigned"), [("GET", False), ("GET", True), ("POST", False)])
def test_the_url_of_a_queue_takes_requests_about_it(
    server: Server, queue: str, method: str, presigned: bool
) -> None:
    sent = request(method, queue, {"Action": "SendMessage", "MessageBody": "a b+c"}, presigned=presigned)
    received = request(
        method, queue, {"Action": "ReceiveMessage", "AttributeName.1": "All"}, presigned=presigned
    )

    assert (sent.status, sent.headers["content-type"]) == (200, "text/xml")
    assert sent.body.startswith(
        b'<?xml version="1.0"?><SendMessageResponse xmlns="http://queue.amazonaws.com/doc/2012-11-05/">'
        b"<SendMessageResult><MD5OfMessageBody>"
    )
    assert b"<Body>a b+c</Body><Attribute><Name>" in received.body
    assert received.headers["x-amzn-requestid"].encode() in received.body


def test_an_action_that_a_queue_does_not_have_is_not_valid_there(server: Server, queue: str) -> None:
    for action in ("ListQueues", "CreateQueue", "Fly"):
        answer = request("GET", queue, {"Action": action})
        assert answer.status == 400
        assert f"<Code>InvalidAction</Code><Message>The action {action} is not valid" in answer.body.decode()


def test_a_visit_to_a_queue_is_an_unknown_operation(server: Server, queue: str) -> None:
    for url in (queue, f"{server.url}/"):
        answer = request("GET", url, {}, Accept="application/json")
        assert (answer.status, answer.body) == (404, b"<UnknownOperationException/>\n")


def test_whoever_accepts_json_gets_the_older_json(server: Server, sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="x")

    answer = request("GET", queue, {"Action": "ReceiveMessage"}, Accept="application/json")
    [message] = json.loads(answer.body)["ReceiveMessageResponse"]["ReceiveMessageResult"]["messages"]
    assert message["Body"] == "x"
