"""The operations on messages: send, receive, delete, and change of the visibility timeout."""

from __future__ import annotations

from collections.abc import Iterable

from waystation.backend.interface import Shards
from waystation.frontend import message_rules
from waystation.frontend.calls import Call, find_queue
from waystation.frontend.handles import Handles, sequence_number
from waystation.frontend.received import Wanted, wanted_of
from waystation.frontend.sending import (
    Packed,
    TooLong,
    check_ids,
    check_ids_of_batch,
    pack,
)
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.queues import Queue
from waystation.protocol import limits, operations
from waystation.protocol.errors import (
    BatchRequestTooLong,
    InvalidParameterValue,
    MessageNotInflight,
    MissingParameter,
    Refusal,
)
from waystation.queues import commands
from waystation.queues.commands import Outcome


class MessageService:
    """Handlers of the operations on messages. Errors are those that the API Reference lists for each."""

    def __init__(self, catalogue: Catalogue, shards: Shards, handles: Handles) -> None:
        self._catalogue = catalogue
        self._shards = shards
        self._handles = handles

    # Sending

    async def send_message(
        self, call: Call, request: operations.SendMessageRequest
    ) -> operations.SendMessageResult:
        queue = find_queue(self._catalogue, call, request.queue_url)
        check_ids(queue, request)
        packed = pack(call, queue, request, "are invalid")
        [sequence] = await self._send(queue, [packed])
        return operations.SendMessageResult(
            md5_of_message_body=packed.body_md5,
            md5_of_message_attributes=packed.attributes_md5,
            md5_of_message_system_attributes=packed.system_attributes_md5,
            message_id=self._handles.message_id(queue, sequence),
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
            sequences = await self._send(queue, packed.values())
            result.successful = [
                operations.SendMessageBatchResultEntry(
                    id=entry_id,
                    message_id=self._handles.message_id(queue, sequence),
                    md5_of_message_body=each.body_md5,
                    md5_of_message_attributes=each.attributes_md5,
                    md5_of_message_system_attributes=each.system_attributes_md5,
                    sequence_number=sequence_number(sequence) if queue.is_fifo else None,
                )
                for sequence, (entry_id, each) in zip(sequences, packed.items(), strict=True)
            ]
        return result

    async def _send(self, queue: Queue, packed: Iterable[Packed]) -> list[int]:
        command = commands.SendMessages(queue.number, [each.entry for each in packed])
        sent = await self._shards.submit(queue.shard, command)
        assert isinstance(sent, commands.Sent)
        return sent.sequences

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
        received = await self._shards.submit(
            queue.shard,
            commands.ReceiveMessages(
                queue.number,
                request.max_number_of_messages or limits.RECEIVE_MESSAGES_DEFAULT,
                (queue.visibility_timeout_s if visibility_s is None else visibility_s) * 1_000,
                (queue.wait_s if wait_s is None else wait_s) * 1_000,
                b"" if attempt_id is None else message_rules.digest_of(attempt_id),
            ),
        )
        assert isinstance(received, commands.Received)
        return operations.ReceiveMessageResult(
            messages=[self._show(queue, message, wanted) for message in received.messages]
        )

    def _show(self, queue: Queue, message: commands.ReceivedMessage, wanted: Wanted) -> operations.Message:
        return wanted.show(
            message,
            self._handles.message_id(queue, message.sequence),
            self._handles.receipt_handle(queue, message.sequence, message.receive_count),
        )

    # Deleting

    async def delete_message(self, call: Call, request: operations.DeleteMessageRequest) -> None:
        queue = find_queue(self._catalogue, call, request.queue_url)
        handle = request.receipt_handle or ""
        [outcome] = await self._delete(queue, [self._handles.read(queue, handle)])
        if outcome is Outcome.EXPIRED:
            raise _expired(handle)

    async def delete_message_batch(
        self, call: Call, request: operations.DeleteMessageBatchRequest
    ) -> operations.DeleteMessageBatchResult:
        queue = find_queue(self._catalogue, call, request.queue_url)
        entries = request.entries or []
        ids = message_rules.check_batch(entries, "DeleteMessageBatchRequestEntry")
        result = operations.DeleteMessageBatchResult()
        receipts: dict[int, commands.Receipt] = {}
        for index, entry in enumerate(entries):
            try:
                receipts[index] = self._handles.read(queue, entry.receipt_handle or "")
            except Refusal as refusal:
                result.failed.append(_failure(ids[index], refusal))
        outcomes = await self._delete(queue, list(receipts.values())) if receipts else []
        for index, outcome in zip(receipts, outcomes, strict=True):
            if outcome is Outcome.EXPIRED:
                result.failed.append(_failure(ids[index], _expired(entries[index].receipt_handle)))
            else:
                result.successful.append(operations.DeleteMessageBatchResultEntry(id=ids[index]))
        return result

    async def _delete(self, queue: Queue, receipts: list[commands.Receipt]) -> list[Outcome]:
        answer = await self._shards.submit(queue.shard, commands.DeleteMessages(queue.number, receipts))
        assert isinstance(answer, commands.Outcomes)
        return answer.outcomes

    # Changing the visibility timeout

    async def change_message_visibility(
        self, call: Call, request: operations.ChangeMessageVisibilityRequest
    ) -> None:
        queue = find_queue(self._catalogue, call, request.queue_url)
        change = self._read_change(queue, request)
        [outcome] = await self._change(queue, [change])
        if outcome is not Outcome.DONE:
            raise _refusal_of(outcome, request)

    async def change_message_visibility_batch(
        self, call: Call, request: operations.ChangeMessageVisibilityBatchRequest
    ) -> operations.ChangeMessageVisibilityBatchResult:
        queue = find_queue(self._catalogue, call, request.queue_url)
        entries = request.entries or []
        ids = message_rules.check_batch(entries, "ChangeMessageVisibilityBatchRequestEntry")
        result = operations.ChangeMessageVisibilityBatchResult()
        changes: dict[int, commands.VisibilityChange] = {}
        for index, entry in enumerate(entries):
            try:
                changes[index] = self._read_change(queue, entry)
            except Refusal as refusal:
                result.failed.append(_failure(ids[index], refusal))
        outcomes = await self._change(queue, list(changes.values())) if changes else []
        for index, outcome in zip(changes, outcomes, strict=True):
            if outcome is Outcome.DONE:
                done = operations.ChangeMessageVisibilityBatchResultEntry(id=ids[index])
                result.successful.append(done)
            else:
                result.failed.append(_failure(ids[index], _refusal_of(outcome, entries[index])))
        return result

    def _read_change(self, queue: Queue, change: _Change) -> commands.VisibilityChange:
        if change.visibility_timeout is None:
            raise MissingParameter("VisibilityTimeout")
        _check_visibility(change.visibility_timeout)
        receipt = self._handles.read(queue, change.receipt_handle or "")
        return commands.VisibilityChange(receipt, change.visibility_timeout * 1_000)

    async def _change(self, queue: Queue, changes: list[commands.VisibilityChange]) -> list[Outcome]:
        command = commands.ChangeVisibility(queue.number, changes)
        answer = await self._shards.submit(queue.shard, command)
        assert isinstance(answer, commands.Outcomes)
        return answer.outcomes


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
