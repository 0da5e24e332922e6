"""Faults planted in the program, one at a time, to prove that the simulation finds such.

Each is a mistake that somebody could make, or has made; each breaks a promise only when something else
happens at the wrong moment: a crash, a lost answer, a slow disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from waystation.backend import housekeeping, shard
from waystation.backend.backend import Backend
from waystation.backend.batches import Batch
from waystation.backend.cache import EnvelopeCache
from waystation.backend.carrier import Delivered, Parcel
from waystation.backend.shard import Shard
from waystation.log.errors import LogUnavailable
from waystation.log.interface import Log
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.queues import Queue, QueueRecord
from waystation.metadata.store import MetadataUnavailable
from waystation.protocol.errors import Unavailable
from waystation.queues import commands, events, fifo
from waystation.queues.commands import Done, Outcomes, Received
from waystation.queues.deduplication import Deduplication
from waystation.queues.fifo import FifoQueue
from waystation.queues.line import OrderedLine
from waystation.queues.message import DELAYED, IN_FLIGHT, READY, Message
from waystation.queues.queue import MessageQueue
from waystation.queues.queue_state import QueueState
from waystation.queues.state import _DECIDE, Decision, ShardState

Plant = Callable[[pytest.MonkeyPatch], None]

PLANTS: dict[str, Plant] = {}


def _plant(plant: Plant) -> Plant:
    PLANTS[plant.__name__] = plant
    return plant


@contextmanager
def planted(plant: Plant) -> Iterator[None]:
    """Run with one fault in the program."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        yield


def _replace(patch: pytest.MonkeyPatch, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    patch.setattr(owner, name, make(getattr(owner, name)))


def _decide(patch: pytest.MonkeyPatch, command: type, decide: Callable[[ShardState, Any], Decision]) -> None:
    patch.setitem(_DECIDE, command, decide)


# The log


@_plant
def sends_are_acknowledged_before_the_append(patch: pytest.MonkeyPatch) -> None:
    _answer_first(patch, lambda answer: not isinstance(answer, Received))


@_plant
def receives_are_answered_before_the_append(patch: pytest.MonkeyPatch) -> None:
    _answer_first(patch, lambda answer: isinstance(answer, Received) and _is_complete(answer))


def _is_complete(answer: Received) -> bool:
    return all(message.envelope for message in answer.messages)


def _answer_first(patch: pytest.MonkeyPatch, chosen: Callable[[Any], bool]) -> None:
    def make(append: Any) -> Any:
        async def hasty(self: Shard, batch: Batch) -> None:
            for future, answer in batch.answers:
                if chosen(answer) and not future.done():
                    future.set_result(answer)
            batch.answers = [each for each in batch.answers if not each[0].done()]
            await append(self, batch)

        return hasty

    _replace(patch, Shard, "_append", make)


@_plant
def a_failed_append_is_taken_for_a_good_one(patch: pytest.MonkeyPatch) -> None:
    """It goes on from a state that the log may not have: no fence keeps it from being believed."""

    def make(append: Any) -> Any:
        async def trusting(self: Shard, batch: Batch) -> None:
            try:
                await append(self, batch)
            except LogUnavailable:
                await self._log.open()
                if self._log.position < batch.position:
                    await self._log.append(b"\x90")  # a record without events
                for future, answer in batch.answers:
                    if not future.done():
                        future.set_result(answer)
                self._batches.appended()

        return trusting

    _replace(patch, Shard, "_append", make)


@_plant
def the_last_record_is_forgotten_at_recovery(patch: pytest.MonkeyPatch) -> None:
    def make(recover: Any) -> Any:
        async def forgetful(log: Log) -> ShardState:
            await log.open()
            last = log.position
            whole = type(log).replay

            async def shorter(self: Any, after: int, checksum: bytes | None) -> Any:
                async for record in whole(self, after, checksum):
                    if record.position < last:
                        yield record

            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(type(log), "replay", shorter)
                return await recover(log)  # type: ignore[no-any-return]

        return forgetful

    _replace(patch, shard, "recover", make)


@_plant
def the_log_is_truncated_too_far(patch: pytest.MonkeyPatch) -> None:
    def make(oldest: Any) -> Any:
        def too_new(self: ShardState) -> int | None:
            record = oldest(self)
            return None if record is None else record + 2

        return too_new

    _replace(patch, ShardState, "oldest_record", make)


@_plant
def a_cached_envelope_is_taken_for_that_of_the_next_message(patch: pytest.MonkeyPatch) -> None:
    def make(take: Any) -> Any:
        return lambda self, queue, sequence: take(self, queue, sequence + sequence % 7 // 6)

    _replace(patch, EnvelopeCache, "take", make)


# Snapshots and replay


@_plant
def snapshots_have_no_deduplication_ids(patch: pytest.MonkeyPatch) -> None:
    def make(to_snapshot: Any) -> Any:
        def incomplete(state: ShardState) -> bytes:
            kept = {}
            for queue in state.queues.values():
                if isinstance(queue, FifoQueue):
                    kept[queue], queue.deduplication = queue.deduplication, Deduplication()
            try:
                return to_snapshot(state)  # type: ignore[no-any-return]
            finally:
                for queue, deduplication in kept.items():
                    queue.deduplication = deduplication

        return incomplete

    _replace(patch, housekeeping, "to_snapshot", make)


@_plant
def it_is_forgotten_at_recovery_which_dead_letters_came(patch: pytest.MonkeyPatch) -> None:
    def make(recover: Any) -> Any:
        async def forgetful(log: Log) -> ShardState:
            state: ShardState = await recover(log)
            for queue in state.queues.values():
                queue.arrived.clear()
            return state

        return forgetful

    _replace(patch, shard, "recover", make)


@_plant
def messages_in_flight_are_visible_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    _show_after_recovery(patch, IN_FLIGHT)


@_plant
def delayed_messages_are_visible_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    _show_after_recovery(patch, DELAYED)


def _show_after_recovery(patch: pytest.MonkeyPatch, hidden: int) -> None:
    def make(recover: Any) -> Any:
        async def showing(log: Log) -> ShardState:
            state: ShardState = await recover(log)
            for queue in state.queues.values():
                found = [message.sequence for message in queue.messages.values() if message.state == hidden]
                shown = [(sequence, state.now_ms) for sequence in found]
                queue.apply_visibility(events.VisibilityChanged(state.now_ms, queue.number, shown))
            return state

        return showing

    _replace(patch, shard, "recover", make)


# Decisions that are not logged


@_plant
def deletes_are_not_logged(patch: pytest.MonkeyPatch) -> None:
    def forgetful(state: ShardState, command: commands.DeleteMessages) -> Decision:
        decided, answer = state._delete(command)
        for event in decided:
            state.apply(event, 0)
        return Decision((), answer)

    _decide(patch, commands.DeleteMessages, forgetful)


@_plant
def changes_of_visibility_are_not_logged(patch: pytest.MonkeyPatch) -> None:
    def forgetful(state: ShardState, command: commands.ChangeVisibility) -> Decision:
        decided, answer = state._change_visibility(command)
        for event in decided:
            state.apply(event, 0)
        assert isinstance(answer, Outcomes)
        return Decision((), answer)

    _decide(patch, commands.ChangeVisibility, forgetful)


@_plant
def purges_are_not_logged(patch: pytest.MonkeyPatch) -> None:
    def forgetful(state: ShardState, command: commands.PurgeQueue) -> Decision:
        [event] = state._purge(command).events
        state.apply(event, 0)
        return Decision((), Done())

    _decide(patch, commands.PurgeQueue, forgetful)


# Dead letters


@_plant
def dead_letters_are_released_before_they_are_accepted(patch: pytest.MonkeyPatch) -> None:
    def make(carry: Any) -> Any:
        async def careless(self: Backend, parcel: Parcel) -> Delivered:
            try:
                return await carry(self, parcel)  # type: ignore[no-any-return]
            except Unavailable:
                return Delivered({parcel.target: [arrival.sequence for arrival in parcel.arrivals]}, {})

        return careless

    _replace(patch, Backend, "_carry", make)


@_plant
def dead_letters_that_come_again_are_taken_again(patch: pytest.MonkeyPatch) -> None:
    def make(decide: Any) -> Any:
        def forgetful(self: Any, command: commands.AcceptMessages, now_ms: int) -> Any:
            self.arrived.pop((command.source_shard, command.source_queue), None)
            return decide(self, command, now_ms)

        return forgetful

    _replace(patch, MessageQueue, "decide_arrivals", make)


@_plant
def released_dead_letters_still_count(patch: pytest.MonkeyPatch) -> None:
    def make(apply: Any) -> Any:
        def miscounting(self: Any, event: Any) -> None:
            apply(self, event)
            if isinstance(event, events.MessagesReleased):
                self.live += len(event.sequences)

        return miscounting

    _replace(patch, QueueState, "apply_deleted", make)


# Order and duplicates


@_plant
def a_group_is_received_while_some_of_it_is_in_flight(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(OrderedLine, "in_order", lambda self: iter(list(self.window.values())))


@_plant
def what_comes_back_goes_to_the_end_of_its_group(patch: pytest.MonkeyPatch) -> None:
    def at_the_end(self: OrderedLine, messages: list[Message], _: int) -> None:
        for message in messages:
            message.state = READY
            message.visible_at_ms = 0
            self.join(message)

    patch.setattr(OrderedLine, "come_back", at_the_end)


@_plant
def deduplication_ids_are_known_for_a_minute_only(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fifo, "DEDUPLICATION_MS", 60_000)


@_plant
def deduplication_ids_are_known_for_an_hour(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fifo, "DEDUPLICATION_MS", 3_600_000)


# Waiting


@_plant
def a_send_does_not_wake_who_waits(patch: pytest.MonkeyPatch) -> None:
    def make(record: Any) -> Any:
        def quiet(self: Shard, event: Any) -> Batch:
            batch: Batch = record(self, event)
            if isinstance(event, events.MessagesSent):
                self._receiver._touched.discard(event.queue)
            return batch

        return quiet

    _replace(patch, Shard, "record", make)


# The catalogue


@_plant
def a_lost_watch_is_not_made_good(patch: pytest.MonkeyPatch) -> None:
    def make(fill: Any) -> Any:
        async def once(self: Catalogue) -> None:
            if not self._queues:
                await fill(self)

        return once

    _replace(patch, Catalogue, "_fill", make)


@_plant
def a_failed_write_of_metadata_is_believed(patch: pytest.MonkeyPatch) -> None:
    def make(put: Any) -> Any:
        async def trusting(self: Catalogue, record: QueueRecord, expected: int) -> int:
            try:
                return await put(self, record, expected)  # type: ignore[no-any-return]
            except MetadataUnavailable:
                self._queues[record.account, record.name] = Queue(record, expected)
                return expected

        return trusting

    _replace(patch, Catalogue, "_put", make)
