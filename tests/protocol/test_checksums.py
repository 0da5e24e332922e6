"""MD5 digests against known values, and against the documentation's steps written out again."""

from __future__ import annotations

import hashlib
import struct

from hypothesis import given
from hypothesis import strategies as st

from waystation.protocol.checksums import md5_of_attributes, md5_of_body
from waystation.protocol.operations import MessageAttributeValue, MessageSystemAttributeValue

texts = st.text(max_size=30)
attributes = st.dictionaries(
    texts,
    st.builds(MessageAttributeValue, data_type=st.sampled_from(["String", "Number.int"]), string_value=texts)
    | st.builds(
        MessageAttributeValue,
        data_type=st.sampled_from(["Binary", "Binary.gif"]),
        binary_value=st.binary(max_size=30),
    ),
    max_size=10,
)


def documented_digest(attributes: dict[str, MessageAttributeValue]) -> str:
    """
    Sort by name. For each attribute: length and bytes of the name, length and bytes of the
    data type, one byte for the transport type (1 string, 2 binary), length and bytes of the
    value. Then MD5 over it all.
    """
    buffer = b""
    for name in sorted(attributes):
        attribute = attributes[name]
        binary = str(attribute.data_type).startswith("Binary")
        value = attribute.binary_value if binary else str(attribute.string_value).encode()
        assert value is not None
        for part, kind in (
            (name.encode(), b""),
            (str(attribute.data_type).encode(), b"\x02" if binary else b"\x01"),
            (value, b""),
        ):
            buffer += struct.pack(">I", len(part)) + part + kind
    return hashlib.md5(buffer).hexdigest()


def test_the_digest_of_a_body_is_that_of_its_utf8() -> None:
    assert md5_of_body(b"") == "d41d8cd98f00b204e9800998ecf8427e"
    assert md5_of_body(b"hello world") == "5eb63bbbe01eeed093cb22bb8f5acdc3"


def test_the_digest_of_an_attribute_is_the_one_that_sdks_compute() -> None:
    timestamp = MessageAttributeValue(data_type="Number", string_value="1493147359900")

    assert md5_of_attributes({"timestamp": timestamp}) == "235c5c510d26fb653d073faed50ae77c"


@given(attributes)
def test_the_digest_of_attributes_follows_the_documentation(
    attributes: dict[str, MessageAttributeValue],
) -> None:
    assert md5_of_attributes(attributes) == documented_digest(attributes)


def test_the_order_in_which_attributes_are_sent_does_not_matter() -> None:
    first = MessageAttributeValue(data_type="String", string_value="1")
    second = MessageAttributeValue(data_type="Binary", binary_value=b"\x00\xff")

    assert md5_of_attributes({"a": first, "b": second}) == md5_of_attributes({"b": second, "a": first})


def test_system_attributes_are_digested_the_same_way() -> None:
    header = "Root=1-5759e988-bd862e3fe1be46a994272793"
    of_user = MessageAttributeValue(data_type="String", string_value=header)
    of_system = MessageSystemAttributeValue(data_type="String", string_value=header)

    assert md5_of_attributes({"AWSTraceHeader": of_system}) == md5_of_attributes({"AWSTraceHeader": of_user})
