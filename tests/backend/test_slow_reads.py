"""Clients, a failing log and housekeeping against one shard, all drawn from a seed.

Checked is what a shard promises whatever happens: no acknowledged message is
lost, no acknowledged delete comes back, and nobody gets a message that another
consumer was handed while its visibility timeout ran.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

import pytest

from tests.backend.shard_driver import ShardDriver, running, texts_of
from tests.backend.virtual_time import now_ms, virtual_time
from tests.log.faulty import FaultyLog
from tests.queues.windows import small_windows
from waystation.log.records import Record
from waystation.protocol.errors import Unavailable
from waystation.queues.commands import ReceivedMessage

LIFE_S = 120


class Simulation:
    """What clients did and were told. Texts are never sent twice."""

    def __init__(self, driver: ShardDriver, random: Random) -> None:
        self.driver = driver
        self.random = random
        self.sent = 0
        self.acknowledged: set[str] = set()
        self.seen: set[str] = set()
        self.hidden_until_ms: dict[str, int] = {}
        self.deleted_at_ms: dict[str, int] = {}
        self.failures = 0

    async def produce(self) -> None:
        while True:
            texts = [f"message {self.sent + number}" for number in range(self.random.randint(1, 10))]
            self.sent += len(texts)
            delay_ms = self.random.choice([0, 0, 0, 700])
            try:
                await self.driver.sending(*texts, delay_ms=delay_ms)
                self.acknowledged.update(texts)
            except Unavailable:
                self.failures += 1
            await asyncio.sleep(self.random.expovariate(5))

    async def consume(self) -> None:
        while True:
            try:
                await self._receive_and_delete()
            except Unavailable:
                self.failures += 1
                await asyncio.sleep(0.1)
            await asyncio.sleep(self.random.expovariate(20))

    async def _receive_and_delete(self) -> None:
        asked_at_ms = now_ms()
        timeout_ms = self.random.choice([500, 2_000, 5_000])
        receiving = self.driver.receiving(
            self.random.randint(1, 10), wait_ms=self.random.choice([0, 1_500]), timeout_ms=timeout_ms
        )
        if self.random.random() < 0.05:
            await asyncio.sleep(self.random.random() / 10)
            receiving.cancel()  # the client has gone, just before or after its answer
            return
        messages = (await receiving).messages
        for message in messages:
            self._check_handed_out(message, asked_at_ms, timeout_ms)
        if messages and self.random.random() < 0.1:
            for message in messages:
                self.hidden_until_ms.pop(message.envelope.decode(), None)
            await self.driver.changing(*messages, timeout_ms=0)
        elif messages and self.random.random() < 0.8:
            await asyncio.sleep(self.random.random() * timeout_ms / 800)  # sometimes too long
            await self.driver.deleting(*messages)
            self.deleted_at_ms |= {message.envelope.decode(): now_ms() for message in messages}

    def _check_handed_out(self, message: ReceivedMessage, asked_at_ms: int, timeout_ms: int) -> None:
        text = message.envelope.decode()
        assert asked_at_ms <= self.deleted_at_ms.get(text, asked_at_ms), f"{text} came back"
        assert now_ms() >= self.hidden_until_ms.get(text, 0), f"{text} was handed out twice"
        self.seen.add(text)
        # The timeout runs from when the message was taken, and that is not before it was asked for.
        self.hidden_until_ms[text] = asked_at_ms + timeout_ms

    async def break_things(self) -> None:
        log, random = self.driver.log, self.random
        while True:
            await asyncio.sleep(random.expovariate(1))
            fault = random.randrange(7)
            if fault == 0:
                log.refused_appends = random.randint(1, 3)
            elif fault == 1:
                log.lost_answers = 1
            elif fault == 2:
                log.refused_opens = random.randint(1, 3)
            elif fault == 3:
                log.refused_reads = 1
            elif fault == 4:
                log.refused_snapshots = 1
            else:
                gate = random.choice([log.appends, log.reads, log.snapshots])
                gate.shut()
                await asyncio.sleep(random.random())
                gate.release()

    async def drain(self) -> None:
        """Receive and delete until nothing has come for longer than any timeout."""
        log = self.driver.log
        log.refused_appends = log.lost_answers = log.refused_opens = 0
        log.refused_reads = log.refused_snapshots = 0
        for gate in (log.appends, log.reads, log.snapshots):
            gate.release()
        while True:
            await self.driver.serves()
            asked_at_ms = now_ms()
            messages = await self.driver.receive(10, wait_ms=6_000)
            if not messages:
                return
            for message in messages:
                self._check_handed_out(message, asked_at_ms, 30_000)
            await self.driver.deleting(*messages)


@pytest.mark.parametrize("seed", range(20))
def test_a_shard_keeps_its_promises_whatever_fails(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, 16)

    @virtual_time
    async def simulate() -> None:
        async with running(
            cache_bytes=400,
            record_bytes_max=300,
            snapshot_events=150,
            garbage_bytes_max=3_000,
            idle_snapshot_s=1.0,
        ) as driver:
            simulation = Simulation(driver, Random(seed))
            clients = [simulation.produce(), simulation.break_things()]
            clients += [simulation.consume() for _ in range(4)]
            tasks = [asyncio.create_task(client) for client in clients]
            done, _ = await asyncio.wait(tasks, timeout=LIFE_S, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await simulation.drain()

            assert simulation.acknowledged <= simulation.seen
            assert len(simulation.acknowledged) > 500
            assert simulation.failures > 10
            assert (await driver.counts()).visible == 0
            assert driver.log.position - driver.log.first < 400

    simulate()


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
