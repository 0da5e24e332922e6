"""The ways of a node of a simulated cluster: to the NATS servers, and to the other nodes.

A process that is killed gets and sends nothing more; one that is stopped for a while finds all that has come
when it goes on. What was on its way to another arrives all the same, if nothing is cut between the two.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from tests.simulation.nats import LATE_S, Consumer, Message, Nats
from tests.simulation.network import Network
from waystation.cluster.codec import SHARD_COMMAND, ShardLink
from waystation.cluster.transport_client import NotDone, OutcomeUnknown
from waystation.cluster.transport_connection import CallRefused
from waystation.log.nats import NatsConnection, NatsFailure, NoAnswer, NotDelivered
from waystation.log.settings import NatsSettings

SERVERS = "nats"
"""What the network calls all NATS servers."""
_NOTICED_S = 3.0
"""After which a broken link is known to be one; until then, calls go into the void."""


class _Room:
    def has_room(self) -> bool:
        return True

    def note_full(self) -> None:
        """Servers have room in all runs."""


class _Subscriptions:
    """What the cluster's bucket needs of nats-py's client."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Callable[[Any], Any]] = {}
        self._inboxes = 0

    def new_inbox(self) -> str:
        self._inboxes += 1
        return f"_INBOX.{self._inboxes}"

    async def subscribe(self, inbox: str, cb: Callable[[Any], Any]) -> _Subscription:
        self.callbacks[inbox] = cb
        return _Subscription(self.callbacks, inbox)

    def hand(self, inbox: str, message: Message) -> None:
        callback = self.callbacks.get(inbox)
        if callback is not None:
            try:
                callback(message).send(None)
            except StopIteration:
                return
            raise AssertionError("more waits than a watch takes")


class _Subscription:
    def __init__(self, callbacks: dict[str, Any], inbox: str) -> None:
        self._callbacks, self._inbox = callbacks, inbox

    async def unsubscribe(self) -> None:
        self._callbacks.pop(self._inbox, None)


class SimulatedConnection(NatsConnection):
    """The connection of one process. All above its raw requests is the program's own."""

    def __init__(self, name: str, nats: Nats, network: Network) -> None:
        super().__init__(NatsSettings())
        self._name = name
        self._nats = nats
        self._network = network
        self._subscriptions = _Subscriptions()
        self._loop = asyncio.get_running_loop()
        self.room = _Room()  # type: ignore[assignment]
        self.is_dead = False
        self.is_stuck = False
        """Its server is cut off from the others, until it changes to another."""

    @property
    def client(self) -> Any:
        return self._subscriptions

    @property
    def is_cut(self) -> bool:
        return self.is_stuck or self.is_dead or self._network.is_cut(self._name, SERVERS)

    async def change_server(self) -> None:
        self.is_stuck = False

    def die(self) -> None:
        self.is_dead = True

    async def ask(
        self,
        subject: str,
        payload: bytes = b"",
        headers: dict[str, Any] | None = None,
        timeout_s: float = 1.0,
    ) -> Any:
        if self.is_dead:
            raise NotDelivered("the process is dead")
        answer = self._loop.create_future()
        nats = self._nats
        if not self.is_cut and not nats.chance(nats.weather.lost):
            delay_s = nats.delay_s()
            if nats.chance(nats.weather.late):
                nats.late += 1
                delay_s += nats.random.uniform(*LATE_S)
            arrive = partial(nats.take, subject, payload, headers or {}, self, partial(self._reply, answer))
            self._loop.call_later(delay_s, arrive, context=nats.context)
        timer = self._loop.call_later(timeout_s, _give_up, answer, subject)
        try:
            message = await answer
        finally:
            timer.cancel()
        if subject.startswith("$JS.API.CONSUMER.CREATE."):
            self._consume(subject.rpartition(".")[2], json.loads(payload)["config"])
        return message

    def _reply(self, answer: asyncio.Future[Any], message: Message | None) -> None:
        if not self.is_cut and not self._nats.chance(self._nats.weather.lost):
            self._loop.call_later(self._nats.delay_s(), _settle, answer, message, context=self._nats.context)

    def _consume(self, stream: str, configuration: Mapping[str, Any]) -> None:
        inbox = configuration["deliver_subject"]

        def deliver(message: Message, at_s: float) -> bool:
            if inbox not in self._subscriptions.callbacks or self.is_dead:
                return False
            if not self.is_cut:
                self._loop.call_at(at_s, self._subscriptions.hand, inbox, message, context=self._nats.context)
            return True

        prefix = configuration["filter_subject"].removesuffix(">")
        self._nats.consume(self._nats.streams[stream], Consumer(prefix, deliver))

    async def ask_many(
        self, subject: str, payload: bytes, is_last: Callable[[Any], bool], timeout_s: float = 1.0
    ) -> Any:
        """Only to read directly, from any replica."""
        nats = self._nats
        if self.is_dead:
            raise NoAnswer("the process is dead")
        if self.is_cut or nats.chance(nats.weather.lost):
            await asyncio.sleep(timeout_s)
            return [], False
        await asyncio.sleep(nats.delay_s() * 2)
        if self.is_dead:
            raise NoAnswer("the process is dead")
        return nats.direct_many(subject.rpartition(".")[2], json.loads(payload)), True


def _give_up(answer: asyncio.Future[Any], subject: str) -> None:
    if not answer.done():
        answer.set_exception(NoAnswer(f"no answer to {subject}"))


def _settle(answer: asyncio.Future[Any], message: Message | None) -> None:
    if answer.done():
        return
    if message is None:
        failure: NatsFailure = NotDelivered("nobody is there")
        answer.set_exception(failure)
    else:
        answer.set_result(message)


# From node to node


class Peer(Protocol):
    """A node, as others see it."""

    name: str
    context: Any
    life: int
    """How often it was started."""
    handler: Callable[[int, bytes], asyncio.Future[bytes]] | None
    """None while nobody listens."""


class LinkCall(asyncio.Future[Any]):
    """A call on its way, and the future of its answer. Cancelling it tells the other side."""

    def __init__(self, tell: Callable[[LinkCall], None]) -> None:
        super().__init__()
        self._tell = tell
        self.inside: asyncio.Future[bytes] | None = None

    def cancel(self, msg: Any | None = None) -> bool:
        was_waiting = super().cancel(msg)
        if was_waiting:
            self._tell(self)
        return was_waiting


class SimulatedLink:
    """What `ShardLink` needs of a `Link`, over the simulated network."""

    def __init__(self, me: Peer, peer: Peer, network: Network) -> None:
        self._me = me
        self._peer = peer
        self._network = network
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self._calls: dict[LinkCall, int] = {}
        self._is_closed = False

    # What is known of the other

    def _look(self) -> bool:
        """Whether the other is there, as far as one can know."""
        now_s = self._loop.time()
        if not self._network.is_cut(self._me.name, self._peer.name):
            if self._peer.handler is None:
                return False
            if not self._network.is_stopped(self._peer.name):
                self._heard_s = now_s
        return now_s - self._heard_s < _NOTICED_S

    @property
    def last_heard_s(self) -> float:
        self._look()
        return self._loop.time() - self._heard_s

    @property
    def is_refused(self) -> bool:
        return self._peer.handler is None and not self._network.is_cut(self._me.name, self._peer.name)

    # Calls

    def call(
        self,
        kind: int,
        payload: bytes,
        timeout_s: float,
        read: Callable[[bytes], Any],
        refuse: Callable[[bytes], Exception],
        late: Callable[[Any], None] | None = None,
    ) -> LinkCall:
        call = LinkCall(self._cancel)
        if self._is_closed or not self._look():
            call.set_exception(NotDone("The node cannot be reached."))
            return call
        assert kind == SHARD_COMMAND
        self._calls[call] = self._peer.life
        self._loop.call_later(timeout_s, self._fail, call, "The node has not answered in time.")
        if not self._network.loses(self._me.name, self._peer.name):
            deadline_s = self._loop.time() + timeout_s
            arrive = partial(self._arrive, call, self._peer.life, payload, deadline_s, read, refuse, late)
            self._loop.call_later(self._network.delay_s(), arrive, context=self._peer.context)
        return call

    def _fail(self, call: LinkCall, reason: str) -> None:
        self._calls.pop(call, None)
        if not call.done():
            call.set_exception(OutcomeUnknown(reason))

    def peer_died(self) -> None:
        """Its connections are closed. What was on its way to it may reach its successor's machine, not it."""
        for call, life in list(self._calls.items()):
            if life == self._peer.life:
                self._fail(call, "The connection was lost.")

    def _arrive(
        self,
        call: LinkCall,
        life: int,
        payload: bytes,
        deadline_s: float,
        read: Callable[[bytes], Any],
        refuse: Callable[[bytes], Exception],
        late: Callable[[Any], None] | None,
    ) -> None:
        handler = self._peer.handler
        if handler is None or life != self._peer.life:
            return  # its connection is gone
        back = partial(self._return, call, read, refuse, late)
        if self._loop.time() >= deadline_s:
            return  # it does not begin, and nobody waits any more
        try:
            call.inside = inside = handler(SHARD_COMMAND, payload)
        except CallRefused as refusal:
            self._send_back(partial(back, None, refusal))
            return
        inside.add_done_callback(partial(self._done, back))

    def _done(self, back: Callable[..., None], inside: asyncio.Future[bytes]) -> None:
        if inside.cancelled():
            return
        error = inside.exception()
        self._send_back(partial(back, None if error else inside.result(), error))

    def _send_back(self, back: Callable[[], None]) -> None:
        if not self._network.loses(self._peer.name, self._me.name):
            self._loop.call_later(self._network.delay_s(), back, context=self._me.context)

    def _return(
        self,
        call: LinkCall,
        read: Callable[[bytes], Any],
        refuse: Callable[[bytes], Exception],
        late: Callable[[Any], None] | None,
        answer: bytes | None,
        error: Exception | None,
    ) -> None:
        self._calls.pop(call, None)
        if self._is_closed:
            return
        if call.done():
            if late is not None and answer is not None:
                late(read(answer))
        elif answer is not None:
            call.set_result(read(answer))
        elif isinstance(error, CallRefused):
            call.set_exception(refuse(error.payload))
        else:
            call.set_exception(OutcomeUnknown(f"The node has failed: {error!r}"))

    def _cancel(self, call: LinkCall) -> None:
        if not self._network.loses(self._me.name, self._peer.name):
            self._loop.call_later(
                self._network.delay_s(),
                lambda: call.inside.cancel() if call.inside is not None else None,
                context=self._peer.context,
            )

    def close(self) -> None:
        self._is_closed = True
        for call in list(self._calls):
            self._fail(call, "The link to the node is closed.")


class SimulatedLinks:
    """The links of one node to all others, and what they tell of who is alive."""

    def __init__(self, me: Peer, peers: Mapping[str, Peer], network: Network) -> None:
        self._me, self._peers, self._network = me, peers, network
        self._links: dict[str, tuple[SimulatedLink, ShardLink]] = {}

    def _link(self, address: str) -> tuple[SimulatedLink, ShardLink]:
        if address not in self._links:
            link = SimulatedLink(self._me, self._peers[address], self._network)
            self._links[address] = (link, ShardLink(link))  # type: ignore[arg-type]
        return self._links[address]

    def to(self, address: str) -> ShardLink:
        return self._link(address)[1]

    def heard_s(self, node: str) -> float | None:
        return self._link(node)[0].last_heard_s

    def is_refused(self, node: str) -> bool:
        return self._link(node)[0].is_refused

    def peer_died(self, name: str) -> None:
        if name in self._links:
            self._links[name][0].peer_died()

    def close(self) -> None:
        for link, _ in self._links.values():
            link.close()
