"""How much of a backlog is held as objects, whatever it is divided into."""

from __future__ import annotations

import pytest

from tests.queues.driver import QueueDriver
from tests.queues.windows import tail_messages, windowed
from waystation.queues import windows
from waystation.queues.windows import WINDOW_MESSAGES, window_messages


def test_a_few_lines_have_whole_windows_and_more_of_them_share() -> None:
    assert window_messages(1) == window_messages(16) == WINDOW_MESSAGES
    assert window_messages(100) == 163
    assert window_messages(819) == window_messages(10_000) == 20


@pytest.mark.parametrize("lines", [20_000, 50_000, 100_000])
def test_the_windows_of_very_many_lines_hold_no_more_together(lines: int) -> None:
    assert window_messages(lines) * lines <= 200_000


def test_a_window_can_always_be_half_empty() -> None:
    """A line is loaded when its window is less than half full: with a window of one it never would be."""
    assert window_messages(10_000_000) == 2


@pytest.mark.parametrize("fifo", [False, True])
def test_groups_too_many_for_their_windows_are_received_whole(
    fifo: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two messages of each group as objects, the others are loaded as consumers come to them."""
    monkeypatch.setattr(windows, "WINDOW_MESSAGES", 20)
    monkeypatch.setattr(windows, "_TOGETHER_MESSAGES", 40)
    monkeypatch.setattr(windows, "_SMALL_TOGETHER_MESSAGES", 80)
    queue = QueueDriver(fifo=fifo)
    groups = [f"g{number}" for number in range(50)]
    for round_number in range(10):
        for group in groups:
            queue.send(f"{group}-{round_number}", at_s=1, group=group)
    assert windowed(queue.queue) < 200
    assert tail_messages(queue.queue) > 300

    got: dict[str, list[str]] = {group: [] for group in groups}
    while more := queue.receive(at_s=2, max_messages=10):
        for each in more:
            got[each.group].append(each.text)
        queue.delete(*more, at_s=2)

    assert got == {group: [f"{group}-{number}" for number in range(10)] for group in groups}
