"""Queues that send each other dead letters, over shards that crash, and where each message has to be.

Three queues in two shards: "orders" and "last" in the first, "letters" in the second. What a carrier
does comes in single steps, any of which may be repeated or lost. A crash takes all that was not
committed; what clients and carriers are told, they are told only once it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.queues.oracle import check_invariants
from tests.queues.pure_shard import PureShard, run_now
from waystation.backend.recovery import recover
from waystation.queues.commands import (
    AcceptMessages,
    Arrival,
    ChangeVisibility,
    ConfigureQueue,
    CreateQueue,
    DeleteMessages,
    DeliveryOutdated,
    Entry,
    PurgeQueue,
    QueueSettings,
    Receipt,
    ReceiveMessages,
    ReleaseMessages,
    SendMessages,
    VisibilityChange,
)
from waystation.queues.state import Queue

PLACES = {"orders": 0, "letters": 1, "last": 0}
POLICIES = {"orders": (2, "letters"), "letters": (3, "last"), "last": (0, "")}


@dataclass
class Parcel:
    """Letters of one queue for one target, on their way."""

    source: str
    target: str
    arrivals: list[Arrival]
    is_accepted: bool = False


@dataclass
class Message:
    """What is known of a message by its body."""

    sent_at_ms: int
    receives: int = 0
    is_sent: bool = False
    is_deleted: bool = False
    may_be_gone: bool = False


@dataclass
class Node:
    """A shard, and what will be true once its records are committed."""

    shard: PureShard = field(default_factory=PureShard)
    promised: list[tuple[int, Callable[[], None]]] = field(default_factory=list)
    received: Counter[bytes] = field(default_factory=Counter)
    """Receives that are not committed yet."""
    epoch: int = 1
    deliveries: int = 0
    """In this epoch."""


class LetterWorld:
    """`at` picks one of what there is to pick from."""

    def __init__(self) -> None:
        self.nodes = [Node(), Node()]
        self.numbers: dict[str, int] = {}
        self.messages: dict[bytes, Message] = {}
        self.receipts: list[tuple[str, Receipt, bytes]] = []
        self.parcels: dict[tuple[str, str], Parcel] = {}
        self.settled: dict[tuple[str, str], list[int]] = {}
        self.late: list[tuple[str, AcceptMessages]] = []
        """All that targets were asked to accept, or are to be asked later: a copy may come at any time."""
        self.now_ms = 1_700_000_000_000
        for name, place in PLACES.items():
            node = self.nodes[place]
            made: Any = node.shard.do(CreateQueue(_settings(name, *POLICIES[name])), self.now_ms)
            node.shard.commit()
            self.numbers[name] = made.queue

    def name(self, at: int) -> str:
        return sorted(PLACES)[at % len(PLACES)]

    def node(self, name: str) -> Node:
        return self.nodes[PLACES[name]]

    def queue(self, name: str) -> Queue:
        return self.node(name).shard.state.queues[self.numbers[name]]

    def _do(self, name: str, command: Any, then: Callable[[], None] | None = None) -> Any:
        """Do a command; `then` happens once what it did is committed."""
        node = self.node(name)
        answer = node.shard.do(command, self.now_ms)
        if then is not None:
            node.promised.append((node.shard.position, then))
        self._tell(node)
        return answer

    def _tell(self, node: Node) -> None:
        committed = node.shard.log.position
        for position, then in node.promised:
            if position <= committed:
                then()
        node.promised = [each for each in node.promised if each[0] > committed]

    def commit(self, place: int) -> None:
        node = self.nodes[place % 2]
        node.shard.commit()
        # What changed nothing is also true when everything before it is committed.
        for _, then in node.promised:
            then()
        node.promised = []

    # Clients

    def send(self, at: int, messages: int, delay_ms: int) -> None:
        name = self.name(at)
        bodies = [b"message %d" % (len(self.messages) + number) for number in range(messages)]
        self.messages |= {body: Message(self.now_ms) for body in bodies}

        def sent() -> None:
            for body in bodies:
                self.messages[body].is_sent = True

        self._do(name, SendMessages(self.numbers[name], [Entry(body, delay_ms) for body in bodies]), sent)

    def receive(self, at: int, messages_max: int, timeout_ms: int) -> None:
        name, node = self.name(at), self.node(self.name(at))
        received = self._do(name, ReceiveMessages(self.numbers[name], messages_max, timeout_ms)).messages
        policy = self.queue(name).settings
        for each in received:
            known = self.messages[each.envelope]
            assert not known.is_deleted, "a deleted message came back"
            assert each.sent_at_ms == known.sent_at_ms
            assert each.receive_count == known.receives + node.received[each.envelope] + 1
            assert each.receive_count <= (policy.receive_count_max or 10**9)
            node.received[each.envelope] += 1
            receipt = Receipt(each.sequence, each.receive_count)
            node.promised.append((node.shard.position, self._receipt_of(name, receipt, each.envelope)))

    def _receipt_of(self, name: str, receipt: Receipt, body: bytes) -> Callable[[], None]:
        def known() -> None:
            self.node(name).received[body] -= 1
            self.messages[body].receives += 1
            self.receipts.append((name, receipt, body))

        return known

    def delete(self, at: int) -> None:
        name, receipt, body = self.receipts[at % len(self.receipts)]
        queue = self.queue(name)
        effective = receipt.sequence in queue.messages and receipt.sequence not in queue.aside

        def deleted() -> None:
            self.messages[body].is_deleted |= effective

        self._do(name, DeleteMessages(queue.number, [receipt]), deleted)

    def give_back(self, at: int) -> None:
        name, receipt, _ = self.receipts[at % len(self.receipts)]
        self._do(name, ChangeVisibility(self.numbers[name], [VisibilityChange(receipt, 0)]))

    def purge(self, at: int) -> None:
        name = self.name(at)
        for body, _ in self.bodies(name):
            self.messages[body].may_be_gone = True
        self._do(name, PurgeQueue(self.numbers[name], 0))

    def configure(self, at: int, receive_count_max: int, target_at: int) -> None:
        name, target = self.name(at), self.name(target_at)
        policy = (receive_count_max, target) if receive_count_max and target != name else (0, "")
        self._do(name, ConfigureQueue(self.numbers[name], _settings(name, *policy)))

    # The steps of a carrier

    def look(self, at: int) -> None:
        """Read what is set aside for one target: durable before, and nothing else is on its way there."""
        name = self.name(at)
        queue, shard = self.queue(name), self.node(name).shard
        self.commit(PLACES[name])
        for target in dict.fromkeys(queue.aside_targets.values()):
            letters = [each for at, each in queue.aside.items() if queue.aside_targets[at] == target]
            arrivals = [
                Arrival(
                    each.sequence,
                    each.sent_at_ms,
                    each.receive_count,
                    shard.envelope(queue.number, each.sequence, each.record),
                )
                for each in letters[:3]
            ]
            self.parcels[name, target] = Parcel(name, target, arrivals)

    def deliver(self, at: int, is_late: bool = False) -> None:
        parcel = self._parcel(at)
        if parcel is None:
            return
        source, node = (PLACES[parcel.source], self.numbers[parcel.source]), self.node(parcel.source)
        settled = self.settled.get((parcel.source, parcel.target), [])
        node.deliveries += 1
        delivery = (node.epoch, node.deliveries)

        def accepted() -> None:
            parcel.is_accepted = True

        command = AcceptMessages(self.numbers[parcel.target], *source, parcel.arrivals, settled, delivery)
        self.late.append((parcel.target, command))
        if not is_late:
            self._do(parcel.target, command, accepted)

    def deliver_late(self, at: int) -> None:
        """What was asked for long ago, comes once more or for the first time."""
        if self.late:
            with suppress(DeliveryOutdated):
                self._do(*self.late[at % len(self.late)])

    def release(self, at: int) -> None:
        parcel = self._parcel(at)
        if parcel is None or not parcel.is_accepted:
            return
        sequences = [each.sequence for each in parcel.arrivals]
        route = (parcel.source, parcel.target)
        del self.parcels[route]

        def settled() -> None:
            self.settled[route] = sequences

        self._do(parcel.source, ReleaseMessages(self.numbers[parcel.source], sequences), settled)

    def _parcel(self, at: int) -> Parcel | None:
        routes = sorted(self.parcels)
        return self.parcels[routes[at % len(routes)]] if routes else None

    # What happens to shards

    def crash(self, place: int) -> None:
        """All that was not committed is lost, and all that the shard's carrier knew."""
        node = self.nodes[place % 2]
        node.promised = []
        node.received.clear()
        node.shard.open = []
        node.shard.state = run_now(recover(node.shard.log))
        node.epoch, node.deliveries = node.epoch + 1, 0
        here = {name for name, each in PLACES.items() if each == place % 2}
        self.parcels = {route: each for route, each in self.parcels.items() if route[0] not in here}
        self.settled = {route: each for route, each in self.settled.items() if route[0] not in here}

    def snapshot(self, place: int, truncate: bool) -> None:
        node = self.nodes[place % 2]
        node.shard.snapshot()
        self._tell(node)
        if truncate:
            node.shard.truncate()

    def relocate(self, place: int, records: int) -> None:
        node = self.nodes[place % 2]
        node.shard.relocate(records, self.now_ms)
        self._tell(node)

    def load(self, at: int) -> None:
        self.node(self.name(at)).shard.load(self.queue(self.name(at)))
        self._tell(self.node(self.name(at)))

    # What always holds, and what holds in the end

    def check(self) -> None:
        for node in self.nodes:
            for queue in node.shard.state.queues.values():
                check_invariants(queue)

    def bodies(self, name: str) -> list[tuple[bytes, list[int]]]:
        """The bodies and rows of a queue's messages.

        One that went round may be here and also still be set aside, until that is released.
        """
        shard = self.node(name).shard
        *_, rows = shard.contents(shard.state, self.now_ms)[self.numbers[name]]
        self._tell(self.node(name))
        return [(shard.envelope(self.numbers[name], at, row[1]), row) for at, row in rows.items()]

    def settle(self) -> None:
        """Let carriers work until nothing is on its way."""
        for _ in range(1_000):
            for place in (0, 1):
                self.commit(place)
            for at in range(len(PLACES)):
                self.look(at)
            if not any(queue.aside for node in self.nodes for queue in node.shard.state.queues.values()):
                return
            for _ in range(len(self.parcels)):
                self.deliver(0)
                self.commit(0)
                self.commit(1)
                self.release(0)
        raise AssertionError("letters are on their way for ever")

    def check_all(self) -> None:
        """Each message that should be somewhere is in one place; no message is in two."""
        self.settle()
        for at in range(len(self.late)):
            self.deliver_late(at)
        self.settle()
        places: Counter[bytes] = Counter()
        for name in PLACES:
            for body, row in self.bodies(name):
                places[body] += 1
                known = self.messages[body]
                assert row[3] == known.sent_at_ms
                assert row[6] == known.receives
        for body, known in self.messages.items():
            if known.is_deleted:
                assert places[body] == 0, f"{body!r} was deleted"
            elif known.is_sent and not known.may_be_gone:
                assert places[body] == 1, f"{body!r} is in {places[body]} places"
            else:
                assert places[body] <= 1, f"{body!r} is in {places[body]} places"


def _settings(name: str, receive_count_max: int, target: str) -> QueueSettings:
    return QueueSettings(name, receive_count_max=receive_count_max, dead_letter_target=target)
