"""The operations on messages: send, receive, delete, and change of the visibility timeout."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from waystation.backend.giving_back import give_back_if_answered
from waystation.backend.interface import Shards
from waystation.frontend import message_rules
from waystation.frontend.calls import Call, find_queue
from waystation.frontend.handles import Handles, sequence_number
from waystation.frontend.part_polls import Handed
from waystation.frontend.parts import Parts
from waystation.frontend.received import Wanted, wanted_of
from waystation.frontend.sending import (
    Packed,
    TooLong,
    check_ids,
    check_ids_of_batch,
    pack,
)
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.queues import Place, Queue
from waystation.protocol import limits, operations
from waystation.protocol.errors import (
    BatchRequestTooLong,
    InvalidParameterValue,
    MessageNotInflight,
    MissingParameter,
    Refusal,
)
from waystation.queues import commands
from waystation.queues.commands import Command, Outcome, Receipt

Item = TypeVar("Item")


class MessageService:
    """Handlers of the operations on messages. Errors are those that the API Reference lists for each."""

    def __init__(self, catalogue: Catalogue, shards: Shards, parts: Parts, handles: Handles) -> None:
        self._catalogue = catalogue
        self._shards = shards
        self._parts = parts
        self._handles = handles

    # Sending

    async def send_message(
        self, call: Call, request: operations.SendMessageRequest
    ) -> operations.SendMessageResult:
        queue = find_queue(self._catalogue, call, request.queue_url)
        check_ids(queue, request)
        packed = pack(call, queue, request, "are invalid")
        [(place, sequence)] = await self._send(queue, [packed])
        return operations.SendMessageResult(
            md5_of_message_body=packed.body_md5,
            md5_of_message_attributes=packed.attributes_md5,
            md5_of_message_system_attributes=packed.system_attributes_md5,
            message_id=self._handles.message_id(place, sequence),
            sequence_number=sequence_number(sequence) if queue.is_fifo else None,
        )

    async def send_message_batch(
        self, call: Call, request: operations.SendMessageBatchRequest
    ) -> operations.SendMessageBatchResult:
        queue = find_queue(self._catalogue, call, request.queue_url)
        entries = request.entries or []
        ids = message_rules.check_batch(entries, "SendMessageBatchRequestEntry")
        check_ids_of_batch(queue, entries)
        result = operations.SendMessageBatchResult()
        packed: dict[str, Packed] = {}
        total_bytes = 0
        for entry_id, entry in zip(ids, entries, strict=True):
            try:
                packed[entry_id] = pack(call, queue, entry, "cannot be validated")
                size = packed[entry_id].size
            except TooLong as refusal:
                size = refusal.size
                result.failed.append(_failure(entry_id, refusal))
            except Refusal as refusal:
                size = len((entry.message_body or "").encode())
                result.failed.append(_failure(entry_id, refusal))
            total_bytes += size
        if total_bytes > limits.BATCH_BYTES_MAX:
            raise BatchRequestTooLong(total_bytes, limits.BATCH_BYTES_MAX)
        if packed:
            sent = await self._send(queue, packed.values())
            result.successful = [
                operations.SendMessageBatchResultEntry(
                    id=entry_id,
                    message_id=self._handles.message_id(place, sequence),
                    md5_of_message_body=each.body_md5,
                    md5_of_message_attributes=each.attributes_md5,
                    md5_of_message_system_attributes=each.system_attributes_md5,
                    sequence_number=sequence_number(sequence) if queue.is_fifo else None,
                )
                for (place, sequence), (entry_id, each) in zip(sent, packed.items(), strict=True)
            ]
        return result

    async def _send(self, queue: Queue, packed: Collection[Packed]) -> list[tuple[Place, int]]:
        """Where each message is, and its sequence there."""
        entries = [each.entry for each in packed]
        if queue.is_spread:
            return await self._parts.send(queue, entries)
        sent = await self._shards.submit(queue.shard, commands.SendMessages(queue.number, entries))
        assert isinstance(sent, commands.Sent)
        [place] = queue.places
        return [(place, sequence) for sequence in sent.sequences]

    # Receiving

    async def receive_message(
        self, call: Call, request: operations.ReceiveMessageRequest
    ) -> operations.ReceiveMessageResult:
        queue = find_queue(self._catalogue, call, request.queue_url)
        message_rules.check_range(
            request.max_number_of_messages,
            "MaxNumberOfMessages",
            limits.RECEIVE_MESSAGES_MIN,
            limits.RECEIVE_MESSAGES_MAX,
        )
        _check_visibility(request.visibility_timeout)
        message_rules.check_wait(request.wait_time_seconds)
        attempt_id = request.receive_request_attempt_id
        message_rules.check_fifo_only(attempt_id, "ReceiveRequestAttemptId", is_fifo=queue.is_fifo)
        wanted = wanted_of(request)
        visibility_s, wait_s = request.visibility_timeout, request.wait_time_seconds
        command = commands.ReceiveMessages(
            queue.number,
            request.max_number_of_messages or limits.RECEIVE_MESSAGES_DEFAULT,
            (queue.visibility_timeout_s if visibility_s is None else visibility_s) * 1_000,
            (queue.wait_s if wait_s is None else wait_s) * 1_000,
            b"" if attempt_id is None else message_rules.digest_of(attempt_id),
        )
        if queue.is_spread:
            handed = await self._parts.receive(queue, command)
        else:
            handed = await self._receive(queue, command)
        return operations.ReceiveMessageResult(
            messages=[self._show(place, message, wanted) for place, message in handed]
        )

    async def _receive(self, queue: Queue, command: commands.ReceiveMessages) -> list[Handed]:
        [place] = queue.places
        answering = self._shards.submit(place.shard, command)
        try:
            received = await answering
        except asyncio.CancelledError:
            give_back_if_answered(self._shards.submit, place.shard, answering)
            raise
        assert isinstance(received, commands.Received)
        return [(place, message) for message in received.messages]

    def _show(self, place: Place, message: commands.ReceivedMessage, wanted: Wanted) -> operations.Message:
        return wanted.show(
            message,
            self._handles.message_id(place, message.sequence),
            self._handles.receipt_handle(place, message.sequence, message.receive_count),
        )

    # Deleting

    async def delete_message(self, call: Call, request: operations.DeleteMessageRequest) -> None:
        queue = find_queue(self._catalogue, call, request.queue_url)
        handle = request.receipt_handle or ""
        receipt = self._handles.read(queue, handle)
        [outcome] = await self._ask(queue, [receipt], commands.DeleteMessages)
        if outcome is Outcome.EXPIRED:
            raise _expired(handle)

    async def delete_message_batch(
        self, call: Call, request: operations.DeleteMessageBatchRequest
    ) -> operations.DeleteMessageBatchResult:
        queue = find_queue(self._catalogue, call, request.queue_url)
        entries = request.entries or []
        ids = message_rules.check_batch(entries, "DeleteMessageBatchRequestEntry")
        result = operations.DeleteMessageBatchResult()
        receipts: dict[int, tuple[Place, Receipt]] = {}
        for index, entry in enumerate(entries):
            try:
                receipts[index] = self._handles.read(queue, entry.receipt_handle or "")
            except Refusal as refusal:
                result.failed.append(_failure(ids[index], refusal))
        outcomes = await self._ask(queue, list(receipts.values()), commands.DeleteMessages)
        for index, outcome in zip(receipts, outcomes, strict=True):
            if outcome is Outcome.EXPIRED:
                result.failed.append(_failure(ids[index], _expired(entries[index].receipt_handle)))
            else:
                result.successful.append(operations.DeleteMessageBatchResultEntry(id=ids[index]))
        return result

    async def _ask(
        self, queue: Queue, items: Sequence[tuple[Place, Item]], make: Callable[[int, list[Item]], Command]
    ) -> list[Outcome]:
        """What became of each item, in order, which `make` puts into a command to the part that has it."""
        if not items:
            return []
        if queue.is_spread:
            return await self._parts.outcomes(items, make)
        command = make(queue.number, [item for _, item in items])
        answer = await self._shards.submit(queue.shard, command)
        assert isinstance(answer, commands.Outcomes)
        return answer.outcomes

    # Changing the visibility timeout

    async def change_message_visibility(
        self, call: Call, request: operations.ChangeMessageVisibilityRequest
    ) -> None:
        queue = find_queue(self._catalogue, call, request.queue_url)
        change = self._read_change(queue, request)
        [outcome] = await self._ask(queue, [change], commands.ChangeVisibility)
        if outcome is not Outcome.DONE:
            raise _refusal_of(outcome, request)

    async def change_message_visibility_batch(
        self, call: Call, request: operations.ChangeMessageVisibilityBatchRequest
    ) -> operations.ChangeMessageVisibilityBatchResult:
        queue = find_queue(self._catalogue, call, request.queue_url)
        entries = request.entries or []
        ids = message_rules.check_batch(entries, "ChangeMessageVisibilityBatchRequestEntry")
        result = operations.ChangeMessageVisibilityBatchResult()
        changes: dict[int, tuple[Place, commands.VisibilityChange]] = {}
        for index, entry in enumerate(entries):
            try:
                changes[index] = self._read_change(queue, entry)
            except Refusal as refusal:
                result.failed.append(_failure(ids[index], refusal))
        outcomes = await self._ask(queue, list(changes.values()), commands.ChangeVisibility)
        for index, outcome in zip(changes, outcomes, strict=True):
            if outcome is Outcome.DONE:
                done = operations.ChangeMessageVisibilityBatchResultEntry(id=ids[index])
                result.successful.append(done)
            else:
                result.failed.append(_failure(ids[index], _refusal_of(outcome, entries[index])))
        return result

    def _read_change(self, queue: Queue, change: _Change) -> tuple[Place, commands.VisibilityChange]:
        if change.visibility_timeout is None:
            raise MissingParameter("VisibilityTimeout")
        _check_visibility(change.visibility_timeout)
        place, receipt = self._handles.read(queue, change.receipt_handle or "")
        return place, commands.VisibilityChange(receipt, change.visibility_timeout * 1_000)


_Change = operations.ChangeMessageVisibilityRequest | operations.ChangeMessageVisibilityBatchRequestEntry


def _failure(entry_id: str, refusal: Refusal) -> operations.BatchResultErrorEntry:
    return operations.BatchResultErrorEntry(
        id=entry_id, sender_fault=True, code=refusal.query_code, message=refusal.message
    )


def _check_visibility(timeout_s: int | None) -> None:
    message_rules.check_range(timeout_s, "VisibilityTimeout", 0, limits.VISIBILITY_TIMEOUT_S_MAX)


def _refusal_of(outcome: Outcome, change: _Change) -> Refusal:
    if outcome is Outcome.NOT_IN_FLIGHT:
        return MessageNotInflight()
    if outcome is Outcome.EXPIRED:
        return _expired(change.receipt_handle)
    if outcome is Outcome.GONE:
        reason = "Message does not exist or is not available for visibility timeout change."
        return InvalidParameterValue.of(change.receipt_handle, "ReceiptHandle", reason)
    return InvalidParameterValue.of(
        change.visibility_timeout,
        "VisibilityTimeout",
        "Total VisibilityTimeout for the message is beyond the limit "
        f"[{limits.VISIBILITY_TIMEOUT_S_MAX} seconds]",
    )


def _expired(receipt_handle: str | None) -> Refusal:
    return InvalidParameterValue.of(receipt_handle, "ReceiptHandle", "The receipt handle has expired.")
