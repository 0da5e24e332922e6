"""Windows small enough for a test to fill, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from waystation.queues import deduplication, line, queue_state, tail, windows
from waystation.queues.state import Queue


def small_windows(patch: pytest.MonkeyPatch, messages: int, window_bytes: int = windows.WINDOW_BYTES) -> None:
    """Let the window of each line hold so many messages, and so many bytes, and blocks three runs."""
    patch.setattr(windows, "WINDOW_MESSAGES", messages)
    patch.setattr(windows, "_MESSAGES_MIN", messages)
    patch.setattr(tail, "BLOCK_RUNS", 3)
    for module in (line, queue_state):
        patch.setattr(module, "WINDOW_BYTES", window_bytes)


def small_limits() -> Iterator[None]:
    """The body of a fixture: windows of four messages, and what is cleared up only in bulk is so at once.

    It uses no fixture of pytest, as Hypothesis warns of one that lasts for many examples.
    """
    with pytest.MonkeyPatch.context() as patch:
        small_windows(patch, 4)
        patch.setattr(queue_state, "_STALE_SLACK", 2)
        patch.setattr(deduplication, "_FORGET_AT", 2)
        yield


def windowed(queue: Queue) -> int:
    """Visible messages that are objects."""
    return sum(len(each.window) + len(each.back) for each in queue.lines.values())


def tail_messages(queue: Queue) -> int:
    """Visible messages that are not."""
    return sum(each.tail.messages for each in queue.lines.values())
