"""An event loop whose clock jumps to the next timer as soon as there is nothing else to do.

A test of hours takes milliseconds, happens the same way each time, and one that
would wait for ever fails at once. Only for code without threads and sockets.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its time begins at one million seconds and passes only in jumps."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now_s


class _JumpingSelector(selectors.SelectSelector):
    """Where a loop would sleep, it moves the clock instead."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("everything waits, and nothing will ever happen")
        self._loop.now_s += timeout
        return super().select(0)


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
