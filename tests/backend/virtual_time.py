"""An event loop whose clock jumps to the next timer as soon as there is nothing else to do.

A test of hours takes milliseconds, happens the same way each time, and one that
would wait for ever fails at once. Only for code without threads and sockets.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from heapq import heappop, heappush
from itertools import count
from typing import Any

_FOR_EVER_S = 1e7


class _Handle:
    """A callback that waits for its turn or its time: asyncio's own handle, without its checks."""

    __slots__ = ("args", "callback", "context", "is_cancelled", "when_s")

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context, when_s: float
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.when_s = when_s
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True
        self.args = ()  # what waits for nothing any more keeps nothing alive

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self.when_s


class VirtualTimeLoop(asyncio.BaseEventLoop):
    """Its time begins at one million seconds and passes only in jumps.

    It replaces what of asyncio's loop is for sockets, threads and real time, and so costs a third of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1_000_000.0
        self._ready: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Handle]] = []
        self._numbers = count()
        self.turns_left: int | None = None
        """After so many much time passes at once: who goes round and round for ever gets no further."""

    def time(self) -> float:
        return self.now_s

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Handle:
        handle = _Handle(callback, args, context or copy_context(), 0.0)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Handle:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Handle:
        """Those of the same time are called in the order in which they were asked for."""
        timer = _Handle(callback, args, context or copy_context(), when)
        heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def timers(self) -> int:
        """How many are set, and not cancelled."""
        return sum(not timer.is_cancelled for _, _, timer in self._timers)

    def _run_once(self) -> None:
        """Do what can be done now; if that is nothing, what is due next is due now."""
        ready, timers = self._ready, self._timers
        if self.turns_left is not None:
            self.turns_left -= 1
            if self.turns_left == 0:
                self.now_s += _FOR_EVER_S
        if not ready:
            while timers and timers[0][2].is_cancelled:
                heappop(timers)
            if not timers:
                raise AssertionError("everything waits, and nothing will ever happen")
            self.now_s = max(self.now_s, timers[0][0])
        while timers and timers[0][0] <= self.now_s:
            ready.append(heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.is_cancelled:
                self._call(handle)

    def _call(self, handle: _Handle) -> None:
        try:
            handle.context.run(handle.callback, *handle.args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.call_exception_handler({"message": f"{handle.callback} failed", "exception": error})

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # there is no other thread


def now_ms() -> int:
    """The running loop's time as Unix milliseconds: the clock for what is tested."""
    return round(asyncio.get_running_loop().time() * 1_000)


def virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in virtual time."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(test(**arguments))

    return run


async def settle(turns: int = 20) -> None:
    """Let everything happen that can happen without time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)
