"""Streams of a test's own on real NATS servers, and the owners that write to them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from waystation.log.jetstream import JetStreamLog, create_log_streams
from waystation.log.nats import NatsConnection, NoAnswer
from waystation.log.records import NO_CHECKSUM, Record
from waystation.log.settings import NatsSettings


class FaultyConnection(NatsConnection):
    """Does to the next writes, in order, what `faults` say: `lose the request` or `lose the answer`."""

    def __init__(self, settings: NatsSettings) -> None:
        super().__init__(settings)
        self.faults: list[str] = []
        self.published = 0

    async def publish(
        self, subject: str, payload: bytes, headers: dict[str, Any], timeout_s: float = 1.0
    ) -> int:
        self.published += 1
        fault = self.faults.pop(0) if self.faults else ""
        if fault != "lose the request":
            sequence = await super().publish(subject, payload, headers, timeout_s)
        if fault:
            raise NoAnswer("lost by the test")
        return sequence


class World:
    """One log with its streams, and any number of owners, each over a connection of its own."""

    def __init__(self, settings: NatsSettings) -> None:
        self.settings = settings
        self.stream = f"{settings.prefix}-shard-0"
        self.subject = f"{settings.prefix}.shard.0"
        self.connections: list[FaultyConnection] = []

    async def connect(self) -> FaultyConnection:
        connection = FaultyConnection(self.settings)
        await connection.open()
        self.connections.append(connection)
        return connection

    async def owner(self, **settings: Any) -> JetStreamLog:
        """A log that is open, as another node would have it. Its connection is the last one."""
        self.settings = replace(self.settings, **settings)
        log = JetStreamLog(await self.connect(), self.settings, 0)
        await log.open()
        return log

    async def api(self, name: str, request: dict[str, object] | None = None) -> dict[str, Any]:
        return await self.connections[0].api(name, request, timeout_s=5.0)

    async def create_deletable(self) -> None:
        """In place of `create_log_streams`, for tests that make a hole."""
        await self.api(
            f"STREAM.CREATE.{self.stream}",
            {
                "name": self.stream,
                "subjects": [self.subject],
                "discard": "new",
                "num_replicas": self.settings.replicas,
                "allow_direct": True,
            },
        )

    async def close(self) -> None:
        for connection in self.connections:
            await connection.close()


@asynccontextmanager
async def world(
    url: str, replicas: int = 1, *, records: int = 0, deletable: bool = False
) -> AsyncIterator[World]:
    settings = NatsSettings(servers=url, prefix=f"test-{secrets.token_hex(6)}", replicas=replicas)
    made = World(settings)
    connection = await made.connect()
    try:
        if deletable:
            await made.create_deletable()
        await create_log_streams(connection, settings, shards=1)
        log = JetStreamLog(connection, settings, 0)
        await log.open()
        for number in range(records):
            await log.append(b"%d" % number)
        yield made
    finally:
        await made.close()


async def append_all(log: JetStreamLog, *payloads: bytes) -> list[int]:
    return [await log.append(payload) for payload in payloads]


async def replayed(log: JetStreamLog, after: int = 0, checksum: bytes | None = NO_CHECKSUM) -> list[Record]:
    return [record async for record in log.replay(after, checksum)]


async def payloads(log: JetStreamLog) -> Sequence[bytes]:
    return [record.payload for record in await replayed(log)]
