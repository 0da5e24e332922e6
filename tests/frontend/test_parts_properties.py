"""Whatever clients do to a queue of several parts, and however slow its shards are, its promises hold."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backend.virtual_time import now_ms, virtual_time
from tests.frontend.parts_world import PartsWorld, bodies, parts_world
from waystation.frontend.part_polls import Handed

TIMEOUT_MS = 5_000
SLACK_MS = 100
"""More than all that is slow takes together."""

acts = st.one_of(
    st.tuples(st.just("send"), st.integers(1, 10), st.integers(0, 4)),
    st.tuples(st.just("receive"), st.integers(1, 10), st.sampled_from([0, 1, 3])),
    st.tuples(st.just("abandon"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("delete"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("show"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("pass"), st.integers(1, 20), st.sampled_from([1, 300])),
)


class Clients:
    """Do what they are told, all at once, and check what they are answered."""

    def __init__(self, world: PartsWorld) -> None:
        self._world = world
        self._running: list[asyncio.Task[None]] = []
        self._polls: list[asyncio.Task[None]] = []
        self._held: list[list[Handed]] = []
        self._hidden_until_ms: dict[str, int] = {}
        self.sent: set[str] = set()
        self._acknowledged: set[str] = set()
        self.deleted: set[str] = set()
        self.got: dict[str, list[int]] = {}
        """By group: the numbers of messages in the order in which they were first received."""

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._running.append(task)
        return task

    async def act(self, what: str, number: int, more: int) -> None:
        if what == "send":
            fresh = [f"{more}:{len(self.sent) + each}" for each in range(number)]
            self.sent.update(fresh)
            sending = self._begin(self._send(fresh, f"group {more}"))
            if self._world.queue.is_fifo:
                await sending  # or nobody could say which came first
        elif what == "receive":
            self._polls.append(self._begin(self._receive(number, more)))
        elif what == "abandon" and number < len(self._polls):
            self._polls.pop(number).cancel()
        elif what in ("delete", "show") and number < len(self._held):
            _ = self._begin(self._end(self._held.pop(number), is_delete=what == "delete"))
        elif what == "pass":
            await asyncio.sleep(number * more / 1_000)

    async def _send(self, fresh: list[str], group: str) -> None:
        await self._world.send(*fresh, group=group if self._world.queue.is_fifo else "")
        self._acknowledged.update(fresh)

    def _never_received(self) -> set[str]:
        return self._acknowledged - self._hidden_until_ms.keys()

    async def _receive(self, max_messages: int, wait_s: int) -> None:
        there = self._never_received()
        found = await self._world.receive(max_messages, wait_s, TIMEOUT_MS)
        assert len(found) <= max_messages
        self._take(found)
        if found:
            self._held.append(found)
        elif wait_s and not self._world.queue.is_fifo:
            await asyncio.sleep(SLACK_MS / 1_000)  # somebody else may just be getting them
            assert not there & self._never_received(), "a poll ended with nothing, and they were there"

    def _take(self, found: list[Handed]) -> None:
        for body in bodies(found):
            assert now_ms() >= self._hidden_until_ms.get(body, 0) - SLACK_MS, f"{body} came twice"
            assert body not in self.deleted, f"{body} came after it was deleted"
            self._hidden_until_ms[body] = now_ms() + TIMEOUT_MS
            group, _, number = body.partition(":")
            if int(number) not in (order := self.got.setdefault(group, [])):
                order.append(int(number))

    async def _end(self, held: list[Handed], *, is_delete: bool) -> None:
        if any(now_ms() > self._hidden_until_ms[body] - 2 * SLACK_MS for body in bodies(held)):
            return  # somebody else may have it by now
        if not is_delete:
            self._hidden_until_ms.update(dict.fromkeys(bodies(held), 0))
            await self._world.show(held)
            return
        await self._world.delete(held)
        self.deleted.update(bodies(held))

    async def end(self) -> None:
        """Let everything come to rest, then receive whatever is left: no answer may be empty before."""
        for ended in await asyncio.gather(*self._running, return_exceptions=True):
            if isinstance(ended, BaseException) and not isinstance(ended, asyncio.CancelledError):
                raise ended
        await asyncio.sleep(TIMEOUT_MS / 1_000 + 1)
        left = self.sent - self.deleted
        while left:
            found = await self._world.receive(10, 0, TIMEOUT_MS)
            assert found, f"said to be empty with {left} in it"
            self._take(found)
            await self._world.delete(found)
            left -= set(bodies(found))
        assert await self._world.receive(10) == []


async def play(history: list[tuple[str, int, int]], parts: int, seed: int, *, fifo: bool) -> Clients:
    async with parts_world(parts, fifo=fifo, seed=seed) as world:
        clients = Clients(world)
        for act in history:
            await clients.act(*act)
        await clients.end()
        return clients


@settings(max_examples=120, deadline=None)
@given(st.lists(acts, max_size=40), st.integers(2, 5), st.integers(0, 10**6))
def test_nothing_is_lost_given_twice_or_hidden_from_who_asks(
    history: list[tuple[str, int, int]], parts: int, seed: int
) -> None:
    @virtual_time
    async def test() -> None:
        await play(history, parts, seed, fifo=False)

    test()


@settings(max_examples=120, deadline=None)
@given(st.lists(acts, max_size=40), st.integers(2, 5), st.integers(0, 10**6))
def test_messages_of_a_group_come_in_the_order_in_which_they_were_sent(
    history: list[tuple[str, int, int]], parts: int, seed: int
) -> None:
    @virtual_time
    async def test() -> None:
        clients = await play(history, parts, seed, fifo=True)
        for group, numbers in clients.got.items():
            assert numbers == sorted(numbers), group

    test()
