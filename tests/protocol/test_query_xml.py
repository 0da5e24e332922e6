"""Answers in XML, byte for byte as the API Reference and the real service have them."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.protocol import operations
from waystation.protocol.operations import OPERATIONS, MessageAttributeValue, Shape
from waystation.protocol.query_xml import escape, write_error, write_result

ID = "27daac76-34dd-47df-bd01-1f6e873584a0"
XMLNS = 'xmlns="http://queue.amazonaws.com/doc/2012-11-05/"'
METADATA = f"<ResponseMetadata><RequestId>{ID}</RequestId></ResponseMetadata>"


def xml(operation: str, result: Shape | None) -> str:
    """An answer without what all answers have around the result, which is checked to be there."""
    written = write_result(OPERATIONS[operation], result, ID).decode()
    before, after = (
        f'<?xml version="1.0"?><{operation}Response {XMLNS}>',
        f"{METADATA}</{operation}Response>",
    )
    assert written.startswith(before)
    assert written.endswith(after)
    return written.removeprefix(before).removesuffix(after)


def test_a_send_is_answered_with_digests_and_an_id() -> None:
    result = operations.SendMessageResult(
        md5_of_message_body="fafb00f5732ab283681e124bf8747ed1",
        md5_of_message_attributes="3ae8f24a165a8cedc005670c81a27295",
        message_id="5fea7756-0ea4-451a-a703-a558b933e274",
    )

    assert write_result(OPERATIONS["SendMessage"], result, ID).decode() == (
        '<?xml version="1.0"?>'
        '<SendMessageResponse xmlns="http://queue.amazonaws.com/doc/2012-11-05/">'
        "<SendMessageResult>"
        "<MD5OfMessageBody>fafb00f5732ab283681e124bf8747ed1</MD5OfMessageBody>"
        "<MD5OfMessageAttributes>3ae8f24a165a8cedc005670c81a27295</MD5OfMessageAttributes>"
        "<MessageId>5fea7756-0ea4-451a-a703-a558b933e274</MessageId>"
        "</SendMessageResult>"
        "<ResponseMetadata><RequestId>27daac76-34dd-47df-bd01-1f6e873584a0</RequestId></ResponseMetadata>"
        "</SendMessageResponse>"
    )


def test_a_received_message_repeats_its_attributes_side_by_side() -> None:
    message = operations.Message(
        message_id="5fea7756-0ea4-451a-a703-a558b933e274",
        receipt_handle="MbZj6wDWli+JvwwJaBV+3dcjk2YW2vA3",
        md5_of_body="fafb00f5732ab283681e124bf8747ed1",
        body="This is a test message",
        attributes={"SenderId": "195004372649", "SentTimestamp": "1238099229000"},
        md5_of_message_attributes="3ae8f24a165a8cedc005670c81a27295",
        message_attributes={"b": MessageAttributeValue(data_type="Binary", binary_value=b"\x00\xff")},
    )

    assert xml("ReceiveMessage", operations.ReceiveMessageResult(messages=[message])) == (
        "<ReceiveMessageResult><Message>"
        "<MessageId>5fea7756-0ea4-451a-a703-a558b933e274</MessageId>"
        "<ReceiptHandle>MbZj6wDWli+JvwwJaBV+3dcjk2YW2vA3</ReceiptHandle>"
        "<MD5OfBody>fafb00f5732ab283681e124bf8747ed1</MD5OfBody>"
        "<Body>This is a test message</Body>"
        "<Attribute><Name>SenderId</Name><Value>195004372649</Value></Attribute>"
        "<Attribute><Name>SentTimestamp</Name><Value>1238099229000</Value></Attribute>"
        "<MD5OfMessageAttributes>3ae8f24a165a8cedc005670c81a27295</MD5OfMessageAttributes>"
        "<MessageAttribute><Name>b</Name><Value><DataType>Binary</DataType><BinaryValue>AP8=</BinaryValue>"
        "</Value></MessageAttribute>"
        "</Message></ReceiveMessageResult>"
    )


def test_a_batch_answers_each_entry_under_the_name_of_its_outcome() -> None:
    result = operations.DeleteMessageBatchResult(
        successful=[operations.DeleteMessageBatchResultEntry(id="a")],
        failed=[
            operations.BatchResultErrorEntry(id="b", sender_fault=True, code="InvalidX", message="No <b>.")
        ],
    )

    assert xml("DeleteMessageBatch", result) == (
        "<DeleteMessageBatchResult>"
        "<DeleteMessageBatchResultEntry><Id>a</Id></DeleteMessageBatchResultEntry>"
        "<BatchResultErrorEntry><Id>b</Id><SenderFault>true</SenderFault><Code>InvalidX</Code>"
        "<Message>No &lt;b&gt;.</Message></BatchResultErrorEntry>"
        "</DeleteMessageBatchResult>"
    )


def test_lists_and_maps_are_flattened_under_singular_names() -> None:
    assert xml("ListQueues", operations.ListQueuesResult(queue_urls=["http://x/1/a", "http://x/1/b"])) == (
        "<ListQueuesResult><QueueUrl>http://x/1/a</QueueUrl><QueueUrl>http://x/1/b</QueueUrl></ListQueuesResult>"
    )
    assert xml("ListQueueTags", operations.ListQueueTagsResult(tags={"team": "blue"})) == (
        "<ListQueueTagsResult><Tag><Key>team</Key><Value>blue</Value></Tag></ListQueueTagsResult>"
    )
    assert xml(
        "ListDeadLetterSourceQueues", operations.ListDeadLetterSourceQueuesResult(queue_urls=["u"])
    ) == ("<ListDeadLetterSourceQueuesResult><QueueUrl>u</QueueUrl></ListDeadLetterSourceQueuesResult>")


def test_a_result_with_nothing_in_it_is_there_and_empty() -> None:
    assert xml("ReceiveMessage", operations.ReceiveMessageResult()) == (
        "<ReceiveMessageResult></ReceiveMessageResult>"
    )


@pytest.mark.parametrize("name", [name for name, each in OPERATIONS.items() if each.result is None])
def test_an_operation_that_gives_nothing_answers_with_its_metadata_only(name: str) -> None:
    assert xml(name, None) == ""


def test_an_error_has_a_type_a_code_a_message_and_an_empty_detail() -> None:
    assert write_error("Sender", "InvalidParameterValue", "Value (a&b) is wrong.", ID).decode() == (
        '<?xml version="1.0"?>'
        '<ErrorResponse xmlns="http://queue.amazonaws.com/doc/2012-11-05/">'
        "<Error><Type>Sender</Type><Code>InvalidParameterValue</Code>"
        "<Message>Value (a&amp;b) is wrong.</Message><Detail/></Error>"
        "<RequestId>27daac76-34dd-47df-bd01-1f6e873584a0</RequestId>"
        "</ErrorResponse>"
    )


def test_markup_quotation_marks_and_carriage_returns_are_escaped() -> None:
    assert escape("<a b=\"c\">'&amp;'\r\n\t</a>") == (
        "&lt;a b=&quot;c&quot;&gt;'&amp;amp;'&#xD;\n\t&lt;/a&gt;"
    )


XML_TEXT = st.text(
    st.characters(
        codec="utf-8", exclude_categories=["Cs"], exclude_characters=[*map(chr, range(9)), "\ufffe", "\uffff"]
    ).filter(lambda character: character >= " " or character in "\t\n\r")
)


@given(XML_TEXT)
def test_a_text_that_a_message_may_have_survives_a_parser(text: str) -> None:
    document = f"<a>{escape(text)}</a>"

    assert (ElementTree.fromstring(document.encode()).text or "") == text


@given(st.text(st.characters()))
def test_any_text_at_all_makes_well_formed_xml(text: str) -> None:
    document = f"<a>{escape(text)}</a>".encode()

    assert len(ElementTree.fromstring(document).text or "") == len(text)
