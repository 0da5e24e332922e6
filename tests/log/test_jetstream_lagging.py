"""A new owner whose questions are answered by a leader of before, which has not heard of everything."""

from __future__ import annotations

import asyncio
import logging
from random import Random

import pytest

from tests.backend.virtual_time import virtual_time
from tests.simulation.connections import SimulatedConnection
from tests.simulation.nats import Nats, Stream
from tests.simulation.network import Network
from waystation.backend.recovery import recover
from waystation.log.errors import LogUnavailable
from waystation.log.interface import Snapshot
from waystation.log.jetstream import JetStreamLog
from waystation.log.settings import NatsSettings
from waystation.queues.events import EpochStarted, encode_events
from waystation.queues.snapshots import to_snapshot
from waystation.queues.state import ShardState


async def owner(nats: Nats, name: str) -> JetStreamLog:
    connection = SimulatedConnection(name, nats, Network(Random(1)))
    log = JetStreamLog(connection, NatsSettings(prefix="test", append_deadline_s=1.0), 0)
    await log.open()
    return log


def servers() -> tuple[Nats, Stream]:
    nats = Nats(Random(1), lambda *_: None)
    nats.create("test-snapshots", "test.snapshot.", is_newest_only=True)
    nats.create("KV_test-manifests", "$KV.test-manifests.", is_newest_only=True)
    return nats, nats.create("test-shard-0", "test.shard.0", is_newest_only=False)


def only_the_old_leader_answers(stream: Stream, until_s: float, known: int) -> None:
    stream.zombie_until_s, stream.zombie_last, stream.zombie_share = until_s, known, 1.0


@virtual_time
async def test_a_log_that_seems_to_end_before_its_snapshot_is_read_again_and_not_said_to_be_damaged() -> None:
    """Found by the simulation: its owner would have left the shard alone for a minute."""
    nats, stream = servers()
    log = await owner(nats, "first")
    for epoch in range(1, 6):
        await log.append(encode_events([EpochStarted(1, epoch)]))
    state = ShardState()
    state.epoch = 4
    await log.save_snapshot(Snapshot(5, log.checksum, to_snapshot(state)))
    only_the_old_leader_answers(stream, asyncio.get_running_loop().time() + 0.5, known=3)

    late = JetStreamLog(SimulatedConnection("late", nats, Network(Random(1))), NatsSettings(prefix="test"), 0)
    with pytest.raises(LogUnavailable, match="has not been opened at its end"):
        await recover(late)
    recovered = await recover(late)

    assert late.position == 5
    assert recovered.epoch == 4


@virtual_time
async def test_a_leader_that_is_behind_for_a_moment_is_nothing_that_operators_hear_of() -> None:
    nats, stream = servers()
    log = await owner(nats, "first")
    await log.append(b"one")
    await log.append(b"two")
    only_the_old_leader_answers(stream, asyncio.get_running_loop().time() + 0.5, known=1)
    heard: list[logging.LogRecord] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = heard.append  # type: ignore[method-assign, assignment]
    logging.getLogger("waystation").addHandler(handler)
    try:
        await log.open()
    finally:
        logging.getLogger("waystation").removeHandler(handler)

    assert log.position == 2
    assert heard == []
