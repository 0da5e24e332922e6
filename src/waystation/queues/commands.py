"""What may be asked of the queues of a shard, and what is answered.

Commands are imperative and plain data, so that a FrontEnd in another process
can send them, and be answered: tags and the order of fields never change. Every
time is in milliseconds and every default is already resolved: the state machine
knows no wire format and reads no clock.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

import msgspec

from waystation.protocol.errors import Unavailable


class DeliveryOutdated(Unavailable):
    """A later delivery of the same source was here before this one, which is not taken, and never will be."""


class QueueSettings(msgspec.Struct, frozen=True, array_like=True):
    """The settings of a queue that its state machine itself obeys.

    Visibility timeout, wait time and a standard queue's delay are not among them:
    each command carries the value that holds for it.
    """

    name: str
    retention_ms: int = 345_600_000
    in_flight_max: int = 120_000
    revision: int = 0
    """Of the catalogue's entry that these came from; 0 before it had one. For who reads a log."""
    receive_count_max: int = 0
    """Receives after which a message is a dead letter, set aside when it would be received once
    more; 0 for never."""
    dead_letter_target: str = ""
    """Names the queue that takes dead letters, for whoever carries them there."""
    fifo: bool = False
    """Whether message groups are kept in order and messages deduplicated. Never changes."""
    delay_ms: int = 0
    """FIFO only, where the delay is the queue's and holds for messages that were sent before as well."""


class CreateQueue(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Add an empty queue; answered with its `QueueId`."""

    settings: QueueSettings


class ConfigureQueue(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Replace a queue's settings; answered with `Done`."""

    queue: int
    settings: QueueSettings


class DeleteQueue(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Drop a queue and all its messages; answered with `Done`, also when there is none."""

    queue: int


class PurgeQueue(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Drop all messages of a queue, whatever their state; answered with `Done`."""

    queue: int
    interval_ms: int
    """Refused with `PurgeQueueInProgress` when the last purge is younger than this."""


class Entry(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """One message to send: opaque envelope bytes, and how long nobody may receive it.

    `group` is its message group: on a FIFO queue what is received in order, on a
    standard one a tenant that shares consumers fairly with the others; empty for none.
    `deduplication` is, on a FIFO queue, a digest of 16 bytes: of two messages with the
    same one within five minutes the second is not added.
    """

    envelope: bytes
    delay_ms: int = 0
    group: str = ""
    deduplication: bytes = b""


class SendMessages(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Add 1 to 10 messages, all or none; answered with `Sent`."""

    queue: int
    entries: list[Entry]


class ReceiveMessages(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Hand out up to `max_messages` visible messages; answered with `Received`.

    With `wait_ms` over zero and nothing visible, the answer waits that long. `attempt` is,
    on a FIFO queue, a digest of the caller's name for this receive: repeated within five
    minutes, it is answered with the same messages again, as long as they are in flight.
    """

    queue: int
    max_messages: int
    visibility_timeout_ms: int
    wait_ms: int = 0
    attempt: bytes = b""
    standby: bool = False
    """It waits elsewhere as well: while it waits here, those who wait here alone come first."""


class Receipt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Which receive of which message a receipt handle proves."""

    sequence: int
    receive_count: int


class DeleteMessages(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Delete what 1 to 10 receipts name; answered with `Outcomes`. Gone already is no error."""

    queue: int
    receipts: list[Receipt]


class VisibilityChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Hide the message of a receipt from now for `timeout_ms`; 0 makes it visible."""

    receipt: Receipt
    timeout_ms: int


class ChangeVisibility(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Change when 1 to 10 received messages come back; answered with `Outcomes`."""

    queue: int
    changes: list[VisibilityChange]


class Arrival(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message that another queue has set aside, under the sequence that it has there."""

    sequence: int
    sent_at_ms: int
    receive_count: int
    envelope: bytes
    group: str = ""


class AcceptMessages(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """Take over messages of another queue, each once however often it comes; answered with `Done`.

    `settled` are sequences that the other queue has released, so that no later delivery has them.
    Refused with `DeliveryOutdated` when a later one was here already: they are forgotten by now, and
    those of this one may be among them.
    """

    queue: int
    source_shard: int
    source_queue: int
    arrivals: list[Arrival]
    settled: list[int]
    delivery: tuple[int, int] = (0, 0)
    """Epoch of the other queue's shard, and a count within it: the later, the greater."""


class ReleaseMessages(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Forget messages that were set aside and another queue has taken over; answered with `Done`."""

    queue: int
    sequences: list[int]


class MoveMessages(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Set up to `max_messages` visible messages aside, for `target`; answered with `Moved`."""

    queue: int
    target: str
    max_messages: int


class ReturnMessages(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """Show messages again that were set aside and cannot be taken over; answered with `Done`."""

    queue: int
    sequences: list[int]


class CountMessages(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Ask how many messages are in which state; answered with `Counts`."""

    queue: int


class CountAside(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """Ask how many messages are set aside for a target; answered with `Aside`."""

    queue: int
    target: str


class ListQueues(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """Ask which queues the shard has; answered with `Queues`."""


class QueueId(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The number of a queue in its shard: from 1, never used twice."""

    queue: int


class Done(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """It is done; there is nothing more to tell."""


class Sent(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """The sequences of the messages, in the order of the entries; of a duplicate, those of the first."""

    sequences: list[int]


class ReceivedMessage(msgspec.Struct, array_like=True, gc=False):
    """A message as one receive hands it out. `record` is where its envelope lies in the log."""

    sequence: int
    receive_count: int
    sent_at_ms: int
    first_received_at_ms: int
    record: int
    group: str = ""
    envelope: bytes = b""


class Received(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """At most as many messages as were asked for, oldest first; maybe none."""

    queue: int
    messages: list[ReceivedMessage]
    visible_at_ms: int = 0
    """When others may receive them; 0 when they may at once, or there are none."""
    attempt: bytes = b""
    """FIFO only: who asks again with this gets the same messages."""


class Outcome(IntEnum):
    """What became of one entry of a command."""

    DONE = 0
    GONE = 1
    """Its message does not exist any more, or the receipt is not that of its latest receive."""
    BEYOND_LIMIT = 2
    """It would have hidden the message for longer than the limit, counted from its receive."""
    NOT_IN_FLIGHT = 3
    """FIFO only: its message is visible again, and others may be about to receive it."""
    EXPIRED = 4
    """FIFO only: the receipt proves nothing any more, as its visibility timeout is over."""


class Outcomes(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """What became of each entry, in the order asked."""

    outcomes: list[Outcome]


class Counts(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Messages that are visible, in flight, and delayed. Expired ones may be counted for a while.

    Those set aside and not yet taken over count as in flight.
    """

    visible: int
    in_flight: int
    delayed: int


class Moved(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """So many messages were set aside; whether more are visible, maybe not yet read from the log."""

    messages: int
    remaining: bool


class Aside(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """So many messages are set aside, and neither taken over nor shown again."""

    messages: int


class Queues(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """The settings of each queue, by number."""

    settings: dict[int, QueueSettings]


QueueCommand: TypeAlias = (
    ConfigureQueue
    | DeleteQueue
    | PurgeQueue
    | SendMessages
    | ReceiveMessages
    | DeleteMessages
    | ChangeVisibility
    | AcceptMessages
    | ReleaseMessages
    | MoveMessages
    | ReturnMessages
    | CountMessages
    | CountAside
)
Command: TypeAlias = CreateQueue | ListQueues | QueueCommand
Answer: TypeAlias = QueueId | Done | Sent | Received | Outcomes | Moved | Counts | Aside | Queues
