"""What a queue's record says of it: to requests, to its shard, and to a later version."""

from __future__ import annotations

import msgspec

from waystation.metadata.queues import Queue, QueueRecord, shard_settings


def record(name: str = "orders", scope: str = "queue", **attributes: str) -> QueueRecord:
    return QueueRecord(name, "000000000001", 100, 100, 0, 1, attributes, deduplication_scope=scope)


def fifo(scope: str = "queue", **attributes: str) -> QueueRecord:
    return record("orders.fifo", scope, FifoQueue="true", **attributes)


def test_a_record_from_before_fifo_queues_is_read() -> None:
    members = ["name", "account", "created_s", "modified_s", "shard", "number", "attributes"]
    values = ["orders", "000000000001", 100, 100, 0, 1, {"DelaySeconds": "5"}]
    old = msgspec.msgpack.encode(dict(zip(members, values, strict=True)))

    assert msgspec.msgpack.decode(old, type=QueueRecord) == record(DelaySeconds="5")


def test_the_scope_of_deduplication_is_kept_in_the_record() -> None:
    made = fifo("messageGroup")

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=QueueRecord) == made


def test_the_name_says_whether_a_queue_is_fifo() -> None:
    assert (Queue(fifo(), 1).is_fifo, Queue(record(), 1).is_fifo) == (True, False)
    assert not record("orders-fifo").is_fifo


def test_the_delay_of_a_fifo_queue_is_for_its_shard_and_that_of_a_standard_queue_is_not() -> None:
    """One holds for messages that were sent before it was set, the other goes with each message."""
    assert shard_settings(fifo(DelaySeconds="5"), 7).delay_ms == 5_000
    assert shard_settings(fifo(), 7).delay_ms == 0
    assert shard_settings(record(DelaySeconds="5"), 7).delay_ms == 0


def test_a_shard_is_told_which_kind_a_queue_is_and_its_limit_in_flight() -> None:
    told = [shard_settings(each, 7) for each in (fifo(), record())]

    assert [(each.fifo, each.in_flight_max, each.revision) for each in told] == [
        (True, 120_000, 7),
        (False, 120_000, 7),
    ]


def test_contents_are_deduplicated_when_the_attribute_says_so() -> None:
    assert Queue(fifo(ContentBasedDeduplication="true"), 1).deduplicates_contents
    assert not Queue(fifo(ContentBasedDeduplication="false"), 1).deduplicates_contents
    assert not Queue(fifo(), 1).deduplicates_contents


def test_the_scope_in_force_is_that_of_the_creation_and_not_the_one_shown() -> None:
    assert Queue(fifo("messageGroup", DeduplicationScope="queue"), 1).deduplicates_in_groups
    assert not Queue(fifo("queue", DeduplicationScope="messageGroup"), 1).deduplicates_in_groups
