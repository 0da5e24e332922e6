"""Faults planted in what makes several nodes one cluster, one at a time, for seeds of clusters to find."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.simulation.planted import Plant
from waystation.backend.shard import Shard
from waystation.cluster import router
from waystation.cluster.transport_client import OutcomeUnknown
from waystation.log.errors import Fenced
from waystation.log.jetstream import JetStreamLog
from waystation.log.nats import (
    CONFLICTS,
    EXPECTED_SEQUENCE,
    ApiFailure,
    NatsConnection,
    NatsFailure,
    NoAnswer,
)
from waystation.queues.commands import Answer, Command, DeleteMessages

CLUSTER_PLANTS: dict[str, Plant] = {}


def _plant(plant: Plant) -> Plant:
    CLUSTER_PLANTS[plant.__name__] = plant
    return plant


# Appends


@_plant
def an_owner_goes_on_after_it_was_fenced(patch: pytest.MonkeyPatch) -> None:
    judge = JetStreamLog._is_landed

    async def blind(self: JetStreamLog, position: int, data: bytes, failure: NatsFailure) -> bool:
        try:
            return await judge(self, position, data, failure)
        except Fenced:
            return True

    patch.setattr(JetStreamLog, "_is_landed", blind)


@_plant
def an_append_without_an_answer_is_taken_for_landed(patch: pytest.MonkeyPatch) -> None:
    judge = JetStreamLog._is_landed

    async def trusting(self: JetStreamLog, position: int, data: bytes, failure: NatsFailure) -> bool:
        return isinstance(failure, NoAnswer) or await judge(self, position, data, failure)

    patch.setattr(JetStreamLog, "_is_landed", trusting)


@_plant
def an_append_that_finds_the_log_longer_is_taken_for_not_landed(patch: pytest.MonkeyPatch) -> None:
    """It may be its own record that is there already."""

    async def rash(self: JetStreamLog, position: int, data: bytes, failure: NatsFailure) -> bool:
        if isinstance(failure, ApiFailure) and failure.code in CONFLICTS:
            raise Fenced("the log is longer")
        return False

    patch.setattr(JetStreamLog, "_is_landed", rash)


@_plant
def records_are_appended_without_compare_and_set(patch: pytest.MonkeyPatch) -> None:
    publish = NatsConnection.publish

    async def anywhere(self: Any, subject: str, payload: bytes, headers: dict[str, Any], *more: Any) -> int:
        expected = int(headers.pop(EXPECTED_SEQUENCE, -1))
        sequence = await publish(self, subject, payload, headers, *more)
        return sequence if expected < 0 else expected + 1

    patch.setattr(NatsConnection, "publish", anywhere)


# Calls between nodes


@_plant
def a_call_whose_outcome_is_unknown_is_made_again(patch: pytest.MonkeyPatch) -> None:
    should = router._should_try_again
    patch.setattr(
        router, "_should_try_again", lambda error: isinstance(error, OutcomeUnknown) or should(error)
    )


# Owners


@_plant
def a_shard_is_handed_over_before_its_last_append_is_durable(patch: pytest.MonkeyPatch) -> None:
    """Who waits for it is answered all the same."""

    async def hasty(self: Shard) -> None:
        self.end()
        self.drain()
        for batch in list(self._batches):
            for future, answer in batch.answers:
                if not future.done():
                    future.set_result(answer)
        await asyncio.sleep(0)

    patch.setattr(Shard, "hand_over", hasty)


@_plant
def an_owner_that_was_left_behind_confirms_deletes(patch: pytest.MonkeyPatch) -> None:
    """Of messages that it has not heard of: it has nothing to append, and so does not learn of the other."""
    submit = Shard.submit

    def at_once(self: Shard, command: Command) -> asyncio.Future[Answer]:
        if isinstance(command, DeleteMessages) and self._why_not is None and self._batches.last() is None:
            decided, answer = self.state.decide(command)
            if not decided:
                future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
                future.set_result(answer)
                return future
        return submit(self, command)

    patch.setattr(Shard, "submit", at_once)
