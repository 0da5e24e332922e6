"""Receipt handles: deleting a message, and changing when it comes back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.wire import refused

NOT_AVAILABLE = (
    "Value {handle} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not "
    "available for visibility timeout change."
)
GARBAGE = 'The input receipt handle "garbage" is not a valid receipt handle.'


def send_and_receive(sqs: Any, queue: str, timeout_s: int = 600) -> str:
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    return receive(sqs, queue, VisibilityTimeout=timeout_s)


def receive(sqs: Any, queue: str, **how: Any) -> str:
    [message] = sqs.receive_message(QueueUrl=queue, **how)["Messages"]
    handle: str = message["ReceiptHandle"]
    return handle


def is_empty(sqs: Any, queue: str) -> bool:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    shown = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return set(shown.values()) == {"0"}


def delete(sqs: Any, queue: str, handle: str) -> None:
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=handle)


def change(sqs: Any, queue: str, handle: str, timeout_s: int) -> None:
    sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=handle, VisibilityTimeout=timeout_s)


# Deleting


def test_a_deleted_message_is_gone(sqs: Any, queue: str) -> None:
    delete(sqs, queue, send_and_receive(sqs, queue))

    assert is_empty(sqs, queue)


def test_deleting_a_message_again_succeeds(sqs: Any, queue: str) -> None:
    handle = send_and_receive(sqs, queue)
    delete(sqs, queue, handle)

    delete(sqs, queue, handle)


def test_a_handle_whose_timeout_is_over_still_deletes(sqs: Any, queue: str) -> None:
    delete(sqs, queue, send_and_receive(sqs, queue, timeout_s=0))

    assert is_empty(sqs, queue)


def test_an_earlier_handle_still_deletes_a_message_that_was_received_again(sqs: Any, queue: str) -> None:
    first = send_and_receive(sqs, queue, timeout_s=0)
    receive(sqs, queue)

    delete(sqs, queue, first)
    assert is_empty(sqs, queue)


def test_a_handle_that_was_not_given_out_is_refused(sqs: Any, queue: str) -> None:
    with refused("ReceiptHandleIsInvalid", GARBAGE):
        delete(sqs, queue, "garbage")
    with refused("ReceiptHandleIsInvalid"):
        delete(sqs, queue, "")
    with refused("ReceiptHandleIsInvalid", GARBAGE):
        change(sqs, queue, "garbage", 0)


def test_the_handle_of_another_queue_is_refused(sqs: Any, queue: str, new_queue: Any) -> None:
    handle = send_and_receive(sqs, queue)

    with refused("ReceiptHandleIsInvalid"):
        delete(sqs, new_queue(), handle)
    assert not is_empty(sqs, queue)


def test_a_batch_deletes_what_it_can_and_names_what_it_cannot(sqs: Any, queue: str) -> None:
    handles = [send_and_receive(sqs, queue) for _ in range(2)]
    batch = [("a", handles[0]), ("b", "garbage"), ("c", handles[1]), ("d", handles[0])]
    answer = sqs.delete_message_batch(
        QueueUrl=queue, Entries=[{"Id": each, "ReceiptHandle": handle} for each, handle in batch]
    )

    assert [each["Id"] for each in answer["Successful"]] == ["a", "c", "d"]
    assert answer["Failed"] == [
        {"Id": "b", "SenderFault": True, "Code": "ReceiptHandleIsInvalid", "Message": GARBAGE}
    ]
    assert is_empty(sqs, queue)


# Changing the visibility timeout


def test_a_timeout_changed_to_0_makes_a_message_visible_at_once(sqs: Any, queue: str) -> None:
    change(sqs, queue, send_and_receive(sqs, queue), 0)

    assert receive(sqs, queue)


def test_a_timeout_that_is_extended_hides_the_message_on(sqs: Any, queue: str) -> None:
    handle = send_and_receive(sqs, queue, timeout_s=1)
    change(sqs, queue, handle, 600)

    assert "Messages" not in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=2)


def test_a_timeout_that_is_shortened_brings_the_message_back_sooner(sqs: Any, queue: str) -> None:
    change(sqs, queue, send_and_receive(sqs, queue), 1)
    assert "Messages" not in sqs.receive_message(QueueUrl=queue)

    assert receive(sqs, queue, WaitTimeSeconds=20)


def test_a_handle_whose_timeout_is_over_still_changes_it(sqs: Any, queue: str) -> None:
    change(sqs, queue, send_and_receive(sqs, queue, timeout_s=0), 600)

    assert "Messages" not in sqs.receive_message(QueueUrl=queue)


def test_an_earlier_handle_does_not_touch_the_timeout_of_a_later_receive(sqs: Any, queue: str) -> None:
    first = send_and_receive(sqs, queue, timeout_s=0)
    receive(sqs, queue)

    with refused("InvalidParameterValue", NOT_AVAILABLE.format(handle=first)):
        change(sqs, queue, first, 0)
    assert "Messages" not in sqs.receive_message(QueueUrl=queue)


def test_a_deleted_message_cannot_be_changed(sqs: Any, queue: str) -> None:
    handle = send_and_receive(sqs, queue)
    delete(sqs, queue, handle)

    with refused("InvalidParameterValue", NOT_AVAILABLE.format(handle=handle)):
        change(sqs, queue, handle, 0)


@pytest.mark.parametrize("timeout_s", [-1, 43_201])
def test_a_timeout_is_0_to_43200_seconds(sqs: Any, queue: str, timeout_s: int) -> None:
    handle = send_and_receive(sqs, queue)

    with refused("InvalidParameterValue"):
        change(sqs, queue, handle, timeout_s)


def test_a_change_needs_a_timeout(sqs: Any, queue: str) -> None:
    handle = send_and_receive(sqs, queue)

    with refused("MissingParameter", "The request must contain the parameter VisibilityTimeout."):
        sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=handle)


def test_a_batch_changes_what_it_can_and_names_what_it_cannot(sqs: Any, queue: str) -> None:
    good, gone = (send_and_receive(sqs, queue) for _ in range(2))
    delete(sqs, queue, gone)
    batch = [("a", "garbage", 1), ("b", good, 0), ("c", gone, 0), ("d", good, 43_201)]
    answer = sqs.change_message_visibility_batch(
        QueueUrl=queue,
        Entries=[
            {"Id": each, "ReceiptHandle": handle, "VisibilityTimeout": timeout_s}
            for each, handle, timeout_s in batch
        ],
    )

    assert [each["Id"] for each in answer["Successful"]] == ["b"]
    failed = {each["Id"]: (each["Code"], each["Message"]) for each in answer["Failed"]}
    assert failed["a"] == ("ReceiptHandleIsInvalid", GARBAGE)
    assert failed["c"] == ("InvalidParameterValue", NOT_AVAILABLE.format(handle=gone))
    assert failed["d"][0] == "InvalidParameterValue"
    assert receive(sqs, queue)
