"""Puts millions of messages into a data directory, and says what a snapshot of them costs.

    python -m bench.loader fill DIRECTORY --messages 10000000
    python -m bench.loader snapshot DIRECTORY

It is the real backend and catalogue in a process of its own, with no HTTP before them and no sync
of the disk behind them, so that ten million messages take minutes and not half an hour. What it
leaves behind is what a server leaves that was killed right after its last answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter, time

import uvloop

from bench.client import VISIBILITY_TIMEOUT_S
from bench.processes import memory_mb
from waystation.backend.backend import Backend
from waystation.backend.settings import BackendSettings
from waystation.frontend.envelope import Envelope, encode_envelope
from waystation.frontend.settings import ServiceSettings
from waystation.log.sqlite import SqliteLog
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.queues import QueueRecord, shard_settings
from waystation.metadata.sqlite import SqliteMetadataStore
from waystation.protocol.checksums import md5_of_body
from waystation.queues.commands import CreateQueue, Entry, QueueId, SendMessages

BODY_BYTES = 256
SNAPSHOTS = 3
_RECORDS_AT_ONCE = 100
_LOOK_S = 0.001
"""How often the event loop is asked whether it is blocked."""


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What filling took."""

    messages: int
    seconds: float
    rss_mb: float
    """Before the first message."""
    peak_rss_mb: float


@dataclass(frozen=True, kw_only=True)
class SnapshotCost:
    """Of one snapshot; of several, the median."""

    snapshot_bytes: int
    blocked_ms: float
    """The longest time for which the event loop did nothing else."""
    total_ms: float
    """Until it was on disk and the log truncated."""
    rss_mb: float
    """Before the first snapshot."""
    peak_rss_mb: float


class _UnsyncedLog(SqliteLog):
    def _prepare(self, db: sqlite3.Connection) -> None:
        super()._prepare(db)
        db.execute("PRAGMA synchronous = OFF")


@asynccontextmanager
async def _opened(directory: Path) -> AsyncIterator[tuple[Backend, SqliteLog, Catalogue]]:
    store = SqliteMetadataStore(directory / "metadata.db")
    await store.open()
    catalogue = Catalogue(store)
    await catalogue.start()
    log = _UnsyncedLog(directory / "shard-000.db")
    backend = Backend(lambda _: log, 1, BackendSettings())
    await backend.start()
    yield backend, log, catalogue
    await backend.stop()
    await catalogue.stop()
    await store.close()


async def fill(directory: Path, messages: int, record_messages: int, groups: int) -> Filled:
    """Make the queue `bench` and send to it; never returns to a state that was stopped cleanly.

    Args:
        directory: empty.
        messages: of `BODY_BYTES`.
        record_messages: as many share a log record, as clients make it that send batches one by one.
        groups: 0 for a standard queue; else of a FIFO queue, and messages go to them in turn.
    """
    async with _opened(directory) as (backend, _, catalogue):
        queue = await _create(backend, catalogue, groups)
        rss_mb, began = memory_mb(os.getpid(), "VmRSS"), perf_counter()
        commands = _sends(queue, messages, record_messages, groups)
        while some := list(islice(commands, _RECORDS_AT_ONCE)):
            answers = []
            for command in some:
                answers.append(backend.submit(0, command))
                backend.shards[0].seal()
            await asyncio.gather(*answers)
        filled = Filled(
            messages=messages,
            seconds=perf_counter() - began,
            rss_mb=rss_mb,
            peak_rss_mb=memory_mb(os.getpid(), "VmHWM"),
        )
        _say(filled)
        sys.stdout.flush()
        os._exit(0)


async def _create(backend: Backend, catalogue: Catalogue, groups: int) -> int:
    name = "bench.fifo" if groups else "bench"
    attributes = {"VisibilityTimeout": str(VISIBILITY_TIMEOUT_S), **({"FifoQueue": "true"} if groups else {})}
    now_s = int(time())
    record = QueueRecord(name, ServiceSettings().account, now_s, now_s, 0, 0, attributes)
    made = await backend.submit(0, CreateQueue(shard_settings(record, 0)))
    assert isinstance(made, QueueId)
    record = QueueRecord(name, record.account, now_s, now_s, 0, made.queue, attributes)
    await catalogue.create(record)
    return made.queue


def _sends(queue: int, messages: int, at_once: int, groups: int) -> Iterator[SendMessages]:
    account = ServiceSettings().account
    digest = md5_of_body(b"x" * BODY_BYTES)  # the same for all: nobody looks at it
    filler = "x" * (BODY_BYTES - 12)
    for first in range(0, messages, at_once):
        entries = []
        for number in range(first, min(first + at_once, messages)):
            envelope = Envelope(f"{number:012}{filler}", digest, account)
            if groups:
                envelope.deduplication_id = str(number)
                group = str(number % groups)
                entries.append(Entry(encode_envelope(envelope), 0, group, os.urandom(16)))
            else:
                entries.append(Entry(encode_envelope(envelope)))
        yield SendMessages(queue, entries)


async def snapshot(directory: Path) -> SnapshotCost:
    """Open a directory and save a few snapshots."""
    async with _opened(directory) as (backend, log, _):
        await asyncio.sleep(0.5)  # what a start brings with it is over
        rss_mb = memory_mb(os.getpid(), "VmRSS")
        blocked, total = [], []
        for _ in range(SNAPSHOTS):
            gaps = asyncio.create_task(_longest_gap_s())
            await asyncio.sleep(10 * _LOOK_S)
            began = perf_counter()
            await backend.shards[0]._housekeeper._snapshot_and_truncate()
            total.append(perf_counter() - began)
            gaps.cancel()
            blocked.append(await gaps)
        saved = await log.load_snapshot()
        assert saved is not None
        return SnapshotCost(
            snapshot_bytes=len(saved.payload),
            blocked_ms=sorted(blocked)[SNAPSHOTS // 2] * 1e3,
            total_ms=sorted(total)[SNAPSHOTS // 2] * 1e3,
            rss_mb=rss_mb,
            peak_rss_mb=memory_mb(os.getpid(), "VmHWM"),
        )


async def _longest_gap_s() -> float:
    """Until cancelled: the longest time between two looks, less what they are apart."""
    longest, last = 0.0, perf_counter()
    try:
        while True:
            await asyncio.sleep(_LOOK_S)
            now = perf_counter()
            longest, last = max(longest, now - last - _LOOK_S), now
    except asyncio.CancelledError:
        return max(longest, perf_counter() - last - _LOOK_S)


def _say(figures: Filled | SnapshotCost) -> None:
    print(json.dumps(asdict(figures)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=["fill", "snapshot"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--record-messages", type=int, default=10, help="that share a log record")
    parser.add_argument("--groups", type=int, default=0, help="message groups; 0 for a standard queue")
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    if arguments.kind == "snapshot":
        _say(uvloop.run(snapshot(arguments.directory)))
    else:
        uvloop.run(fill(arguments.directory, arguments.messages, arguments.record_messages, arguments.groups))


if __name__ == "__main__":
    main()
