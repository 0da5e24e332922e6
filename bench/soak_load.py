"""The mixed load of the long run: what clients do all day, at a steady rate, each message accounted for.

Every flow has a queue, senders that send when a message is due, and consumers that take what comes.
A sender that is late catches up and its latency counts from when the message was due. A message is known
from before its send until its delete is answered, and no longer: memory holds what is on its way.
Consumers run until all of it has come.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from urllib.parse import urlsplit

import msgspec

from bench.channel import Channel
from bench.connection import Meter, no_latencies
from bench.driver import percentile_ms
from bench.signing import Signer

VISIBILITY_TIMEOUT_S = 60
"""Far longer than any consumer here works, so that a second receive is a fault and no accident."""
DRAIN_S = 60.0
"""For the queues to become empty once nothing is sent any more."""
BACKLOG_MAX = 50_000
"""Past this many on their way, senders wait, and are late: what cannot be kept up with shows in
latencies, and fills neither this side's memory nor the disk."""
CHURN_S = 2.0
"""Between two queues that are made and deleted."""
FAULTS_SHOWN = 10
_CLOCK_GRAIN_S = 0.002
"""The server counts whole milliseconds, of another clock than this side's."""
_AFTER_A_FAULT_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Flow:
    """One kind of traffic on a queue of its own."""

    name: str
    share: float
    """Of all messages, together with the other flows' shares."""
    workers: int = 2
    """Senders, and as many consumers: enough to keep up when answers take 10 ms."""
    batch: int = 1
    body_bytes: int = 256
    groups: int = 0
    """Message groups of a FIFO queue, a multiple of `workers`; 0 for a standard queue."""
    repeat_every: int = 0
    """One send in so many is made twice, with the same deduplication ids."""
    delay_s_max: int = 0
    wait_s: int = 5
    """How long a consumer polls that has just found nothing."""
    is_kept: bool = True
    """Whether connections are kept; otherwise each call opens one."""
    give_back_every: int = 0
    """One message in so many is first made visible again, and the others are hidden for longer."""
    poison_every: int = 0
    """One message in so many is given back whenever it is received, until it is a dead letter."""


FLOWS = (
    Flow(name="singles", share=0.15, workers=16),
    Flow(name="batches", share=0.62, workers=8, batch=10),
    Flow(name="fifo", share=0.12, workers=4, batch=5, groups=300, repeat_every=10),
    Flow(name="delayed", share=0.05, workers=8, delay_s_max=10),
    Flow(name="visibility", share=0.03, workers=8, give_back_every=2),
    Flow(name="poison", share=0.02, workers=4, poison_every=4),
    Flow(name="short-lived", share=0.005, is_kept=False),
    Flow(name="waited-for", share=0.004, workers=16, wait_s=2),
    Flow(name="large", share=0.001, body_bytes=100_000),
)
RECEIVE_COUNT_MAX = 3
"""Of the queue with poison."""


class _Message(msgspec.Struct):
    handle: str = msgspec.field(name="ReceiptHandle")
    body: str = msgspec.field(name="Body")


class _Received(msgspec.Struct):
    messages: list[_Message] = msgspec.field(name="Messages", default_factory=list)


class _Batch(msgspec.Struct):
    failed: list[object] = msgspec.field(name="Failed", default_factory=list)


_decode_received = msgspec.json.Decoder(_Received).decode
_decode_batch = msgspec.json.Decoder(_Batch).decode


class Ledger:
    """Which messages of a flow are on their way, and how often each was received."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._received: dict[int, int] = {}
        self._last_of_group: dict[int, int] = {}
        self.sent = 0
        self.deleted = 0

    @property
    def backlog(self) -> int:
        return len(self._received)

    def expect(self, numbers: range) -> None:
        """Messages are about to be sent: they may be received before the send is answered."""
        self._received.update(dict.fromkeys(numbers, 0))

    def receive(self, number: int, age_s: float) -> str | None:
        """Note a message that came; returns what is wrong with that."""
        flow = self._flow
        times = self._received.get(number)
        if times is None:
            return f"{flow.name}: message {number} was received after its delete, or never sent"
        self._received[number] = times + 1
        if times and not flow.poison_every and not flow.give_back_every:
            return f"{flow.name}: message {number} was received a second time"
        if flow.delay_s_max and age_s < delay_s(flow, number) - _CLOCK_GRAIN_S:
            return f"{flow.name}: message {number} was received {age_s:.6f} s after its send"
        if flow.groups:
            group = number % flow.groups
            if number < self._last_of_group.get(group, -1):
                return f"{flow.name}: message {number} was received after a later one of its group"
            self._last_of_group[group] = number
        return None

    def is_to_be_given_back(self, number: int) -> bool:
        """Whether a message that has come is made visible again instead of being deleted."""
        flow = self._flow
        if flow.poison_every:
            return number % flow.poison_every == 0
        first = self._received.get(number) == 1
        return first and flow.give_back_every > 0 and number % flow.give_back_every == 0

    def delete(self, number: int) -> None:
        """A delete was answered."""
        if self._received.pop(number, None) is not None:
            self.deleted += 1


def delay_s(flow: Flow, number: int) -> int:
    """From 1 second to the flow's maximum."""
    return 1 + number % flow.delay_s_max


class Load:
    """All flows on one server.

    Lifecycle: build it (no I/O), `await run()` once; `take` may be called meanwhile.
    """

    def __init__(self, url: str, messages_per_s: float) -> None:
        self._url = url
        self._rate = messages_per_s
        host = urlsplit(url).netloc
        self._signer = Signer(host, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
        self._meter = Meter()
        self._queues: dict[str, str] = {}
        self._taken = (0, 0, perf_counter())
        self.ledgers = {flow.name: Ledger(flow) for flow in FLOWS}
        self.queues_churned = 0
        self.faults = 0
        self.first_faults: list[str] = []
        self.left: dict[str, int] = {}
        """By queue, the messages that the server still counts at the end."""

    @property
    def sent(self) -> int:
        return sum(ledger.sent for ledger in self.ledgers.values())

    @property
    def deleted(self) -> int:
        return sum(ledger.deleted for ledger in self.ledgers.values())

    @property
    def backlog(self) -> int:
        return sum(ledger.backlog for ledger in self.ledgers.values())

    def fault(self, text: str) -> None:
        """Something happened that must not. Only the first few are kept in words."""
        self.faults += 1
        if len(self.first_faults) < FAULTS_SHOWN:
            self.first_faults.append(text)

    def take(self) -> dict[str, float | None]:
        """What clients saw since the last call; a latency that nothing had is None."""
        latencies, self._meter.latencies = self._meter.latencies, no_latencies()
        merged = no_latencies()
        for operation, seconds in latencies.items():
            name = _SERIES.get(operation)
            if name is not None:
                merged[name].extend(seconds)
        p50, p99 = percentile_ms(merged, 0.50), percentile_ms(merged, 0.99)
        sent, deleted, at = self._taken
        self._taken = (self.sent, self.deleted, perf_counter())
        seconds_passed = self._taken[2] - at
        seen: dict[str, float | None] = {
            "sent_per_s": (self._taken[0] - sent) / seconds_passed,
            "deleted_per_s": (self._taken[1] - deleted) / seconds_passed,
            "backlog": self.backlog,
            "faults": self.faults,
        }
        for name in dict.fromkeys(_SERIES.values()):
            seen[f"{name}_p50_ms"], seen[f"{name}_p99_ms"] = p50.get(name), p99.get(name)
        return seen

    async def prepare(self) -> None:
        """Make the queues. Raises what `Channel.call` raises."""
        channel = self._channel()
        dead = await self._create(channel, "dead", {})
        policy = {"deadLetterTargetArn": await self._arn(channel, dead), "maxReceiveCount": RECEIVE_COUNT_MAX}
        for flow in FLOWS:
            attributes = {"FifoQueue": "true"} if flow.groups else {}
            if flow.poison_every:
                attributes["RedrivePolicy"] = json.dumps(policy)
            await self._create(channel, flow.name + (".fifo" if flow.groups else ""), attributes, flow.name)
        channel.close()

    async def run(self, seconds: float) -> None:
        """Send for so long, then receive until nothing is left, or `DRAIN_S` have passed."""
        ends_at = perf_counter() + seconds
        async with asyncio.TaskGroup() as group:
            consumers = [group.create_task(step) for step in self._all_consumers()]
            senders = [group.create_task(step) for step in self._all_senders(ends_at)]
            await asyncio.wait(senders)
            await self._drain()
            for consumer in consumers:
                consumer.cancel()

    def _all_consumers(self) -> Iterator[Coroutine[object, object, None]]:
        for flow in FLOWS:
            for _ in range(flow.workers):
                yield self._consume(flow, flow.name)
            if flow.poison_every:
                yield self._consume(flow, "dead")

    def _all_senders(self, ends_at: float) -> Iterator[Coroutine[object, object, None]]:
        yield self._churn(ends_at)
        for flow in FLOWS:
            for index in range(flow.workers):
                yield self._send_steadily(flow, index, ends_at)

    async def _drain(self) -> None:
        give_up_at = perf_counter() + DRAIN_S
        while self.backlog and perf_counter() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        channel = self._channel()
        for name in self._queues:
            self.left[name] = await self._count(channel, name)
        channel.close()

    # Senders

    async def _send_steadily(self, flow: Flow, index: int, ends_at: float) -> None:
        """One sender: at random (Poisson) moments, each as if it knew nothing of how fast answers come."""
        chance = random.Random(f"{flow.name} {index}")
        weights = sum(other.share for other in FLOWS)
        sends_per_s = self._rate * flow.share / weights / flow.batch / flow.workers
        channel = self._channel(is_kept=flow.is_kept)
        # Senders number their messages in turn, so that a message group has one sender.
        due, turn = perf_counter() + chance.expovariate(sends_per_s), index
        while max(due, perf_counter()) < ends_at:
            if (early_s := due - perf_counter()) > 0:
                await asyncio.sleep(early_s)
            while self.backlog > BACKLOG_MAX and perf_counter() < ends_at:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            numbers = range(turn, turn + flow.batch * flow.workers, flow.workers)
            await self._guarded(partial(self._send, flow, channel, numbers, due))
            turn = numbers.stop
            due += chance.expovariate(sends_per_s)
        channel.close()

    async def _send(self, flow: Flow, channel: Channel, numbers: range, due: float) -> None:
        ledger = self.ledgers[flow.name]
        ledger.expect(numbers)
        entries = [self._entry(flow, number) for number in numbers]
        turn = numbers.start // (flow.batch * flow.workers)
        is_repeated = flow.repeat_every > 0 and turn % flow.repeat_every == 0
        for _ in range(2 if is_repeated else 1):
            if flow.batch == 1:
                await channel.call("SendMessage", self._on(flow.name, **entries[0]), due)
            else:
                await self._batch(channel, "SendMessageBatch", flow.name, entries, due)
            due = perf_counter()
        ledger.sent += len(numbers)

    def _entry(self, flow: Flow, number: int) -> dict[str, object]:
        text = f"{number} {perf_counter():.6f} "
        entry: dict[str, object] = {"MessageBody": text.ljust(flow.body_bytes, "x")}
        if flow.groups:
            entry["MessageGroupId"] = str(number % flow.groups)
            entry["MessageDeduplicationId"] = str(number)
        if flow.delay_s_max:
            entry["DelaySeconds"] = delay_s(flow, number)
        return entry

    async def _churn(self, ends_at: float) -> None:
        """Make a queue, use it, and delete it with some messages received and some not."""
        channel = self._channel()
        while perf_counter() < ends_at:
            await self._guarded(partial(self._live_and_die, channel))
            await asyncio.sleep(min(CHURN_S, max(ends_at - perf_counter(), 0)))
        channel.close()

    async def _live_and_die(self, channel: Channel) -> None:
        self.queues_churned += 1
        name = f"churn-{self.queues_churned}"
        await self._create(channel, name, {})
        await self._batch(channel, "SendMessageBatch", name, [{"MessageBody": "x" * 256}] * 10, None)
        received = await channel.call("ReceiveMessage", self._on(name, MaxNumberOfMessages=5))
        if not _decode_received(received).messages:
            self.fault(f"{name}: nothing was received of ten messages")
        await channel.call("DeleteQueue", self._on(name))
        del self._queues[name]

    # Consumers

    async def _consume(self, flow: Flow, queue: str) -> None:
        """Take what is there at once; poll only when there was nothing."""
        channel = self._channel(is_kept=flow.is_kept)
        wait_s = 0

        async def take_some() -> None:
            nonlocal wait_s
            asked = self._on(queue, MaxNumberOfMessages=flow.batch, WaitTimeSeconds=wait_s)
            began = perf_counter()
            messages = _decode_received(await channel.call("ReceiveMessage", asked)).messages
            if messages and not wait_s:
                self._meter.latencies["receive"].append(perf_counter() - began)
            wait_s = 0 if messages else flow.wait_s
            if messages:
                await self._handle(flow, queue, channel, messages)

        try:
            while True:
                await self._guarded(take_some)
        finally:
            channel.close()

    async def _handle(self, flow: Flow, queue: str, channel: Channel, messages: list[_Message]) -> None:
        ledger, now = self.ledgers[flow.name], perf_counter()
        done: list[tuple[int, str]] = []
        for message in messages:
            number, sent_at = int((parts := message.body.split(" ", 2))[0]), float(parts[1])
            if wrong := ledger.receive(number, now - sent_at):
                self.fault(wrong)
            if not (flow.delay_s_max or flow.give_back_every or flow.poison_every):
                self._meter.latencies["delivery"].append(now - sent_at)
            if queue != "dead" and ledger.is_to_be_given_back(number):
                await self._hide(channel, queue, message.handle, 0)
                continue
            if flow.give_back_every:
                await self._hide(channel, queue, message.handle, 2 * VISIBILITY_TIMEOUT_S)
            done.append((number, message.handle))
        if flow.batch == 1 and done:
            await channel.call("DeleteMessage", self._on(queue, ReceiptHandle=done[0][1]))
        elif done:
            entries: list[dict[str, object]] = [{"ReceiptHandle": handle} for _, handle in done]
            await self._batch(channel, "DeleteMessageBatch", queue, entries, None)
        for number, _ in done:
            ledger.delete(number)

    async def _hide(self, channel: Channel, queue: str, handle: str, seconds: int) -> None:
        asked = self._on(queue, ReceiptHandle=handle, VisibilityTimeout=seconds)
        await channel.call("ChangeMessageVisibility", asked)

    # Calls

    async def _guarded(self, step: Callable[[], Awaitable[None]]) -> None:
        """One step of a worker, which goes on after a fault: the verdict is made at the end."""
        try:
            await step()
        except (RuntimeError, OSError, msgspec.MsgspecError) as error:  # TimeoutError is an OSError
            self.fault(f"{type(error).__name__}: {error}"[:300])
            await asyncio.sleep(_AFTER_A_FAULT_S)

    def _channel(self, *, is_kept: bool = True) -> Channel:
        return Channel(self._url, self._signer, self._meter, is_kept=is_kept)

    def _on(self, queue: str, **arguments: object) -> dict[str, object]:
        return {"QueueUrl": self._queues[queue], **arguments}

    async def _batch(
        self,
        channel: Channel,
        operation: str,
        queue: str,
        entries: list[dict[str, object]],
        due: float | None,
    ) -> None:
        numbered = [{"Id": str(at), **entry} for at, entry in enumerate(entries)]
        answer = await channel.call(operation, self._on(queue, Entries=numbered), due)
        if failed := _decode_batch(answer).failed:
            raise RuntimeError(f"{operation} failed in part: {failed}")

    async def _create(
        self, channel: Channel, queue: str, attributes: dict[str, str], known_as: str | None = None
    ) -> str:
        attributes = {"VisibilityTimeout": str(VISIBILITY_TIMEOUT_S), **attributes}
        answer = await channel.call("CreateQueue", {"QueueName": queue, "Attributes": attributes})
        self._queues[known_as or queue] = url = json.loads(answer)["QueueUrl"]
        return str(url)

    async def _arn(self, channel: Channel, url: str) -> str:
        asked: dict[str, object] = {"QueueUrl": url, "AttributeNames": ["QueueArn"]}
        answer = await channel.call("GetQueueAttributes", asked)
        return str(json.loads(answer)["Attributes"]["QueueArn"])

    async def _count(self, channel: Channel, queue: str) -> int:
        names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        answer = await channel.call("GetQueueAttributes", self._on(queue, AttributeNames=names))
        return sum(int(count) for count in json.loads(answer)["Attributes"].values())


_SERIES = {
    "SendMessage": "send",
    "SendMessageBatch": "send",
    "receive": "receive",
    "delivery": "delivery",
    "DeleteMessage": "delete",
    "DeleteMessageBatch": "delete",
}
"""Which latencies are kept, and under which name. `receive` is of those that did not wait and had
something; `delivery` is from a send's beginning to the end of the receive."""
