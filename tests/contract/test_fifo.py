"""FIFO queues as clients of both protocols meet them: order, exclusivity, deduplication, receipts."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import pytest

from tests.contract.receiving import bodies, receive
from tests.contract.wire import refused
from tests.server import arn, eventually

NewFifo = Callable[..., str]


def send(sqs: Any, queue: str, body: str, group: str = "g", **more: Any) -> Any:
    return sqs.send_message(QueueUrl=queue, MessageBody=body, MessageGroupId=group, **more)


def delete(sqs: Any, queue: str, messages: list[dict[str, Any]]) -> None:
    for message in messages:
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


def change(sqs: Any, queue: str, message: dict[str, Any], timeout_s: int) -> None:
    sqs.change_message_visibility(
        QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=timeout_s
    )


# Order and exclusivity


def test_a_group_is_received_in_the_order_sent_and_nothing_more_of_it_while_some_is_in_flight(
    sqs: Any, fifo: str
) -> None:
    for number in range(5):
        send(sqs, fifo, f"m{number}")
    first = receive(sqs, fifo, 2)

    assert bodies(first) == ["m0", "m1"]
    assert receive(sqs, fifo) == []
    delete(sqs, fifo, first[:1])
    assert receive(sqs, fifo) == [], "one of the batch is still in flight"
    delete(sqs, fifo, first[1:])
    assert bodies(receive(sqs, fifo)) == ["m2", "m3", "m4"]


def test_a_batch_keeps_its_order_in_each_group(sqs: Any, fifo: str) -> None:
    entries = [
        {"Id": str(at), "MessageBody": f"{group}{at}", "MessageGroupId": group}
        for at, group in enumerate("ababababab")
    ]
    sent = sqs.send_message_batch(QueueUrl=fifo, Entries=entries)["Successful"]

    numbers = [each["SequenceNumber"] for each in sorted(sent, key=lambda each: int(each["Id"]))]
    assert numbers == sorted(numbers)
    assert bodies(receive(sqs, fifo)) == ["a0", "a2", "a4", "a6", "a8", "b1", "b3", "b5", "b7", "b9"]


def test_a_receive_drains_one_group_before_the_next_and_a_freed_group_goes_to_the_back(
    sqs: Any, fifo: str
) -> None:
    for body, group in (("a1", "a"), ("b1", "b"), ("a2", "a"), ("c1", "c")):
        send(sqs, fifo, body, group)
    first = receive(sqs, fifo, 2)
    assert bodies(first) == ["a1", "a2"]
    send(sqs, fifo, "a3", "a")
    delete(sqs, fifo, first)

    assert bodies(receive(sqs, fifo)) == ["b1", "c1", "a3"]


def test_making_one_message_visible_frees_only_that_one(sqs: Any, fifo: str) -> None:
    for number in range(4):
        send(sqs, fifo, f"m{number}")
    batch = receive(sqs, fifo, 3)
    change(sqs, fifo, batch[0], 0)

    assert bodies(receive(sqs, fifo)) == ["m0"]
    assert receive(sqs, fifo) == []


def test_extending_one_message_still_delivers_earlier_ones_and_holds_back_later_ones(
    sqs: Any, fifo: str
) -> None:
    for number in range(4):
        send(sqs, fifo, f"m{number}")
    batch = receive(sqs, fifo, 3, VisibilityTimeout=1)
    change(sqs, fifo, batch[1], 60)

    assert bodies(receive(sqs, fifo, WaitTimeSeconds=10)) == ["m0"]
    assert receive(sqs, fifo) == []


def test_deleting_what_is_in_flight_wakes_a_long_poll_for_the_group_at_once(sqs: Any, fifo: str) -> None:
    send(sqs, fifo, "first")
    send(sqs, fifo, "second")
    held = receive(sqs, fifo, 1)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(receive, sqs, fifo, WaitTimeSeconds=20)
        delete(sqs, fifo, held)

        assert bodies(waiting.result(timeout=10)) == ["second"]


def test_a_delayed_message_does_not_block_its_group_and_the_delay_holds_for_earlier_ones_too(
    sqs: Any, fifo: str
) -> None:
    send(sqs, fifo, "now", DelaySeconds=0)
    assert bodies(receive(sqs, fifo, VisibilityTimeout=0)) == ["now"]
    send(sqs, fifo, "later")
    sqs.set_queue_attributes(QueueUrl=fifo, Attributes={"DelaySeconds": "900"})

    assert bodies(receive(sqs, fifo)) == ["now"], "received before, so not delayed"
    name = "ApproximateNumberOfMessagesDelayed"
    shown = sqs.get_queue_attributes(QueueUrl=fifo, AttributeNames=[name])["Attributes"]
    assert shown == {name: "1"}
    sqs.set_queue_attributes(QueueUrl=fifo, Attributes={"DelaySeconds": "0"})
    assert receive(sqs, fifo) == [], "now it is the message in flight that blocks the group"


# Deduplication


def test_a_duplicate_gets_the_ids_of_the_first_and_is_not_received(sqs: Any, new_fifo: NewFifo) -> None:
    queue = new_fifo()
    first = send(sqs, queue, "one", MessageDeduplicationId="d")
    second = send(sqs, queue, "two", MessageDeduplicationId="d")

    for name in ("MessageId", "SequenceNumber"):
        assert second[name] == first[name]
    assert bodies(receive(sqs, queue)) == ["one"]


def test_deduplication_survives_deletion_and_spans_groups(sqs: Any, fifo: str) -> None:
    send(sqs, fifo, "body")
    delete(sqs, fifo, receive(sqs, fifo))
    send(sqs, fifo, "body")
    send(sqs, fifo, "body", "another-group")

    assert receive(sqs, fifo) == []


def test_contents_are_the_body_alone_and_an_explicit_id_goes_before_them(sqs: Any, fifo: str) -> None:
    attribute = {"n": {"DataType": "Number", "StringValue": "1"}}
    send(sqs, fifo, "body")
    send(sqs, fifo, "body", MessageAttributes=attribute)
    send(sqs, fifo, "body", MessageDeduplicationId="explicit")
    shown = [message["Attributes"]["MessageDeduplicationId"] for message in receive(sqs, fifo)]

    assert shown == [sha256(b"body").hexdigest(), "explicit"]


def test_two_entries_of_a_batch_with_one_id_are_one_message(sqs: Any, new_fifo: NewFifo) -> None:
    queue = new_fifo()
    entry = {"MessageGroupId": "g", "MessageDeduplicationId": "d"}
    answer = sqs.send_message_batch(
        QueueUrl=queue,
        Entries=[{"Id": "1", "MessageBody": "one", **entry}, {"Id": "2", "MessageBody": "two", **entry}],
    )

    assert len({each["MessageId"] for each in answer["Successful"]}) == 1
    assert bodies(receive(sqs, queue)) == ["one"]


def test_scope_message_group_deduplicates_in_each_group_and_needs_no_throughput_setting(
    sqs: Any, new_fifo: NewFifo
) -> None:
    queue = new_fifo(DeduplicationScope="messageGroup")
    for group in ("a", "b", "a"):
        send(sqs, queue, f"of {group}", group, MessageDeduplicationId="d")

    assert bodies(receive(sqs, queue)) == ["of a", "of b"]


def test_changing_the_scope_later_is_shown_and_has_no_effect(sqs: Any, fifo: str) -> None:
    sqs.set_queue_attributes(QueueUrl=fifo, Attributes={"DeduplicationScope": "messageGroup"})
    send(sqs, fifo, "body", "a")
    send(sqs, fifo, "body", "b")

    assert len(receive(sqs, fifo)) == 1
    shown = sqs.get_queue_attributes(QueueUrl=fifo, AttributeNames=["DeduplicationScope"])["Attributes"]
    assert shown == {"DeduplicationScope": "messageGroup"}


def test_a_purge_forgets_deduplication_ids_too(sqs: Any, fifo: str) -> None:
    send(sqs, fifo, "body")
    sqs.purge_queue(QueueUrl=fifo)
    send(sqs, fifo, "body")

    assert bodies(receive(sqs, fifo)) == ["body"]


# Attempts, receipts, numbers


def test_a_repeated_attempt_gets_the_same_messages_under_the_same_handles(sqs: Any, fifo: str) -> None:
    for number in range(3):
        send(sqs, fifo, f"m{number}")
    first = receive(sqs, fifo, 2, ReceiveRequestAttemptId="try")
    again = receive(sqs, fifo, 2, ReceiveRequestAttemptId="try")

    assert [(m["Body"], m["ReceiptHandle"]) for m in again] == [
        (m["Body"], m["ReceiptHandle"]) for m in first
    ]
    assert receive(sqs, fifo, ReceiveRequestAttemptId="another-try") == []
    delete(sqs, fifo, first[:1])
    assert receive(sqs, fifo, ReceiveRequestAttemptId="try") == [], "void once one was deleted"


def test_a_sequence_number_has_20_digits_and_rises(sqs: Any, fifo: str) -> None:
    sent = [send(sqs, fifo, f"m{number}", f"g{number % 2}")["SequenceNumber"] for number in range(4)]

    assert all(len(number) == 20 and number.isdigit() for number in sent)
    assert sent == sorted(set(sent))
    shown = {message["Attributes"]["SequenceNumber"] for message in receive(sqs, fifo)}
    assert shown == set(sent)


def test_an_expired_receipt_does_not_delete_unless_it_was_extended(sqs: Any, fifo: str) -> None:
    send(sqs, fifo, "body")
    [held] = receive(sqs, fifo, VisibilityTimeout=1)
    eventually(lambda: len(receive(sqs, fifo, VisibilityTimeout=0)) == 1)
    handle = held["ReceiptHandle"]
    text = f"Value {handle} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."

    with refused("InvalidParameterValue", text):
        sqs.delete_message(QueueUrl=fifo, ReceiptHandle=handle)
    answer = sqs.delete_message_batch(QueueUrl=fifo, Entries=[{"Id": "1", "ReceiptHandle": handle}])
    assert [each["Message"] for each in answer["Failed"]] == [text]

    [held] = receive(sqs, fifo, VisibilityTimeout=1)
    change(sqs, fifo, held, 60)
    delete(sqs, fifo, [held])
    delete(sqs, fifo, [held])  # gone already is no error
    assert receive(sqs, fifo) == []


def test_the_timeout_of_a_message_that_is_visible_again_cannot_be_changed(sqs: Any, fifo: str) -> None:
    send(sqs, fifo, "body")
    [held] = receive(sqs, fifo)
    change(sqs, fifo, held, 0)

    with refused("MessageNotInflight"):
        change(sqs, fifo, held, 10)


# Dead letters


def test_dead_letters_of_a_fifo_queue_keep_their_group_and_order(sqs: Any, new_fifo: NewFifo) -> None:
    letters = new_fifo()
    target = arn(letters)
    policy = json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": 1})
    queue = new_fifo(ContentBasedDeduplication="true", RedrivePolicy=policy)
    for number in range(3):
        send(sqs, queue, f"m{number}", "orders")
    assert len(receive(sqs, queue, VisibilityTimeout=0)) == 3
    assert receive(sqs, queue) == []

    eventually(lambda: len(receive(sqs, letters, VisibilityTimeout=0)) == 3)
    found = receive(sqs, letters)
    assert bodies(found) == ["m0", "m1", "m2"]
    assert {message["Attributes"]["MessageGroupId"] for message in found} == {"orders"}


# Refusals

GROUP = "The request must contain the parameter MessageGroupId."
NO_ID = (
    "The queue should either have ContentBasedDeduplication enabled or "
    "MessageDeduplicationId provided explicitly"
)


def test_a_message_without_a_group_is_refused_and_so_is_its_whole_batch(sqs: Any, fifo: str) -> None:
    with refused("MissingParameter", GROUP):
        sqs.send_message(QueueUrl=fifo, MessageBody="body")
    good = {"Id": "1", "MessageBody": "good", "MessageGroupId": "g"}
    with refused("InvalidParameterValue", GROUP):
        sqs.send_message_batch(QueueUrl=fifo, Entries=[good, {"Id": "2", "MessageBody": "bad"}])
    assert receive(sqs, fifo) == []


def test_a_message_without_a_deduplication_id_is_refused_and_so_is_its_whole_batch(
    sqs: Any, new_fifo: NewFifo
) -> None:
    queue = new_fifo()
    with refused("InvalidParameterValue", NO_ID):
        send(sqs, queue, "body")
    with refused("InvalidParameterValue", NO_ID):
        entry = {"Id": "1", "MessageBody": "body", "MessageGroupId": "g"}
        sqs.send_message_batch(QueueUrl=queue, Entries=[entry])


@pytest.mark.parametrize("name", ["MessageGroupId", "MessageDeduplicationId"])
@pytest.mark.parametrize("value", ["", "with blank", "ü", "x" * 129])
def test_an_id_is_1_to_128_letters_digits_and_punctuation(sqs: Any, fifo: str, name: str, value: str) -> None:
    with refused("InvalidParameterValue"):
        sqs.send_message(QueueUrl=fifo, MessageBody="b", **{"MessageGroupId": "g", name: value})


def test_a_delay_of_its_own_is_refused(sqs: Any, fifo: str) -> None:
    text = (
        "Value 2 for parameter DelaySeconds is invalid. Reason: "
        "The request include parameter that is not valid for this queue type."
    )
    with refused("InvalidParameterValue", text):
        send(sqs, fifo, "body", DelaySeconds=2)


def test_ids_of_fifo_queues_are_refused_on_standard_queues(sqs: Any, queue: str) -> None:
    with refused("InvalidParameterValue"):
        sqs.send_message(QueueUrl=queue, MessageBody="body", MessageDeduplicationId="d")
    with refused("InvalidParameterValue"):
        receive(sqs, queue, ReceiveRequestAttemptId="try")


@pytest.mark.parametrize(
    ("name", "attributes", "code"),
    [
        ("orders", {"FifoQueue": "true"}, "InvalidParameterValue"),
        ("orders.fifo", {}, "InvalidParameterValue"),
        ("x" * 76 + ".fifo", {"FifoQueue": "true"}, "InvalidParameterValue"),
        ("orders", {"FifoQueue": "false"}, "InvalidAttributeName"),
        ("orders", {"DeduplicationScope": "queue"}, "InvalidAttributeName"),
        ("o.fifo", {"FifoQueue": "true", "DeduplicationScope": "group"}, "InvalidAttributeValue"),
        (
            "o.fifo",
            {"FifoQueue": "true", "FifoThroughputLimit": "perMessageGroupId"},
            "InvalidAttributeValue",
        ),
    ],
)
def test_a_queue_whose_name_and_attributes_do_not_go_together_is_refused(
    sqs: Any, name: str, attributes: dict[str, str], code: str
) -> None:
    with refused(code):
        sqs.create_queue(QueueName=name, Attributes=attributes)


def test_a_queue_does_not_change_its_type(sqs: Any, fifo: str) -> None:
    sqs.set_queue_attributes(QueueUrl=fifo, Attributes={"FifoQueue": "true"})
    text = "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported."
    with refused("InvalidAttributeValue", text):
        sqs.set_queue_attributes(QueueUrl=fifo, Attributes={"FifoQueue": "false"})


def test_every_attribute_of_a_fifo_queue_is_shown_with_its_default(sqs: Any, new_fifo: NewFifo) -> None:
    shown = sqs.get_queue_attributes(QueueUrl=new_fifo(), AttributeNames=["All"])["Attributes"]

    assert {name: shown[name] for name in shown if "Fifo" in name or "Dedup" in name} == {
        "FifoQueue": "true",
        "ContentBasedDeduplication": "false",
        "DeduplicationScope": "queue",
        "FifoThroughputLimit": "perQueue",
    }
