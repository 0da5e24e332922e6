"""What a queue can be told, what it then says, and what it does about it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.wire import refused
from tests.server import ACCOUNT, REGION

NewQueue = Callable[..., str]
NewName = Callable[[], str]

DEFAULTS = {
    "ApproximateNumberOfMessages": "0",
    "ApproximateNumberOfMessagesDelayed": "0",
    "ApproximateNumberOfMessagesNotVisible": "0",
    "DelaySeconds": "0",
    "MaximumMessageSize": "1048576",
    "MessageRetentionPeriod": "345600",
    "ReceiveMessageWaitTimeSeconds": "0",
    "SqsManagedSseEnabled": "true",
    "VisibilityTimeout": "30",
}
POLICY = '{"Version":"2012-10-17","Statement":[]}'


def attributes(sqs: Any, queue: str, *names: str) -> dict[str, str]:
    answer = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=list(names or ("All",)))
    return dict(answer.get("Attributes", {}))


def change(sqs: Any, queue: str, **values: str) -> None:
    sqs.set_queue_attributes(QueueUrl=queue, Attributes=values)


def test_a_new_queue_has_all_defaults(sqs: Any, queue: str) -> None:
    before_s = int(time.time()) - 60
    shown = attributes(sqs, queue)

    assert shown.pop("QueueArn") == f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue.rpartition('/')[2]}"
    created_s, modified_s = int(shown.pop("CreatedTimestamp")), int(shown.pop("LastModifiedTimestamp"))
    assert before_s <= created_s == modified_s <= time.time()
    assert shown == DEFAULTS


def test_only_the_attributes_asked_for_are_shown(sqs: Any, queue: str) -> None:
    assert attributes(sqs, queue, "DelaySeconds", "VisibilityTimeout") == {
        "DelaySeconds": "0",
        "VisibilityTimeout": "30",
    }


def test_asking_for_no_attributes_shows_none(sqs: Any, queue: str) -> None:
    assert "Attributes" not in sqs.get_queue_attributes(QueueUrl=queue)
    assert "Attributes" not in sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["Policy"])


def test_asking_for_an_unknown_attribute_is_refused(sqs: Any, queue: str) -> None:
    with refused("InvalidAttributeName", "Unknown Attribute Colour."):
        attributes(sqs, queue, "Colour")


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("DelaySeconds", 0, 900),
        ("MaximumMessageSize", 1_024, 1_048_576),
        ("MessageRetentionPeriod", 60, 1_209_600),
        ("ReceiveMessageWaitTimeSeconds", 0, 20),
        ("VisibilityTimeout", 0, 43_200),
        ("KmsDataKeyReusePeriodSeconds", 60, 86_400),
    ],
)
def test_a_number_is_taken_within_its_range_and_refused_outside(
    sqs: Any, queue: str, name: str, low: int, high: int
) -> None:
    for good in (low, high):
        change(sqs, queue, **{name: str(good)})
        assert attributes(sqs, queue, name) == {name: str(good)}
    for bad in (str(low - 1), str(high + 1), "", "x", "1.5", "٣", "9" * 5_000):
        with refused("InvalidAttributeValue", f"Invalid value for the parameter {name}."):
            change(sqs, queue, **{name: bad})
    assert attributes(sqs, queue, name) == {name: str(high)}


def test_one_bad_attribute_leaves_the_others_as_they_were(sqs: Any, queue: str) -> None:
    with refused("InvalidAttributeValue"):
        change(sqs, queue, DelaySeconds="5", VisibilityTimeout="-1")

    assert attributes(sqs, queue, "DelaySeconds") == {"DelaySeconds": "0"}


def test_a_change_of_no_attributes_is_refused(sqs: Any, queue: str) -> None:
    with refused("MissingParameter", "The request must contain the parameter Attributes."):
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={})


@pytest.mark.parametrize("name", ["Colour", "QueueArn", "ApproximateNumberOfMessages", "All", ""])
def test_an_attribute_that_nobody_can_set_is_unknown(
    sqs: Any, queue: str, new_name: NewName, name: str
) -> None:
    with refused("InvalidAttributeName", f"Unknown Attribute {name}."):
        change(sqs, queue, **{name: "1"})
    with refused("InvalidAttributeName", f"Unknown Attribute {name}."):
        sqs.create_queue(QueueName=new_name(), Attributes={name: "1"})


def test_a_standard_queue_knows_no_attribute_of_fifo_queues(sqs: Any, queue: str, new_name: NewName) -> None:
    values = {
        "FifoQueue": "false",
        "ContentBasedDeduplication": "false",
        "DeduplicationScope": "queue",
        "FifoThroughputLimit": "perQueue",
    }
    for name, value in values.items():
        text = f"You can specify the {name} only when FifoQueue is set to true."
        if name in ("FifoQueue", "ContentBasedDeduplication"):
            text = f"Unknown Attribute {name}."
        with refused("InvalidAttributeName", text):
            sqs.create_queue(QueueName=new_name(), Attributes={name: value})
        with refused("InvalidAttributeName", text):
            change(sqs, queue, **{name: value})


def test_a_change_moves_the_time_of_the_last_modification_only(sqs: Any, queue: str) -> None:
    before = attributes(sqs, queue, "CreatedTimestamp")
    change(sqs, queue, DelaySeconds="5")

    after = attributes(sqs, queue, "CreatedTimestamp", "LastModifiedTimestamp")
    assert after["CreatedTimestamp"] == before["CreatedTimestamp"] <= after["LastModifiedTimestamp"]


# Documents


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("Policy", '{ "Statement": [],\n "Id": "\\u0061", "Version":"2012-10-17"}'),
        ("RedriveAllowPolicy", '{ "redrivePermission" :\n\t"denyAll" }'),
    ],
)
def test_a_document_is_echoed_as_it_was_given_and_removed_by_an_empty_one(
    sqs: Any, queue: str, name: str, document: str
) -> None:
    change(sqs, queue, **{name: document})
    assert attributes(sqs, queue, name) == {name: document}

    change(sqs, queue, **{name: ""})
    assert attributes(sqs, queue, name) == {}


@pytest.mark.parametrize(
    "document", ["{", "[]", "1", "null", "x", '{"a":1}' + " " * 8_186, "[" * 5_000, '{"a":' * 2_000]
)
def test_what_is_no_json_object_or_too_long_is_no_document(sqs: Any, queue: str, document: str) -> None:
    with refused("InvalidAttributeValue", "Invalid value for the parameter Policy."):
        change(sqs, queue, Policy=document)


def test_a_document_may_have_8192_bytes(sqs: Any, queue: str) -> None:
    document = POLICY + " " * (8_192 - len(POLICY))
    change(sqs, queue, Policy=document)

    assert attributes(sqs, queue, "Policy") == {"Policy": document}


# Encryption


def test_a_kms_key_switches_the_other_encryption_off_and_it_stays_off(sqs: Any, queue: str) -> None:
    names = ("KmsMasterKeyId", "SqsManagedSseEnabled", "KmsDataKeyReusePeriodSeconds")
    change(sqs, queue, KmsMasterKeyId="alias/mine")
    assert attributes(sqs, queue, *names) == {
        "KmsMasterKeyId": "alias/mine",
        "SqsManagedSseEnabled": "false",
        "KmsDataKeyReusePeriodSeconds": "300",
    }

    change(sqs, queue, KmsMasterKeyId="")
    assert attributes(sqs, queue, *names) == {"SqsManagedSseEnabled": "false"}


def test_the_other_encryption_switches_a_kms_key_off(sqs: Any, new_queue: NewQueue) -> None:
    queue = new_queue(KmsMasterKeyId="alias/mine")
    change(sqs, queue, SqsManagedSseEnabled="true")

    assert attributes(sqs, queue, "KmsMasterKeyId", "SqsManagedSseEnabled") == {
        "SqsManagedSseEnabled": "true"
    }


def test_both_encryptions_at_once_are_refused(sqs: Any, queue: str) -> None:
    with refused("InvalidAttributeName"):
        change(sqs, queue, KmsMasterKeyId="alias/mine", SqsManagedSseEnabled="true")


def test_sse_is_true_or_false(sqs: Any, queue: str) -> None:
    with refused("InvalidAttributeValue"):
        change(sqs, queue, SqsManagedSseEnabled="yes")


def test_the_id_of_a_kms_key_has_at_most_2048_characters(sqs: Any, queue: str) -> None:
    change(sqs, queue, KmsMasterKeyId="k" * 2_048)

    with refused("InvalidAttributeValue"):
        change(sqs, queue, KmsMasterKeyId="k" * 2_049)


# What attributes do


def test_counts_tell_visible_in_flight_and_delayed_messages_apart(sqs: Any, queue: str) -> None:
    for number in range(3):
        sqs.send_message(QueueUrl=queue, MessageBody=str(number))
    sqs.send_message(QueueUrl=queue, MessageBody="later", DelaySeconds=900)
    assert sqs.receive_message(QueueUrl=queue)["Messages"]

    shown = attributes(sqs, queue)
    assert shown["ApproximateNumberOfMessages"] == "2"
    assert shown["ApproximateNumberOfMessagesNotVisible"] == "1"
    assert shown["ApproximateNumberOfMessagesDelayed"] == "1"


def test_the_queues_delay_holds_for_messages_without_one_of_their_own(sqs: Any, new_queue: NewQueue) -> None:
    queue = new_queue(DelaySeconds="900")
    sqs.send_message(QueueUrl=queue, MessageBody="delayed")
    sqs.send_message(QueueUrl=queue, MessageBody="at once", DelaySeconds=0)

    [message] = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    assert message["Body"] == "at once"


def test_a_changed_delay_holds_for_later_messages_only(sqs: Any, new_queue: NewQueue) -> None:
    queue = new_queue(DelaySeconds="900")
    sqs.send_message(QueueUrl=queue, MessageBody="before")
    change(sqs, queue, DelaySeconds="0")
    sqs.send_message(QueueUrl=queue, MessageBody="after")

    [message] = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    assert message["Body"] == "after"


def test_the_queues_visibility_timeout_holds_for_receives_without_one(sqs: Any, new_queue: NewQueue) -> None:
    queue = new_queue(VisibilityTimeout="0")
    sqs.send_message(QueueUrl=queue, MessageBody="again and again")

    assert sqs.receive_message(QueueUrl=queue)["Messages"]
    assert sqs.receive_message(QueueUrl=queue, VisibilityTimeout=600)["Messages"]
    assert "Messages" not in sqs.receive_message(QueueUrl=queue)


def test_the_queues_wait_time_holds_for_receives_without_one(sqs: Any, new_queue: NewQueue) -> None:
    queue = new_queue(ReceiveMessageWaitTimeSeconds="20")
    sqs.send_message(QueueUrl=queue, MessageBody="soon", DelaySeconds=1)

    [message] = sqs.receive_message(QueueUrl=queue)["Messages"]
    assert message["Body"] == "soon"


def test_the_queues_own_maximum_size_holds(sqs: Any, new_queue: NewQueue) -> None:
    queue = new_queue(MaximumMessageSize="1024")
    sqs.send_message(QueueUrl=queue, MessageBody="x" * 1_024)

    with refused(
        "InvalidParameterValue",
        "One or more parameters are invalid. Reason: Message must be shorter than 1024 bytes.",
    ):
        sqs.send_message(QueueUrl=queue, MessageBody="x" * 1_025)
