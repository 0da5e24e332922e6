"""The visible messages of a queue that are objects, in the order in which they are handed out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from waystation.queues.message import READY, Message

WINDOW_MESSAGES = 1_024
"""Visible messages held as objects: some 50 ms of receives at full speed, while the log is read."""
WINDOW_BYTES = 8_388_608
"""And no more than this in envelopes, so that a window of large messages fits the cache."""
FRONT_RECEIVES_MAX = 2
"""A message received more often returns to the back of its queue, so that one which nobody
can process does not stand before all others. SQS Developer Guide, CloudWatch metrics: messages
received three or more times are moved to the back of the queue."""


class Line:
    """The window at the head of a queue, and those who went to its back.

    The window holds messages nobody has received yet, and in front of them those
    that came back after few receives. The back holds those that came back after
    many; each is passed by all messages that were there when it came back, also by
    those that are still in the tail, and by none that came later.
    """

    __slots__ = ("back", "window", "window_bytes")

    def __init__(self) -> None:
        self.window: OrderedDict[int, Message] = OrderedDict()
        self.window_bytes = 0
        self.back: OrderedDict[int, Message] = OrderedDict()

    def __len__(self) -> int:
        return len(self.window) + len(self.back)

    def __contains__(self, sequence: int) -> bool:
        return sequence in self.window or sequence in self.back

    def has_room(self) -> bool:
        """Whether the window takes more."""
        return len(self.window) < WINDOW_MESSAGES and self.window_bytes < WINDOW_BYTES

    def runs_low(self) -> bool:
        """Whether consumers will soon have used up the window."""
        return len(self.window) < WINDOW_MESSAGES // 2 and self.window_bytes < WINDOW_BYTES // 2

    def in_order(self, with_tail: bool) -> Iterator[Message]:
        """All messages, next first; with a tail behind the window, without those that it goes before."""
        waiting = iter(self.back.values())
        next_back = next(waiting, None)
        for message in self.window.values():
            while next_back is not None and next_back.behind <= message.sequence:
                yield next_back
                next_back = next(waiting, None)
            yield message
        while next_back is not None and not with_tail:
            yield next_back
            next_back = next(waiting, None)

    def join(self, message: Message) -> None:
        """A message comes to the end of the window."""
        self.window[message.sequence] = message
        self.window_bytes += message.size

    def come_back(self, messages: Iterable[Message], next_sequence: int) -> None:
        """Messages are visible again, in this order, or now that their delay is over."""
        front: list[Message] = []
        for message in messages:
            message.state = READY
            message.visible_at_ms = 0
            if message.receive_count > FRONT_RECEIVES_MAX:
                message.behind = next_sequence
                self.back[message.sequence] = message
            else:
                self.join(message)
                if message.receive_count:
                    front.append(message)
        for message in reversed(front):
            self.window.move_to_end(message.sequence, last=False)

    def remove(self, message: Message) -> None:
        """A message is visible no more."""
        if message.behind:
            del self.back[message.sequence]
            message.behind = 0
        else:
            del self.window[message.sequence]
            self.window_bytes -= message.size

    def restore(self, message: Message) -> None:
        """Take over a message of a snapshot, which has them in order."""
        if message.behind:
            self.back[message.sequence] = message
        else:
            self.join(message)

    def clear(self) -> None:
        """Nothing is visible any more."""
        self.window.clear()
        self.back.clear()
        self.window_bytes = 0
