"""How a simulated client makes one call: over the network, again as botocore's standard retries say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError
from botocore.retries.standard import (
    ExponentialBackoff,
    RetryContext,
    RetryPolicy,
    StandardRetryConditions,
)

from tests.histories.history import Act
from tests.simulation.network import Listener, Network
from waystation.frontend.http_messages import Request, Response

ATTEMPTS_MAX = 3
_READ_S = 10.0
"""A client waits for an answer for so long, besides what it asks the server to wait."""


@dataclass
class CallResult:
    """How a call ended: with a result, with a refusal, or neither when nobody knows."""

    acts: list[Act]
    """All that may have happened; none that was refused."""
    act: Act | None = None
    """The one whose result this is."""
    result: dict[str, Any] | None = None
    refusal: str = ""


class RetryingCaller:
    """Makes calls for one client, each to any of the servers."""

    def __init__(self, name: str, network: Network, servers: Sequence[Listener], random: Random) -> None:
        self.name = name
        self._network = network
        self._servers = servers
        self._random = random
        self.attempts = 0
        self._retries = RetryPolicy(
            StandardRetryConditions(max_attempts=ATTEMPTS_MAX), ExponentialBackoff(random=random.random)
        )

    async def call(self, operation: str, acts: list[Act], **members: Any) -> CallResult:
        """Call an operation. `acts` are noted as they happen, so that a history has them in any case."""
        request = _request(operation, members)
        wait_s = _READ_S + members.get("WaitTimeSeconds", 0)
        answer = CallResult(acts)
        attempt = 0
        while True:
            attempt += 1
            self.attempts += 1
            server = self._servers[int(self._random.random() * len(self._servers))]
            context: RetryContext
            try:
                response, act = await self._network.request(self.name, server, request, acts, wait_s)
            except BotoCoreError as error:
                context = RetryContext(attempt, caught_exception=error)
            else:
                body: dict[str, Any] = msgspec.json.decode(response.body) if response.body else {}
                if response.status == 200:
                    answer.act, answer.result = act, body
                    return answer
                code = str(body["__type"]).rpartition("#")[2].removesuffix("Exception")
                if response.status < 500:
                    acts.remove(act)
                    answer.refusal = code
                    return answer
                assert response.status == 503, f"{operation} was answered {response.status}: {body}"
                context = RetryContext(
                    attempt, parsed_response={"Error": {"Code": code}}, http_response=_Status(response)
                )
            if not self._retries.should_retry(context):
                return answer
            await asyncio.sleep(self._retries.compute_retry_delay(context))


class _Status:
    """What botocore looks at of an HTTP response."""

    def __init__(self, response: Response) -> None:
        self.status_code = response.status
        self.headers: dict[str, str] = {}


def _request(operation: str, members: dict[str, Any]) -> Request:
    headers = {"host": "queues.test:9324", "x-amz-target": f"AmazonSQS.{operation}"}
    return Request("POST", "/", "/", "", headers, msgspec.json.encode(members), secure=False)
