"""A queue as the catalogue knows it: its name, owner, settings and where it lives."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from waystation.protocol import limits
from waystation.queues.commands import QueueSettings


class Place(NamedTuple):
    """Where a part of a queue is: what it is called in its shard."""

    shard: int
    number: int


class QueueRecord(msgspec.Struct, frozen=True):
    """What is stored of a queue. `attributes` holds only what somebody has set, as text.

    `shard` and `number` say where its messages are, or the first part of them; `number` is never
    used again in that shard, so a queue that is deleted and created again is another.

    A deleted queue may leave a tombstone in its place: a record that says when that
    was, and keeps the name from being used again too soon.
    """

    name: str
    account: str
    created_s: int
    modified_s: int
    shard: int
    number: int
    attributes: dict[str, str] = {}
    tags: dict[str, str] = {}
    deleted_ms: int = 0
    """Of a tombstone: when the queue was deleted, in Unix time. 0 while there is a queue."""
    deduplication_scope: str = "queue"
    """FIFO only: the `DeduplicationScope` that the queue was created with. It is the one in force:
    another one in `attributes` is shown to clients and changes nothing (recorded responses)."""
    parts: tuple[Place, ...] = ()
    """Where the other parts are, each in a shard of its own, of a queue that spans several shards."""

    @property
    def places(self) -> tuple[Place, ...]:
        """Where all parts are, the first one first. There are never more or fewer of them."""
        return (Place(self.shard, self.number), *self.parts)

    def renumbered(self, shard: int, number: int) -> QueueRecord:
        """The same, but its part in that shard has another number there."""
        if shard == self.shard:
            return msgspec.structs.replace(self, number=number)
        parts = tuple(Place(shard, number) if part.shard == shard else part for part in self.parts)
        return msgspec.structs.replace(self, parts=parts)

    @property
    def is_fifo(self) -> bool:
        """A FIFO queue's name says so, and no other queue's does."""
        return self.name.endswith(limits.FIFO_SUFFIX)


class Queue:
    """A queue in the cache: its record, and the settings that requests ask for, ready as numbers."""

    __slots__ = (
        "deduplicates_contents",
        "deduplicates_in_groups",
        "delay_s",
        "is_fifo",
        "is_spread",
        "message_bytes_max",
        "number",
        "places",
        "record",
        "retention_s",
        "revision",
        "shard",
        "visibility_timeout_s",
        "wait_s",
    )

    def __init__(self, record: QueueRecord, revision: int) -> None:
        self.record = record
        self.revision = revision
        self.shard = record.shard
        self.number = record.number
        self.places = record.places
        self.is_spread = len(self.places) > 1
        self.is_fifo = record.is_fifo
        self.deduplicates_contents = record.attributes.get("ContentBasedDeduplication") == "true"
        self.deduplicates_in_groups = record.deduplication_scope == "messageGroup"
        self.delay_s = self._number("DelaySeconds", limits.DELAY_S_DEFAULT)
        self.wait_s = self._number("ReceiveMessageWaitTimeSeconds", limits.WAIT_S_DEFAULT)
        self.visibility_timeout_s = self._number("VisibilityTimeout", limits.VISIBILITY_TIMEOUT_S_DEFAULT)
        self.message_bytes_max = self._number("MaximumMessageSize", limits.MESSAGE_BYTES_DEFAULT)
        self.retention_s = self._number("MessageRetentionPeriod", limits.RETENTION_S_DEFAULT)

    def _number(self, attribute: str, default: int) -> int:
        return int(self.record.attributes.get(attribute, default))

    def settings(self) -> QueueSettings:
        """What the shard has to know."""
        return shard_settings(self.record, self.revision)


def shard_settings(record: QueueRecord, revision: int) -> QueueSettings:
    """What the shard of a queue has to know of it; `revision` is the record's, 0 before it has one."""
    retention_s = int(record.attributes.get("MessageRetentionPeriod", limits.RETENTION_S_DEFAULT))
    receive_count_max, target = 0, ""
    policy = record.attributes.get("RedrivePolicy")
    if policy:
        redrive = msgspec.json.decode(policy, type=_Redrive)
        receive_count_max, target = int(redrive.count), redrive.target
    in_flight_max, delay_s = limits.IN_FLIGHT_STANDARD_MAX, 0
    if record.is_fifo:
        in_flight_max = limits.IN_FLIGHT_FIFO_MAX
        delay_s = int(record.attributes.get("DelaySeconds", limits.DELAY_S_DEFAULT))
    return QueueSettings(
        record.name,
        retention_s * 1_000,
        in_flight_max,
        revision,
        receive_count_max,
        target,
        record.is_fifo,
        delay_s * 1_000,
    )


class _Redrive(msgspec.Struct):
    """A redrive policy that was validated before it was stored."""

    target: str = msgspec.field(name="deadLetterTargetArn")
    count: int | str = msgspec.field(name="maxReceiveCount")
