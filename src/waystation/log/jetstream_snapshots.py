"""The snapshot of one shard: chunks in a stream, and a manifest that says which of them count.

The manifest is a key of a bucket, changed by compare-and-set alone, and never to an older position:
so a snapshot is replaced as a whole, and an owner that has been left behind cannot bring back an old
one. Chunks that no manifest names are purged after the next save.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from waystation.log.errors import LogDamaged, LogUnavailable
from waystation.log.interface import Snapshot
from waystation.log.jetstream_replicas import Replicas
from waystation.log.nats import (
    CONFLICTS,
    EXPECTED_STREAM,
    EXPECTED_SUBJECT_SEQUENCE,
    ApiFailure,
    NatsConnection,
    NatsFailure,
    Retries,
    StreamMessage,
)
from waystation.log.records import digest

_CHUNK_BYTES = 524_288
"""Appends wait some 3 ms for one."""
_GROUP_CHUNKS = 8
"""Asked for together: 4 MB."""
_GROUPS = 3
"""Under way at once."""
_PURGE_S = 10.0

_logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class Manifest(msgspec.Struct, frozen=True):
    """What the saved snapshot consists of. `nonce` tells its chunks from those of other savers."""

    position: int
    checksum: bytes
    nonce: str
    chunks: list[bytes]
    """The digest of each."""


class SnapshotStore:
    """Saves and loads the snapshots of one shard. Every method raises `LogUnavailable`.

    Args:
        chunks: stream of the chunks of all shards; this one's have subjects that begin with `subject`.
        manifests: stream of the bucket.
        key: subject of this shard's manifest in it.
    """

    def __init__(
        self,
        connection: NatsConnection,
        chunks: str,
        subject: str,
        manifests: str,
        key: str,
        deadline_s: float,
    ) -> None:
        self._connection = connection
        self._chunks = chunks
        self._subject = subject
        self._manifests = manifests
        self._key = key
        self._deadline_s = deadline_s
        self._replicas = Replicas(connection, chunks, deadline_s)
        self._known = (b"", 0)
        """The manifest as it was loaded or saved last, and its revision."""

    # Loading

    async def load(self) -> Snapshot | None:
        """The snapshot saved last, verified. Also raises `LogDamaged`."""
        manifest = await self._read_manifest()
        if manifest is None:
            return None
        groups = [
            range(start, min(start + _GROUP_CHUNKS, len(manifest.chunks)))
            for start in range(0, len(manifest.chunks), _GROUP_CHUNKS)
        ]
        loaded: list[bytes] = []
        for start in range(0, len(groups), _GROUPS):
            wanted = groups[start : start + _GROUPS]
            for group in await asyncio.gather(*(self._load_group(manifest, each) for each in wanted)):
                loaded += group
        return Snapshot(manifest.position, manifest.checksum, b"".join(loaded))

    async def _load_group(self, manifest: Manifest, numbers: range) -> list[bytes]:
        subjects = {self._chunk_subject(manifest, number): number for number in numbers}
        found: dict[int, bytes] = {}
        try:
            messages = await self._replicas.batch({"multi_last": list(subjects), "batch": len(subjects)})
        except NatsFailure:
            messages = []  # then each is asked for alone, which has a deadline
        for message in messages:
            number = subjects.get(message.subject)
            if number is not None and digest(message.data) == manifest.chunks[number]:
                found[number] = message.data
        return [found[each] if each in found else await self._find(manifest, each) for each in numbers]

    async def _find(self, manifest: Manifest, number: int) -> bytes:
        what = f"chunk {number} of the snapshot at record {manifest.position}"

        def verify(message: StreamMessage) -> bytes:
            if digest(message.data) != manifest.chunks[number]:
                raise LogDamaged(f"{what} does not match its checksum")
            return message.data

        request = {"last_by_subj": self._chunk_subject(manifest, number)}
        found = await self._replicas.find(request, verify)
        if found is None:
            if await self.is_superseded():
                raise LogUnavailable("Another owner has replaced the snapshot while it was read.")
            _logger.error("snapshot is damaged", extra={"key": self._key, "reason": f"{what} is missing"})
            raise LogDamaged(f"{what} is missing")
        return found

    async def is_superseded(self) -> bool:
        """Whether the manifest is another by now than the one that was loaded or saved here last.

        A write of the same manifest tells: reads may be answered by a server that has missed something.
        """
        value, revision = self._known
        try:
            await self._write_manifest(value, revision)
        except _Superseded:
            return True
        return False

    # Saving

    async def save(self, snapshot: Snapshot) -> None:
        """Replace the saved snapshot, unless the same or a later one is there; the later one is an error."""
        if await self._has(snapshot):
            return
        payload = snapshot.payload
        parts = [payload[start : start + _CHUNK_BYTES] for start in range(0, len(payload), _CHUNK_BYTES)]
        manifest = Manifest(snapshot.position, snapshot.checksum, secrets.token_hex(8), [])
        for number, part in enumerate(parts):
            manifest.chunks.append(digest(part))
            await self._write_chunk(self._chunk_subject(manifest, number), part)
        value = msgspec.json.encode(manifest)
        while True:
            try:
                await self._write_manifest(value, self._known[1])
            except _Superseded:
                if await self._has(snapshot):
                    return
            else:
                break
        await self._purge_others(manifest)

    async def _has(self, snapshot: Snapshot) -> bool:
        """Whether the same is saved. Raises `LogUnavailable` when a later one is."""
        saved = await self._read_manifest()
        if saved is not None and saved.position > snapshot.position:
            raise LogUnavailable("Another owner has saved a later snapshot.")
        return saved is not None and (saved.position, saved.checksum) == snapshot[:2]

    async def _write_chunk(self, subject: str, part: bytes) -> None:
        headers = {EXPECTED_STREAM: self._chunks}
        # Written twice it is the same: a subject keeps one message.
        await self._patiently(lambda: self._connection.publish(subject, part, headers))

    async def _purge_others(self, manifest: Manifest) -> None:
        """Purge what no manifest will ever name: all chunks but these, up to this position."""
        request = {"subjects_filter": f"{self._subject}.>"}
        try:
            information = await self._connection.api(f"STREAM.INFO.{self._chunks}", request)
            stored = information["state"].get("subjects") or {}
            for saved in dict.fromkeys(subject.rpartition(".")[0] for subject in stored):
                position, _, nonce = saved.removeprefix(f"{self._subject}.").partition(".")
                if int(position) <= manifest.position and nonce != manifest.nonce:
                    await self._connection.api(
                        f"STREAM.PURGE.{self._chunks}", {"filter": f"{saved}.*"}, timeout_s=_PURGE_S
                    )
        except NatsFailure as failure:
            # They are in nobody's way, and the next save tries again.
            _logger.warning("old snapshot stays", extra={"key": self._key, "reason": str(failure)})

    # The manifest

    async def _read_manifest(self) -> Manifest | None:
        found = await self._patiently(lambda: self._connection.last_message(self._manifests, self._key))
        self._known = (b"", 0) if found is None else (found.data, found.sequence)
        if found is None or not found.data:
            return None
        try:
            return msgspec.json.decode(found.data, type=Manifest)
        except msgspec.MsgspecError as error:
            raise LogDamaged(f"the manifest of the snapshot cannot be read: {error}") from error

    async def _write_manifest(self, value: bytes, revision: int) -> None:
        """Raises `_Superseded` when another is there, and this one never was."""
        headers = {EXPECTED_SUBJECT_SEQUENCE: str(revision)}

        async def write() -> int:
            try:
                return await self._connection.publish(self._key, value, headers)
            except ApiFailure as failure:
                if failure.code not in CONFLICTS:
                    raise
                found = await self._connection.last_message(self._manifests, self._key)
                if found is None or found.sequence <= revision:
                    raise  # a change that is still on its way, or a leader that lags behind
                if found.data != value:
                    raise _Superseded from failure
                return found.sequence

        self._known = (value, await self._patiently(write))

    async def _patiently(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        retries = Retries(self._connection, self._deadline_s, "The snapshot cannot be saved or loaded")
        while True:
            try:
                return await call()
            except NatsFailure as failure:
                await retries.after(failure)

    def _chunk_subject(self, manifest: Manifest, number: int) -> str:
        return f"{self._subject}.{manifest.position}.{manifest.nonce}.{number}"


class _Superseded(Exception):
    """Another manifest is there than expected."""
