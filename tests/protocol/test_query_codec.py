"""The Query protocol, example by example: actions, queue URLs, versions, errors, and the older JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.parsers import create_parser

from tests.protocol.test_json_codec import ALL_ERRORS
from waystation.protocol import operations
from waystation.protocol.errors import (
    InvalidAction,
    InvalidParameterValue,
    QueueDoesNotExist,
    ReceiptHandleIsInvalid,
    Refusal,
    Unavailable,
    UnknownOperation,
)
from waystation.protocol.operations import OPERATIONS, MessageAttributeValue
from waystation.protocol.query_codec import NoSuchVersion, decode, encode, encode_error, operation_of

ID = "27daac76-34dd-47df-bd01-1f6e873584a0"
QUEUE_PATH = "/000000000000/orders"


def read(operation: str, form: str, path: str = "/") -> Any:
    return decode(OPERATIONS[operation], form.encode(), path)


# Actions


@pytest.mark.parametrize(
    "form",
    [
        b"Action=SendMessage",
        b"QueueUrl=x&Action=SendMessage&MessageBody=y",
        b"Action=Send%4dessage",
        b"MyAction=DeleteQueue&Action=SendMessage",
        b"Action=SendMessage&Action=DeleteQueue",
        b"MessageBody=%26Action=DeleteQueue&Action=SendMessage",
    ],
)
def test_the_first_action_names_the_operation(form: bytes) -> None:
    assert operation_of(form, "/") is OPERATIONS["SendMessage"]


@pytest.mark.parametrize("form", [b"", b"MyAction=SendMessage", b"Action", b"Action=", b"&&Action=&x=y"])
def test_a_form_without_an_action_names_no_operation(form: bytes) -> None:
    with pytest.raises(UnknownOperation):
        operation_of(form, QUEUE_PATH)


@pytest.mark.parametrize("name", ["Fly", "sendmessage", "SendMessage "])
def test_an_action_that_does_not_exist_is_not_valid_here(name: str) -> None:
    with pytest.raises(InvalidAction, match=f"^The action {name} is not valid for this endpoint.$"):
        operation_of(f"Action={name}".encode(), "/")


@pytest.mark.parametrize("name", ["CreateQueue", "ListQueues"])
def test_what_is_not_about_one_queue_is_not_valid_at_the_url_of_one(name: str) -> None:
    form = f"Action={name}".encode()

    assert operation_of(form, "/").name == name
    with pytest.raises(InvalidAction, match=f"^The action {name} is not valid for this endpoint.$"):
        operation_of(form, QUEUE_PATH)


# Queue URLs and versions


def test_a_request_to_the_url_of_a_queue_is_about_that_queue() -> None:
    assert read("PurgeQueue", "", QUEUE_PATH).queue_url == QUEUE_PATH
    assert read("PurgeQueue", "QueueUrl=", QUEUE_PATH).queue_url == QUEUE_PATH


def test_a_queue_url_in_the_form_goes_before_the_path() -> None:
    assert read("PurgeQueue", "QueueUrl=other", QUEUE_PATH).queue_url == "other"


def test_a_request_to_the_root_is_about_no_queue() -> None:
    assert read("PurgeQueue", "", "/").queue_url is None


def test_an_operation_that_takes_no_queue_url_does_not_get_the_path_either() -> None:
    assert read("GetQueueUrl", "QueueName=a", QUEUE_PATH) == operations.GetQueueUrlRequest(queue_name="a")


@pytest.mark.parametrize("version", ["", "2012-11-05", "2011-10-01", "2009-02-01"])
def test_every_version_that_the_api_has_had_is_served(version: str) -> None:
    assert read("PurgeQueue", f"Version={version}&QueueUrl=a").queue_url == "a"


def test_a_version_that_never_was_is_refused() -> None:
    with pytest.raises(NoSuchVersion, match="2012-11-06"):
        read("PurgeQueue", "Version=2012-11-06&QueueUrl=a")


# Errors


def error_text(error: Refusal) -> str:
    status, body, _ = encode_error(error, ID)
    answer = {"status_code": status, "headers": {}, "body": body}
    text: str = create_parser("query").parse(answer, None)["Error"]["Message"]
    return text


@pytest.mark.parametrize(
    "error",
    [error for error in ALL_ERRORS if not isinstance(error, UnknownOperation)],
    ids=lambda error: type(error).__name__,
)
def test_botocore_reads_every_error_as_it_was_meant(error: Refusal | Unavailable) -> None:
    status, body, content_type = encode_error(error, ID)
    parsed = create_parser("query").parse({"status_code": status, "headers": {}, "body": body}, None)

    assert (status, content_type) == (error.status, "text/xml")
    assert parsed["Error"]["Code"] == error.query_code
    assert parsed["Error"]["Type"] == ("Receiver" if isinstance(error, Unavailable) else "Sender")
    assert parsed["ResponseMetadata"]["RequestId"] == ID
    if not isinstance(error, QueueDoesNotExist):
        assert parsed["Error"]["Message"] == error.message


def test_a_missing_queue_is_missing_for_this_wsdl_version() -> None:
    status, body, _ = encode_error(QueueDoesNotExist(), ID)

    assert status == 400
    assert body.decode() == (
        '<?xml version="1.0"?><ErrorResponse xmlns="http://queue.amazonaws.com/doc/2012-11-05/"><Error>'
        "<Type>Sender</Type><Code>AWS.SimpleQueueService.NonExistentQueue</Code>"
        "<Message>The specified queue does not exist for this wsdl version.</Message><Detail/></Error>"
        "<RequestId>27daac76-34dd-47df-bd01-1f6e873584a0</RequestId></ErrorResponse>"
    )


def test_an_error_may_repeat_what_xml_does_not_have() -> None:
    text = error_text(ReceiptHandleIsInvalid("\x00<&\ud800\uffff"))

    assert text == 'The input receipt handle "\ufffd<&\ufffd\ufffd" is not a valid receipt handle.'


@pytest.mark.parametrize("as_json", [False, True])
def test_an_unknown_operation_is_one_element_of_xml_whatever_was_asked_for(as_json: bool) -> None:
    answer = encode_error(UnknownOperation(), ID, as_json=as_json)

    assert answer == (404, b"<UnknownOperationException/>\n", "text/xml")


# The older JSON


def test_the_older_json_has_the_structure_of_the_xml_and_null_for_what_is_absent() -> None:
    message = operations.Message(
        message_id="m",
        receipt_handle="h",
        md5_of_body="5",
        body='"x"\r\n',
        attributes={"SenderId": "1"},
        message_attributes={"b": MessageAttributeValue(data_type="Binary", binary_value=b"\x00\xff")},
    )
    result = operations.ReceiveMessageResult(messages=[message])

    assert json.loads(encode(OPERATIONS["ReceiveMessage"], result, ID, as_json=True)) == {
        "ReceiveMessageResponse": {
            "ReceiveMessageResult": {
                "messages": [
                    {
                        "MessageId": "m",
                        "ReceiptHandle": "h",
                        "MD5OfBody": "5",
                        "Body": '"x"\r\n',
                        "Attributes": [{"Name": "SenderId", "Value": "1"}],
                        "MD5OfMessageAttributes": None,
                        "MessageAttributes": [
                            {
                                "Name": "b",
                                "Value": {
                                    "DataType": "Binary",
                                    "StringValue": None,
                                    "BinaryValue": "AP8=",
                                    "StringListValues": None,
                                    "BinaryListValues": None,
                                },
                            }
                        ],
                    }
                ]
            },
            "ResponseMetadata": {"RequestId": ID},
        }
    }


@pytest.mark.parametrize(
    ("operation", "result", "expected"),
    [
        ("DeleteQueue", None, {}),
        ("ReceiveMessage", operations.ReceiveMessageResult(), {"ReceiveMessageResult": {"messages": None}}),
        (
            "GetQueueAttributes",
            operations.GetQueueAttributesResult(attributes={"DelaySeconds": "0"}),
            {"GetQueueAttributesResult": {"Attributes": [{"Name": "DelaySeconds", "Value": "0"}]}},
        ),
        (
            "ListQueueTags",
            operations.ListQueueTagsResult(tags={"a": "b"}),
            {"ListQueueTagsResult": {"Tags": [{"Key": "a", "Value": "b"}]}},
        ),
    ],
)
def test_the_older_json_of_other_results(operation: str, result: Any, expected: dict[str, Any]) -> None:
    answer = json.loads(encode(OPERATIONS[operation], result, ID, as_json=True))

    assert answer == {f"{operation}Response": expected | {"ResponseMetadata": {"RequestId": ID}}}


def test_errors_have_the_older_json_as_well() -> None:
    status, body, content_type = encode_error(InvalidParameterValue("No."), ID, as_json=True)

    assert (status, content_type) == (400, "application/json")
    assert json.loads(body) == {
        "Error": {"Code": "InvalidParameterValue", "Message": "No.", "Type": "Sender"},
        "RequestId": ID,
    }
