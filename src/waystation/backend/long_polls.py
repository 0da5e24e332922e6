"""Receives that wait for a message, and the timers that end their waiting.

There is no polling: a wait ends because its queue was touched, because its time
is over, or because its client has gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from waystation.protocol.errors import Unavailable
from waystation.queues.commands import Answer, Received, ReceiveMessages
from waystation.queues.state import Queue
from waystation.queues.waiting import Waiting


class LongPoll:
    """One receive that waits. `deadline` is None for one that only waits for the log to be read."""

    __slots__ = ("command", "deadline", "future")

    def __init__(self, command: ReceiveMessages, future: asyncio.Future[Answer]) -> None:
        self.command = command
        self.future = future
        self.deadline: asyncio.TimerHandle | None = None

    def give_up(self) -> None:
        """Answer that there is nothing."""
        if not self.future.done():
            self.future.set_result(Received(self.command.queue, []))

    def refuse(self, error: Exception) -> None:
        """Answer with an error."""
        if not self.future.done():
            self.future.set_exception(error)


class LongPolls:
    """All waiting receives of a shard, and per queue the time at which its next message shows.

    Args:
        waiting_max: receives that may wait at once.
        on_due: called with a queue's number when a hidden message of it may have become visible.
    """

    def __init__(self, waiting_max: int, on_due: Callable[[int], None]) -> None:
        self._waiting: Waiting[LongPoll] = Waiting(waiting_max)
        self._due: dict[int, tuple[int, asyncio.TimerHandle]] = {}
        self._on_due = on_due

    def __contains__(self, queue: int) -> bool:
        return queue in self._waiting or -queue in self._waiting

    def is_full(self) -> bool:
        """Whether no more receives may wait."""
        return self._waiting.is_full()

    def add(self, poll: LongPoll, wait_ms: int) -> None:
        """Wait for a message, at most `wait_ms`; with 0, until somebody calls `remove`."""
        if wait_ms:
            poll.deadline = poll.future.get_loop().call_later(wait_ms / 1_000, poll.give_up)
        self._waiting.add(_line(poll), poll)
        # However it ends, also by the client's going away, nothing is left behind.
        poll.future.add_done_callback(lambda _: self.remove(poll))

    def remove(self, poll: LongPoll) -> None:
        """It waits no more; whoever removes it answers it."""
        if poll.deadline is not None:
            poll.deadline.cancel()
        self._waiting.remove(_line(poll), poll)

    def of(self, queue: int) -> Iterator[LongPoll]:
        """Those who wait on a queue, longest waiting first; each has to be removed, or it is the last."""
        last = None
        while (poll := self._first(queue)) is not None and poll is not last:
            last = poll
            yield poll

    def _first(self, queue: int) -> LongPoll | None:
        return self._waiting.first(queue) or self._waiting.first(-queue)

    def watch(self, queue: Queue, now_ms: int) -> None:
        """Have a timer for when the queue's next message shows, while receives wait for one."""
        due_ms = queue.next_due_ms() if queue.number in self else None
        planned = self._due.get(queue.number)
        if planned is not None:
            if planned[0] == due_ms:
                return
            planned[1].cancel()
            del self._due[queue.number]
        if due_ms is not None:
            delay_s = max(due_ms - now_ms, 1) / 1_000
            timer = asyncio.get_running_loop().call_later(delay_s, self._show_due, queue.number)
            self._due[queue.number] = (due_ms, timer)

    def _show_due(self, queue: int) -> None:
        del self._due[queue]
        self._on_due(queue)

    def end(self, queue: int, error: Exception) -> None:
        """Refuse all who wait on a queue."""
        for poll in (*self._waiting.take_all(queue), *self._waiting.take_all(-queue)):
            poll.refuse(error)

    def end_all(self, error: Unavailable | None = None) -> None:
        """Refuse all who wait, or without an error, answer them that there is nothing."""
        for _, timer in self._due.values():
            timer.cancel()
        self._due.clear()
        for poll in self._waiting.take_all():
            if error is None:
                poll.give_up()
            else:
                poll.refuse(error)


def _line(poll: LongPoll) -> int:
    """Where it waits: the queue's number for those who come first, which is over zero, or its opposite.

    Were all who wait on several parts of a queue in one line in each of them, messages that come to several
    parts at once would all be handed to the same one, for which one is enough.
    """
    return -poll.command.queue if poll.command.standby else poll.command.queue
