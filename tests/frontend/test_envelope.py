"""Envelopes: what was written by any version is read by this one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.frontend.envelope import (
    Attribute,
    Envelope,
    decode_envelope,
    encode_envelope,
    pack_attributes,
    unpack_attributes,
)
from waystation.protocol.operations import MessageAttributeValue

BODY_MD5 = "5d41402abc4b2a76b9719d911017c592"
ATTRIBUTES_MD5 = "0123456789abcdef0123456789abcdef"

WITHOUT_GROUP = bytes.fromhex(
    "96a568656c6c6fd920" + BODY_MD5.encode().hex() + "ac303030303030303030303030"
    "9293a14ea64e756d626572a2313294a142a642696e617279c0c4020001"
    "d920" + ATTRIBUTES_MD5.encode().hex() + "a8526f6f743d312d78"
)
"""Written before envelopes had a group. Logs hold such bytes: never change them here."""

OF_WITHOUT_GROUP = Envelope(
    body="hello",
    body_md5=BODY_MD5,
    sender="000000000000",
    attributes=[Attribute("N", "Number", "12"), Attribute("B", "Binary", None, b"\x00\x01")],
    attributes_md5=ATTRIBUTES_MD5,
    trace_header="Root=1-x",
)

BEFORE_FIFO = bytes.fromhex(
    "99a568656c6c6f" + "d920" + BODY_MD5.encode().hex() + "ac303030303030303030303030"
    "90a0a0" + "a674656e616e74" + "a26964" + "a361726e"
)
"""Written before there were FIFO queues, with a group, an id and a source. Never change it here."""

attributes = st.builds(Attribute, st.text(), st.text(), st.none() | st.text(), st.none() | st.binary())
envelopes = st.builds(Envelope, st.text(), st.text(), st.text(), st.lists(attributes), *[st.text()] * 6)


def test_an_envelope_of_an_older_version_is_read() -> None:
    assert decode_envelope(WITHOUT_GROUP) == OF_WITHOUT_GROUP


def test_an_envelope_with_a_group_from_before_fifo_queues_is_read() -> None:
    assert decode_envelope(BEFORE_FIFO) == Envelope(
        "hello", BODY_MD5, "000000000000", group="tenant", message_id="id", source_arn="arn"
    )


def test_an_envelope_of_the_first_fields_alone_is_read() -> None:
    shortest = msgspec.msgpack.encode(["hello", BODY_MD5, "000000000000"])

    assert decode_envelope(shortest) == Envelope("hello", BODY_MD5, "000000000000")


def test_a_field_that_a_newer_version_has_added_is_no_obstacle() -> None:
    fields = msgspec.msgpack.decode(encode_envelope(OF_WITHOUT_GROUP))

    assert decode_envelope(msgspec.msgpack.encode([*fields, "something new"])) == OF_WITHOUT_GROUP


def test_the_order_of_the_fields_never_changes() -> None:
    assert Envelope.__struct_fields__[:10] == (
        "body",
        "body_md5",
        "sender",
        "attributes",
        "attributes_md5",
        "trace_header",
        "group",
        "message_id",
        "source_arn",
        "deduplication_id",
    )
    assert Attribute.__struct_fields__[:4] == ("name", "type", "text", "binary")


@given(envelopes)
def test_an_envelope_is_read_as_it_was_written(envelope: Envelope) -> None:
    assert decode_envelope(encode_envelope(envelope)) == envelope


def test_what_is_no_envelope_is_not_read() -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_envelope(b"\x93\x01\x02\x03")


def test_attributes_come_out_as_they_went_in() -> None:
    given_attributes = {
        "text": MessageAttributeValue(data_type="String.x", string_value="ü"),
        "data": MessageAttributeValue(data_type="Binary", binary_value=b"\xff"),
    }

    assert unpack_attributes(pack_attributes(given_attributes)) == given_attributes
