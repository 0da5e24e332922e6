"""Reading messages back from the log, whose places the state remembers."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from waystation.log.errors import LogDamaged
from waystation.log.interface import LogReader
from waystation.log.records import Record
from waystation.queues.commands import ReceivedMessage
from waystation.queues.contents import stored_messages
from waystation.queues.events import Event, decode_events
from waystation.queues.runs import Run


def record_events(record: Record) -> list[Event]:
    """The events of a record. Raises `LogDamaged` when they are none that this program knows."""
    try:
        return decode_events(record.payload)
    except msgspec.MsgspecError as error:
        raise LogDamaged(f"record {record.position} holds an event that cannot be read: {error}") from error


async def read_runs(log: LogReader, runs: Iterable[Run]) -> dict[int, list[Event]]:
    """The events of all records that the runs lie in, by position; without those that are truncated."""
    records = await log.read(list(dict.fromkeys(run.record for run in runs)))
    return {record.position: record_events(record) for record in records if record is not None}


async def read_envelopes(log: LogReader, queue: int, messages: Iterable[ReceivedMessage]) -> None:
    """Give messages of a queue that have no envelope theirs.

    One whose record is gone from the log was deleted meanwhile, and stays without.
    """
    missing = {message.sequence: message for message in messages if not message.envelope}
    for record in await log.read(list(dict.fromkeys(message.record for message in missing.values()))):
        if record is None:
            continue
        for stored in stored_messages(record_events(record)):
            if stored.queue == queue and stored.sequence in missing:
                missing[stored.sequence].envelope = stored.envelope
