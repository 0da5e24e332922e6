"""Runs async tests, and waits for things without sleeping for luck."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

DEADLINE_S = 20.0
"""For anything that a test waits for; reached only when something hangs."""


def async_test(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in an event loop of its own, and fail instead of hanging."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        asyncio.run(within_deadline(test(**arguments)))

    return run


async def within_deadline(work: Awaitable[Result]) -> Result:
    """Fail instead of hanging."""
    async with asyncio.timeout(DEADLINE_S):
        return await work


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 (any condition, of anything)
            await asyncio.sleep(0.001)
