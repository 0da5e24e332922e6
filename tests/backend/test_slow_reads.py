"""A backlog is consumed while it is loaded, relocated and truncated, at speeds drawn from a seed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

import pytest

from tests.backend.shard_driver import running, texts_of
from tests.backend.virtual_time import virtual_time
from tests.log.faulty import FaultyLog
from tests.queues.windows import small_windows
from waystation.log.records import Record


class SlowLog(FaultyLog):
    """Each step takes its time, and reads sometimes much more than what overtakes them."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random

    async def _take_time(self, *longest_s: float) -> None:
        await asyncio.sleep(self._random.random() * self._random.choice(longest_s))

    async def append(self, payload: bytes) -> int:
        await self._take_time(0.01)
        return await super().append(payload)

    async def read(self, positions: Sequence[int]) -> list[Record | None]:
        await self._take_time(0.001, 0.05, 0.3)
        return await super().read(positions)

    async def truncate(self, before: int) -> None:
        await self._take_time(0.01)
        await super().truncate(before)


@pytest.mark.parametrize("seed", range(20))
def test_a_short_poll_never_gets_nothing_while_there_is_something(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog is consumed while it is loaded, relocated and truncated all the time."""
    small_windows(monkeypatch, 16)
    random = Random(seed)
    sent = [f"message {number}" for number in range(random.randint(50, 200))]

    @virtual_time
    async def simulate() -> None:
        async with running(
            SlowLog(random),
            cache_bytes=random.choice([0, 200, 1_000_000]),
            garbage_bytes_max=0,
            idle_snapshot_s=random.choice([0.02, 0.2]),
            snapshot_events=random.choice([10, 100]),
        ) as driver:
            await driver.send(*sent)
            received: list[str] = []
            while messages := await driver.receive(10, timeout_ms=43_200_000):
                received += texts_of(messages)
                if random.random() < 0.8:
                    await driver.deleting(*messages)

            assert received == sent

    simulate()
