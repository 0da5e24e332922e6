"""The one connection of a process to its NATS cluster, and the ways in which a request to it fails.

nats-py speaks the protocol; this adds what every user of JetStream here needs: answers
whose errors are told apart by what may have been done, reads that only the leader of a stream
answers, and a change of server when the one we are connected to is cut off from the others.

Source: NATS documentation, JetStream wire API reference.
"""

from __future__ import annotations

import asyncio
import json
import logging
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from secrets import SystemRandom
from typing import Any, NamedTuple, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error, NoRespondersError

from waystation.log.errors import LogUnavailable
from waystation.log.nats_room import StorageRoom, is_nearly_full
from waystation.log.settings import NatsSettings

EXPECTED_STREAM = "Nats-Expected-Stream"
EXPECTED_SEQUENCE = "Nats-Expected-Last-Sequence"
EXPECTED_SUBJECT_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"

WRONG_LAST_SEQUENCE = 10_071
"""The leader's last sequence is another than the expected one. `CONFLICTS` has all that mean this."""
CONFLICTS = frozenset({WRONG_LAST_SEQUENCE, 10_164})
"""The second: a change that is still on its way to the disks of a majority stands in between."""
STREAM_NOT_FOUND = 10_059
MESSAGE_NOT_FOUND = 10_037
SERVERS_SUBJECT = "$SYS.REQ.SERVER.PING.VARZ"
STREAM_EXISTS = 10_058
"""A stream of that name with another configuration."""

_ANSWER_S = 1.0
_CREATE_S = 5.0
_CONNECT_S = 2.0
_OPEN_S = 5.0
"""For all servers together: whoever starts a node wants to hear soon that none is there."""
_SILENT_S_MAX = 3.0
"""Without an answer, before another server is tried. Many may ask for that at once: it is done once."""
_RECONNECT_WAIT_S = 0.2
_FIRST_DELAY_S = 0.05
_DELAY_S_MAX = 0.5
_NO_RESPONDERS = "503"
_PING_S = 2
_PINGS_LOST_MAX = 2

_logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class NatsFailure(Exception):
    """A request to NATS has failed."""


class NotDelivered(NatsFailure):
    """Nobody was there to take the request: it was not done, though earlier copies of it may be."""


class NoAnswer(NatsFailure):
    """No answer came in time. The request may have been done, or may still be, later."""


class ApiFailure(NatsFailure):
    """JetStream has refused the request: `code` is its error number, such as `WRONG_LAST_SEQUENCE`."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code
        self.description = description


class StreamMessage(NamedTuple):
    """A stored message. `headers` are as written; of a header that occurs twice the last counts."""

    sequence: int
    subject: str
    data: bytes
    headers: Mapping[str, str]


class NatsConnection:
    """Lifecycle: build it (no I/O), `open`, use, `close`. It connects again by itself, for ever."""

    def __init__(self, settings: NatsSettings) -> None:
        self._settings = settings
        self._client = Client()
        self._is_open = False
        self._changed_s = 0.0
        self._reopening: asyncio.Task[None] | None = None
        self.room = StorageRoom(self._is_nearly_full)
        """Whether the servers have room for more; one for all who use this connection."""

    async def open(self) -> None:
        """Connect to one of the servers. Raises `LogUnavailable` when none can be reached in 5 s."""
        self._client = await self._connect()
        self._is_open = True

    async def _connect(self) -> Client:
        settings = self._settings
        servers = settings.servers.split(",")
        # Here and not by nats-py, which would do so at each reconnection, and find the same server again.
        SystemRandom().shuffle(servers)
        options: dict[str, Any] = {
            "name": "waystation",
            "dont_randomize": True,
            "connect_timeout": _CONNECT_S,
            "allow_reconnect": True,
            "reconnect_time_wait": _RECONNECT_WAIT_S,
            "max_reconnect_attempts": -1,
            "ping_interval": _PING_S,
            "max_outstanding_pings": _PINGS_LOST_MAX,
            "error_cb": _note_error,
            "disconnected_cb": self._note_disconnected,
            "reconnected_cb": self._note_reconnected,
            "closed_cb": self._note_closed,
        }
        client = _Client()
        try:
            if settings.nkey_file is not None:
                options["nkeys_seed"] = str(settings.nkey_file)
            async with asyncio.timeout(_OPEN_S):
                await client.connect(servers, tls=settings.tls_context(), **options)
        except (TimeoutError, Error, OSError, ValueError) as error:
            cause = client.last_error or error
            with suppress(Error, OSError):
                await client.close()
            reason = str(cause) or type(cause).__name__
            raise LogUnavailable(f"No NATS server at {settings.servers} can be used: {reason}") from error
        return client

    async def _note_disconnected(self) -> None:
        if self._is_open:
            _logger.warning("disconnected from NATS")

    async def close(self) -> None:
        """Disconnect. Requests that wait for an answer end with `NoAnswer`."""
        self._is_open = False
        self.room.stop()
        if self._reopening is not None:
            self._reopening.cancel()
            await asyncio.gather(self._reopening, return_exceptions=True)
        if self._client.is_connected or self._client.is_reconnecting:
            await self._client.close()

    async def _note_reconnected(self) -> None:
        self._changed_s = asyncio.get_running_loop().time()

    async def _note_closed(self) -> None:
        """nats-py gives up after some errors, such as too many connections. We do not."""
        if self._is_open and (self._reopening is None or self._reopening.done()):
            self._reopening = asyncio.create_task(self._reopen())

    async def _reopen(self) -> None:
        _logger.error("NATS has closed the connection", extra={"reason": str(self._client.last_error)})
        while True:
            try:
                self._client = await self._connect()
            except LogUnavailable as error:
                _logger.warning("NATS cannot be reached", extra={"reason": str(error)})
                await asyncio.sleep(_RECONNECT_WAIT_S)
            else:
                return

    @property
    def client(self) -> Client:
        """For subscriptions."""
        return self._client

    @property
    def payload_bytes_max(self) -> int:
        """What the server takes in one message."""
        return self._client.max_payload

    async def change_server(self) -> None:
        """Connect to another server: this one may be on the wrong side of a partition.

        It stays connected to us and simply answers nothing, so that nothing else would notice.
        Does nothing when it is new already, for three seconds at most.
        """
        now_s = asyncio.get_running_loop().time()
        if now_s < self._changed_s + _SILENT_S_MAX or not self._client.is_connected:
            return
        self._changed_s = now_s
        _logger.warning("changing to another NATS server", extra={"server": self._server()})
        await self._client.force_reconnect()

    def _server(self) -> str:
        url = self._client.connected_url
        return url.netloc if url is not None else ""

    # Requests

    async def ask(
        self,
        subject: str,
        payload: bytes = b"",
        headers: dict[str, Any] | None = None,
        timeout_s: float = _ANSWER_S,
    ) -> Msg:
        """Send a request and wait for its answer. Raises `NotDelivered` or `NoAnswer`."""
        self._require_connection()
        return await obedient(self._request(subject, payload, headers, timeout_s))

    async def _request(
        self, subject: str, payload: bytes, headers: dict[str, Any] | None, timeout_s: float
    ) -> Msg:
        try:
            # nats-py's own timeout begins when all is written, which a server that is stuck prevents.
            async with asyncio.timeout(timeout_s):
                return await self._client.request(subject, payload, timeout=timeout_s, headers=headers)
        except NoRespondersError as error:
            raise NotDelivered(f"nobody answers to {subject}") from error
        except (TimeoutError, Error, OSError) as error:
            raise NoAnswer(f"no answer to {subject}: {type(error).__name__}") from error

    async def ask_many(
        self, subject: str, payload: bytes, is_last: Callable[[Msg], bool], timeout_s: float = _ANSWER_S
    ) -> tuple[list[Msg], bool]:
        """Send a request that has many answers, and collect them up to one that `is_last`.

        Returns:
            All answers, in the order in which they came, and whether the last is among them: if not,
            the time was over. Of a request that nobody takes there is one, without data, of status 503.

        Raises:
            NatsFailure: not sent, or the connection was lost.
        """
        self._require_connection()
        client = self._client
        answers: list[Msg] = []
        ended = asyncio.Event()

        async def take(answer: Msg) -> None:
            answers.append(answer)
            if status_of(answer) == _NO_RESPONDERS or is_last(answer):
                ended.set()

        inbox = client.new_inbox()
        try:
            subscription = await client.subscribe(inbox, cb=take)
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s):
                        await client.publish(subject, payload, reply=inbox)
                        await ended.wait()
            finally:
                with suppress(Error):  # the connection has gone, and the subscription with it
                    await subscription.unsubscribe()
        except (Error, OSError) as error:
            raise NoAnswer(f"no answer to {subject}: {type(error).__name__}") from error
        return answers, ended.is_set()

    def _require_connection(self) -> None:
        # nats-py would keep the request and send it when connected again, after we have given it up.
        if not self._client.is_connected:
            raise NotDelivered("not connected to any NATS server")

    async def api(
        self, name: str, request: Mapping[str, object] | None = None, timeout_s: float = _ANSWER_S
    ) -> dict[str, Any]:
        """Ask the JetStream API, such as `STREAM.INFO.orders`. Also raises `ApiFailure`."""
        payload = b"" if request is None else json.dumps(request).encode()
        return _checked((await self.ask(f"$JS.API.{name}", payload, timeout_s=timeout_s)).data)

    async def create_stream(self, configuration: Mapping[str, object]) -> None:
        """Create a stream, unless one of its name is there: that keeps the settings that somebody has chosen.

        Raises as `api` does.
        """
        try:
            await self.api(f"STREAM.CREATE.{configuration['name']}", configuration, timeout_s=_CREATE_S)
        except ApiFailure as failure:
            if failure.code != STREAM_EXISTS:
                raise

    async def servers(self) -> list[dict[str, Any]]:
        """What each server of the cluster says of itself. Raises `NatsFailure`.

        Empty if we may not ask: their system account has to export `SERVERS_SUBJECT` to ours.

        Source: NATS documentation, monitoring, `/varz`; system events, `SERVER.PING`.
        """
        found: list[dict[str, Any]] = []

        def is_last(answer: Msg) -> bool:
            found.append(json.loads(answer.data)["data"])
            cluster = found[-1].get("jetstream", {}).get("meta", {})
            return len(found) >= int(cluster.get("cluster_size", 1))

        await self.ask_many(SERVERS_SUBJECT, b"", is_last)
        return found

    async def _is_nearly_full(self) -> bool | None:
        try:
            account, servers = await self.api("INFO"), await self.servers()
        except NatsFailure as failure:
            _logger.warning("room on the NATS servers is not known", extra={"reason": str(failure)})
            return None
        return is_nearly_full(account, servers, self._settings.reserve_bytes)

    async def publish(
        self, subject: str, payload: bytes, headers: dict[str, Any], timeout_s: float = _ANSWER_S
    ) -> int:
        """Append to the stream of a subject; returns the sequence. Also raises `ApiFailure`."""
        answer = _checked((await self.ask(subject, payload, headers, timeout_s)).data)
        return int(answer["seq"])

    # Reads that only the leader of a stream answers. What they find is there; what they do not find
    # may be there all the same, when the leader has just come back from a pause.

    async def message_at(self, stream: str, sequence: int) -> StreamMessage | None:
        """The message at a sequence. Raises as `api` does."""
        return await self._message(stream, {"seq": sequence})

    async def last_message(self, stream: str, subject: str) -> StreamMessage | None:
        """The newest message of a subject. Raises as `api` does."""
        return await self._message(stream, {"last_by_subj": subject})

    async def _message(self, stream: str, request: Mapping[str, object]) -> StreamMessage | None:
        try:
            answer = await self.api(f"STREAM.MSG.GET.{stream}", request)
        except ApiFailure as failure:
            if failure.code == MESSAGE_NOT_FOUND:
                return None
            raise
        found = answer["message"]
        return StreamMessage(
            int(found["seq"]),
            str(found["subject"]),
            b64decode(found.get("data", "")),
            _headers(b64decode(found.get("hdrs", ""))),
        )


async def obedient(work: Awaitable[Answer]) -> Answer:
    """Wait for something of nats-py, and end when told to.

    It waits with `asyncio.wait_for`, which before Python 3.12 forgets that it was cancelled
    when the answer comes in the same moment; whoever cancelled would then wait for ever.
    """
    task = asyncio.current_task()
    assert task is not None, "deadlines need a task"
    before = task.cancelling()
    try:
        return await work
    finally:
        if task.cancelling() > before:
            raise asyncio.CancelledError


class _Client(Client):
    """Leaves a server at once, also one that does not read what is on its way to it."""

    async def _attempt_reconnect(self) -> None:
        # nats-py would first wait until all that was written has been sent: to a server that is
        # stuck, or cut off from us, for ever.
        self._abandon()
        await super()._attempt_reconnect()

    async def _connect_to_server(self, s: Any) -> None:
        self._abandon()  # nats-py forgets to close what it could not complete
        await super()._connect_to_server(s)

    def _abandon(self) -> None:
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()


class Retries:
    """How one thing is tried again until it is done: how soon, for how long, and at which server."""

    def __init__(self, connection: NatsConnection, deadline_s: float, doing: str) -> None:
        """`doing` begins the message of the error at the end, such as `The log cannot be opened`."""
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._doing = doing
        self._heard_s = self._loop.time()
        self._until_s = self._heard_s + deadline_s
        self._delay_s = _FIRST_DELAY_S

    async def after(self, failure: NatsFailure) -> None:
        """Wait before the next attempt. Raises `LogUnavailable` when there is no time for one."""
        now_s = self._loop.time()
        if now_s >= self._until_s:
            raise LogUnavailable(f"{self._doing}: {failure}.") from failure
        if isinstance(failure, ApiFailure):
            self._heard_s = now_s
        elif now_s - self._heard_s >= _SILENT_S_MAX:
            self._heard_s = now_s
            await self._connection.change_server()
        await asyncio.sleep(self._delay_s)
        self._delay_s = min(2 * self._delay_s, _DELAY_S_MAX)


def status_of(answer: Msg) -> str:
    """The status of an answer that has no data to give; empty for one that has."""
    return str((answer.headers or {}).get("Status", ""))


def _checked(answer: bytes) -> dict[str, Any]:
    try:
        decoded = json.loads(answer)
    except ValueError as error:
        raise NoAnswer(f"an answer that is not JSON: {answer[:80]!r}") from error
    refused = decoded.get("error")
    if refused is not None:
        raise ApiFailure(int(refused.get("err_code", 0)), str(refused.get("description", "")))
    return dict(decoded)


def _headers(block: bytes) -> dict[str, str]:
    """Headers as NATS stores them: `NATS/1.0`, then a line for each."""
    lines = block.decode(errors="replace").split("\r\n")[1:]
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}


async def _note_error(error: Exception) -> None:
    _logger.warning("NATS error", extra={"reason": str(error) or type(error).__name__})
