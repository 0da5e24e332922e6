"""Handlers are run like tasks, without being tasks."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.frontend.http_driver import on_each_loop, until
from waystation.frontend.http_calls import Call, begin
from waystation.frontend.http_messages import INTERNAL_FAILURE, Request, Response

REQUEST = Request("POST", "/", "/", "", {"host": "queue.test"}, b"", secure=False)
DONE = Response(200, b"done", "text/plain")


def start(work: Callable[[], Coroutine[Any, Any, object]], answers: list[Response]) -> Call:
    """Begin a handler that has to wait."""

    async def handler(request: Request) -> Response:
        await work()
        return DONE

    call = begin(handler, REQUEST, answers.append)
    assert isinstance(call, Call)
    return call


def test_a_handler_that_need_not_wait_answers_at_once_without_an_event_loop() -> None:
    async def handler(request: Request) -> Response:
        return DONE

    def never(response: Response) -> None:
        raise AssertionError("answered twice")

    assert begin(handler, REQUEST, never) is DONE


async def wait_for_several_futures() -> None:
    loop = asyncio.get_running_loop()
    for delay_s in (0.0, 0.001):
        future = loop.create_future()
        loop.call_later(delay_s, future.set_result, "value")
        assert await future == "value"


async def handle_an_error() -> None:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_exception, KeyError("gone"))
    with pytest.raises(KeyError):
        await future


async def use_what_asyncio_offers() -> None:
    lock, event = asyncio.Lock(), asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    async with lock:
        await event.wait()
    await asyncio.sleep(0)
    await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
    assert await asyncio.create_task(asyncio.sleep(0, "task")) == "task"


@pytest.mark.parametrize("work", [wait_for_several_futures, handle_an_error, use_what_asyncio_offers])
@on_each_loop
async def test_a_handler_may_wait_for(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    answers: list[Response] = []
    start(work, answers)

    await until(lambda: bool(answers))
    assert answers == [DONE]
    assert len(asyncio.all_tasks()) == 1


@on_each_loop
async def test_cancelling_runs_finally_and_cancels_what_was_waited_for() -> None:
    answers: list[Response] = []
    future = asyncio.get_running_loop().create_future()
    seen: list[str] = []

    async def wait() -> None:
        try:
            await future
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            seen.append("finally")

    start(wait, answers).cancel()

    assert seen == ["cancelled", "finally"]
    assert future.cancelled()
    await asyncio.sleep(0)
    assert answers == []


@on_each_loop
async def test_cancelling_does_not_reach_through_a_shield() -> None:
    """How more than one request may wait for the same future."""
    shared = asyncio.get_running_loop().create_future()
    answers: list[Response] = []

    async def wait() -> None:
        await asyncio.shield(shared)

    leaves, _stays = start(wait, []), start(wait, answers)
    leaves.cancel()
    assert not shared.cancelled()
    shared.set_result(None)

    await until(lambda: answers == [DONE])


@pytest.mark.parametrize("outcome", ["result", "error"])
@on_each_loop
async def test_cancelling_in_the_moment_of_success_answers_nobody(
    outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The future is done and the handler's next step is due, but has not been taken."""
    answers: list[Response] = []
    future = asyncio.get_running_loop().create_future()
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def wait(future: asyncio.Future[None] = future) -> None:
        await future

    call = start(wait, answers)
    if outcome == "result":
        future.set_result(None)
    else:
        future.set_exception(KeyError("gone"))
    call.cancel()
    await asyncio.sleep(0)
    assert answers == []

    del call, future, wait  # asyncio complains of forgotten errors when the future goes
    assert complaints == []
    assert caplog.records == []


@on_each_loop
async def test_what_fails_for_a_handler_that_was_cancelled_is_nobodys_any_more() -> None:
    """A `gather` that is cancelled gets the error of the first of its parts that ends."""
    first, second = (asyncio.get_running_loop().create_future() for _ in range(2))
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def wait() -> None:
        await asyncio.gather(first, second)

    call = start(wait, [])
    first.set_exception(KeyError("gone"))
    call.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    del call
    first = second = asyncio.get_running_loop().create_future()  # asyncio complains when they go
    gc.collect()

    assert complaints == []


@on_each_loop
async def test_a_cancelled_handler_may_wait_to_tidy_up() -> None:
    answers: list[Response] = []
    seen: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.001)
            seen.append("tidy")

    start(wait, answers).cancel()

    await until(lambda: seen == ["tidy"])
    assert answers == []


@on_each_loop
async def test_an_error_while_being_cancelled_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("in finally")

    start(wait, []).cancel()

    assert [record.getMessage() for record in caplog.records] == ["handler failed"]


@on_each_loop
async def test_a_future_that_somebody_else_cancels_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Response] = []
    future = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await future

    start(wait, answers)
    future.cancel()

    await until(lambda: answers == [INTERNAL_FAILURE])
    assert [record.getMessage() for record in caplog.records] == ["handler failed"]
