"""What becomes of a message on its way to its shard, by the kind of its queue."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.frontend.auth import Caller
from waystation.frontend.calls import Call
from waystation.frontend.envelope import decode_envelope
from waystation.frontend.sending import TooLong, check_ids, check_ids_of_batch, pack
from waystation.metadata.queues import Queue, QueueRecord
from waystation.protocol.errors import InvalidParameterValue, MissingParameter
from waystation.protocol.operations import (
    MessageAttributeValue,
    SendMessageBatchRequestEntry,
    SendMessageRequest,
)
from waystation.queues.commands import Entry

ACCOUNT = "000000000000"
CALL = Call(Caller(ACCOUNT, "AKIA"), "http://localhost:9324", "")
NO_ID = (
    "The queue should either have ContentBasedDeduplication enabled or "
    "MessageDeduplicationId provided explicitly"
)

client_ids = st.from_regex(r"[!-~]{1,8}", fullmatch=True)
pairs = st.tuples(client_ids, client_ids)


def queue(name: str, scope: str = "queue", **attributes: str) -> Queue:
    return Queue(QueueRecord(name, ACCOUNT, 0, 0, 0, 1, attributes, deduplication_scope=scope), 1)


STANDARD = queue("orders", DelaySeconds="7")
FIFO = queue("orders.fifo", DelaySeconds="7")
BY_CONTENTS = queue("orders.fifo", ContentBasedDeduplication="true")
BY_GROUP = queue("orders.fifo", "messageGroup", ContentBasedDeduplication="true")


def message(**members: Any) -> SendMessageRequest:
    return SendMessageRequest(queue_url="orders", **{"message_body": "hello", **members})


def entry(target: Queue, **members: Any) -> Entry:
    return pack(CALL, target, message(**members), "are invalid").entry


def fifo_entry(target: Queue, group: str, deduplication_id: str | None, body: str = "hello") -> Entry:
    return entry(target, message_body=body, message_group_id=group, message_deduplication_id=deduplication_id)


@pytest.mark.parametrize(("given_s", "delay_ms"), [(None, 7_000), (0, 0), (5, 5_000)])
def test_a_message_of_a_standard_queue_has_its_own_delay_or_that_of_the_queue(
    given_s: int | None, delay_ms: int
) -> None:
    assert entry(STANDARD, delay_seconds=given_s).delay_ms == delay_ms


@pytest.mark.parametrize("given_s", [None, 0])
def test_the_delay_of_a_fifo_queue_is_left_to_its_shard(given_s: int | None) -> None:
    packed = entry(FIFO, message_group_id="g", message_deduplication_id="d", delay_seconds=given_s)

    assert packed.delay_ms == 0


@pytest.mark.parametrize("target", [STANDARD, BY_CONTENTS])
def test_a_group_goes_beside_the_envelope_and_not_into_it(target: Queue) -> None:
    packed = entry(target, message_group_id="tenant")

    assert packed.group == "tenant"
    assert decode_envelope(packed.envelope).group == ""


def test_a_message_of_a_standard_queue_needs_no_group_and_is_never_a_duplicate() -> None:
    packed = entry(STANDARD)

    assert (packed.group, packed.deduplication) == ("", b"")
    assert decode_envelope(packed.envelope).deduplication_id == ""


def test_a_deduplication_id_is_the_given_one_or_else_the_sha_256_of_the_body_alone() -> None:
    attributes = {"n": MessageAttributeValue(data_type="Number", string_value="1")}
    made = entry(BY_CONTENTS, message_body="é", message_group_id="g", message_attributes=attributes)
    explicit = fifo_entry(BY_CONTENTS, "g", "explicit")

    assert decode_envelope(made.envelope).deduplication_id == sha256("é".encode()).hexdigest()
    assert decode_envelope(explicit.envelope).deduplication_id == "explicit"
    assert made.deduplication == fifo_entry(BY_CONTENTS, "g", None, "é").deduplication


def test_an_explicit_id_that_is_the_sha_256_of_a_body_is_the_id_of_that_body() -> None:
    explicit = fifo_entry(BY_CONTENTS, "g", sha256(b"hello").hexdigest(), "another body")

    assert explicit.deduplication == fifo_entry(BY_CONTENTS, "g", None).deduplication


@given(pairs, pairs)
def test_with_the_scope_of_the_queue_only_the_ids_make_a_duplicate(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    same = fifo_entry(FIFO, *one).deduplication == fifo_entry(FIFO, *other).deduplication

    assert same == (one[1] == other[1])


@given(pairs, pairs)
def test_with_the_scope_of_the_group_the_group_and_the_id_make_a_duplicate(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    same = fifo_entry(BY_GROUP, *one).deduplication == fifo_entry(BY_GROUP, *other).deduplication

    assert same == (one == other)


def test_a_group_and_an_id_are_not_run_together() -> None:
    assert fifo_entry(BY_GROUP, "ab", "c").deduplication != fifo_entry(BY_GROUP, "a", "bc").deduplication
    assert fifo_entry(BY_GROUP, "g", None).deduplication != fifo_entry(BY_GROUP, "h", None).deduplication


def test_a_fifo_queue_asks_for_a_group_and_then_for_a_deduplication_id() -> None:
    with pytest.raises(MissingParameter) as missing:
        check_ids(FIFO, message())
    assert missing.value.message == "The request must contain the parameter MessageGroupId."
    with pytest.raises(InvalidParameterValue) as refused:
        check_ids(FIFO, message(message_group_id="g"))
    assert refused.value.message == NO_ID

    check_ids(FIFO, message(message_group_id="g", message_deduplication_id="d"))
    check_ids(BY_CONTENTS, message(message_group_id="g"))
    check_ids(STANDARD, message())


def test_one_entry_without_an_id_fails_its_batch_and_with_one_code_for_both() -> None:
    good = SendMessageBatchRequestEntry(message_group_id="g", message_deduplication_id="d")
    no_group = SendMessageBatchRequestEntry(message_deduplication_id="d")
    no_id = SendMessageBatchRequestEntry(message_group_id="g")

    check_ids_of_batch(FIFO, [good, good])
    check_ids_of_batch(BY_CONTENTS, [good, no_id])
    check_ids_of_batch(STANDARD, [no_group, no_id])
    with pytest.raises(InvalidParameterValue, match="must contain the parameter MessageGroupId"):
        check_ids_of_batch(BY_CONTENTS, [good, no_group])
    with pytest.raises(InvalidParameterValue, match=NO_ID):
        check_ids_of_batch(FIFO, [good, no_id])


def test_the_ids_of_a_message_do_not_count_in_its_size() -> None:
    small = queue("orders.fifo", MaximumMessageSize="1024")
    members = {"message_group_id": "g" * 128, "message_deduplication_id": "d" * 128}

    assert pack(CALL, small, message(message_body="x" * 1_024, **members), "are invalid").size == 1_024
    with pytest.raises(TooLong, match="Message must be shorter than 1024 bytes") as refused:
        pack(CALL, small, message(message_body="x" * 1_025, **members), "are invalid")
    assert refused.value.size == 1_025
