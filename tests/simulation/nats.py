"""NATS with JetStream as measurements have shown it: what is acknowledged stays, and little else is certain.

Each stream has a leader that orders what is published, and may be lost for seconds: then what was not yet
on a majority's disks is there afterwards, or not. A request may be lost, its answer too; it may come so late
that whoever sent it has long sent it again. Reads may be answered by who has not heard of everything: what
they find is there, what they do not find may be there all the same.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from waystation.log.nats import (
    EXPECTED_SEQUENCE,
    EXPECTED_SUBJECT_SEQUENCE,
    MESSAGE_NOT_FOUND,
    STREAM_NOT_FOUND,
    WRONG_LAST_SEQUENCE,
)

_CHANGE_ON_ITS_WAY = 10_164
LATE_S = (0.5, 6.0)
_ZOMBIE_S_MAX = 3.0
"""For how long, after an election, a leader of before still answers some reads."""
_HEARTBEAT_S = 3.0
"""More rarely than asked for, but before anybody takes it for silence."""
_MARKER = {"Nats-Marker-Reason": "MaxAge"}
_LAG_MAX = 3
"""Messages that a replica may not have heard of yet."""


@dataclass(kw_only=True)
class NatsWeather:
    """How the servers, and the ways to them, behave now."""

    delay_s: float = 0.0005
    """Each way, up to twice as long."""
    commit_s: float = 0.001
    """Until a majority has synced what the leader has ordered: up to twice as long."""
    lost: float = 0.0
    """Share of requests that never arrive, and of answers."""
    late: float = 0.0
    """Share of requests that arrive only after half a second to six."""
    lagging: float = 0.04
    """Share of reads, of any replica, that are answered by one that lags behind."""


class Message(NamedTuple):
    """As nats-py gives it to who has asked or subscribed."""

    data: bytes = b""
    headers: Mapping[str, str] | None = None
    subject: str = ""
    metadata: Any = None


class _Sequence(NamedTuple):
    stream: int
    consumer: int


class _Metadata(NamedTuple):
    sequence: _Sequence


class Stored(NamedTuple):
    subject: str
    data: bytes
    headers: Mapping[str, str]


@dataclass
class Proposal:
    """What the leader has ordered, and a majority does not have yet."""

    stored: Stored
    origin: object
    answer: Callable[[Message | None], None]


@dataclass
class Consumer:
    """Brings what is stored from now on to a subscription, in order."""

    filter: str
    deliver: Callable[[Message, float], bool]
    delivered: int = 0
    told_s: float = 0.0
    is_over: bool = False


@dataclass
class Stream:
    """One stream."""

    name: str
    is_newest_only: bool
    first: int = 1
    last: int = 0
    size_bytes: int = 0
    messages: dict[int, Stored] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)
    proposed: list[Proposal] = field(default_factory=list)
    committing_s: float = 0.0
    term: int = 0
    leaderless_until_s: float = 0.0
    zombie_until_s: float = 0.0
    zombie_last: int = 0
    zombie_share: float = 0.3
    """Of the reads that a leader of before still answers."""
    consumers: list[Consumer] = field(default_factory=list)
    expiry: dict[str, Any] = field(default_factory=dict)


class Nats:
    """All servers. `stored` is told of each message that is there from now on, and who has sent it."""

    def __init__(self, random: Random, stored: Callable[[Stream, int, bytes, object], None]) -> None:
        self.random = random
        self.weather = NatsWeather()
        self.streams: dict[str, Stream] = {}
        self._by_subject: dict[str, Stream] = {}
        self._stored = stored
        self.context = Context()
        self.elections = self.late = self.dropped = 0

    def create(self, name: str, subject: str, *, is_newest_only: bool) -> Stream:
        """Make a stream of a subject, or of all that begin so if it ends with `.`."""
        stream = self.streams[name] = Stream(name, is_newest_only)
        self._by_subject[subject] = stream
        return stream

    def stream_of(self, subject: str) -> Stream | None:
        """The stream that stores what is published to a subject."""
        if subject in self._by_subject:
            return self._by_subject[subject]
        found = (stream for prefix, stream in self._by_subject.items() if subject.startswith(prefix))
        return next(found, None)

    def chance(self, share: float) -> bool:
        return share > 0 and self.random.random() < share

    def delay_s(self) -> float:
        return self.weather.delay_s * 2 * self.random.random()

    # Requests

    def take(
        self,
        subject: str,
        payload: bytes,
        headers: Mapping[str, str],
        origin: object,
        answer: Callable[[Message | None], None],
    ) -> None:
        """A request has arrived. `answer` is called with None when nobody is there; or never."""
        loop = asyncio.get_running_loop()
        if subject.startswith("$JS.API.DIRECT.GET."):
            stream = self.streams[subject.rpartition(".")[2]]
            answer(self._direct(stream, json.loads(payload))[0])
        elif subject.startswith("$JS.API."):
            self._api(subject.removeprefix("$JS.API."), json.loads(payload or b"{}"), answer)
        elif (found := self.stream_of(subject)) is None:
            answer(None)
        elif found.leaderless_until_s > loop.time():
            dice = self.random.random()
            if dice < 0.5:
                answer(None)
            elif dice < 0.6:  # it was on its way to the leader that is coming, or comes back
                again_s = found.leaderless_until_s + self.delay_s()
                loop.call_at(
                    again_s, self.take, subject, payload, headers, origin, answer, context=self.context
                )
        else:
            self._publish(found, Stored(subject, payload, headers), origin, answer)

    def _publish(
        self, stream: Stream, stored: Stored, origin: object, answer: Callable[[Message | None], None]
    ) -> None:
        tail = stream.last + len(stream.proposed)
        expected = stored.headers.get(EXPECTED_SEQUENCE)
        if expected is not None and int(expected) != tail:
            answer(_refused(WRONG_LAST_SEQUENCE, f"wrong last sequence: {tail}"))
            return
        expected = stored.headers.get(EXPECTED_SUBJECT_SEQUENCE)
        if expected is not None:
            if any(each.stored.subject == stored.subject for each in stream.proposed):
                answer(_refused(_CHANGE_ON_ITS_WAY, "a change is on its way"))
                return
            newest = stream.newest.get(stored.subject, 0)
            if int(expected) != newest:
                answer(_refused(WRONG_LAST_SEQUENCE, f"wrong last sequence: {newest}"))
                return
        stream.proposed.append(Proposal(stored, origin, answer))
        loop = asyncio.get_running_loop()
        commit_s = loop.time() + self.weather.commit_s * 2 * self.random.random()
        stream.committing_s = max(stream.committing_s + 1e-6, commit_s)
        loop.call_at(stream.committing_s, self._commit, stream, stream.term, context=self.context)

    def _commit(self, stream: Stream, term: int) -> None:
        if term != stream.term:
            return  # its leader is gone
        proposal = stream.proposed.pop(0)
        self._store(stream, proposal.stored)
        self._stored(stream, stream.last, proposal.stored.data, proposal.origin)
        proposal.answer(Message(b'{"seq":%d}' % stream.last))

    def _store(self, stream: Stream, stored: Stored) -> None:
        stream.last += 1
        stream.messages[stream.last] = stored
        stream.size_bytes += len(stored.data)
        older = stream.newest.get(stored.subject)
        stream.newest[stored.subject] = stream.last
        if stream.is_newest_only and older is not None:
            self._remove(stream, older)
        self._expire_later(stream, stored)
        for consumer in stream.consumers:
            if stored.subject.startswith(consumer.filter):
                self._tell(consumer, stream.last, stored)

    def _remove(self, stream: Stream, sequence: int) -> None:
        stored = stream.messages.pop(sequence, None)
        if stored is not None:
            stream.size_bytes -= len(stored.data)
            if stream.newest.get(stored.subject) == sequence:
                del stream.newest[stored.subject]

    def _expire_later(self, stream: Stream, stored: Stored) -> None:
        timer = stream.expiry.pop(stored.subject, None)
        if timer is not None:
            timer.cancel()
        ttl = stored.headers.get("Nats-TTL", "")
        if ttl and stored.data:
            marker = Stored(stored.subject, b"", _MARKER)
            loop = asyncio.get_running_loop()
            stream.expiry[stored.subject] = loop.call_later(
                float(ttl.removesuffix("s")), self._store, stream, marker, context=self.context
            )

    # Elections

    def lose_leader(self, stream: Stream, for_s: float) -> None:
        """What was proposed is there when the next leader is, up to some point; the rest is not."""
        loop = asyncio.get_running_loop()
        if stream.leaderless_until_s > loop.time():
            return
        self.elections += 1
        stream.term += 1
        stream.leaderless_until_s = loop.time() + for_s
        stream.zombie_last = stream.last
        stream.zombie_until_s = stream.leaderless_until_s + _ZOMBIE_S_MAX * self.random.random()
        kept = self.random.randint(0, len(stream.proposed))
        self.dropped += len(stream.proposed) - kept
        del stream.proposed[kept:]
        for proposal in stream.proposed:
            proposal.answer = lambda _: None
            loop.call_at(stream.leaderless_until_s, self._commit, stream, stream.term, context=self.context)
        stream.committing_s = stream.leaderless_until_s
        for consumer in stream.consumers:
            consumer.is_over = True
        stream.consumers = []

    def _leader_knows(self, stream: Stream) -> int | None:
        """Up to which sequence whoever answers as the leader has heard; None when nobody does."""
        now_s = asyncio.get_running_loop().time()
        if stream.zombie_until_s > now_s and self.chance(stream.zombie_share):
            return stream.zombie_last
        return None if stream.leaderless_until_s > now_s else stream.last

    # Reading

    def _direct(self, stream: Stream, request: Mapping[str, Any]) -> list[Message]:
        """What some replica has of what is asked for, and how it ends."""
        known = stream.last
        if self.chance(self.weather.lagging):
            known = max(0, known - self.random.randint(1, _LAG_MAX))
        if "multi_last" in request:
            sequences = [stream.newest.get(subject, 0) for subject in request["multi_last"]]
        elif "last_by_subj" in request:
            sequences = [stream.newest.get(request["last_by_subj"], 0)]
        elif "batch" in request:
            start = max(int(request["seq"]), stream.first)
            sequences = [each for each in range(start, known + 1) if each in stream.messages]
            sequences = sequences[: int(request["batch"])]
            if len(sequences) > 1 and self.chance(0.1):  # as its limit of bytes would
                del sequences[self.random.randint(1, len(sequences)) :]
        else:
            sequences = [int(request["seq"])]
        found = [
            Message(
                stream.messages[each].data,
                {
                    **stream.messages[each].headers,
                    "Nats-Sequence": str(each),
                    "Nats-Subject": stream.messages[each].subject,
                },
            )
            for each in sequences
            if each <= known and each in stream.messages
        ]
        return [*found, Message(headers={"Status": "204" if found else "404"})]

    def direct_many(self, stream: str, request: Mapping[str, Any]) -> list[Message]:
        return self._direct(self.streams[stream], request)

    def _api(self, name: str, request: Mapping[str, Any], answer: Callable[[Message | None], None]) -> None:
        stream = self.streams.get(name.rpartition(".")[2])
        if stream is None:
            answer(_refused(STREAM_NOT_FOUND, "stream not found"))
            return
        known = self._leader_knows(stream)
        if known is None:
            if self.chance(0.5):
                answer(None)
        elif name.startswith("STREAM.MSG.GET"):
            wanted = request.get("seq") or stream.newest.get(request.get("last_by_subj", ""), 0)
            answer(_stored_message(stream, wanted if wanted <= known else 0))
        elif name.startswith("STREAM.INFO"):
            answer(Message(json.dumps(_information(stream, known, request)).encode()))
        elif name.startswith("STREAM.PURGE"):
            self._purge(stream, request)
            answer(Message(b'{"success":true}'))
        elif name.startswith("CONSUMER.CREATE"):
            # Of whom it is, the connection knows.
            answer(Message(b"{}"))

    def _purge(self, stream: Stream, request: Mapping[str, Any]) -> None:
        if "filter" in request:
            prefix = request["filter"].removesuffix("*")
            gone = [at for at, stored in stream.messages.items() if stored.subject.startswith(prefix)]
        else:
            gone = list(range(stream.first, min(int(request["seq"]), stream.last + 1)))
            stream.first = max(stream.first, min(int(request["seq"]), stream.last + 1))
        for sequence in gone:
            self._remove(stream, sequence)

    # Watching

    def consume(self, stream: Stream, consumer: Consumer) -> None:
        """Tell it the newest message of each subject, then all that come."""
        if stream.leaderless_until_s > asyncio.get_running_loop().time():
            return
        stream.consumers.append(consumer)
        for sequence in sorted(stream.newest.values()):
            stored = stream.messages[sequence]
            if stored.subject.startswith(consumer.filter):
                self._tell(consumer, sequence, stored)
        self._beat(stream, consumer)

    def _tell(self, consumer: Consumer, sequence: int, stored: Stored) -> None:
        consumer.delivered += 1
        numbers = _Metadata(_Sequence(sequence, consumer.delivered))
        self._send(consumer, Message(stored.data, stored.headers, stored.subject, numbers))

    def _send(self, consumer: Consumer, message: Message) -> None:
        now_s = asyncio.get_running_loop().time()
        consumer.told_s = max(consumer.told_s + 1e-6, now_s + self.delay_s())
        if not consumer.deliver(message, consumer.told_s):
            consumer.is_over = True

    def _beat(self, stream: Stream, consumer: Consumer) -> None:
        if consumer.is_over:
            if consumer in stream.consumers:
                stream.consumers.remove(consumer)
            return
        self._send(consumer, Message(headers={"Status": "100"}))
        asyncio.get_running_loop().call_later(
            _HEARTBEAT_S, self._beat, stream, consumer, context=self.context
        )


def _refused(code: int, text: str) -> Message:
    return Message(json.dumps({"error": {"err_code": code, "description": text}}).encode())


def _stored_message(stream: Stream, sequence: int) -> Message:
    stored = stream.messages.get(sequence)
    if stored is None:
        return _refused(MESSAGE_NOT_FOUND, "no message found")
    headers = "NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in stored.headers.items())
    found = {
        "seq": sequence,
        "subject": stored.subject,
        "data": b64encode(stored.data).decode(),
        "hdrs": b64encode(headers.encode()).decode(),
    }
    return Message(json.dumps({"message": found}).encode())


def _information(stream: Stream, known: int, request: Mapping[str, Any]) -> dict[str, Any]:
    prefix = request.get("subjects_filter", "").removesuffix(">")
    state: dict[str, Any] = {
        "first_seq": stream.first,
        "last_seq": known,
        "messages": known + 1 - stream.first,
        "bytes": stream.size_bytes,
    }
    if prefix:
        state["subjects"] = {
            subject: 1 for subject, at in stream.newest.items() if at <= known and subject.startswith(prefix)
        }
    return {
        "config": {"name": stream.name, "storage": "file", "retention": "limits", "discard": "new"},
        "state": state,
        "cluster": {"leader": "n1", "replicas": []},
    }
