"""A queue as the catalogue knows it: its name, owner, settings and where it lives."""

from __future__ import annotations

import msgspec

from waystation.protocol import limits
from waystation.queues.commands import QueueSettings


class QueueRecord(msgspec.Struct, frozen=True):
    """What is stored of a queue. `attributes` holds only what somebody has set, as text.

    `shard` and `number` say where its messages are; `number` is never used
    again in that shard, so a queue that is deleted and created again is another.

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


class Queue:
    """A queue in the cache: its record, and the settings that requests ask for, ready as numbers."""

    __slots__ = (
        "delay_s",
        "message_bytes_max",
        "number",
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
    return QueueSettings(
        record.name, retention_s * 1_000, limits.IN_FLIGHT_STANDARD_MAX, revision, receive_count_max, target
    )


class _Redrive(msgspec.Struct):
    """A redrive policy that was validated before it was stored."""

    target: str = msgspec.field(name="deadLetterTargetArn")
    count: int | str = msgspec.field(name="maxReceiveCount")
