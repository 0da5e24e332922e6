"""A worker makes calls in its own thread, one after another, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.log.asynchrony import async_test, until
from waystation.log.worker import Worker


@async_test
async def test_calls_are_made_in_order_in_one_other_thread() -> None:
    worker = Worker("test-worker")
    calls: list[int] = []
    threads: set[str] = set()

    def call(number: int) -> int:
        calls.append(number)
        threads.add(threading.current_thread().name)
        return number * 2

    answers = await asyncio.gather(*(worker.run(lambda n=n: call(n)) for n in range(50)))  # type: ignore[misc]
    await worker.stop()

    assert calls == list(range(50))
    assert list(answers) == [number * 2 for number in range(50)]
    assert threads == {"test-worker"}


@async_test
async def test_what_a_call_raises_reaches_who_made_it_and_nobody_else() -> None:
    worker = Worker("test-worker")

    def fail() -> None:
        raise ValueError("it failed")

    with pytest.raises(ValueError, match="it failed"):
        await worker.run(fail)
    assert await worker.run(lambda: "goes on") == "goes on"
    await worker.stop()


@async_test
async def test_a_call_whose_future_was_cancelled_is_made_all_the_same() -> None:
    worker = Worker("test-worker")
    begin, made = threading.Event(), threading.Event()
    first, second = worker.run(begin.wait), worker.run(made.set)
    second.cancel()
    begin.set()
    await first
    await until(made.is_set)
    await worker.stop()

    assert second.cancelled()


@async_test
async def test_stopping_lets_calls_that_were_given_finish() -> None:
    worker = Worker("test-worker")
    futures = [worker.run(lambda n=n: n) for n in range(10)]  # type: ignore[misc]
    await worker.stop()

    assert [await future for future in futures] == list(range(10))
    assert "test-worker" not in {thread.name for thread in threading.enumerate()}


def test_a_thread_whose_event_loop_is_gone_ends() -> None:
    begin = threading.Event()

    async def leave() -> Worker:
        worker = Worker("test-worker")
        _ = worker.run(begin.wait)
        return worker

    worker = asyncio.run(leave())
    begin.set()
    worker._thread.join(timeout=20)

    assert not worker._thread.is_alive()
