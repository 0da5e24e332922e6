"""Reads the records of one stream, verified and without holes, from any replicas that have them.

Records come in batches of bounded bytes, a few of them ahead of whoever reads. What a batch does
not have, or has wrong, is looked for alone, replica by replica (`Replicas.find`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import NamedTuple

from waystation.log.errors import LogDamaged
from waystation.log.jetstream_replicas import Replicas
from waystation.log.nats import NatsFailure, StreamMessage
from waystation.log.records import Chain, Record, decode_record

_BATCH_BYTES_MAX = 4_194_304
"""Of one batch; the server drops a client that has more than 64 MB of answers under way."""
_BATCH_BYTES = 3_145_728
"""What we want of one: a batch that its limit cuts short makes those that were asked for ahead useless."""
_BATCH_RECORDS = 4_096
_AHEAD = 3
"""Batches under way: measured, two to four read fastest."""
_READS = 4
"""Places that one call of `read` reads at the same time."""


class _Batch(NamedTuple):
    first: int
    last: int
    records: asyncio.Task[list[Record]]


class RecordReader:
    """Reads one stream, in which a record's sequence is its position in the log."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self.record_bytes = 4_096.0
        """Of one record, about. Only how many of them are asked for at once depends on it."""

    async def records(
        self,
        first: int,
        last: int,
        checksum: bytes | None,
        is_gone: Callable[[int], bool] = lambda _: False,
    ) -> AsyncIterator[Record]:
        """The records of a range, in order; `checksum` is that of the record before it, if known.

        Args:
            is_gone: tells of a position that has been truncated meanwhile; its record is left out.

        Raises:
            LogDamaged: a record is on none of the replicas that can be reached.
            LogUnavailable: they do not answer.
        """
        chain = Chain(first - 1, checksum)
        position = first
        ahead: deque[_Batch] = deque()
        try:
            while position <= last:
                self._read_ahead(ahead, position, last)
                batch = await ahead[0].records
                if ahead.popleft().last >= position + len(batch):
                    # Cut short, by its limit of bytes or by a hole: it goes on from there.
                    _cancel(ahead)
                for record in batch:
                    try:
                        chain.check(record)
                    except LogDamaged as damage:
                        self._replicas.note_damage(damage)
                        _cancel(ahead)
                        batch = []
                        break
                    position, checksum = record.position + 1, record.checksum
                    yield record
                if not batch:
                    found = await self._find(position, checksum, is_gone)
                    checksum = None if found is None else found.checksum
                    chain = Chain(position, checksum)
                    position += 1
                    if found is not None:
                        yield found
        finally:
            _cancel(ahead)

    def _read_ahead(self, ahead: deque[_Batch], position: int, last: int) -> None:
        """Ask for the batches that come next, as far ahead as memory allows."""
        start = ahead[-1].last + 1 if ahead else position
        while len(ahead) < _AHEAD and start <= last:
            count = max(1, min(_BATCH_RECORDS, int(_BATCH_BYTES / self.record_bytes)))
            end = min(last, start + count - 1)
            ahead.append(_Batch(start, end, asyncio.create_task(self._batch(start, end))))
            start = end + 1

    async def _batch(self, first: int, last: int) -> list[Record]:
        """The records from `first` on that some replica has, up to `last` or to where it ends."""
        request = {
            "seq": first,
            "batch": last - first + 1,
            "max_bytes": _BATCH_BYTES_MAX,
            "next_by_subj": ">",
        }
        try:
            messages = await self._replicas.batch(request)
        except NatsFailure:
            return []  # then it is asked for alone, which has a deadline
        records: list[Record] = []
        if messages and messages[0].sequence != first:
            return []  # truncated perhaps, and no damage
        for position, message in enumerate(messages, first):
            try:
                if message.sequence != position:
                    raise LogDamaged(f"records {position} to {message.sequence - 1} are missing")
                records.append(decode_record(position, message.data))
            except LogDamaged as damage:
                self._replicas.note_damage(damage)
                break
        if records:
            mean = sum(len(record.payload) for record in records) / len(records) + 200
            self.record_bytes = max(mean, 0.7 * self.record_bytes)  # rather too few than too many
        return records

    async def _find(
        self, position: int, previous: bytes | None, is_gone: Callable[[int], bool]
    ) -> Record | None:
        """One record, wherever it is; None when it is gone. Raises as `records` does."""

        def verify(message: StreamMessage) -> Record:
            return Chain(position - 1, previous).check(decode_record(position, message.data))

        request = {"seq": position}
        record = await self._replicas.find(request, verify, lambda: is_gone(position))
        if record is None and not is_gone(position):
            raise LogDamaged(await self._hole(position))
        return record

    async def _hole(self, position: int) -> str:
        try:
            found = await self._replicas.batch({"seq": position + 1, "batch": 1, "next_by_subj": ">"})
        except NatsFailure:
            found = []
        if found and found[0].sequence > position + 1:
            return f"records {position} to {found[0].sequence - 1} are missing"
        return f"record {position} is missing"

    async def read(self, positions: Iterable[int], is_gone: Callable[[int], bool]) -> dict[int, Record]:
        """The records at some positions. Raises as `records` does."""
        found: dict[int, Record] = {}
        slots = asyncio.Semaphore(_READS)

        async def read_span(span: Sequence[int]) -> None:
            async with slots:
                if len(span) == 1:
                    record = await self._find(span[0], None, is_gone)
                    if record is not None:
                        found[span[0]] = record
                    return
                async for record in self.records(span[0], span[-1], None, is_gone):
                    found[record.position] = record

        try:
            async with asyncio.TaskGroup() as group:
                for span in _spans(positions):
                    group.create_task(read_span(span))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return found

    async def read_leftovers(self, positions: Iterable[int]) -> dict[int, Record]:
        """The records at positions that may have been truncated, as far as some replica has them."""
        found: dict[int, Record] = {}
        for position in positions:
            record = await self._replicas.find_at_any(
                {"seq": position}, lambda message: decode_record(message.sequence, message.data)
            )
            if record is not None and record.position == position:
                found[position] = record
        return found


def _cancel(ahead: deque[_Batch]) -> None:
    while ahead:
        ahead.popleft().records.cancel()


def _spans(positions: Iterable[int]) -> list[range]:
    """Positions as ranges without holes."""
    spans: list[range] = []
    for position in sorted(set(positions)):
        if spans and spans[-1].stop == position:
            spans[-1] = range(spans[-1].start, position + 1)
        else:
            spans.append(range(position, position + 1))
    return spans
