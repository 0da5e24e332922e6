"""From a log to the state that wrote it: the snapshot, then every event since."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from waystation.backend.reading import read_runs, record_events
from waystation.log.errors import LogDamaged
from waystation.log.interface import LogReader
from waystation.log.records import NO_CHECKSUM
from waystation.queues.contents import run_messages, waiting_messages
from waystation.queues.snapshots import from_snapshot
from waystation.queues.state import Queue, ShardState
from waystation.queues.windows import WINDOW_BYTES, window_messages


async def recover(log: LogReader) -> ShardState:
    """Open a log and return the state after its last record.

    Raises:
        LogDamaged: a record or the snapshot cannot be verified, or is missing.
        LogUnavailable: the log cannot be read now.
    """
    await log.open()
    with nothing_is_garbage():
        return await _recover(log)


@contextmanager
def nothing_is_garbage() -> Iterator[None]:
    """Spare the collector to look through millions of objects, again and again as they become more."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


async def _recover(log: LogReader) -> ShardState:
    snapshot = await log.load_snapshot()
    if snapshot is None:
        state, position, checksum = ShardState(), 0, NO_CHECKSUM
    else:
        try:
            state = from_snapshot(snapshot.payload)
        except (ValueError, msgspec.MsgspecError) as error:
            raise LogDamaged(f"the snapshot at record {snapshot.position} cannot be read: {error}") from error
        position, checksum = snapshot.position, snapshot.checksum
        if log.position < position:
            raise LogDamaged(f"the log ends at record {log.position}, before its snapshot at {position}")
        if log.position == position and log.checksum != checksum:
            raise LogDamaged(f"record {position} is not the one that its snapshot was saved at")
    async for record in log.replay(position, checksum):
        for event in record_events(record):
            while (missing := state.missing(event)) is not None:
                await _load_runs(log, *missing, state.now_ms)
            state.apply(event, record.position)
    return state


async def _load_runs(log: LogReader, queue: Queue, group: str, now_ms: int) -> None:
    """Load the oldest run of a line's tail, and those after it that will be asked for next.

    One read for each run would be a minute for half a million of them.
    """
    line = queue.lines[group]
    message_bytes = queue.live_bytes // max(queue.live, 1) + 1
    ahead = min(window_messages(len(queue.lines)), WINDOW_BYTES // message_bytes)
    runs = line.tail.front(max(1, ahead))
    found = await read_runs(log, runs)
    for run in runs:
        if run.record not in found:
            name = queue.settings.name
            raise LogDamaged(f"record {run.record} is missing, and messages of {name} are in it")
        waiting = waiting_messages(found[run.record], queue.number)
        queue.load(group, run, [message for message, _ in run_messages(waiting, line, run)], now_ms)
