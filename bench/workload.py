"""What the load generator asks of a queue: its tasks, as calls and what is done with their answers.

A task is a generator: it yields a call and is sent the body of the answer. Whoever runs it
signs, sends and measures; nothing here knows of connections or of time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from os import urandom
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

Mode: TypeAlias = Literal["send", "receive", "both"]


class Call(NamedTuple):
    """One request: the operation's name and its JSON."""

    operation: str
    body: bytes


Task: TypeAlias = Generator[Call, bytes, None]


class _Message(msgspec.Struct):
    handle: str = msgspec.field(name="ReceiptHandle")


class _Received(msgspec.Struct):
    messages: list[_Message] = msgspec.field(name="Messages", default_factory=list)


class _Batch(msgspec.Struct):
    failed: list[Any] = msgspec.field(name="Failed", default_factory=list)


_decode_received = msgspec.json.Decoder(_Received).decode
_decode_batch = msgspec.json.Decoder(_Batch).decode


class Workload:
    """Tasks on one queue, and the count of what they have done so far."""

    def __init__(
        self, queue_url: str, batch: int, body_bytes: int, groups: int = 0, first_group: int = 0
    ) -> None:
        """`batch` is 1 for the single operations, up to 10 for the batch operations.

        On a FIFO queue a message goes to one of `groups` message groups, in turn; all entries
        of a batch to the same one.
        """
        self._groups, self._first_group, self._turns = groups, first_group, 0
        self._run = urandom(8).hex().encode()
        self._queue_url = queue_url
        self._body_bytes = body_bytes
        self._queue = b'{"QueueUrl":%b' % json.dumps(queue_url).encode()
        self._receive = b'%b,"MaxNumberOfMessages":%d}' % (self._queue, batch)
        self._filler = b"x" * (body_bytes - 12)
        self._batch = batch
        self._number = 0
        self.sent = 0
        self.deleted = 0
        self.empty_receives = 0

    def in_batches_of(self, batch: int) -> Workload:
        """The same queue and bodies, in other portions."""
        return Workload(self._queue_url, batch, self._body_bytes, self._groups, self._first_group)

    def tasks(self, mode: Mode) -> Callable[[], Task]:
        """What makes the next task of a kind of load; `both` takes them in turn."""
        if mode == "send":
            return self.send
        if mode == "receive":
            return self.receive_and_delete
        turns = self._in_turn()
        return lambda: next(turns)

    def done(self, mode: Mode) -> int:
        """Messages that count as finished. With `both`, one that was sent and deleted counts once."""
        return self.sent if mode == "send" else self.deleted

    def _in_turn(self) -> Generator[Task, None, None]:
        while True:
            yield self.send()
            yield self.receive_and_delete()

    def send(self) -> Task:
        """Send one message, or one batch."""
        self._turns += 1
        if self._batch == 1:
            yield Call("SendMessage", b"%b,%b}" % (self._queue, self._message()))
        else:
            entries = [b'{"Id":"%d",%b}' % (i, self._message()) for i in range(self._batch)]
            yield from self._batch_call("SendMessageBatch", entries)
        self.sent += self._batch

    def receive_and_delete(self) -> Task:
        """Receive at most a batch of messages and delete what came."""
        messages = _decode_received((yield Call("ReceiveMessage", self._receive))).messages
        if not messages:
            self.empty_receives += 1
            return
        handles = [message.handle.encode() for message in messages]
        if self._batch == 1:
            yield Call("DeleteMessage", b'%b,"ReceiptHandle":"%b"}' % (self._queue, handles[0]))
        else:
            entries = [b'{"Id":"%d","ReceiptHandle":"%b"}' % item for item in enumerate(handles)]
            yield from self._batch_call("DeleteMessageBatch", entries)
        self.deleted += len(messages)

    def _batch_call(self, operation: str, entries: list[bytes]) -> Task:
        answer = yield Call(operation, b'%b,"Entries":[%b]}' % (self._queue, b",".join(entries)))
        if failed := _decode_batch(answer).failed:
            raise RuntimeError(f"{operation} failed in part: {failed}")

    def _message(self) -> bytes:
        message = b'"MessageBody":"%b"' % self._body()
        if not self._groups:
            return message
        group = self._first_group + self._turns % self._groups
        ids = b',"MessageGroupId":"%d","MessageDeduplicationId":"%b%d"' % (group, self._run, self._number)
        return message + ids

    def _body(self) -> bytes:
        # No two bodies are the same, so that no digest and no signature is ever seen twice.
        self._number += 1
        return b"%012d%b" % (self._number, self._filler)
