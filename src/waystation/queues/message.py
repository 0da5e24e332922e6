"""One message as the state machine knows it: everything but its contents."""

from __future__ import annotations

READY = 0
"""Visible: the next receive may take it."""
DELAYED = 1
"""Sent, and not visible before its delay has run."""
IN_FLIGHT = 2
"""Received, not deleted, visibility timeout still running."""


class Message:
    """A message in memory: at the head of its queue, delayed, in flight, or received before.

    `record` is the log record that holds its envelope, `size` that envelope's
    bytes, `received_at_ms` its latest receive. `visible_at_ms` counts while it
    is delayed or in flight.
    """

    __slots__ = (
        "first_received_at_ms",
        "receive_count",
        "received_at_ms",
        "record",
        "sent_at_ms",
        "sequence",
        "size",
        "state",
        "visible_at_ms",
    )

    def __init__(self, sequence: int, record: int, size: int, sent_at_ms: int) -> None:
        self.sequence = sequence
        self.record = record
        self.size = size
        self.sent_at_ms = sent_at_ms
        self.state = READY
        self.visible_at_ms = 0
        self.receive_count = 0
        self.received_at_ms = 0
        self.first_received_at_ms = 0

    def row(self) -> list[int]:
        """All fields, for a snapshot."""
        return [
            self.sequence,
            self.record,
            self.size,
            self.sent_at_ms,
            self.state,
            self.visible_at_ms,
            self.receive_count,
            self.received_at_ms,
            self.first_received_at_ms,
        ]

    @classmethod
    def from_row(cls, row: list[int]) -> Message:
        """What `row` gave."""
        message = cls(row[0], row[1], row[2], row[3])
        message.state, message.visible_at_ms, message.receive_count = row[4], row[5], row[6]
        message.received_at_ms, message.first_received_at_ms = row[7], row[8]
        return message

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and self.row() == other.row()

    __hash__ = None  # type: ignore[assignment]  # it changes; look it up by its sequence

    def __repr__(self) -> str:
        return f"Message({self.row()})"
