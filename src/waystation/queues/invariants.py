"""What must hold of a queue's state at any moment, for whoever wants to know whether it does.

Nothing here runs while a queue serves: it looks at every message that is an object.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from waystation.queues.line import Line, OrderedLine
from waystation.queues.message import DELAYED, IN_FLIGHT, READY, SET_ASIDE
from waystation.queues.state import Queue


def broken_invariants(queue: Queue) -> Iterator[str]:
    """Each of Q1 to Q4 of `queue_state` that does not hold, in words; none of a right state."""
    messages = queue.messages.values()
    visible = {at: line.group for line in queue.lines.values() for at in (*line.window, *line.back)}
    if visible != {message.sequence: message.group for message in messages if message.state == READY}:
        yield "Q1: its lines do not hold just its visible messages"
    aside = {message.sequence for message in messages if message.state == SET_ASIDE}
    if not aside == set(queue.aside) == set(queue.aside_targets):
        yield "Q1: it does not know just the messages that are set aside, each with its target"
    wakes = set(queue.hidden)
    hidden = (message for message in messages if message.state in (DELAYED, IN_FLIGHT))
    if any((queue._due_ms(message), message.sequence) not in wakes for message in hidden):
        yield "Q1: nothing will make a hidden message visible"
    if queue.in_flight != sum(message.state == IN_FLIGHT for message in messages):
        yield f"Q3: it counts {queue.in_flight} messages in flight, and others are"
    if queue.delayed != sum(message.state == DELAYED for message in messages):
        yield f"Q3: it counts {queue.delayed} delayed messages, and others are"
    if queue.live != len(messages) + sum(line.tail.messages for line in queue.lines.values()):
        yield f"Q3: it counts {queue.live} messages, and others are there"
    if queue._touched or not set(queue.hungry) <= set(queue.lines):
        yield "Q4: a line that was changed is not where it belongs"
    flying: dict[str, set[int]] = defaultdict(set)
    for message in messages:
        if message.state == IN_FLIGHT:
            flying[message.group].add(message.sequence)
    for group, line in queue.lines.items():
        for broken in _broken_line(queue, line, flying[group]):
            yield f"{broken}, in the line of message group {group!r}"


def _broken_line(queue: Queue, line: Line, flying: set[int]) -> Iterator[str]:
    if line.group and line.is_idle():
        yield "Q1: it is idle, and still there"
    if not all(message.behind for message in line.back.values()):
        yield "Q2: it is not known behind what a message waits that came back"
    previous = counted = 0
    for run in line.tail:
        if run.first_sequence in queue.messages:
            yield "Q1: a message is in the tail and in memory"
        if run.first_sequence <= previous:
            yield "Q2: the tail is not in the order of sending"
        previous = run.first_sequence
        counted += run.messages
    if line.tail.messages != counted:
        yield f"Q3: the tail counts {line.tail.messages} messages, and others are in it"
    if line.window_bytes != sum(message.size for message in line.window.values()):
        yield "Q3: the bytes of the window are not those of its messages"
    if line.in_flight != len(flying) or (isinstance(line, OrderedLine) and line.flying != flying):
        yield "Q3: it does not know just the messages that are in flight"
    if isinstance(line, OrderedLine) and any(first > second for first, second in pairwise(line.window)):
        yield "Q2: the window is not in the order of sending"
    if line.tail.messages and not line.window and line.group not in queue.hungry:
        yield "Q4: nothing will load the tail"
