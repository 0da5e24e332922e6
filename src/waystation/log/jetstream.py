"""The log of a cluster: one JetStream stream for each shard, on the disks of several NATS servers.

A message of the stream is a record, and its sequence is the record's position. An append is a
compare-and-set: it says which sequence the stream must end with, and is sent again, with the same
bytes, until it is known what has become of it. Either it is in the log, once; or another record is
at its place, and then another owner has taken the log over (`Fenced`).

No read can tell where the log ends, since a server that has been cut off may answer it. Only an
append that succeeds does: a new owner's first shows that it has read everything, and from then on
the appends of all others fail.

Source: NATS documentation, JetStream wire API reference; headers `Nats-Expected-*`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from waystation.log.errors import Fenced, LogDamaged, LogUnavailable
from waystation.log.interface import Snapshot
from waystation.log.jetstream_replay import RecordReader
from waystation.log.jetstream_replicas import Replicas
from waystation.log.jetstream_snapshots import SnapshotStore
from waystation.log.nats import (
    CONFLICTS,
    EXPECTED_SEQUENCE,
    EXPECTED_STREAM,
    STREAM_NOT_FOUND,
    ApiFailure,
    NatsConnection,
    NatsFailure,
    NoAnswer,
    Retries,
)
from waystation.log.records import NO_CHECKSUM, Record, decode_record, encode_record
from waystation.log.settings import NatsSettings

_NO_ROOM = frozenset({10_023, 10_047, 10_077})
"""The limits of an account or a server are reached, or a disk is full."""
_NO_REPLICAS = 10_074
_PURGE_RECORDS = 500
_PURGE_BYTES = 16_777_216
"""Purged in one step, whichever is less; appends wait for it: 20 to 50 ms."""
_PURGE_S = 5.0
_MESSAGE_BYTES = 64
"""What a stream stores of each message beside its data, about."""

_logger = logging.getLogger(__name__)


class JetStreamLog:
    """Implements `Log` in the stream of one shard, which `create_log_streams` has created.

    The connection belongs to whoever opened it, and has to be open as long as this is. One object
    belongs to one owner: another owner's appends end it with `Fenced`.
    """

    def __init__(self, connection: NatsConnection, settings: NatsSettings, shard: int) -> None:
        names = _Names(settings.prefix, shard)
        self._connection = connection
        self._deadline_s = settings.append_deadline_s
        self._stream, self._subject = names.stream, names.subject
        self._replicas = Replicas(connection, names.stream, self._deadline_s)
        self._reader = RecordReader(self._replicas)
        self._snapshots = SnapshotStore(
            connection,
            names.snapshots,
            names.snapshot_subject,
            names.manifests,
            names.manifest_subject,
            self._deadline_s,
        )
        self.first = 1
        self.position = 0
        self.checksum = NO_CHECKSUM
        self.size_bytes = 0
        self._is_open = False
        self._truncated = 1
        """Before this position there is nothing, as this owner knows. The leader of the stream says so
        of `first`, and is wrong when it is its own disk that has lost the records before that."""

    def has_room(self) -> bool:
        return self._connection.room.has_room()

    def _require_open(self) -> None:
        if not self._is_open:
            raise LogUnavailable("The log is not open.")

    # Opening and closing

    async def open(self) -> None:
        self._is_open = False
        retries = Retries(self._connection, self._deadline_s, f"Stream {self._stream} cannot be opened")
        while True:
            try:
                state = await self._state()
                last = int(state["last_seq"])
                if last < self.position:
                    raise _Behind(f"it ends at record {last}, and {self.position} was acknowledged")
                message = await self._replicas.leaders({"seq": last}) if last else None
            except NatsFailure as failure:
                try:
                    await retries.after(failure)
                except LogUnavailable:
                    if isinstance(failure, _Behind):
                        # Records are lost, and nobody may go on from here.
                        _logger.error(
                            "log ends before what was acknowledged",
                            extra={"stream": self._stream, "reason": str(failure)},
                        )
                    raise
            else:
                break
        try:
            record = None if message is None else decode_record(last, message.data)
        except LogDamaged as damage:
            self._replicas.note_damage(damage, "leader")
            record = None
        if last and record is None:
            record = await self._replicas.find({"seq": last}, lambda found: decode_record(last, found.data))
            if record is None:
                raise LogDamaged(f"record {last}, the last, is missing")
        self.position = last
        self.checksum = NO_CHECKSUM if record is None else record.checksum
        self._is_open = True

    async def _state(self) -> Mapping[str, Any]:
        """Ask the leader what the stream holds, and note it. Raises `NatsFailure`."""
        try:
            information = await self._connection.api(f"STREAM.INFO.{self._stream}")
        except ApiFailure as failure:
            if failure.code != STREAM_NOT_FOUND:
                raise
            raise LogUnavailable(
                f"The NATS servers have no stream {self._stream}: `waystation cluster init` creates it."
            ) from failure
        _require_safe(information["config"])
        state: dict[str, Any] = information["state"]
        first, last, records = (int(state[name]) for name in ("first_seq", "last_seq", "messages"))
        if last and records != last + 1 - first:
            damage = LogDamaged(f"{records} of the records {first} to {last} are there")
            self._replicas.note_damage(damage, information.get("cluster", {}).get("leader", ""))
        self._reader.record_bytes = int(state["bytes"]) / max(records, 1) + 1
        self.first = max(1, first)
        self.size_bytes = int(state["bytes"])
        return state

    async def close(self) -> None:
        self._is_open = False

    # Appending

    async def append(self, payload: bytes) -> int:
        self._require_open()
        position = self.position + 1
        data, checksum = encode_record(position, self.checksum, payload)
        try:
            await self._land(position, data)
        except BaseException:
            # Its outcome is unknown: nothing more is done until `open` finds out.
            self._is_open = False
            raise
        self.position, self.checksum = position, checksum
        self.size_bytes += len(data) + _MESSAGE_BYTES
        return position

    async def _land(self, position: int, data: bytes) -> None:
        """Bring a record to its place: the same bytes, again and again, until it is known to be there.

        No message id: on several replicas, a repeated one is acknowledged with the sequence of the
        first whatever was expected. The expected sequence alone makes the append happen once.
        """
        headers = {EXPECTED_SEQUENCE: str(position - 1), EXPECTED_STREAM: self._stream}
        retries = Retries(self._connection, self._deadline_s, f"Record {position} may have been appended")
        while True:
            try:
                sequence = await self._connection.publish(self._subject, data, headers)
            except NatsFailure as failure:
                if await self._is_landed(position, data, failure):
                    return
                await retries.after(failure)
            else:
                assert sequence == position, "the server has checked what it was told to expect"
                return

    async def _is_landed(self, position: int, data: bytes, failure: NatsFailure) -> bool:
        """Look for a record whose append has failed; False while that is not known. Raises `Fenced`."""
        if not isinstance(failure, ApiFailure):
            return False
        if failure.code in _NO_ROOM:
            self._connection.room.note_full()
        if failure.code not in CONFLICTS:
            return False
        # What is found is there. What is not found may be on its way to a majority's disks.
        try:
            found = await self._connection.message_at(self._stream, position)
        except NatsFailure:
            return False
        if found is not None and found.data != data:
            raise Fenced(f"Another owner has appended record {position} of {self._stream}.")
        return found is not None

    # Reading

    def _is_gone(self, position: int) -> bool:
        return position < self._truncated

    async def replay(self, after: int, checksum: bytes | None) -> AsyncIterator[Record]:
        self._require_open()
        try:
            async for record in self._reader.records(after + 1, self.position, checksum):
                yield record
        except LogDamaged as damage:
            await self._explain(damage)
            raise

    async def read(self, positions: Sequence[int]) -> list[Record | None]:
        self._require_open()
        wanted = [each for each in positions if self.first <= each <= self.position]
        doubtful = [each for each in positions if self._truncated <= each < self.first]
        try:
            found = await self._reader.read(wanted, self._is_gone)
            found |= await self._reader.read_leftovers(doubtful)
        except LogDamaged as damage:
            await self._explain(damage)
            raise
        return [found.get(position) for position in positions]

    async def _explain(self, damage: LogDamaged) -> None:
        """Raise `LogUnavailable` when records are missing because another owner has truncated them.

        It has then saved a later snapshot first. Otherwise they are lost, and operators hear of it.
        """
        if await self._snapshots.is_superseded():
            raise LogUnavailable("Another owner has truncated the log while it was read.") from damage
        _logger.error("log is damaged", extra={"stream": self._stream, "reason": str(damage)})

    # Forgetting

    async def truncate(self, before: int) -> None:
        self._require_open()
        before = min(before, self.position)
        if before <= self.first:
            return
        record_bytes = self.size_bytes / (self.position + 1 - self.first)
        records = max(1, min(_PURGE_RECORDS, int(_PURGE_BYTES / (record_bytes + 1))))
        while self.first < before:
            # Before it is done: whoever reads meanwhile may find them or not.
            self.first = self._truncated = min(before, self.first + records)
            await self._patiently(f"STREAM.PURGE.{self._stream}", {"seq": self.first})
        information = await self._patiently(f"STREAM.INFO.{self._stream}", {})
        self.size_bytes = int(information["state"]["bytes"])

    async def _patiently(self, name: str, request: Mapping[str, object]) -> dict[str, Any]:
        retries = Retries(self._connection, self._deadline_s, f"Stream {self._stream} cannot be truncated")
        while True:
            try:
                return await self._connection.api(name, request, timeout_s=_PURGE_S)
            except NatsFailure as failure:
                await retries.after(failure)

    # Snapshots

    async def load_snapshot(self) -> Snapshot | None:
        self._require_open()
        snapshot = await self._snapshots.load()
        if snapshot is not None and snapshot.position > self.position:
            # Another owner has gone on since, or whoever answered `open` had not heard of all that was
            # acknowledged. From now on it is known here how far the log goes at least.
            self.position, self._is_open = snapshot.position, False
            raise LogUnavailable(f"Stream {self._stream} has not been opened at its end.")
        return snapshot

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        self._require_open()
        await self._snapshots.save(snapshot)


class _Behind(NoAnswer):
    """Whoever answers as the leader has not heard of what was acknowledged.

    One that was paused learns of it soon.
    """


class _Names:
    """Of the streams of a cluster, and of one shard's subjects in them."""

    def __init__(self, prefix: str, shard: int) -> None:
        self.stream = f"{prefix}-shard-{shard}"
        self.subject = f"{prefix}.shard.{shard}"
        self.snapshots = f"{prefix}-snapshots"
        self.snapshot_subject = f"{prefix}.snapshot.{shard}"
        self.manifests = f"KV_{prefix}-manifests"
        self.manifest_subject = f"$KV.{prefix}-manifests.shard.{shard}"


_SAFE: Mapping[str, object] = {
    "storage": "file",
    "retention": "limits",
    "discard": "new",
    "max_age": 0,
    "max_msgs": -1,
}
"""Without which a server would forget records by itself."""


async def create_log_streams(connection: NatsConnection, settings: NatsSettings, shards: int) -> None:
    """Create the streams of all shards and of their snapshots, unless they are there.

    Raises:
        LogUnavailable: the servers do not do it, or a stream is there that may lose records.
    """
    names = _Names(settings.prefix, 0)
    newest = {"max_msgs_per_subject": 1}
    await _create(connection, settings, names.snapshots, f"{settings.prefix}.snapshot.>", newest)
    await _create(connection, settings, names.manifests, f"$KV.{settings.prefix}-manifests.>", newest)
    for shard in range(shards):
        names = _Names(settings.prefix, shard)
        await _create(connection, settings, names.stream, names.subject, {})


async def _create(
    connection: NatsConnection, settings: NatsSettings, stream: str, subject: str, more: Mapping[str, object]
) -> None:
    configuration = {
        **_SAFE,
        "name": stream,
        "subjects": [subject],
        "num_replicas": settings.replicas,
        "allow_direct": True,
        "deny_delete": True,
        # Nobody uses message ids here; this is the shortest time for which a server remembers them.
        "duplicate_window": 100_000_000,
        **more,
    }
    retries = Retries(connection, settings.append_deadline_s, f"Stream {stream} cannot be created")
    while True:
        try:
            await connection.create_stream(configuration)
            _require_safe((await connection.api(f"STREAM.INFO.{stream}"))["config"])
        except NatsFailure as failure:
            if isinstance(failure, ApiFailure) and failure.code == _NO_REPLICAS:
                raise LogUnavailable(
                    f"Stream {stream} cannot have {settings.replicas} replicas: {failure.description}."
                ) from failure
            await retries.after(failure)
        else:
            return


def _require_safe(configuration: Mapping[str, Any]) -> None:
    wrong = [f"{name}={value}" for name, value in _SAFE.items() if configuration.get(name, value) != value]
    if wrong:
        raise LogUnavailable(
            f"Stream {configuration['name']} would lose records: it has to be set to {', '.join(wrong)}."
        )
