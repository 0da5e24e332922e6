"""AWS JSON 1.0, example by example: bad bytes, empty results, errors as botocore reads them."""

from __future__ import annotations

import json
from collections.abc import Callable

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.parsers import create_parser

from waystation.protocol import errors
from waystation.protocol.errors import Refusal, SerializationError, Unavailable, UnknownOperation
from waystation.protocol.json_codec import Headers, decode, encode, encode_error, operation_of
from waystation.protocol.operations import (
    OPERATIONS,
    ListDeadLetterSourceQueuesResult,
    ListQueuesResult,
    ListQueueTagsResult,
    ReceiveMessageRequest,
    ReceiveMessageResult,
    SendMessageRequest,
)

ALL_ERRORS: list[Refusal | Unavailable] = [
    errors.AccessDenied("arn:aws:sqs:us-east-1:000000000000:orders"),
    errors.BatchEntryIdsNotDistinct("id_2"),
    errors.BatchRequestTooLong(1_048_577, 1_048_576),
    errors.EmptyBatchRequest("SendMessageBatchRequestEntry"),
    errors.IncompleteSignature("Authorization header requires 'Signature' parameter."),
    errors.InvalidAction("CreateQueue"),
    errors.InvalidAddress("The address x is not valid for this endpoint."),
    errors.InvalidAttributeName.unknown("FifoQueue"),
    errors.InvalidAttributeValue.of("VisibilityTimeout"),
    errors.InvalidBatchEntryId(),
    errors.InvalidClientTokenId(),
    errors.InvalidIdFormat("no"),
    errors.InvalidMessageContents(),
    errors.InvalidParameterValue.of(11, "MaxNumberOfMessages", "Must be between 1 and 10, if provided."),
    errors.InvalidSecurity("no"),
    errors.KmsAccessDenied("no"),
    errors.KmsDisabled("no"),
    errors.KmsInvalidKeyUsage("no"),
    errors.KmsInvalidState("no"),
    errors.KmsNotFound("no"),
    errors.KmsOptInRequired("no"),
    errors.KmsThrottled("no"),
    errors.MessageNotInflight(),
    errors.MissingAuthenticationToken(),
    errors.MissingParameter("MessageBody"),
    errors.OverLimit.in_flight(120_000),
    errors.PurgeQueueInProgress("orders"),
    errors.QueueDeletedRecently(),
    errors.QueueDoesNotExist(),
    errors.QueueNameExists("VisibilityTimeout"),
    errors.ReceiptHandleIsInvalid("garbage"),
    errors.RequestExpired(),
    errors.RequestThrottled(),
    errors.ResourceNotFoundException("no"),
    errors.SerializationError("no"),
    errors.SignatureDoesNotMatch(),
    errors.TooManyEntriesInBatchRequest(11),
    errors.Unavailable(),
    errors.UnknownOperation(),
    errors.UnsupportedOperation("no"),
]


def test_an_operation_is_found_by_its_target() -> None:
    assert operation_of("AmazonSQS.SendMessage") is OPERATIONS["SendMessage"]


@pytest.mark.parametrize(
    "target", ["", "SendMessage", "AmazonSQS.", "AmazonSQS.Fly", "amazonsqs.sendmessage"]
)
def test_a_target_that_names_no_operation_is_refused(target: str) -> None:
    with pytest.raises(UnknownOperation):
        operation_of(target)


def test_an_empty_body_is_a_request_without_members() -> None:
    assert decode(OPERATIONS["SendMessage"], b"") == SendMessageRequest()


def test_null_is_the_same_as_absent_and_unknown_members_are_ignored() -> None:
    body = b'{"QueueUrl":"q","WaitTimeSeconds":null,"SomethingNew":[{"x":1}]}'

    assert decode(OPERATIONS["ReceiveMessage"], body) == ReceiveMessageRequest(queue_url="q")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{} {}",
        b"\xff",
        b'{"QueueUrl":"\xff"}',
        b'{"QueueUrl":"\\ud800"}',
        b'{"DelaySeconds":NaN}',
        b'{"Unknown":' + b"[" * 100_000,
        b'{"Unknown":' + b'{"a":' * 100_000,
        b"Action=SendMessage&Version=2012-11-05",
    ],
)
def test_a_body_that_is_not_json_is_refused_without_saying_what_it_was(body: bytes) -> None:
    with pytest.raises(SerializationError) as refused:
        decode(OPERATIONS["SendMessage"], body)

    assert refused.value.message == "The request body is not valid JSON."
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"[]", "the request body"),
        (b"null", "the request body"),
        (b'"text"', "the request body"),
        (b'{"DelaySeconds":"5"}', "the value of DelaySeconds"),
        (b'{"DelaySeconds":1.5}', "the value of DelaySeconds"),
        (b'{"MessageBody":5}', "the value of MessageBody"),
        (b'{"MessageAttributes":{"`secret`":null}}', "the value of MessageAttributes[...]"),
        (
            b'{"MessageAttributes":{"a":{"BinaryValue":"?"}}}',
            "the value of MessageAttributes[...].BinaryValue",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_place(body: bytes, where: str) -> None:
    with pytest.raises(SerializationError) as refused:
        decode(OPERATIONS["SendMessage"], body)

    assert refused.value.message == f"Wrong type: {where} is not what SendMessage expects."


def test_empty_results_leave_their_members_out() -> None:
    assert encode(ReceiveMessageResult()) == b"{}"
    assert encode(ListQueueTagsResult()) == b"{}"
    assert encode(ListQueuesResult()) == b"{}"


def test_source_queues_are_listed_even_when_there_are_none() -> None:
    assert encode(ListDeadLetterSourceQueuesResult(queue_urls=[])) == b'{"queueUrls":[]}'


def test_an_operation_that_gives_nothing_answers_with_an_empty_body() -> None:
    assert encode(None) == b""


def test_an_error_is_written_as_aws_writes_it() -> None:
    status, body, headers = encode_error(errors.QueueDoesNotExist(), "id-1")

    assert status == 400
    assert json.loads(body) == {
        "__type": "com.amazonaws.sqs#QueueDoesNotExist",
        "message": "The specified queue does not exist.",
    }
    assert headers == (
        ("x-amzn-RequestId", "id-1"),
        ("x-amzn-query-error", "AWS.SimpleQueueService.NonExistentQueue;Sender"),
    )


def test_the_examples_below_are_all_the_errors_there_are() -> None:
    named = {
        value
        for value in vars(errors).values()
        if isinstance(value, type)
        and issubclass(value, Refusal | Unavailable)
        and value not in (Refusal, errors.CommonRefusal)
    }

    assert {type(error) for error in ALL_ERRORS} == named


@pytest.mark.parametrize("error", ALL_ERRORS, ids=lambda error: error.shape)
def test_botocore_reads_every_error(error: Refusal | Unavailable) -> None:
    status, body, headers = encode_error(error, "id-1")
    lower = {name.lower(): value for name, value in headers}

    parsed = create_parser("json").parse({"status_code": status, "headers": lower, "body": body}, None)

    assert parsed["Error"] == {
        "Code": error.query_code,
        "QueryErrorCode": error.shape,
        "Message": error.message,
        "Type": "Sender" if status < 500 else "Receiver",
    }
    assert parsed["ResponseMetadata"]["RequestId"] == "id-1"
    assert parsed["ResponseMetadata"]["HTTPStatusCode"] == status


@pytest.mark.parametrize("error", ALL_ERRORS, ids=lambda error: error.shape)
def test_an_error_says_what_happened_in_one_line(error: Refusal | Unavailable) -> None:
    assert str(error) == error.message
    assert "\n" not in error.message
    assert error.message or isinstance(error, UnknownOperation)


class Answers:
    """A boto3 client whose requests go nowhere: it is given these answers in turn."""

    def __init__(self, *answers: tuple[int, bytes, Headers], retries: str = "standard") -> None:
        self.left = list(answers)
        self.client = boto3.client(
            "sqs",
            region_name="us-east-1",
            endpoint_url="http://localhost:1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            config=Config(retries={"mode": retries, "total_max_attempts": 2}),
        )
        self.client.meta.events.register("before-send.sqs", self._answer)

    def _answer(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        status, body, headers = self.left.pop(0)
        response = AWSResponse(request.url, status, {k.lower(): v for k, v in headers}, None)
        response._content = body
        return response


@pytest.mark.parametrize("retries", ["legacy", "standard"])
@pytest.mark.parametrize("make", [Unavailable, errors.RequestThrottled])
def test_boto3_tries_again_what_may_work_later(
    retries: str, make: Callable[[], Refusal | Unavailable], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    answers = Answers(encode_error(make(), "id-1"), (200, b'{"QueueUrls":["q"]}', ()), retries=retries)

    assert answers.client.list_queues()["QueueUrls"] == ["q"]
    assert answers.left == []


def test_boto3_raises_the_exception_that_the_model_names() -> None:
    answers = Answers(encode_error(errors.QueueDoesNotExist(), "id-1"))

    with pytest.raises(answers.client.exceptions.QueueDoesNotExist) as raised:
        answers.client.purge_queue(QueueUrl="http://localhost:1/000000000000/orders")

    assert isinstance(raised.value, ClientError)
    assert raised.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"


def test_boto3_takes_an_empty_body_where_an_operation_gives_nothing() -> None:
    answers = Answers((200, encode(None), (("Content-Length", "0"),)))

    answered = answers.client.purge_queue(QueueUrl="http://localhost:1/000000000000/orders")

    assert answered["ResponseMetadata"]["HTTPStatusCode"] == 200
