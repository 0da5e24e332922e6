"""The metadata bucket on NATS: its name and settings, and what one request to it can read.

A bucket is a stream that keeps the newest message of each subject, and a revision is that
message's sequence. Any replica may answer a read, and one that lags behind answers with the
past; so every read here takes the sequence that the answer must be at least as new as, and
raises `Behind` when it is not. With `last_sequence`, which the stream's leader tells, that
gives reads which never miss what was acknowledged before they began.

We do not use the key-value class of nats-py: it has no nonce, and its reads do not say how new they are.

Source: NATS documentation, JetStream wire API reference; ADR-8 (key-value), ADR-31 (direct get).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from nats.aio.msg import Msg

from waystation.log.nats import (
    CONFLICTS,
    EXPECTED_SUBJECT_SEQUENCE,
    STREAM_NOT_FOUND,
    ApiFailure,
    NatsConnection,
    NatsFailure,
    NoAnswer,
    NotDelivered,
)
from waystation.log.settings import NatsSettings
from waystation.metadata.store import MetadataUnavailable, Stored

FORMAT_KEY = "waystation-format"
"""Its value is the version of the format. It is always there, which other reads lean on, and no
value of the catalogue: lists and watches leave it out."""
FORMAT_VERSION = b"1"

NONCE = "Waystation-Nonce"
"""Header by which a writer knows its own write again when it was not told what became of it."""

_OPERATION = "KV-Operation"
_DELETED = {"DEL", "PURGE"}
_MARKER_REASON = "Nats-Marker-Reason"
_MARKER_TTL = "24h"
"""Deleting leaves a marker, so that watches hear of it. It has long been heard of when it goes."""
_SEQUENCE, _SUBJECT, _UP_TO, _STATUS = "Nats-Sequence", "Nats-Subject", "Nats-UpTo-Sequence", "Status"
_BEFORE = "Nats-Last-Sequence"
_END_OF_BATCH, _NOT_FOUND, _NO_RESPONDERS = "204", "404", "503"

_BATCH_MAX = 1_000
_BATCH_BYTES_MAX = 4_194_304
"""The server drops a client that has more than 64 MB of answers under way."""
_ANSWER_S = 2.0


class Behind(NatsFailure):
    """The replica that has answered lags behind what is known to be written; another may not."""


class Entry(NamedTuple):
    """The newest message of a key. `value` is None when it says that the key was deleted."""

    key: str
    value: bytes | None
    sequence: int
    nonce: str
    follows: int
    """The sequence of the key's message before it, as its writer expected it; 0 if there was none."""

    @property
    def stored(self) -> Stored:
        """As users of the store see it."""
        return Stored(self.key, self.value, self.sequence)


class Bucket:
    """Requests to the bucket of one cluster. Every method raises `NatsFailure`."""

    def __init__(self, connection: NatsConnection, settings: NatsSettings) -> None:
        self.connection = connection
        self.name = f"{settings.prefix}-metadata"
        self.stream = f"KV_{self.name}"
        self.subjects = f"$KV.{self.name}.>"
        self._replicas = settings.replicas

    async def create(self) -> None:
        """Create the bucket, unless it is there."""
        configuration = {
            "name": self.stream,
            "subjects": [self.subjects],
            "storage": "file",
            "num_replicas": self._replicas,
            "retention": "limits",
            "discard": "new",
            "max_msgs_per_subject": 1,
            "allow_direct": True,
            "allow_msg_ttl": True,
            "deny_delete": True,
        }
        await self.connection.create_stream(configuration)
        await self._write_format(0)

    async def _write_format(self, expected: int) -> None:
        try:
            await self.write(FORMAT_KEY, FORMAT_VERSION, expected, nonce="")
        except ApiFailure as failure:
            if failure.code not in CONFLICTS:  # somebody else has just written it
                raise

    async def check(self) -> None:
        """Raises `MetadataUnavailable` when the bucket is missing, or has another format."""
        try:
            last = await self.last_sequence()
        except ApiFailure as failure:
            if failure.code != STREAM_NOT_FOUND:
                raise
            last = 0
        entry = await self.read(FORMAT_KEY, last) if last else None
        if entry is None:
            raise MetadataUnavailable(
                f"The NATS servers have no bucket {self.name}: `waystation cluster init` creates it."
            )
        if entry.value != FORMAT_VERSION:
            raise MetadataUnavailable(
                f"bucket {self.name} has format {entry.value!r}; this program reads {FORMAT_VERSION!r}"
            )

    async def last_sequence(self) -> int:
        """The sequence of the last change, as the stream's leader knows it now."""
        information = await self.connection.api(f"STREAM.INFO.{self.stream}")
        return int(information["state"]["last_seq"])

    async def write(self, key: str, value: bytes | None, expected: int, nonce: str) -> int:
        """Ask once for a write, if the key's last sequence is the expected one; None deletes."""
        headers = {EXPECTED_SUBJECT_SEQUENCE: str(expected), NONCE: nonce}
        if value is None:
            headers |= {_OPERATION: "DEL", "Nats-TTL": _MARKER_TTL}
        return await self.connection.publish(f"$KV.{self.name}.{key}", value or b"", headers)

    async def read(self, key: str, at_least: int) -> Entry | None:
        """The newest message of a key, if it ever had one. Raises `Behind`."""
        # The format comes with it, since only an answer that has found something tells how new it is.
        subjects = [f"$KV.{self.name}.{each}" for each in {key, FORMAT_KEY}]
        messages, end = await self._direct({"multi_last": subjects, "batch": len(subjects)})
        if end[_STATUS] == _NOT_FOUND or int(end[_UP_TO]) < at_least:
            raise Behind(f"a replica of {self.stream} lags behind")
        return next((entry for entry in map(self.entry, messages) if entry.key == key), None)

    async def read_after(self, sequence: int, at_least: int) -> list[Entry]:
        """Some messages past a sequence, in order. Raises `Behind` when there are none up to `at_least`."""
        request = {
            "seq": sequence + 1,
            "next_by_subj": self.subjects,
            "batch": _BATCH_MAX,
            "max_bytes": _BATCH_BYTES_MAX,
        }
        messages, _ = await self._direct(request)
        if not messages and sequence < at_least:
            raise Behind(f"a replica of {self.stream} lags behind")
        return [self.entry(message) for message in messages]

    async def fill_end(self, last: int) -> None:
        """Write something if the message at the end of the stream has gone.

        Otherwise no reader of messages could ever tell that it has reached the end.
        """
        if await self.connection.message_at(self.stream, last) is None:
            entry = await self.read(FORMAT_KEY, last)
            if entry is not None:
                await self._write_format(entry.sequence)

    def entry(self, message: Msg) -> Entry:
        """What a message from a direct get or a consumer says."""
        headers = message.headers or {}
        is_deleted = headers.get(_OPERATION) in _DELETED or _MARKER_REASON in headers
        subject = headers.get(_SUBJECT) or message.subject
        sequence = headers.get(_SEQUENCE) or message.metadata.sequence.stream
        return Entry(
            subject.removeprefix(f"$KV.{self.name}."),
            None if is_deleted else message.data,
            int(sequence),
            headers.get(NONCE, ""),
            int(headers.get(EXPECTED_SUBJECT_SEQUENCE, -1)),
        )

    async def _direct(self, request: Mapping[str, object]) -> tuple[list[Msg], Mapping[str, Any]]:
        """Answers of a direct get, and the headers of the message that ends them."""
        subject = f"$JS.API.DIRECT.GET.{self.stream}"
        payload = json.dumps(request).encode()
        answer, is_ended = await self.connection.ask_many(subject, payload, _is_end, _ANSWER_S)
        if not is_ended:
            raise NoAnswer(f"no answer from {self.stream}")
        end = answer[-1].headers or {}
        if end[_STATUS] == _NO_RESPONDERS:
            raise NotDelivered(f"no replica of {self.stream} is there")
        if end[_STATUS] not in (_END_OF_BATCH, _NOT_FOUND):
            raise NoAnswer(f"{self.stream} has answered {end[_STATUS]}")
        if end[_STATUS] == _END_OF_BATCH and not _is_whole(answer):
            raise NoAnswer(f"a part of an answer from {self.stream} has got lost")
        return answer[:-1], end


def _is_end(message: Msg) -> bool:
    return _STATUS in (message.headers or {})


def _is_whole(answer: list[Msg]) -> bool:
    """Each message of an answer tells the sequence of the one before it.

    What is sent while the connection moves to another server gets lost.
    """
    before = 0
    for message in answer:
        headers = message.headers or {}
        if int(headers.get(_BEFORE, 0)) != before:
            return False
        before = int(headers.get(_SEQUENCE, 0))
    return True
