"""How a shard hands out messages: at once, to who waits for them, or back if nobody is there any more.

Long polls wait without a polling loop: just before a batch is flushed, receives
that wait on the queues it touched are served, and join it; a timer fires when
the next hidden message of a queue with waiting receives becomes visible.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from waystation.backend.cache import EnvelopeCache
from waystation.backend.errors import ShardUnavailable
from waystation.backend.loading import Loader
from waystation.backend.long_polls import LongPoll, LongPolls
from waystation.protocol.errors import Refusal, Unavailable
from waystation.queues import events
from waystation.queues.commands import Answer, Received, ReceiveMessages
from waystation.queues.state import Queue

if TYPE_CHECKING:
    from waystation.backend.shard import Shard


class Receiver:
    """Works for one shard, as long as one life of its state."""

    def __init__(self, shard: Shard, loader: Loader, cache: EnvelopeCache, waiting_max: int) -> None:
        self._shard = shard
        self._loader = loader
        self._cache = cache
        self._polls = LongPolls(waiting_max, self._show_due)
        self._touched: set[int] = set()
        self.fetching: set[asyncio.Task[None]] = set()
        """Answers whose events are durable, and whose envelopes are still being read."""

    def receive(self, command: ReceiveMessages, future: asyncio.Future[Answer]) -> None:
        """Answer a receive once what it gets is durable, or once it has waited long enough."""
        queue = self._shard.state.queue(command.queue)
        if self._try_receive(queue, command, future):
            return
        may_wait = command.wait_ms > 0 and not self._shard.is_draining and not self._polls.is_full()
        poll = LongPoll(command, future)
        if may_wait or self._loader.is_loading(queue.number):
            self._polls.add(poll, command.wait_ms if may_wait else 0)
            self._polls.watch(queue, self._shard.state.now_ms)
        else:
            poll.give_up()

    def _try_receive(self, queue: Queue, command: ReceiveMessages, future: asyncio.Future[Answer]) -> bool:
        """Receive what is visible now; False when nothing is. May start to load more."""
        decided, answer = self._shard.state.decide(command)
        assert isinstance(answer, Received)
        for message in answer.messages:
            message.envelope = self._cache.take(queue.number, message.sequence) or b""
        for event in decided:
            batch = self._shard.record(event)
        if answer.messages:
            batch.answers.append((future, answer))
        elif decided:
            # Only dead messages stood here. Now that they are out of the way, others may be seen.
            return self._try_receive(queue, command, future)
        self._loader.load_ahead(queue)
        return bool(answer.messages)

    # Who waits

    def notice(self, queue: int) -> None:
        """Something has happened to a queue: who waits on it may be served with the next flush."""
        if queue in self._polls:
            self._touched.add(queue)

    def touch(self, queue: int) -> None:
        """Look at a queue with the next flush, whoever waits on it by then."""
        self._touched.add(queue)

    def _show_due(self, queue: int) -> None:
        self._shard.now_ms()
        self._shard.serve_soon(queue)

    def serve_waiting(self) -> None:
        """Let the receives that wait on touched queues take what is visible now, longest waiting first."""
        if self._touched:
            self._shard.now_ms()  # The append before this may have taken long.
        while self._touched:
            number = self._touched.pop()
            try:
                queue = self._shard.state.queue(number)
            except Refusal as refusal:
                self._polls.end(number, refusal)
                continue
            for poll in self._polls.of(number):
                if self._serve(queue, poll):
                    self._polls.remove(poll)
            self._touched.discard(number)
            self._polls.watch(queue, self._shard.now_ms())

    def _serve(self, queue: Queue, poll: LongPoll) -> bool:
        """Serve one waiting receive; False when it has to wait on."""
        if poll.future.done():
            return True
        try:
            if self._try_receive(queue, poll.command, poll.future):
                return True
        except Refusal as refusal:
            poll.refuse(refusal)
            return True
        if poll.deadline is None and not self._loader.is_loading(queue.number):
            poll.give_up()
            return True
        return False

    def end_all(self, error: Unavailable | None = None) -> None:
        """Refuse all who wait, or without an error, answer them that there is nothing."""
        self._polls.end_all(error)

    # What is durable

    def hand_out(self, future: asyncio.Future[Any], received: Received) -> None:
        """Give a consumer its messages, unless it has gone, or the append took all of its time."""
        if future.done():
            self._give_back(received)
        elif received.visible_at_ms and self._shard.now_ms() >= received.visible_at_ms:
            future.set_result(Received(received.queue, []))
        elif all(message.envelope for message in received.messages):
            future.set_result(received)
        else:
            fetching = self._shard.start(self._fetch(future, received))
            self.fetching.add(fetching)
            fetching.add_done_callback(self.fetching.discard)

    async def _fetch(self, future: asyncio.Future[Any], received: Received) -> None:
        """Complete an answer, then give it."""
        try:
            complete = await self._loader.complete(received)
        except BaseException:
            if not future.done():
                future.set_exception(ShardUnavailable("The message could not be read from storage."))
            raise
        self.hand_out(future, complete)

    def _give_back(self, received: Received) -> None:
        """Show messages again whose consumer went away before it could be told of them."""
        queue = self._shard.state.queues.get(received.queue)
        now_ms = self._shard.now_ms()
        changes = [
            (message.sequence, now_ms)
            for message in received.messages
            if queue is not None and queue.holds_receipt(message.sequence, message.receive_count)
        ]
        # Who has an attempt id asks for the same messages again, or has already.
        if changes and not received.attempt:
            self._shard.record(events.VisibilityChanged(now_ms, received.queue, changes))
