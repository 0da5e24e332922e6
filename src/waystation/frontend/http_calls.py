"""Runs the coroutine of a handler by hand, without a task.

Most requests either answer at once or wait for one future (the commit of their
batch). A task would cost a microsecond more, and a turn of the event loop before its first
step; here that step is taken right away, and the next hangs on the future.

What a handler may do, therefore:

- await plain asyncio futures, and anything made of them: `asyncio.Event`, `Lock`,
  `Queue`, `sleep`, `gather`, `shield`, other coroutines, tasks;
- not ask for the current task, so use neither `asyncio.timeout`, `wait_for` nor `TaskGroup`;
- not set context variables: they would be seen by whoever runs next.

What cancelling does: when the client has gone, the future that the handler waits on is
cancelled and `CancelledError` raised where it waits, as for a task, except that its
`finally` clauses have run when `cancel` returns. Whoever made the future sees that nobody waits:
a waiting receive leaves its queue. A command that was given to a shard happens or
not as if the client had stayed; only the answer is lost. A future on which more
than one request waits must be awaited through `asyncio.shield`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from waystation.frontend.http_messages import INTERNAL_FAILURE, Handler, Request, Response

_logger = logging.getLogger(__name__)

_Future: TypeAlias = "asyncio.Future[Any]"


def begin(handler: Handler, request: Request, done: Callable[[Response], None]) -> Response | Call:
    """Run a handler up to its first wait.

    Returns:
        The answer if there was no wait; otherwise the call, which will give its
        answer to `done` later, from the event loop.
    """
    coroutine = handler(request)
    try:
        awaited = coroutine.send(None)
    except StopIteration as finished:
        response: Response = finished.value
        return response
    except (Exception, asyncio.CancelledError) as error:
        return _failed(error)
    return Call(coroutine, awaited, done)


class Call:
    """A handler that waits for something. Ends by giving one answer to `done`, or by `cancel`."""

    __slots__ = ("_awaited", "_coroutine", "_done")

    def __init__(
        self, coroutine: Coroutine[Any, Any, Response], awaited: object, done: Callable[[Response], None]
    ) -> None:
        self._coroutine = coroutine
        self._done: Callable[[Response], None] | None = done
        self._awaited: _Future | None = None
        self._wait_for(awaited)

    def cancel(self) -> None:
        """Raise `CancelledError` where the handler waits. Nobody gets the answer any more.

        A handler that waits again, to tidy up, is carried on until it ends.
        """
        self._done = None
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.remove_done_callback(self._step)
            # An error that it has, or that a `gather` gets of this, is nobody's any more.
            awaited.add_done_callback(_look_at)
            awaited.cancel()
        self._advance(asyncio.CancelledError())

    def _step(self, future: _Future) -> None:
        # A future that was already done when the call was cancelled has its
        # callback scheduled and comes here all the same.
        if future is self._awaited:
            self._awaited = None
            self._advance(None)

    def _advance(self, error: BaseException | None) -> None:
        """Run the handler to its next wait or its end."""
        try:
            # A future's own `await` gives its result or raises its error.
            awaited = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
        except StopIteration as finished:
            response = finished.value
        except (Exception, asyncio.CancelledError) as failure:
            if self._done is None and isinstance(failure, asyncio.CancelledError):
                return  # It was asked to stop, and it did.
            response = _failed(failure)
        else:
            self._wait_for(awaited)
            return
        if self._done is not None:
            self._done(response)

    def _wait_for(self, awaited: Any) -> None:
        """Go on when what the handler has just yielded is done."""
        if getattr(awaited, "_asyncio_future_blocking", False):
            # The mark by which a future tells its task that `await` yielded it.
            awaited._asyncio_future_blocking = False
        else:
            # A bare yield, as of `asyncio.sleep(0)`: the next turn of the loop will do.
            awaited = asyncio.get_running_loop().create_future()
            awaited.set_result(None)
        self._awaited = awaited
        awaited.add_done_callback(self._step)


def _look_at(future: _Future) -> None:
    """Keeps asyncio from logging an error that nobody has asked for."""
    if not future.cancelled():
        future.exception()


def _failed(error: BaseException) -> Response:
    """A handler must answer every request; what it raises is a bug of ours, and stays with us."""
    _logger.error("handler failed", exc_info=error)
    return INTERNAL_FAILURE
