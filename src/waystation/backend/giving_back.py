"""Messages that a shard has handed out and nobody was told of: they are shown again at once.

Whoever waits for a receive may go away, or get what it wants elsewhere, while the answer is on its way.
Whatever holds that answer then gives it back here. If that fails, the messages stay hidden until their
visibility timeout ends, as with any consumer that has gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from waystation.protocol.errors import Refusal, Unavailable
from waystation.queues.commands import (
    Answer,
    ChangeVisibility,
    Command,
    Receipt,
    Received,
    VisibilityChange,
)

_logger = logging.getLogger(__name__)


def give_back(submit: Callable[[int, Command], Awaitable[Answer]], shard: int, answer: Answer) -> None:
    """Show the messages of an answer again, if it has any. Nothing is raised, and nobody has to wait.

    Args:
        submit: gives a command to a shard, as `Shards.submit` does.
        answer: of a command to that shard.
    """
    # Who has an attempt id asks for the same messages again, or has already.
    if not isinstance(answer, Received) or not answer.messages or answer.attempt:
        return
    changes = [
        VisibilityChange(Receipt(message.sequence, message.receive_count), 0) for message in answer.messages
    ]
    try:
        giving = asyncio.ensure_future(submit(shard, ChangeVisibility(answer.queue, changes)))
    except (Refusal, Unavailable):
        return
    giving.add_done_callback(_note_end)


def give_back_if_answered(
    submit: Callable[[int, Command], Awaitable[Answer]], shard: int, answering: Awaitable[Answer]
) -> None:
    """The same, for who is told to wait no more for `answering`: it may have been answered just now."""
    if not isinstance(answering, asyncio.Future) or not answering.done() or answering.cancelled():
        return
    if answering.exception() is None:
        give_back(submit, shard, answering.result())


def _note_end(giving: asyncio.Future[Answer]) -> None:
    error = None if giving.cancelled() else giving.exception()
    if error is not None and not isinstance(error, Refusal | Unavailable):
        _logger.error("messages could not be given back", exc_info=error)
