"""Whatever does not hold of a queue's state is said; of a right state, nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.queues.driver import QueueDriver
from tests.queues.windows import small_limits
from waystation.queues.fifo import FifoQueue
from waystation.queues.invariants import broken_invariants
from waystation.queues.line import OrderedLine
from waystation.queues.message import IN_FLIGHT
from waystation.queues.state import Queue


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    """Windows of four messages."""
    yield from small_limits()


def queue_with_everything(*, fifo: bool) -> Queue:
    """Messages in a window, in a tail, in flight, delayed and set aside."""
    driver = QueueDriver(fifo=fifo, receive_count_max=1, target="letters")
    group = "a" if fifo else ""
    for number in range(4):
        driver.send(f"m{number}", at_s=1, group=group)
    driver.receive(at_s=1, max_messages=2, visibility_timeout_s=1)
    driver.receive(at_s=3, max_messages=2)
    if not fifo:
        driver.send("later", at_s=3, delay_s=900)
    for number in range(10):
        driver.send(f"n{number}", at_s=3, group=group)
    return driver.queue


@pytest.mark.parametrize("fifo", [False, True])
def test_of_a_right_state_nothing_is_said(fifo: bool) -> None:
    queue = queue_with_everything(fifo=fifo)

    assert queue.aside
    assert queue.in_flight
    assert any(line.tail.messages for line in queue.lines.values())
    assert list(broken_invariants(queue)) == []


def a_line(queue: Queue) -> OrderedLine:
    line = next(line for line in queue.lines.values() if line.tail.messages)
    assert isinstance(line, OrderedLine)
    return line


def lose_from_the_line(queue: Queue) -> None:
    a_line(queue).window.popitem()


def swap_in_the_line(queue: Queue) -> None:
    line = a_line(queue)
    line.window.move_to_end(next(iter(line.window)))


def ground(queue: Queue) -> None:
    a_line(queue).flying.clear()


def keep_what_is_in_the_tail(queue: Queue) -> None:
    run = next(iter(a_line(queue).tail))
    queue.messages[run.first_sequence] = next(iter(queue.messages.values()))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lose_from_the_line, "Q1: its lines do not hold just its visible messages"),
        (lambda queue: queue.aside.clear(), "Q1: it does not know just the messages that are set aside"),
        (lambda queue: queue.hidden.clear(), "Q1: nothing will make a hidden message visible"),
        (
            keep_what_is_in_the_tail,
            "Q1: a message is in the tail and in memory, in the line of message group 'a'",
        ),
        (swap_in_the_line, "Q2: the window is not in the order of sending"),
        (lambda queue: setattr(queue, "in_flight", 7), "Q3: it counts 7 messages in flight"),
        (lambda queue: setattr(queue, "delayed", 7), "Q3: it counts 7 delayed messages"),
        (lambda queue: setattr(queue, "live", 70), "Q3: it counts 70 messages"),
        (lambda queue: setattr(a_line(queue).tail, "messages", 70), "Q3: the tail counts 70 messages"),
        (lambda queue: setattr(a_line(queue), "window_bytes", 1), "Q3: the bytes of the window"),
        (ground, "Q3: it does not know just the messages that are in flight"),
    ],
)
def test_what_does_not_hold_is_said(damage: Callable[[Queue], None], expected: str) -> None:
    queue = queue_with_everything(fifo=True)
    assert isinstance(queue, FifoQueue)
    assert any(message.state == IN_FLIGHT for message in queue.messages.values())

    damage(queue)

    assert any(said.startswith(expected) for said in broken_invariants(queue)), list(broken_invariants(queue))


def test_a_tail_that_nothing_will_load_is_noticed() -> None:
    driver = QueueDriver()
    for number in range(10):
        driver.send(f"m{number}", at_s=1)
    queue = driver.queue
    [line] = queue.lines.values()
    for message in list(line.window.values()):
        line.remove(message)

    queue.hungry.clear()

    assert "Q4: nothing will load the tail, in the line of message group ''" in broken_invariants(queue)
