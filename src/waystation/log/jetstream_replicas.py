"""Reading what a stream holds, from whichever of its replicas has it whole.

A replica whose disk has lost something does not notice: it answers with what is left, and may be
elected leader. So nothing is taken here that its reader has not verified, and what does not verify
is looked for at the other replicas: first by asking again, as each request is answered by any one of
them; then at the leader; then by having each of the others lead. Only then is it lost.

Source: NATS documentation, JetStream wire API reference; ADR-31 (direct get).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Generic, TypeVar

from nats.aio.msg import Msg

from waystation.log.errors import LogDamaged, LogUnavailable
from waystation.log.nats import (
    ApiFailure,
    NatsConnection,
    NatsFailure,
    NotDelivered,
    Retries,
    StreamMessage,
    status_of,
)

_ASKED_AGAIN = 4
"""Requests that any replica answers, before the leader is asked. One replica in three may be damaged,
and one that lags behind has caught up by then."""
_PAUSE_S = 0.02
_BATCH_ANSWER_S = 3.0
_LEADER_S = 5.0
"""For a replica to lead once it was told to."""

_logger = logging.getLogger(__name__)
Found = TypeVar("Found")


class Replicas:
    """The replicas of one stream.

    Args:
        deadline_s: for one read to be answered at all. Then it raises `LogUnavailable`.
    """

    def __init__(self, connection: NatsConnection, stream: str, deadline_s: float) -> None:
        self._connection = connection
        self._stream = stream
        self._deadline_s = deadline_s

    async def batch(self, request: Mapping[str, object]) -> list[StreamMessage]:
        """What some replica has of what is asked for, perhaps not all.

        Raises `NatsFailure`, and then it is as if nothing had been found.
        """
        messages, _ = await self._connection.ask_many(
            f"$JS.API.DIRECT.GET.{self._stream}", json.dumps(request).encode(), _is_end, _BATCH_ANSWER_S
        )
        if messages and status_of(messages[-1]) == "503":
            raise NotDelivered(f"no replica of {self._stream} is there")
        return [_direct(message) for message in messages if not status_of(message)]

    async def one(self, request: Mapping[str, object]) -> StreamMessage | None:
        """The same for one message, in one round trip."""
        payload = json.dumps(request).encode()
        answer = await self._connection.ask(f"$JS.API.DIRECT.GET.{self._stream}", payload)
        return None if status_of(answer) else _direct(answer)

    async def find(
        self,
        request: Mapping[str, object],
        verify: Callable[[StreamMessage], Found],
        is_gone: Callable[[], bool] = lambda: False,
    ) -> Found | None:
        """One message, from any replica that has it.

        Args:
            verify: raises `LogDamaged` for one that is not what was written.
            is_gone: whether it need not be looked for any more.

        Returns:
            What `verify` has made of it; None when no replica has it.

        Raises:
            LogDamaged: replicas have it, and none as it was written.
            LogUnavailable: the leader has not answered in time, or a replica that may have it is away.
        """
        search = _Search(self, verify, is_gone)
        retries = self._retries()
        if await self._ask_any(request, search, retries):
            return search.found
        asked: set[str] = set()
        while True:
            try:
                leader, others, away = await self._leader()
                if search.is_over(await self.leaders(request), leader):
                    return search.found
                asked.add(leader)
                others = [name for name in others if name not in asked]
                if not others:
                    break
                asked.add(others[0])  # also when it cannot lead: this has to end
                _logger.error(
                    "leader of a stream does not have what was stored in it",
                    extra={"stream": self._stream, "server": leader, "request": str(request)},
                )
                await self._let_lead(others[0])
            except NatsFailure as failure:
                await retries.after(failure)
        if away:
            raise LogUnavailable(f"Stream {self._stream} lacks a message that {', '.join(away)} may have.")
        if search.damage is not None:
            raise search.damage
        return None

    async def find_at_any(
        self, request: Mapping[str, object], verify: Callable[[StreamMessage], Found]
    ) -> Found | None:
        """The same, if one of the replicas that happen to be asked has it. Raises `LogUnavailable`."""
        search = _Search(self, verify, lambda: False)
        await self._ask_any(request, search, self._retries())
        return search.found

    async def _ask_any(self, request: Mapping[str, object], search: _Search[Found], retries: Retries) -> bool:
        """Whether the search is over."""
        for _ in range(_ASKED_AGAIN):
            try:
                if search.is_over(await self.one(request), "any"):
                    return True
            except NatsFailure as failure:
                await retries.after(failure)
            else:
                await asyncio.sleep(_PAUSE_S)
        return False

    def _retries(self) -> Retries:
        return Retries(self._connection, self._deadline_s, f"Stream {self._stream} cannot be read")

    async def leaders(self, request: Mapping[str, object]) -> StreamMessage | None:
        """What the leader has. Raises `NatsFailure`."""
        if "seq" in request:
            return await self._connection.message_at(self._stream, int(str(request["seq"])))
        return await self._connection.last_message(self._stream, str(request["last_by_subj"]))

    async def _leader(self) -> tuple[str, list[str], list[str]]:
        """The names of the leader, of the other replicas, and of those that are away."""
        information = await self._connection.api(f"STREAM.INFO.{self._stream}")
        cluster: dict[str, Any] = information.get("cluster", {})
        others: list[str] = []
        away: list[str] = []
        for replica in cluster.get("replicas", []):
            (away if replica.get("offline", False) else others).append(str(replica["name"]))
        return str(cluster.get("leader", "")), others, away

    async def _let_lead(self, name: str) -> None:
        placement = {"placement": {"preferred": name}}
        try:
            await self._connection.api(f"STREAM.LEADER.STEPDOWN.{self._stream}", placement)
        except ApiFailure as failure:
            _logger.warning(
                "leader does not step down", extra={"stream": self._stream, "reason": failure.description}
            )
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_LEADER_S):
                while (await self._leader())[0] != name:  # noqa: ASYNC110 (of another process)
                    await asyncio.sleep(_PAUSE_S)

    def note_damage(self, damage: LogDamaged, server: str = "any") -> None:
        """Tell operators that a replica holds something else than what was written."""
        _logger.error(
            "a replica of a stream is damaged",
            extra={"stream": self._stream, "server": server, "reason": str(damage)},
        )


class _Search(Generic[Found]):
    """What has come of looking for one message."""

    def __init__(
        self, replicas: Replicas, verify: Callable[[StreamMessage], Found], is_gone: Callable[[], bool]
    ) -> None:
        self._replicas = replicas
        self._verify = verify
        self._is_gone = is_gone
        self.found: Found | None = None
        self.damage: LogDamaged | None = None

    def is_over(self, message: StreamMessage | None, server: str) -> bool:
        """Look at what a server has answered."""
        if message is not None:
            try:
                self.found = self._verify(message)
            except LogDamaged as damage:
                self.damage = damage
                self._replicas.note_damage(damage, server)
            else:
                return True
        return self._is_gone()


def _is_end(answer: Msg) -> bool:
    return bool(status_of(answer))


def _direct(answer: Msg) -> StreamMessage:
    headers = answer.headers or {}
    return StreamMessage(
        int(headers["Nats-Sequence"]), str(headers.get("Nats-Subject", "")), answer.data, headers
    )
