"""Simulated clients: each does its share of random work, and writes down what it asked for and was told."""

from __future__ import annotations

import asyncio
from math import inf
from random import Random
from typing import Any

from tests.histories.history import (
    Act,
    Change,
    Clear,
    Delete,
    Handed,
    History,
    Move,
    QueueFacts,
    Receive,
    Send,
)
from tests.simulation.caller import CallResult, RetryingCaller

SYSTEM_ATTRIBUTES = ["ApproximateReceiveCount", "MessageGroupId", "SequenceNumber"]
_TIMEOUTS_S = (0, 1, 1, 2, 4, 10, 25)
GROUPS = ("red", "green", "blue")
LONG_S = 43_200
BATCH_MAX = 10
_OF_NO_QUEUE = ("QueueDoesNotExist", "ReceiptHandleIsInvalid")
"""What is said of a queue that is not there, and of a receipt handle of one that was there before."""


def creation(name: str, facts: QueueFacts) -> dict[str, Any]:
    """The arguments of `CreateQueue`."""
    attributes = {"DelaySeconds": f"{facts.delay_s:g}"}
    if facts.retention_s < inf:
        attributes["MessageRetentionPeriod"] = f"{facts.retention_s:g}"
    if facts.fifo:
        attributes["FifoQueue"] = "true"
    if facts.dead_letters_to:
        target = f"arn:aws:sqs:us-east-1:000000000000:{facts.dead_letters_to}"
        attributes["RedrivePolicy"] = (
            f'{{"deadLetterTargetArn":"{target}","maxReceiveCount":{facts.receive_count_max}}}'
        )
    return {"QueueName": name, "Attributes": attributes}


class Client:
    """Does random work, with pauses of `pause_s` on average."""

    def __init__(
        self,
        caller: RetryingCaller,
        queues: dict[str, QueueFacts],
        history: History,
        random: Random,
        pause_s: float,
    ) -> None:
        self.caller = caller
        self.name = caller.name
        self.queues = queues
        self.history = history
        self.random = random
        self.pause_s = pause_s
        self.operations = 0
        self.refusals: list[str] = []
        """Errors that no right server gives to these clients."""
        self.queues_vanish = False
        """Somebody deletes queues and creates them again, so that they may not be there just now."""

    async def run(self, operations: int) -> None:
        while self.operations < operations:
            await self.act()
            await asyncio.sleep(self.random.expovariate(1) * self.pause_s)

    async def act(self) -> None:
        raise NotImplementedError

    async def call(self, operation: str, acts: list[Act], *allowed: str, **members: Any) -> CallResult:
        self.operations += 1
        answer = await self.caller.call(operation, acts, **members)
        if self.queues_vanish and answer.refusal in _OF_NO_QUEUE:
            return answer
        if answer.refusal and answer.refusal not in allowed:
            self.refusals.append(f"{self.name}: {operation} was refused with {answer.refusal}")
        return answer

    def pick(self, *names: str) -> str:
        return names[int(self.random.random() * len(names))]


class Producer(Client):
    """Sends to the queues that are not dead-letter queues; on FIFO queues, some messages once more."""

    number = 0

    async def act(self) -> None:
        queue = self.pick(*(name for name in self.queues if name not in self.history.dead_letter_queues))
        if self.queues[queue].fifo:
            await self._send(queue, [self._fifo_send(queue) for _ in range(self._size())])
        else:
            await self._send(queue, [self._send_of(queue) for _ in range(self._size())])

    def _size(self) -> int:
        dice = self.random.random()
        return 1 if dice < 0.6 else self.random.randint(2, 4 if dice < 0.9 else BATCH_MAX)

    def _send_of(self, queue: str) -> Send:
        self.number += 1
        delay_s = self.random.choice([1, 3, 8]) if self.random.random() < 0.15 else 0
        group = self.pick(*GROUPS) if self.random.random() < 0.2 else ""
        return Send(self.name, queue, body=f"{self.name}-{self.number}", delay_s=delay_s, group=group)

    def _fifo_send(self, queue: str) -> Send:
        """A new message, or one that was sent before and carries the same deduplication id."""
        mine = [send for send in self.history.sends if send.client == self.name and send.queue == queue]
        if mine and self.random.random() < 0.15:
            again = self.random.choice(mine)
            return Send(
                self.name,
                queue,
                body=again.body,
                group=again.group,
                deduplication_id=again.deduplication_id,
            )
        self.number += 1
        body = f"{self.name}-{self.number}"
        return Send(self.name, queue, body=body, group=self.pick(*GROUPS), deduplication_id=f"id-{body}")

    async def _send(self, queue: str, sends: list[Send]) -> None:
        acts: list[Act] = []
        for send in sends:
            send.acts = acts
        self.history.sends += sends
        entries = [_entry(index, send) for index, send in enumerate(sends)]
        if len(sends) == 1:
            del entries[0]["Id"]
            answer = await self.call("SendMessage", acts, QueueUrl=queue, **entries[0])
            answered = [answer.result] if answer.result is not None else []
        else:
            answer = await self.call("SendMessageBatch", acts, QueueUrl=queue, Entries=entries)
            answered = answer.result.get("Successful", ()) if answer.result is not None else []
        for send, result in zip(sends, answered, strict=False):
            send.answer = answer.act
            send.message_id = result["MessageId"]
            send.sequence = int(result.get("SequenceNumber", 0))


def _entry(index: int, send: Send) -> dict[str, Any]:
    entry: dict[str, Any] = {"Id": str(index), "MessageBody": send.body}
    if send.delay_s:
        entry["DelaySeconds"] = send.delay_s
    if send.group:
        entry["MessageGroupId"] = send.group
    if send.deduplication_id:
        entry["MessageDeduplicationId"] = send.deduplication_id
    return entry


class Consumer(Client):
    """Receives; then deletes, delays, gives back or forgets what it got."""

    async def act(self) -> None:
        queue = self.pick(*self.queues)
        attempt_id = ""
        if self.queues[queue].fifo and self.random.random() < 0.4:
            attempt_id = f"{self.name}-{self.operations}"
        timeout_s, wait_s = self.random.choice(_TIMEOUTS_S), self.random.choice([0, 0, 1, 5])
        received = await self.receive(queue, timeout_s, wait_s, attempt_id)
        to_delete = []
        for handed, handle in received:
            what = self.random.random()
            if what < 0.6:
                to_delete.append((handed, handle))
            elif what < 0.75:
                await self.change(handed, handle)
        if to_delete:
            if self.random.random() < 0.3:
                await asyncio.sleep(timeout_s * self.random.random() * 1.5)  # sometimes too long
            await self.delete(to_delete)

    async def receive(
        self, queue: str, timeout_s: int, wait_s: int, attempt_id: str = "", messages_max: int = 0
    ) -> list[tuple[Handed, str]]:
        receive = Receive(self.name, queue, timeout_s=timeout_s, attempt_id=attempt_id)
        self.history.unanswered.append(receive)
        optional = {"ReceiveRequestAttemptId": attempt_id} if attempt_id else {}
        answer = await self.call(
            "ReceiveMessage",
            receive.acts,
            QueueUrl=queue,
            MaxNumberOfMessages=messages_max or self.random.choice([1, 3, 10]),
            VisibilityTimeout=timeout_s,
            WaitTimeSeconds=wait_s,
            MessageSystemAttributeNames=SYSTEM_ATTRIBUTES,
            **optional,
        )
        if answer.result is None:
            return []
        receive.answer = answer.act
        self.history.receives.append(receive)
        received = []
        for message in answer.result.get("Messages", ()):
            attributes = message["Attributes"]
            handed = Handed(
                receive,
                message["MessageId"],
                message["Body"],
                int(attributes["ApproximateReceiveCount"]),
                attributes.get("MessageGroupId", ""),
                int(attributes.get("SequenceNumber", 0)),
            )
            receive.messages.append(handed)
            received.append((handed, message["ReceiptHandle"]))
        return received

    async def change(self, handed: Handed, handle: str) -> None:
        timeout_s = self.random.choice([0, 0, 1, 6, 20])
        change = Change(self.name, handed.receive.queue, timeout_s=timeout_s)
        handed.changes.append(change)
        # Too late, or deleted by somebody else with an older handle: that happens to right clients.
        allowed = ("MessageNotInflight", "InvalidParameterValue")
        answer = await self.call(
            "ChangeMessageVisibility",
            change.acts,
            *allowed,
            QueueUrl=handed.receive.queue,
            ReceiptHandle=handle,
            VisibilityTimeout=timeout_s,
        )
        change.answer = answer.act

    async def delete(self, received: list[tuple[Handed, str]]) -> None:
        queue, acts = received[0][0].receive.queue, list[Act]()
        deletes = [Delete(self.name, queue, acts, message_id=handed.message_id) for handed, _ in received]
        self.history.deletes += deletes
        if len(received) == 1:
            allowed = ("InvalidParameterValue",) if self.queues[queue].fifo else ()
            answer = await self.call(
                "DeleteMessage", acts, *allowed, QueueUrl=queue, ReceiptHandle=received[0][1]
            )
            deletes[0].answer = answer.act
            return
        entries = [{"Id": str(index), "ReceiptHandle": handle} for index, (_, handle) in enumerate(received)]
        answer = await self.call("DeleteMessageBatch", acts, QueueUrl=queue, Entries=entries)
        if answer.result is not None:
            for entry in answer.result.get("Successful", ()):
                deletes[int(entry["Id"])].answer = answer.act
            for entry in answer.result.get("Failed", ()):
                self._note_failure(deletes[int(entry["Id"])], entry, answer)

    def _note_failure(self, delete: Delete, entry: dict[str, Any], answer: CallResult) -> None:
        """Refused on its own: that act has not happened, but an earlier try may have."""
        delete.acts = [act for act in delete.acts if act is not answer.act]
        is_vanished = self.queues_vanish and entry["Code"] == "ReceiptHandleIsInvalid"
        if not self.queues[delete.queue].fifo and not is_vanished:
            self.refusals.append(f"{self.name}: a delete was refused with {entry['Code']}")


class Operator(Client):
    """Purges, moves dead letters back, and changes settings, now and then."""

    can_move = True

    async def act(self) -> None:
        what = self.random.random()
        if what < 0.12:
            await self.purge(self.pick(*self.queues))
        elif what < 0.25 and self.queues_vanish:
            await self.create_again(self.pick(*self.queues))
        elif what < 0.5 and self.can_move:
            await self.move()
        else:
            await self.configure(self.pick(*self.queues))

    async def purge(self, queue: str) -> None:
        clear = Clear(self.name, queue)
        self.history.clears.append(clear)
        clear.answer = (await self.call("PurgeQueue", clear.acts, QueueUrl=queue)).act

    async def create_again(self, queue: str) -> None:
        """Delete a queue, and make one of the same name: what was in the old one is gone."""
        if self.queues[queue].fifo:
            return  # the numbers of its messages would begin again, which no check could tell from disorder
        clear = Clear(self.name, queue)
        self.history.clears.append(clear)
        clear.answer = (await self.call("DeleteQueue", clear.acts, QueueUrl=queue)).act
        # A target that is missing just now is refused; whoever clears up at the end creates it.
        await self.call("CreateQueue", [], "InvalidParameterValue", **creation(queue, self.queues[queue]))

    async def move(self) -> None:
        letters = sorted(self.history.dead_letter_queues)
        if not letters:
            return
        queue = self.pick(*letters)
        move = Move(self.name, queue)
        self.history.moves.append(move)
        arn = f"arn:aws:sqs:us-east-1:000000000000:{queue}"
        # One that is at work already.
        allowed = ("UnsupportedOperation", "InvalidParameterValue", "ResourceNotFound")
        move.answer = (await self.call("StartMessageMoveTask", move.acts, *allowed, SourceArn=arn)).act
        if not move.acts:
            self.history.moves.remove(move)

    async def configure(self, queue: str) -> None:
        """Settings that no check depends on, as all clients say what they want themselves."""
        attributes = {"VisibilityTimeout": str(self.random.randrange(60))}
        await self.call("SetQueueAttributes", [], QueueUrl=queue, Attributes=attributes)
