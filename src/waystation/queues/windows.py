"""How many visible messages a line holds as objects: its window, in front of its tail."""

from __future__ import annotations

WINDOW_MESSAGES = 1_024
"""Some 50 ms of receives at full speed, while the log is read."""
WINDOW_BYTES = 8_388_608
"""And no more than this in envelopes, so that a window of large messages fits the cache."""
_TOGETHER_MESSAGES = 16_384
"""What the windows of all lines of a queue may hold, as long as each has `_MESSAGES_MIN`."""
_MESSAGES_MIN = 20
"""Two full receives of one line, of which one is loaded while the other is handed out."""
_SMALL_TOGETHER_MESSAGES = 200_000
"""What windows that small may hold, some 70 MB; when there are more lines than fit, each holds less."""
_MESSAGES_LEAST = 2
"""With fewer, no window would ever be half empty, which is when more is loaded."""
LINES_PER_LOAD = 64
"""Loaded at once: their runs tend to lie in the same records."""


def window_messages(lines: int) -> int:
    """What the window of each line may hold in a queue that has so many."""
    if lines <= _TOGETHER_MESSAGES // WINDOW_MESSAGES:
        return WINDOW_MESSAGES
    small = min(_MESSAGES_MIN, max(_SMALL_TOGETHER_MESSAGES // lines, _MESSAGES_LEAST))
    return max(_TOGETHER_MESSAGES // lines, small)
