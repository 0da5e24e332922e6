"""The key-value bucket of the cluster, and a copy of it in the memory of each node.

Leases, owners of shards and the facts of the cluster are small values under keys. All of them
fit into memory, and nobody has to ask for them: a watch brings each change within milliseconds,
and polls of the stream's leader find what a watch has missed, or that it has fallen silent.

What always holds: of two writers who have seen the same revision of a key, only the first
succeeds; the copy of a key never goes back to an older revision.

It does without the key-value class of nats-py, whose updates lose the time to live. A bucket is
a stream that keeps the newest message of each subject; a revision is that message's sequence.

Source: NATS documentation, JetStream wire API reference; ADR-8 (key-value), ADR-43 (message TTL).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple, NoReturn

from nats.aio.msg import Msg
from nats.errors import Error

from waystation.log.nats import (
    CONFLICTS,
    EXPECTED_STREAM,
    EXPECTED_SUBJECT_SEQUENCE,
    STREAM_NOT_FOUND,
    ApiFailure,
    NatsConnection,
    NatsFailure,
    NoAnswer,
    NotDelivered,
)
from waystation.metadata.store import Conflict, MetadataUnavailable

_OPERATION = "KV-Operation"
_MARKER_REASON = "Nats-Marker-Reason"
_TTL = "Nats-TTL"
_STATUS = "Status"

_MARKER_S = 600
"""How long the bucket remembers that a key is gone: far longer than watches and polls take to hear of it."""
_VALUE_BYTES_MAX = 65_536
_RETRY_S = 0.05
_CHANGE_SERVER_S = 10.0
"""A server that cannot bring answers of the bucket for so long may be on the wrong side of a partition. An
election takes 4 to 9 s, and changing servers meanwhile would only disturb those who append."""
_HEARTBEAT_S = 1.0
_SILENT_S = 3.5
"""Without a heartbeat for so long a watch is made anew: its server may have died with it."""
_POLL_AGAIN_S = 0.5
_MESSAGES_MAX = 256
"""Of the watch, that wait to be noted. More wait in nats-py, and what that drops is missed by its number."""

_CONSUMER = {
    "deliver_policy": "last_per_subject",
    "ack_policy": "none",
    "max_deliver": 1,
    "idle_heartbeat": int(_HEARTBEAT_S * 1_000_000_000),
    "inactive_threshold": 5_000_000_000,
    "num_replicas": 1,
    "mem_storage": True,
}

_logger = logging.getLogger(__name__)


class NoCluster(MetadataUnavailable):
    """There is no cluster on these servers, or none that this program can be in; waiting changes nothing."""


class Entry(NamedTuple):
    """What a key has had since `revision`. `value` is None when it has none."""

    value: bytes | None
    revision: int
    """0 if nothing is known of the key: what a writer then has to expect."""
    seen_s: float
    """When this process saw that revision first, by its event loop's clock."""


class ClusterBucket:
    """Reads, writes, and the copy of the bucket.

    Lifecycle: build it (no I/O), `load` once, then `run` as a task, which is cancelled to stop.
    """

    def __init__(self, connection: NatsConnection, prefix: str, poll_s: float = 2.0) -> None:
        self._connection = connection
        self._name = f"{prefix}-cluster"
        self._stream = f"KV_{self._name}"
        self._subject = f"$KV.{self._name}."
        self._poll_s = poll_s
        self._copy: dict[str, Entry] = {}
        self._complete_to = 0
        """The copy has seen whatever was written up to that sequence."""
        self._listeners: list[Callable[[str], None]] = []
        self.answered_s = float("-inf")
        """When the bucket answered last, by the event loop's clock."""
        self.reached_s = float("-inf")
        """When any NATS server did."""

    # The copy

    def entry(self, key: str) -> Entry:
        """What is known of a key."""
        return self._copy.get(key, Entry(None, 0, float("-inf")))

    def keys(self, prefix: str) -> list[str]:
        """All keys known that begin so, also those that have no value any more."""
        return [key for key in self._copy if key.startswith(prefix)]

    def listen(self, listener: Callable[[str], None]) -> None:
        """Have `listener` called with each key whose copy has changed; it must not block or raise."""
        self._listeners.append(listener)

    def forget(self, key: str) -> None:
        """Drop what is known of a key that has no value."""
        if self.entry(key).value is None:
            self._copy.pop(key, None)

    def _note(self, key: str, value: bytes | None, revision: int) -> None:
        if revision <= self.entry(key).revision:
            return
        self._copy[key] = Entry(value, revision, asyncio.get_running_loop().time())
        for listener in self._listeners:
            listener(key)

    # Requests

    async def create(self, replicas: int) -> None:
        """Create the bucket, unless there is one. Raises `MetadataUnavailable`."""
        configuration = {
            "name": self._stream,
            "subjects": [f"{self._subject}>"],
            "storage": "file",
            "num_replicas": replicas,
            "retention": "limits",
            "discard": "new",
            "max_msgs_per_subject": 1,
            "max_msg_size": _VALUE_BYTES_MAX,
            "allow_direct": True,
            "deny_delete": True,
            "allow_msg_ttl": True,
            # Without it a lease that runs out would vanish without a trace that a watch could see.
            "subject_delete_marker_ttl": _MARKER_S * 1_000_000_000,
        }
        try:
            await self._connection.create_stream(configuration)
        except NatsFailure as failure:
            self._fail(failure)

    async def read(self, key: str) -> Entry:
        """What the leader has for a key; the copy knows it then, too. Raises `MetadataUnavailable`."""
        try:
            message = await self._connection.last_message(self._stream, self._subject + key)
        except NatsFailure as failure:
            self._fail(failure)
        self._hear()
        if message is None:
            return Entry(None, 0, asyncio.get_running_loop().time())
        self._note(key, _value(message.data, message.headers), message.sequence)
        return self.entry(key)

    async def write(
        self, key: str, value: bytes | None, expected: int, ttl_s: int | None = None, deadline_s: float = 3.0
    ) -> int:
        """Write durably, if the key has the expected revision; 0 expects that it has none.

        Args:
            value: None deletes. Two writers never write the same value: it is how each knows its own again.
            ttl_s: whole seconds after which the value goes by itself; each write of a key says it anew.
            deadline_s: for all tries together.

        Returns the new revision. Raises `Conflict`, or `MetadataUnavailable`: it may have happened or not.
        """
        headers = {EXPECTED_STREAM: self._stream, EXPECTED_SUBJECT_SEQUENCE: str(expected)}
        if value is None:
            headers |= {_OPERATION: "DEL", _TTL: f"{_MARKER_S}s"}
        elif ttl_s is not None:
            headers[_TTL] = f"{ttl_s}s"
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + deadline_s
        while True:
            try:
                revision = await self._connection.publish(self._subject + key, value or b"", headers)
            except NatsFailure as failure:
                if isinstance(failure, ApiFailure) and failure.code in CONFLICTS:
                    found = await self.read(key)
                    if found.revision > expected and found.value == value:
                        return found.revision  # an earlier copy of this very write
                    if found.revision != expected:
                        raise Conflict(key) from failure
                if loop.time() >= give_up_s:
                    self._fail(failure)
                await asyncio.sleep(_RETRY_S)
                continue
            self._hear()
            self._note(key, value, revision)
            return revision

    async def reach(self) -> None:
        """Ask the server that we are connected to whether it is there; the bucket may have no leader."""
        # Not by a ping: when a pong comes late, after its timeout, nats-py breaks the connection.
        try:
            await self._connection.ask(self._connection.client.new_inbox())
        except NotDelivered:  # as the server says of a subject that nobody listens to
            self.reached_s = asyncio.get_running_loop().time()
        except NoAnswer:
            return

    def _hear(self) -> None:
        self.answered_s = self.reached_s = asyncio.get_running_loop().time()

    def _fail(self, failure: NatsFailure) -> NoReturn:
        if isinstance(failure, ApiFailure | NotDelivered):
            self.reached_s = asyncio.get_running_loop().time()
        if isinstance(failure, ApiFailure) and failure.code == STREAM_NOT_FOUND:
            raise NoCluster(
                f"The NATS servers have no bucket {self._name}: `waystation cluster init` makes it."
            ) from failure
        raise MetadataUnavailable(f"The bucket {self._name} cannot be used now: {failure}") from failure

    # Keeping the copy fresh

    async def load(self) -> None:
        """Read all of it from the stream's leader, if anything is new. Raises `MetadataUnavailable`."""
        request = {"subjects_filter": f"{self._subject}>"}
        try:
            answer = await self._connection.api(f"STREAM.INFO.{self._stream}", request)
        except NatsFailure as failure:
            self._fail(failure)
        self._hear()
        state = answer["state"]
        last, subjects = int(state["last_seq"]), state.get("subjects") or {}
        if last <= self._complete_to:
            return
        keys = {str(subject).removeprefix(self._subject): None for subject in subjects}  # in this order
        for key in keys:
            await self.read(key)
        for key in list(self._copy):
            # Not even a marker is left. What has been written since has a later revision.
            if key not in keys and self.entry(key).value is not None and self.entry(key).revision <= last:
                self._note(key, None, last)
        self._complete_to = max(self._complete_to, last)

    async def run(self) -> None:
        """Keep the copy fresh until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._poll())
            tasks.create_task(self._watch())

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        changed_s = loop.time()
        while True:
            try:
                await self.load()
                await asyncio.sleep(self._poll_s)
            except MetadataUnavailable:
                if loop.time() - max(self.answered_s, changed_s) > _CHANGE_SERVER_S:
                    changed_s = loop.time()
                    with suppress(TimeoutError, Error, OSError):
                        await self._connection.change_server()
                await asyncio.sleep(_POLL_AGAIN_S)

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError, Error, OSError, NatsFailure):
                await self._watch_once()
            await asyncio.sleep(_POLL_AGAIN_S)

    async def _watch_once(self) -> None:
        """Note what a consumer delivers, as long as it does. Raises when it does not."""
        client = self._connection.client
        inbox = client.new_inbox()
        messages: asyncio.Queue[Msg] = asyncio.Queue(_MESSAGES_MAX)
        subscription = await client.subscribe(inbox, cb=messages.put)
        try:
            configuration = _CONSUMER | {"filter_subject": f"{self._subject}>", "deliver_subject": inbox}
            request = {"stream_name": self._stream, "config": configuration}
            await self._connection.api(f"CONSUMER.CREATE.{self._stream}", request)
            delivered = 0
            while True:
                async with asyncio.timeout(_SILENT_S):
                    message = await messages.get()
                if _STATUS in (message.headers or {}):
                    continue  # a heartbeat
                if message.metadata.sequence.consumer != delivered + 1:
                    return  # one has got lost
                delivered += 1
                self._take(message)
        finally:
            with suppress(Error):  # the connection has gone, and the subscription with it
                await subscription.unsubscribe()

    def _take(self, message: Msg) -> None:
        sequence = message.metadata.sequence.stream
        key = message.subject.removeprefix(self._subject)
        self._note(key, _value(message.data, message.headers or {}), sequence)
        self._complete_to = max(self._complete_to, sequence)


def _value(data: bytes, headers: Mapping[str, str]) -> bytes | None:
    """None for a marker, which says that the key was deleted or has run out."""
    return None if not data or _OPERATION in headers or _MARKER_REASON in headers else data
