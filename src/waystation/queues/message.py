"""One message as the state machine knows it: everything but its contents."""

from __future__ import annotations

import msgspec

READY = 0
"""Visible: the next receive may take it."""
DELAYED = 1
"""Sent, and not visible before its delay has run."""
IN_FLIGHT = 2
"""Received, not deleted, visibility timeout still running."""
SET_ASIDE = 3
"""Received too often; waits for another queue to take it."""


class Message(msgspec.Struct, array_like=True, gc=False):
    """A message in memory: at the head of its queue, delayed, in flight, or received before.

    `record` is the log record that holds its envelope, `size` that envelope's
    bytes, `received_at_ms` its latest receive in this queue, 0 before the first.
    `visible_at_ms` counts while it is delayed or in flight, and is 0 otherwise.
    `behind` counts while it is visible at the back of its queue: all messages
    with lower sequences go before it. `group` is as in `commands.Entry`. A snapshot
    holds the fields in this order.
    """

    sequence: int
    record: int
    size: int
    sent_at_ms: int
    state: int = READY
    visible_at_ms: int = 0
    receive_count: int = 0
    received_at_ms: int = 0
    first_received_at_ms: int = 0
    behind: int = 0
    group: str = ""
