"""From a log to the state that wrote it: the snapshot, then every event since."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from waystation.log.errors import LogDamaged
from waystation.log.interface import LogReader
from waystation.log.records import NO_CHECKSUM, Record
from waystation.queues.contents import run_messages, waiting_messages
from waystation.queues.events import Event, decode_events
from waystation.queues.snapshots import from_snapshot
from waystation.queues.state import Queue, ShardState


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
                await _load_oldest_run(log, *missing, state.now_ms)
            state.apply(event, record.position)
    return state


def record_events(record: Record) -> list[Event]:
    """The events of a record. Raises `LogDamaged` when they are none that this program knows."""
    try:
        return decode_events(record.payload)
    except msgspec.MsgspecError as error:
        raise LogDamaged(f"record {record.position} holds an event that cannot be read: {error}") from error


async def _load_oldest_run(log: LogReader, queue: Queue, group: str, now_ms: int) -> None:
    line = queue.lines[group]
    [run] = line.tail.front(1)
    [record] = await log.read([run.record])
    if record is None:
        raise LogDamaged(f"record {run.record} is missing, and messages of {queue.settings.name} are in it")
    waiting = waiting_messages(record_events(record), queue.number)
    queue.load(group, run, [message for message, _ in run_messages(waiting, line, run)], now_ms)
