"""Message attributes: what they may be, their digests, and which of them a receive shows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.wire import refused

TEXT = {"DataType": "String", "StringValue": "hello"}
MIXED: dict[str, Any] = {
    "Hello": TEXT,
    "Help.me": {"DataType": "String.json", "StringValue": '{"a+b&c=%20": "<&>\\r"}\r'},
    "count": {"DataType": "Number", "StringValue": "-12.5e3"},
    "picture": {"DataType": "Binary.png", "BinaryValue": b"\x89PNG\x00\xff"},
}


def send(sqs: Any, queue: str, attributes: dict[str, Any]) -> Any:
    return sqs.send_message(QueueUrl=queue, MessageBody="x", MessageAttributes=attributes)


def receive(sqs: Any, queue: str, *names: str) -> Any:
    # Visible again at once, for the next look.
    [message] = sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0, MessageAttributeNames=list(names))[
        "Messages"
    ]
    return message


def test_attributes_of_every_type_arrive_as_they_were_sent(sqs: Any, queue: str) -> None:
    sent = send(sqs, queue, MIXED)
    received = receive(sqs, queue, "All")

    assert received["MessageAttributes"] == MIXED
    assert received["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]


def test_a_receive_that_asks_for_no_attributes_shows_none(sqs: Any, queue: str) -> None:
    send(sqs, queue, MIXED)
    received = receive(sqs, queue)

    assert set(received) == {"MessageId", "ReceiptHandle", "MD5OfBody", "Body"}


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["All"], set(MIXED)),
        ([".*"], set(MIXED)),
        (["*"], set(MIXED)),
        (["Hel.*"], {"Hello", "Help.me"}),
        (["Hello"], {"Hello"}),
        (["count", "Help.*"], {"count", "Help.me"}),
        (["hello", "AWS.", "..foo", "no.such.*", ""], set()),
    ],
)
def test_a_receive_shows_the_attributes_that_its_filters_name(
    sqs: Any, queue: str, names: list[str], shown: set[str]
) -> None:
    send(sqs, queue, MIXED)
    received = receive(sqs, queue, *names)

    assert set(received.get("MessageAttributes", {})) == shown
    assert ("MD5OfMessageAttributes" in received) == bool(shown)


def test_the_digest_covers_only_the_attributes_shown(sqs: Any, queue: str) -> None:
    of_one = send(sqs, queue, {"Hello": TEXT})["MD5OfMessageAttributes"]
    sqs.receive_message(QueueUrl=queue)
    send(sqs, queue, MIXED)

    assert receive(sqs, queue, "Hello")["MD5OfMessageAttributes"] == of_one


def test_a_message_has_up_to_10_attributes(sqs: Any, queue: str) -> None:
    send(sqs, queue, {f"a{number}": TEXT for number in range(10)})

    with refused(
        "InvalidParameterValue", "Number of message attributes [11] exceeds the allowed maximum [10]."
    ):
        send(sqs, queue, {f"a{number}": TEXT for number in range(11)})


@pytest.mark.parametrize("name", ["x", "n" * 256, "A-Z_0.9", "Größe", "a.b.c", "AWSome", "amazon"])
def test_attribute_names_of_letters_digits_hyphens_underscores_and_periods_are_taken(
    sqs: Any, queue: str, name: str
) -> None:
    send(sqs, queue, {name: TEXT})

    assert set(receive(sqs, queue, "All")["MessageAttributes"]) == {name}


@pytest.mark.parametrize(
    "name",
    ["", "n" * 257, "a b", "a/b", "a\n", ".a", "a.", "a..b", "AWS.x", "aws.x", "Amazon.x", "aMaZoN.x"],
)
def test_other_attribute_names_are_refused(sqs: Any, queue: str, name: str) -> None:
    with refused("InvalidParameterValue"):
        send(sqs, queue, {name: TEXT})


def test_a_refused_attribute_refuses_the_message(sqs: Any, queue: str) -> None:
    with refused("InvalidParameterValue"):
        send(sqs, queue, {"good": TEXT, "bad..name": TEXT})

    assert "Messages" not in sqs.receive_message(QueueUrl=queue)


@pytest.mark.parametrize("data_type", ["", "string", "Text", "Stringx", "Integer", "String." + "x" * 250])
def test_a_data_type_is_string_number_or_binary_with_or_without_a_suffix(
    sqs: Any, queue: str, data_type: str
) -> None:
    with refused("InvalidParameterValue"):
        send(sqs, queue, {"X": {"DataType": data_type, "StringValue": "1"}})


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"DataType": "String", "StringValue": ""}, "String"),
        ({"DataType": "String"}, "String"),
        ({"DataType": "Binary", "BinaryValue": b""}, "Binary"),
        ({"DataType": "Binary", "StringValue": "x"}, "Binary"),
        ({"DataType": "String", "BinaryValue": b"x"}, "String"),
        ({"DataType": "Number.int", "StringValue": ""}, "Number"),
        ({"DataType": "String", "StringValue": "x", "BinaryValue": b"x"}, "String"),
    ],
)
def test_an_attribute_without_a_value_of_its_type_is_refused(
    sqs: Any, queue: str, value: dict[str, Any], kind: str
) -> None:
    with refused(
        "InvalidParameterValue",
        f"Message (user) attribute 'X' must contain a non-empty value of type '{kind}'.",
    ):
        send(sqs, queue, {"X": value})


def test_an_attribute_without_a_type_is_refused(sqs: Any, queue: str) -> None:
    with refused("InvalidParameterValue"):
        send(sqs, queue, {"X": {"StringValue": "x"}})


@pytest.mark.parametrize("lists", [{"StringListValues": ["a"]}, {"BinaryListValues": [b"a"]}])
def test_list_values_are_refused(sqs: Any, queue: str, lists: dict[str, Any]) -> None:
    with refused("InvalidParameterValue"):
        send(sqs, queue, {"X": TEXT | lists})


@pytest.mark.parametrize(
    "number", ["0", "-1", "+1.5", ".5", "1e10", "1E-5", "123456789012345678901234567890"]
)
def test_a_number_is_taken_as_it_is_written(sqs: Any, queue: str, number: str) -> None:
    send(sqs, queue, {"X": {"DataType": "Number", "StringValue": number}})

    assert receive(sqs, queue, "X")["MessageAttributes"]["X"]["StringValue"] == number


@pytest.mark.parametrize("text", ["x", "1x", "--1", "1e", "0x10", "NaN", "Infinity", "1,5", "٣"])
def test_a_number_that_is_none_is_refused(sqs: Any, queue: str, text: str) -> None:
    with refused(
        "InvalidParameterValue", "Can't cast the value of message (user) attribute 'x' to a number."
    ):
        send(sqs, queue, {"X": {"DataType": "Number", "StringValue": text}})


def test_a_text_with_characters_that_xml_does_not_have_is_refused(sqs: Any, queue: str) -> None:
    with refused("InvalidMessageContents"):
        send(sqs, queue, {"X": {"DataType": "String", "StringValue": "a\x00b"}})


def test_bytes_of_any_value_are_taken(sqs: Any, queue: str) -> None:
    every_byte = bytes(range(256))
    send(sqs, queue, {"X": {"DataType": "Binary", "BinaryValue": every_byte}})

    assert receive(sqs, queue, "X")["MessageAttributes"]["X"]["BinaryValue"] == every_byte


def test_an_empty_set_of_attributes_is_none(sqs: Any, queue: str) -> None:
    assert "MD5OfMessageAttributes" not in send(sqs, queue, {})


@pytest.mark.parametrize("member", ["AttributeNames", "MessageSystemAttributeNames"])
def test_system_attributes_are_asked_for_by_their_old_and_their_new_member(
    sqs: Any, queue: str, member: str
) -> None:
    send(sqs, queue, {})
    [message] = sqs.receive_message(QueueUrl=queue, **{member: ["SenderId", "SentTimestamp"]})["Messages"]

    assert set(message["Attributes"]) == {"SenderId", "SentTimestamp"}


def test_both_members_for_system_attributes_count(sqs: Any, queue: str) -> None:
    send(sqs, queue, {})
    [message] = sqs.receive_message(
        QueueUrl=queue, AttributeNames=["SenderId"], MessageSystemAttributeNames=["SentTimestamp"]
    )["Messages"]

    assert set(message["Attributes"]) == {"SenderId", "SentTimestamp"}


def test_a_system_attribute_that_the_message_does_not_have_is_not_shown(sqs: Any, queue: str) -> None:
    send(sqs, queue, {})
    [message] = sqs.receive_message(
        QueueUrl=queue, MessageSystemAttributeNames=["SequenceNumber", "AWSTraceHeader", "MessageGroupId"]
    )["Messages"]

    assert "Attributes" not in message


@pytest.mark.parametrize("member", ["AttributeNames", "MessageSystemAttributeNames"])
def test_an_unknown_system_attribute_is_refused(sqs: Any, queue: str, member: str) -> None:
    with refused("InvalidAttributeName", "Unknown Attribute Colour."):
        sqs.receive_message(QueueUrl=queue, **{member: ["Colour"]})
