"""The operations on messages: send, receive, delete, and change of the visibility timeout."""

from __future__ import annotations

import msgspec

from waystation.backend.backend import Backend
from waystation.frontend import message_rules
from waystation.frontend.calls import Call, find_queue
from waystation.frontend.envelope import Envelope, encode_envelope, pack_attributes
from waystation.frontend.handles import Handles
from waystation.frontend.received import Wanted, wanted_of
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.queues import Queue
from waystation.protocol import limits, operations
from waystation.protocol.checksums import md5_of_attributes, md5_of_body
from waystation.protocol.errors import (
    BatchRequestTooLong,
    InvalidParameterValue,
    MissingParameter,
    Refusal,
)
from waystation.queues import commands
from waystation.queues.commands import Outcome


class Packed(msgspec.Struct, gc=False):
    """A validated message on its way to the shard, the bytes it counts, and the digests for the answer."""

    entry: commands.Entry
    size: int
    body_md5: str
    attributes_md5: str | None
    system_attributes_md5: str | None


class MessageService:
    """Handlers of the operations on messages. Errors are those that the API Reference lists for each."""

    def __init__(self, catalogue: Catalogue, backend: Backend, handles: Handles) -> None:
        self._catalogue = catalogue
        self._backend = backend
        self._handles = handles

    # Sending

    async def send_message(
        self, call: Call, request: operations.SendMessageRequest
    ) -> operations.SendMessageResult:
        queue = find_queue(self._catalogue, call, request.queue_url)
        packed = self._pack(call, queue, request, "are invalid")
        sent = await self._backend.submit(queue.shard, commands.SendMessages(queue.number, [packed.entry]))
        assert isinstance(sent, commands.Sent)
        return operations.SendMessageResult(
            md5_of_message_body=packed.body_md5,
            md5_of_message_attributes=packed.attributes_md5,
            md5_of_message_system_attributes=packed.system_attributes_md5,
            message_id=self._handles.message_id(queue, sent.first_sequence),
        )

    async def send_message_batch(
        self, call: Call, request: operations.SendMessageBatchRequest
    ) -> operations.SendMessageBatchResult:
        queue = find_queue(self._catalogue, call, request.queue_url)
        entries = request.entries or []
        ids = message_rules.check_batch(entries, "SendMessageBatchRequestEntry")
        result = operations.SendMessageBatchResult()
        packed: dict[str, Packed] = {}
        total_bytes = 0
        for entry_id, entry in zip(ids, entries, strict=True):
            try:
                packed[entry_id] = self._pack(call, queue, entry, "cannot be validated")
                size = packed[entry_id].size
            except _TooLong as refusal:
                size = refusal.size
                result.failed.append(_failure(entry_id, refusal))
            except Refusal as refusal:
                size = len((entry.message_body or "").encode())
                result.failed.append(_failure(entry_id, refusal))
            total_bytes += size
        if total_bytes > limits.BATCH_BYTES_MAX:
            raise BatchRequestTooLong(total_bytes, limits.BATCH_BYTES_MAX)
        if packed:
            command = commands.SendMessages(queue.number, [each.entry for each in packed.values()])
            sent = await self._backend.submit(queue.shard, command)
            assert isinstance(sent, commands.Sent)
            result.successful = [
                operations.SendMessageBatchResultEntry(
                    id=entry_id,
                    message_id=self._handles.message_id(queue, sequence),
                    md5_of_message_body=each.body_md5,
                    md5_of_message_attributes=each.attributes_md5,
                    md5_of_message_system_attributes=each.system_attributes_md5,
                )
                for sequence, (entry_id, each) in enumerate(packed.items(), sent.first_sequence)
            ]
        return result

    def _pack(
        self,
        call: Call,
        queue: Queue,
        message: operations.SendMessageRequest | operations.SendMessageBatchRequestEntry,
        too_long: str,
    ) -> Packed:
        """Validate one message and put it into an envelope."""
        body = message.message_body
        if not body:
            raise MissingParameter("MessageBody")
        utf8 = body.encode()
        message_rules.check_text(body, utf8)
        size = len(utf8)
        envelope = Envelope(body, md5_of_body(utf8), call.caller.account, trace_header=call.trace_header)
        delay_s = queue.delay_s
        attributes_md5 = system_md5 = None
        if message.delay_seconds is not None:
            message_rules.check_delay(message.delay_seconds)
            delay_s = message.delay_seconds
        if message.message_group_id is not None:
            message_rules.check_group(message.message_group_id)
            envelope.group = message.message_group_id
        if message.message_attributes:
            size += message_rules.check_attributes(message.message_attributes)
            attributes_md5 = envelope.attributes_md5 = md5_of_attributes(message.message_attributes)
            envelope.attributes = pack_attributes(message.message_attributes)
        if message.message_system_attributes:
            envelope.trace_header = message_rules.check_system_attributes(message.message_system_attributes)
            system_md5 = md5_of_attributes(message.message_system_attributes)
        if size > queue.message_bytes_max:
            raise _TooLong(too_long, queue.message_bytes_max, size)
        entry = commands.Entry(encode_envelope(envelope), delay_s * 1_000)
        return Packed(entry, size, envelope.body_md5, attributes_md5, system_md5)

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
        wanted = wanted_of(request)
        visibility_s, wait_s = request.visibility_timeout, request.wait_time_seconds
        received = await self._backend.submit(
            queue.shard,
            commands.ReceiveMessages(
                queue.number,
                request.max_number_of_messages or limits.RECEIVE_MESSAGES_DEFAULT,
                (queue.visibility_timeout_s if visibility_s is None else visibility_s) * 1_000,
                (queue.wait_s if wait_s is None else wait_s) * 1_000,
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
        receipt = self._handles.read(queue, request.receipt_handle or "")
        await self._backend.submit(queue.shard, commands.DeleteMessages(queue.number, [receipt]))

    async def delete_message_batch(
        self, call: Call, request: operations.DeleteMessageBatchRequest
    ) -> operations.DeleteMessageBatchResult:
        queue = find_queue(self._catalogue, call, request.queue_url)
        entries = request.entries or []
        ids = message_rules.check_batch(entries, "DeleteMessageBatchRequestEntry")
        result = operations.DeleteMessageBatchResult()
        receipts: dict[str, commands.Receipt] = {}
        for entry_id, entry in zip(ids, entries, strict=True):
            try:
                receipts[entry_id] = self._handles.read(queue, entry.receipt_handle or "")
            except Refusal as refusal:
                result.failed.append(_failure(entry_id, refusal))
        if receipts:
            command = commands.DeleteMessages(queue.number, list(receipts.values()))
            await self._backend.submit(queue.shard, command)
        result.successful = [operations.DeleteMessageBatchResultEntry(id=entry_id) for entry_id in receipts]
        return result

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
        answer = await self._backend.submit(queue.shard, command)
        assert isinstance(answer, commands.Outcomes)
        return answer.outcomes


_Change = operations.ChangeMessageVisibilityRequest | operations.ChangeMessageVisibilityBatchRequestEntry


class _TooLong(
    InvalidParameterValue, shape=InvalidParameterValue.shape, query_code=InvalidParameterValue.query_code
):
    """A message over its queue's maximum; `size` still counts in its batch."""

    def __init__(self, verb: str, message_bytes_max: int, size: int) -> None:
        super().__init__(
            f"One or more parameters {verb}. Reason: Message must be shorter than {message_bytes_max} bytes."
        )
        self.size = size


def _failure(entry_id: str, refusal: Refusal) -> operations.BatchResultErrorEntry:
    return operations.BatchResultErrorEntry(
        id=entry_id, sender_fault=True, code=refusal.query_code, message=refusal.message
    )


def _check_visibility(timeout_s: int | None) -> None:
    message_rules.check_range(timeout_s, "VisibilityTimeout", 0, limits.VISIBILITY_TIMEOUT_S_MAX)


def _refusal_of(outcome: Outcome, change: _Change) -> Refusal:
    if outcome is Outcome.GONE:
        return InvalidParameterValue.of(
            change.receipt_handle,
            "ReceiptHandle",
            "Message does not exist or is not available for visibility timeout change.",
        )
    return InvalidParameterValue.of(
        change.visibility_timeout,
        "VisibilityTimeout",
        "Total VisibilityTimeout for the message is beyond the limit "
        f"[{limits.VISIBILITY_TIMEOUT_S_MAX} seconds]",
    )
