"""The visible messages of one message group, in the order in which they are handed out.

Messages without a group have a line as well, that of the empty name. A line begins
with its *window*, which are objects; the rest is its `Tail`, which is loaded from the
log ahead of need.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import takewhile

from waystation.queues.message import READY, Message
from waystation.queues.tail import Tail
from waystation.queues.windows import WINDOW_BYTES

FRONT_RECEIVES_MAX = 2
"""A message received more often returns to the back of its queue, so that one which nobody
can process does not stand before all others. SQS Developer Guide, CloudWatch metrics: messages
received three or more times are moved to the back of the queue."""

_NO_TAIL = Tail()
_NOBODY: OrderedDict[int, Message] = OrderedDict()
_NONE_FLYING: set[int] = set()
"""Shared by all lines that have none, as a queue may have a hundred thousand. Never changed."""


class Line:
    """The line of a group in a standard queue: the window, the tail, and those who went to the back.

    The window holds messages nobody has received yet, and in front of them those
    that came back after few receives. The back holds those that came back after
    many; each is passed by all messages that were there when it came back, also by
    those that are still in the tail, and by none that came later.
    """

    __slots__ = ("back", "group", "in_flight", "tail", "window", "window_bytes")

    def __init__(self, group: str) -> None:
        self.group = group
        self.window: OrderedDict[int, Message] = OrderedDict()
        self.window_bytes = 0
        self.back = _NOBODY
        self.tail = _NO_TAIL
        self.in_flight = 0

    def is_idle(self) -> bool:
        """Whether nothing of the group is visible or in flight."""
        return not (self.window or self.in_flight or self.tail.messages or self.back)

    def has_room(self, messages_max: int) -> bool:
        """Whether the window takes more."""
        return len(self.window) < messages_max and self.window_bytes < WINDOW_BYTES

    def runs_low(self, messages_max: int) -> bool:
        """Whether consumers will soon have used up the window while the tail holds more."""
        return (
            self.tail.messages > 0
            and len(self.window) < messages_max // 2
            and self.window_bytes < WINDOW_BYTES // 2
        )

    def in_order(self) -> Iterator[Message]:
        """All messages that are objects and that no message of the tail goes before, next first."""
        waiting = iter(self.back.values())
        next_back = next(waiting, None)
        for message in self.window.values():
            while next_back is not None and next_back.behind <= message.sequence:
                yield next_back
                next_back = next(waiting, None)
            yield message
        while next_back is not None and not self.tail.messages:
            yield next_back
            next_back = next(waiting, None)

    def join(self, message: Message) -> None:
        """A message comes to the end of the window."""
        message.group = self.group  # one string for all of them
        self.window[message.sequence] = message
        self.window_bytes += message.size

    def join_tail(self, record: int, sequence: int) -> None:
        """A message comes to the end of the tail."""
        if self.tail is _NO_TAIL:
            self.tail = Tail()
        self.tail.append(record, sequence)

    def come_back(self, messages: list[Message], next_sequence: int) -> None:
        """Messages are visible again, in this order, or now that their delay is over."""
        front: list[Message] = []
        for message in messages:
            message.state = READY
            message.visible_at_ms = 0
            if message.receive_count > FRONT_RECEIVES_MAX:
                message.behind = next_sequence
                self._add_to_back(message)
            else:
                self.join(message)
                if message.receive_count:
                    front.append(message)
        for message in reversed(front):
            self.window.move_to_end(message.sequence, last=False)

    def _add_to_back(self, message: Message) -> None:
        if self.back is _NOBODY:
            self.back = OrderedDict()
        self.back[message.sequence] = message

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
            self._add_to_back(message)
        else:
            self.join(message)

    def launch(self, message: Message) -> None:
        """A message of the group is in flight."""
        self.in_flight += 1

    def land(self, message: Message) -> None:
        """A message of the group is in flight no more."""
        self.in_flight -= 1


class OrderedLine(Line):
    """The line of a group in a FIFO queue: always in the order of sending.

    A message can be received when no message before it is in flight: one that comes
    back stands before those that were sent later, and what is in flight keeps back
    only what was sent after it. So no more than one batch of a group is ever in flight.
    """

    __slots__ = ("flying", "opens_at_ms")

    def __init__(self, group: str) -> None:
        super().__init__(group)
        self.flying = _NONE_FLYING
        self.opens_at_ms = 0
        """When the delay of its first message ends, if somebody has been told to look then."""

    def in_order(self) -> Iterator[Message]:
        """The messages that can be received now, as far as they are objects, whatever their delay."""
        if not self.flying:
            yield from self.window.values()
            return
        first_flying = min(self.flying)
        for message in self.window.values():
            if message.sequence > first_flying:
                break
            yield message

    def come_back(self, messages: list[Message], next_sequence: int) -> None:
        """Messages are visible again, each in its place."""
        back = [message.sequence for message in messages]
        last = max(back)
        before = [*takewhile(lambda sequence: sequence < last, self.window), *back]
        for message in messages:
            message.state = READY
            message.visible_at_ms = 0
            self.join(message)
        for sequence in sorted(before, reverse=True):
            self.window.move_to_end(sequence, last=False)

    def launch(self, message: Message) -> None:
        super().launch(message)
        if self.flying is _NONE_FLYING:
            self.flying = set()
        self.flying.add(message.sequence)

    def land(self, message: Message) -> None:
        super().land(message)
        self.flying.discard(message.sequence)
        if not self.flying:
            self.flying = _NONE_FLYING
