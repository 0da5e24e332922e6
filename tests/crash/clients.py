"""Senders and receivers that outlive the server, and write down what they asked and were told."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from threading import Event, Thread
from typing import Any

from tests.crash.wires import NotHeard, Refused, Unknown, Wire
from tests.histories.history import Act, Call, Change, Delete, Handed, History, Receive, Send

LATE = ("available for visibility timeout change", "The receipt handle has expired", "isn't in flight")
"""What the server says of a handle whose time is over: no fault of anybody."""


@dataclass
class Shared:
    """What all clients share."""

    history: History
    up: Event = field(default_factory=Event)
    """The server listens."""
    over: Event = field(default_factory=Event)
    open_acts: list[Act] = field(default_factory=list)
    """Nobody waits for them any more, but the server may still do them."""
    goes_on: bool = False
    """What a client gave up may still be done, whatever it heard: other processes than the one that it
    talked to may be at it."""
    waiting_max: int = 150
    """Senders pause while so many more were sent to their queue than deleted, or the end would take long."""
    waiting: Counter[str] = field(default_factory=Counter)
    """Sent, and not deleted, more or less: in a queue and those that set messages aside for it."""

    def count(self, queue: str, more: int) -> int:
        """Note that so many more wait in a queue; returns how many do."""
        end = self.history.queues[queue].dead_letters_to or queue
        self.waiting[end] += more
        return self.waiting[end]

    def give_up(self, act: Act, *, may_go_on: bool) -> None:
        """Nobody waits for it any more."""
        if may_go_on or self.goes_on:
            self.open_acts.append(act)
        else:
            act.ended_s = time.monotonic()

    def server_has_died(self) -> None:
        """What was open will not happen any more."""
        while self.open_acts:
            self.open_acts.pop().ended_s = time.monotonic()


@dataclass
class Place:
    """A queue, and what its clients share."""

    url: str
    name: str
    shared: Shared
    answers: int = 0
    """That its clients were given: rises while the server serves."""
    resend: list[Send] = field(default_factory=list)
    """FIFO sends of unknown outcome, for another client to send again."""


class Client(Thread, ABC):
    """Repeats `act` until it is over. `errors` gets what no server may ever answer."""

    pauses_s: tuple[float, ...] = (0, 0.005, 0.02)
    """How long it may wait before it does the next thing."""

    def __init__(self, place: Place, wire: Wire, name: str, seed: str) -> None:
        super().__init__(name=name, daemon=True)
        self.place = place
        self.shared = place.shared
        self.history = place.shared.history
        self.wire = wire
        self.random = Random(f"{seed}/{name}")
        self.errors: list[str] = []
        self.unknown = 0
        """Requests of which nobody knows what became of them."""

    def run(self) -> None:
        try:
            while not self.shared.over.is_set():
                self._wait()
                self.act()
                self.shared.over.wait(self.random.choice(self.pauses_s))
        except BaseException as error:
            self.errors.append(f"{self.name}: {error!r}")
            raise

    @abstractmethod
    def act(self) -> None:
        """One step of its work."""

    def ask(self, operation: str, calls: Sequence[Call], **members: Any) -> dict[str, Any] | None:
        """Ask something of the queue, once or as often as the wire does; see `call`."""
        return self.call(operation, calls, {"QueueUrl": self.place.url, **members})

    def call(self, operation: str, calls: Sequence[Call], members: dict[str, Any]) -> dict[str, Any] | None:
        """Notes in the calls what became of it; returns the answer, if there was one."""
        acts: list[Act] = []

        def sending() -> None:
            if acts:
                self.shared.give_up(acts[-1], may_go_on=False)
            acts.append(Act(time.monotonic()))

        answer = None
        try:
            answer = self.wire.call(operation, members, sending)
            acts[-1].ended_s = time.monotonic()
            self.place.answers += 1
        except NotHeard:
            acts.pop()
        except Refused as refusal:
            acts.pop()
            self._note_refusal(str(refusal))
        except Unknown as unknown:
            self.unknown += 1
            self.shared.give_up(acts[-1], may_go_on=unknown.may_go_on)
        for call in calls:
            call.acts += acts
            call.answer = acts[-1] if answer is not None else None
        return answer

    def _note_refusal(self, text: str) -> None:
        if not any(late in text for late in LATE):
            self.errors.append(f"{self.name}: {text}")

    def ask_for_each(
        self, operation: str, calls: Sequence[Call], entries: list[dict[str, Any]]
    ) -> list[tuple[Any, Any]]:
        """The same for the entries of a batch, one for each call; returns those that succeeded, answered."""
        numbered = [{"Id": str(number), **entry} for number, entry in enumerate(entries)]
        answer = self.ask(operation, calls, Entries=numbered)
        if answer is None:
            return []
        for failed in answer.get("Failed", []):
            call = calls[int(failed["Id"])]
            call.answer = None
            if failed["SenderFault"]:
                call.acts.pop()
                self._note_refusal(str(failed))
        return [(calls[int(done["Id"])], done) for done in answer.get("Successful", [])]

    def _wait(self) -> None:
        while not self.shared.over.is_set() and not self.shared.up.wait(0.05):
            pass


class Sender(Client):
    """Sends messages with bodies of its own, singly and in batches, some of them delayed."""

    number = 0

    def act(self) -> None:
        if self.shared.count(self.place.name, 0) > self.shared.waiting_max:
            self.shared.over.wait(0.02)
            return
        sends = [self.new_send() for _ in range(self.random.choice([1, 1, 2, 5, 10]))]
        self.history.sends += sends
        self.send(sends)

    def new_send(self) -> Send:
        self.number += 1
        delay_s = self.random.choice([0, 0, 0, 0, 1, 2])
        return Send(self.name, self.place.name, body=self.new_body(), delay_s=delay_s)

    def new_body(self) -> str:
        return f"{self.name}-{self.number}+{self.random.choice([0, 200, 3_000])}"

    def send(self, sends: list[Send]) -> None:
        if len(sends) == 1:
            answer = self.ask("SendMessage", sends, **entry_of(sends[0]))
            done = [(sends[0], answer)] if answer is not None else []
        else:
            done = self.ask_for_each("SendMessageBatch", sends, [entry_of(send) for send in sends])
        for send, said in done:
            send.message_id, send.sequence = said["MessageId"], int(said.get("SequenceNumber", 0))
        self.shared.count(self.place.name, len(done))


def padded(body: str) -> str:
    """What is sent: a body stands in the history without its padding, of which it says the length."""
    return body + "x" * int(body.rpartition("+")[2] or 0)


def unpadded(text: str) -> str:
    """What stands in the history for a body that was received; something unheard-of when it is damaged."""
    body = text.rstrip("x")
    return body if text == padded(body) else text


def entry_of(send: Send) -> dict[str, Any]:
    if send.group:
        fifo = {"MessageGroupId": send.group, "MessageDeduplicationId": send.deduplication_id}
        return {"MessageBody": padded(send.body), **fifo}
    return {"MessageBody": padded(send.body), "DelaySeconds": int(send.delay_s)}


class FifoSender(Sender):
    """Sends each message again under its deduplication id until there is an answer.

    When it does not know what became of a message, it asks another client to send the same.
    """

    def new_send(self) -> Send:
        send = super().new_send()
        # New groups now and then, as customers come and go.
        send.group = f"group-{self.number // 100}-{self.random.randrange(12)}"
        send.deduplication_id = f"{self.name}-{self.number}"
        send.delay_s = 0
        return send

    def send(self, sends: list[Send]) -> None:
        missing = sends
        while missing and not self.shared.over.is_set():
            self._wait()
            super().send(missing)
            missing = [send for send in sends if send.answer is None]
            self.place.resend += missing[: self.random.randint(0, 2)]


class Resender(Sender):
    """Sends what others sent without an answer: another process that found the same work to do."""

    def act(self) -> None:
        if not self.place.resend:
            self.shared.over.wait(0.02)
            return
        first = self.place.resend.pop()
        again = Send(self.name, first.queue, body=first.body, group=first.group)
        again.deduplication_id = first.deduplication_id
        self.history.sends.append(again)
        self.send([again])


class Receiver(Client):
    """Receives; then deletes, delays, gives back or forgets what it got."""

    deletes = 0.65
    changes = 0.2

    def act(self) -> None:
        timeout_s = self.random.choice([1, 2, 2])
        to_delete = []
        for handed, handle in self.receive(timeout_s, wait_s=self.random.choice([0, 0, 0, 1])):
            what = self.random.random()
            if what < self.deletes:
                to_delete.append((handed, handle))
            elif what < self.deletes + self.changes:
                self.change(handed, handle)
        self.delete(to_delete)

    def receive(self, timeout_s: int, wait_s: int) -> list[tuple[Handed, str]]:
        receive = Receive(self.name, self.place.name, timeout_s=timeout_s)
        answer = self.ask(
            "ReceiveMessage",
            [receive],
            MaxNumberOfMessages=self.random.choice([1, 10, 10]),
            VisibilityTimeout=timeout_s,
            WaitTimeSeconds=wait_s,
            AttributeNames=["All"],
            **self.more_of(receive),
        )
        handed = [handed_out(receive, message) for message in (answer or {}).get("Messages", [])]
        receive.messages = [message for message, _ in handed]
        if handed:
            self.history.receives.append(receive)
        return handed

    def more_of(self, receive: Receive) -> dict[str, Any]:
        return {}

    def change(self, handed: Handed, handle: str) -> None:
        change = Change(self.name, self.place.name, timeout_s=self.random.choice([0, 1, 3]))
        timeout_s = int(change.timeout_s)
        self.ask("ChangeMessageVisibility", [change], ReceiptHandle=handle, VisibilityTimeout=timeout_s)
        if change.acts:
            handed.changes.append(change)

    def delete(self, received: list[tuple[Handed, str]]) -> None:
        deletes = [Delete(self.name, self.place.name, message_id=handed.message_id) for handed, _ in received]
        if len(received) == 1 or self.random.random() < 0.2:
            for delete, (_, handle) in zip(deletes, received, strict=True):
                self.ask("DeleteMessage", [delete], ReceiptHandle=handle)
        elif received:
            entries = [{"ReceiptHandle": handle} for _, handle in received]
            self.ask_for_each("DeleteMessageBatch", deletes, entries)
        self.history.deletes += deletes
        self.shared.count(self.place.name, -len(deletes))


def handed_out(receive: Receive, message: dict[str, Any]) -> tuple[Handed, str]:
    said = message["Attributes"]
    handed = Handed(
        receive,
        message["MessageId"],
        unpadded(message["Body"]),
        int(said["ApproximateReceiveCount"]),
        said.get("MessageGroupId", ""),
        int(said.get("SequenceNumber", 0)),
    )
    return handed, message["ReceiptHandle"]


class FifoReceiver(Receiver):
    """Repeats a receive that was not answered, as the same attempt."""

    number = 0
    deletes = 0.9
    changes = 0.07

    def receive(self, timeout_s: int, wait_s: int) -> list[tuple[Handed, str]]:
        self.number += 1
        while True:
            before = self.unknown
            received = super().receive(timeout_s, wait_s)
            if self.unknown == before or self.shared.over.is_set():
                return received
            self._wait()

    def more_of(self, receive: Receive) -> dict[str, Any]:
        receive.attempt_id = f"{self.name}-{self.number}"
        return {"ReceiveRequestAttemptId": receive.attempt_id}


class Forgetful(Receiver):
    """Deletes little: most of what it gets becomes a dead letter."""

    deletes = 0.2
    changes = 0.3


class ForgetfulFifo(FifoReceiver):
    """The same for messages with groups."""

    deletes = 0.2
    changes = 0.3


class Founder(Client):
    """Creates queues and deletes most of them; knows which have to be there."""

    number = 0

    def __init__(self, place: Place, wire: Wire, name: str, seed: str) -> None:
        super().__init__(place, wire, name, seed)
        self.there: dict[str, bool | None] = {}
        """By name; None when nobody knows."""

    def act(self) -> None:
        self.number += 1
        name = f"{self.name}-{self.number}"
        created, deleted = Call(self.name, name), Call(self.name, name)
        answer = self.call("CreateQueue", [created], {"QueueName": name})
        self._note(name, created, there=True)
        if answer is not None and self.random.random() < 0.8:
            self.call("DeleteQueue", [deleted], {"QueueUrl": answer["QueueUrl"]})
            self._note(name, deleted, there=False)
        self.shared.over.wait(0.03)

    def _note(self, name: str, call: Call, *, there: bool) -> None:
        if call.answer is not None:
            self.there[name] = there
        elif call.acts:
            self.there[name] = None

    def broken(self) -> list[str]:
        """Every queue that is not there, or is and should not be, or cannot be used; when all is well."""
        found: list[str] = []
        for name, expected in self.there.items():
            try:
                url = self.wire.call("GetQueueUrl", {"QueueName": name}, lambda: None)["QueueUrl"]
            except Refused:
                if expected:
                    found.append(f"the queue {name} was created and is not there")
                continue
            if expected is False:
                found.append(f"the queue {name} was deleted and is there")
            try:
                self.wire.call("SendMessage", {"QueueUrl": url, "MessageBody": name}, lambda: None)
                received = self.wire.call("ReceiveMessage", {"QueueUrl": url}, lambda: None)
                assert received["Messages"][0]["Body"] == name
            except (Refused, Unknown, KeyError, AssertionError) as error:
                found.append(f"the queue {name} is there and cannot be used: {error!r}")
        return found
