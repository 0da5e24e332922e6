"""Which attributes of a message a receive shows."""

from __future__ import annotations

from typing import Any

import pytest

from waystation.frontend.envelope import Attribute, Envelope, encode_envelope
from waystation.frontend.received import wanted_of
from waystation.protocol.checksums import md5_of_attributes
from waystation.protocol.errors import InvalidAttributeName
from waystation.protocol.operations import Message, MessageAttributeValue, ReceiveMessageRequest
from waystation.queues.commands import ReceivedMessage

ENVELOPE = Envelope(
    body="hello",
    body_md5="5d41402abc4b2a76b9719d911017c592",
    sender="000000000000",
    attributes=[
        Attribute("a", "String", "1"),
        Attribute("a.b", "String", "2"),
        Attribute("ab", "String", "3"),
    ],
    attributes_md5="md5 of all, as the sender was told",
)


def show(envelope: Envelope = ENVELOPE, group: str = "", **request: Any) -> Message:
    received = ReceivedMessage(
        sequence=1,
        receive_count=3,
        sent_at_ms=1_000,
        first_received_at_ms=2_000,
        record=1,
        group=group,
        envelope=encode_envelope(envelope),
    )
    wanted = wanted_of(ReceiveMessageRequest(queue_url="orders", **request))
    return wanted.show(received, "id", "handle")


def names(message: Message) -> list[str]:
    return sorted(message.message_attributes or {})


def test_who_asks_for_nothing_gets_the_body_and_its_digest() -> None:
    assert show() == Message(
        message_id="id",
        receipt_handle="handle",
        md5_of_body="5d41402abc4b2a76b9719d911017c592",
        body="hello",
    )


@pytest.mark.parametrize("everything", ["All", "*", ".*"])
def test_all_attributes_come_with_the_digest_that_the_sender_was_told(everything: str) -> None:
    shown = show(message_attribute_names=["zzz", everything])

    assert names(shown) == ["a", "a.b", "ab"]
    assert shown.md5_of_message_attributes == ENVELOPE.attributes_md5


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["a"], ["a"]),
        (["A"], []),
        (["a.*"], ["a", "a.b", "ab"]),
        (["a..*"], ["a.b"]),
        (["ab.*", "a.b"], ["a.b", "ab"]),
        (["b.*"], []),
        (["", ".", "..", "AWS.", "..foo"], []),
    ],
)
def test_names_and_prefixes_choose_attributes(wanted: list[str], expected: list[str]) -> None:
    assert names(show(message_attribute_names=wanted)) == expected


def test_a_million_names_are_not_gone_through_for_each_attribute() -> None:
    class Counted(str):
        """A name that counts how often it is compared."""

        __slots__ = ()
        compared = 0

        def __eq__(self, other: object) -> bool:
            Counted.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    request = [Counted(f"{number}.*") for number in range(10_000)]
    assert names(show(message_attribute_names=[*request, "ab"])) == ["ab"]
    assert Counted.compared < 1_000


def test_the_digest_is_that_of_the_attributes_shown() -> None:
    shown = show(message_attribute_names=["ab"])

    only = {"ab": MessageAttributeValue(data_type="String", string_value="3")}
    assert shown.md5_of_message_attributes == md5_of_attributes(only)


def test_a_message_without_attributes_shows_neither_them_nor_a_digest() -> None:
    shown = show(Envelope("hello", "md5", "sender"), message_attribute_names=["All"])

    assert shown.message_attributes is None
    assert shown.md5_of_message_attributes is None


def test_system_attributes_are_text() -> None:
    assert show(attribute_names=["All"]).attributes == {
        "SenderId": "000000000000",
        "SentTimestamp": "1000",
        "ApproximateReceiveCount": "3",
        "ApproximateFirstReceiveTimestamp": "2000",
    }


def test_a_trace_header_and_a_group_are_shown_when_there_are_any() -> None:
    envelope = Envelope("hello", "md5", "sender", trace_header="Root=1")
    shown = show(envelope, "tenant", message_system_attribute_names=["AWSTraceHeader", "MessageGroupId"])

    assert shown.attributes == {"AWSTraceHeader": "Root=1", "MessageGroupId": "tenant"}


def test_a_group_that_an_older_version_has_put_into_the_envelope_is_shown() -> None:
    envelope = Envelope("hello", "md5", "sender", group="tenant")

    assert show(envelope, attribute_names=["MessageGroupId"]).attributes == {"MessageGroupId": "tenant"}


def test_a_message_of_a_fifo_queue_shows_its_group_deduplication_id_and_sequence_number() -> None:
    envelope = Envelope("hello", "md5", "sender", deduplication_id="order-1")
    expected = {
        "MessageGroupId": "orders",
        "MessageDeduplicationId": "order-1",
        "SequenceNumber": "10000000000000000001",
    }

    assert show(envelope, "orders", attribute_names=list(expected)).attributes == expected
    everything = show(envelope, "orders", message_system_attribute_names=["All"]).attributes
    assert everything is not None
    assert everything.items() >= expected.items()


def test_a_message_of_a_standard_queue_has_neither_a_sequence_number_nor_a_deduplication_id() -> None:
    shown = show(group="tenant", attribute_names=["SequenceNumber", "MessageDeduplicationId"])

    assert shown.attributes is None


def test_both_members_that_name_system_attributes_count() -> None:
    shown = show(attribute_names=["SenderId"], message_system_attribute_names=["SentTimestamp"])

    assert set(shown.attributes or {}) == {"SenderId", "SentTimestamp"}


def test_a_system_attribute_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidAttributeName, match=r"Unknown Attribute Colour\."):
        wanted_of(ReceiveMessageRequest(queue_url="orders", attribute_names=["All", "Colour"]))
