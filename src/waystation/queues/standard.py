"""A standard queue: at least once, oldest first as far as possible, and fair to its tenants.

Messages with a group belong to a tenant, and `Fairness` chooses among tenants; each
message without one counts as a tenant of its own. Without groups all of this costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from waystation.protocol.errors import OverLimit
from waystation.queues.commands import Outcome, QueueSettings, Received, ReceiveMessages
from waystation.queues.events import Event
from waystation.queues.fairness import Fairness, TenantLine
from waystation.queues.message import Message
from waystation.queues.queue import MessageQueue


class StandardQueue(MessageQueue[TenantLine]):
    """The state of one standard queue."""

    def __init__(self, number: int, settings: QueueSettings) -> None:
        super().__init__(number, settings, TenantLine)
        self._fairness: Fairness | None = None
        """There while it has lines: a queue at rest needs none."""

    def decide_receive(self, command: ReceiveMessages, now_ms: int) -> tuple[tuple[Event, ...], Received]:
        """As for every queue.

        Raises:
            OverLimit: too many are in flight and the caller does not wait; one
                that does wait gets an empty answer (SQS quotas, in flight).
        """
        if self.in_flight >= self.settings.in_flight_max and not command.wait_ms:
            raise OverLimit.in_flight(self.settings.in_flight_max)
        return super().decide_receive(command, now_ms)

    def _in_order(self, now_ms: int) -> Iterator[Message]:
        if len(self.lines) == 1:
            [line] = self.lines.values()
            return line.in_order()
        return iter(()) if self._fairness is None else self._fairness.in_order()

    def _place(self, line: TenantLine, now_ms: int) -> None:
        if self._fairness is None:
            self._fairness = Fairness()
        self._fairness.place(line, now_ms, self.in_flight)

    def _displace(self, line: TenantLine) -> None:
        if self._fairness is not None:
            self._fairness.displace(line)

    def _rest(self) -> None:
        super()._rest()
        self._fairness = None

    def _first_line(self) -> TenantLine | None:
        if len(self.lines) == 1:
            return next(iter(self.lines.values()))
        return None if self._fairness is None else self._fairness.first()

    def _judge_delete(self, message: Message, receive_count: int) -> Outcome:
        # Any receipt of a message deletes it, also one whose visibility timeout is
        # over, or that another consumer's receive has followed: the consumer says
        # that the work is done, and it is not to be done once more.
        return Outcome.DONE

    def _judge_change(self, message: Message, receive_count: int) -> Outcome:
        # A receipt that a later receive has replaced must not touch that
        # consumer's timeout; to its holder the message is gone.
        return Outcome.DONE if message.receive_count == receive_count else Outcome.GONE
