"""Sending one message: what it may be, and what the sender is told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from tests.contract.forms import Ask
from tests.contract.wire import post, refused
from tests.server import ACCOUNT, Server

NewQueue = Callable[..., str]

MESSAGE_BYTES_MAX = 1_048_576
BAD_TEXT = (
    "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | "
    "#xE000 to #xFFFD | #x10000 to #x10FFFF"
)
EDGES = "\t\n\r \x7f\x80\ud7ff\ue000\ufffd\U00010000\U0010ffff"


def receive(sqs: Any, queue: str, **how: Any) -> Any:
    [message] = sqs.receive_message(QueueUrl=queue, **how)["Messages"]
    return message


def test_a_message_arrives_as_it_was_sent(sqs: Any, queue: str) -> None:
    body = 'Grüße, 世界 🎉 "quoted" \\ </xml> &amp; a+b&c=%20 \r\n\t'
    sent = sqs.send_message(QueueUrl=queue, MessageBody=body)
    received = receive(sqs, queue)

    assert received["Body"] == body
    assert received["MessageId"] == sent["MessageId"]
    assert received["MD5OfBody"] == sent["MD5OfMessageBody"] == hashlib.md5(body.encode()).hexdigest()


def test_a_message_id_is_a_uuid(sqs: Any, queue: str) -> None:
    sent = sqs.send_message(QueueUrl=queue, MessageBody="x")

    assert UUID(sent["MessageId"]).version == 4
    assert str(UUID(sent["MessageId"])) == sent["MessageId"]


def test_a_send_without_attributes_tells_of_no_digest_of_them(sqs: Any, queue: str) -> None:
    sent = sqs.send_message(QueueUrl=queue, MessageBody="x")

    assert set(sent) == {"MessageId", "MD5OfMessageBody", "ResponseMetadata"}


def test_a_message_of_the_largest_size_is_taken_and_one_byte_more_is_refused(sqs: Any, queue: str) -> None:
    body = "é" * (MESSAGE_BYTES_MAX // 2)
    sqs.send_message(QueueUrl=queue, MessageBody=body)
    assert receive(sqs, queue)["Body"] == body

    with refused(
        "InvalidParameterValue",
        "One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes.",
    ):
        sqs.send_message(QueueUrl=queue, MessageBody=body + "x")


def test_a_message_that_fills_a_log_record_by_itself_is_answered_at_once(server: Server, queue: str) -> None:
    impatient = server.client(read_timeout=5)

    assert impatient.send_message(QueueUrl=queue, MessageBody="x" * MESSAGE_BYTES_MAX)["MessageId"]


def test_names_types_and_values_of_attributes_count_in_the_size(sqs: Any, queue: str) -> None:
    attributes = {
        "name": {"DataType": "String", "StringValue": "välue"},
        "data": {"DataType": "Binary.png", "BinaryValue": b"\x00" * 100},
    }
    attribute_bytes = 4 + 6 + 6 + 4 + 10 + 100
    body = "x" * (MESSAGE_BYTES_MAX - attribute_bytes)
    sqs.send_message(QueueUrl=queue, MessageBody=body, MessageAttributes=attributes)

    with refused("InvalidParameterValue"):
        sqs.send_message(QueueUrl=queue, MessageBody=body + "x", MessageAttributes=attributes)


@pytest.mark.parametrize("body", [{}, {"MessageBody": ""}])
def test_a_message_without_a_body_is_refused(sqs: Any, queue: str, body: dict[str, str]) -> None:
    with refused("MissingParameter", "The request must contain the parameter MessageBody."):
        sqs.send_message(QueueUrl=queue, **body)


def test_every_character_of_xml_may_be_in_a_body(sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody=EDGES)

    assert receive(sqs, queue)["Body"] == EDGES


@pytest.mark.parametrize("character", ["\x00", "\x08", "\x0b", "\x0c", "\x0e", "\x1f", "\ufffe", "\uffff"])
def test_any_other_character_is_refused(sqs: Any, queue: str, character: str) -> None:
    with refused("InvalidMessageContents", BAD_TEXT):
        sqs.send_message(QueueUrl=queue, MessageBody=f"good {character} good")
    assert "Messages" not in sqs.receive_message(QueueUrl=queue)


@pytest.mark.parametrize("half", [b"\\ud800", b"\\udfff", b"\\ud800x", b"\xed\xa0\x80", b"\xff"])
def test_half_a_surrogate_pair_or_broken_utf_8_is_refused(server: Server, queue: str, half: bytes) -> None:
    body = b'{"QueueUrl":"%s","MessageBody":"%s"}' % (queue.encode(), half)

    assert post(server.url, "SendMessage", body).status == 400


# Delays


def test_a_delayed_message_arrives_when_its_delay_is_over(sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="later", DelaySeconds=1)
    assert "Messages" not in sqs.receive_message(QueueUrl=queue)

    message = receive(sqs, queue, WaitTimeSeconds=20, MessageSystemAttributeNames=["All"])
    times = message["Attributes"]
    delay_ms = int(times["ApproximateFirstReceiveTimestamp"]) - int(times["SentTimestamp"])
    assert 1_000 <= delay_ms < 10_000


@pytest.mark.parametrize("delay_s", [-1, 901])
def test_a_delay_outside_0_to_900_seconds_is_refused(sqs: Any, queue: str, delay_s: int) -> None:
    with refused(
        "InvalidParameterValue",
        f"Value {delay_s} for parameter DelaySeconds is invalid. "
        "Reason: DelaySeconds must be >= 0 and <= 900.",
    ):
        sqs.send_message(QueueUrl=queue, MessageBody="x", DelaySeconds=delay_s)


def test_the_longest_delay_is_taken(sqs: Any, queue: str) -> None:
    assert sqs.send_message(QueueUrl=queue, MessageBody="x", DelaySeconds=900)["MessageId"]


# Groups


def test_a_message_group_is_taken_on_a_standard_queue_and_given_back(sqs: Any, queue: str) -> None:
    group = "tenant-7!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    sqs.send_message(QueueUrl=queue, MessageBody="x", MessageGroupId=group)

    message = receive(sqs, queue, MessageSystemAttributeNames=["MessageGroupId"])
    assert message["Attributes"] == {"MessageGroupId": group}


@pytest.mark.parametrize("group", ["", "a b", "ü", "g" * 129])
def test_a_message_group_of_other_characters_is_refused(sqs: Any, queue: str, group: str) -> None:
    with refused(
        "InvalidParameterValue",
        f"Value {group} for parameter MessageGroupId is invalid. Reason: MessageGroupId can only include "
        "alphanumeric and punctuation characters. 1 to 128 in length.",
    ):
        sqs.send_message(QueueUrl=queue, MessageBody="x", MessageGroupId=group)


# Trace headers

TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


def test_a_trace_header_sent_as_system_attribute_is_received(sqs: Any, queue: str) -> None:
    sent = sqs.send_message(
        QueueUrl=queue,
        MessageBody="x",
        MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": TRACE}},
    )

    assert sent["MD5OfMessageSystemAttributes"]
    assert "MD5OfMessageAttributes" not in sent
    message = receive(sqs, queue, MessageSystemAttributeNames=["AWSTraceHeader"])
    assert message["Attributes"] == {"AWSTraceHeader": TRACE}


def test_a_trace_header_of_the_request_is_received(
    server: Server, json_sqs: Any, ask: Ask, queue: str
) -> None:
    members = {"QueueUrl": queue, "MessageBody": "x"}
    sent = ask(server.url, "SendMessage", members, headers={"X-Amzn-Trace-Id": TRACE})

    assert b"MD5OfMessageBody" in sent.body
    assert b"MD5OfMessageSystemAttributes" not in sent.body
    message = receive(json_sqs, queue, MessageSystemAttributeNames=["All"])
    assert message["Attributes"]["AWSTraceHeader"] == TRACE


def test_a_trace_header_does_not_count_in_the_size(sqs: Any, queue: str) -> None:
    sent = sqs.send_message(
        QueueUrl=queue,
        MessageBody="x" * MESSAGE_BYTES_MAX,
        MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": TRACE}},
    )
    assert sent["MessageId"]


GOOD_TRACE = {"DataType": "String", "StringValue": TRACE}


@pytest.mark.parametrize(
    "attributes",
    [
        {"SenderId": {"DataType": "String", "StringValue": "me"}},
        {"AWSTraceHeader": GOOD_TRACE, "SenderId": {"DataType": "String", "StringValue": "me"}},
        {"AWSTraceHeader": {"DataType": "Number", "StringValue": "1"}},
        {"AWSTraceHeader": {"DataType": "Binary", "BinaryValue": b"1"}},
        {"AWSTraceHeader": {"DataType": "String", "StringValue": ""}},
        {"AWSTraceHeader": {"DataType": "String", "StringValue": "x" * 16_385}},
    ],
)
def test_any_other_system_attribute_is_refused(sqs: Any, queue: str, attributes: Any) -> None:
    with refused("InvalidParameterValue"):
        sqs.send_message(QueueUrl=queue, MessageBody="x", MessageSystemAttributes=attributes)


def test_a_message_tells_who_sent_it_when_and_how_often_it_was_received(sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    shown = receive(sqs, queue, MessageSystemAttributeNames=["All"])["Attributes"]

    assert set(shown) == {
        "SenderId",
        "SentTimestamp",
        "ApproximateReceiveCount",
        "ApproximateFirstReceiveTimestamp",
    }
    assert shown["SenderId"] == ACCOUNT
    assert shown["ApproximateReceiveCount"] == "1"
