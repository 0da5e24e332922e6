"""A server under load to which one thing after the other happens, and what its clients saw of it.

A *chapter* is one data directory, one history and some rounds; a round is one fault. The seed decides
what clients ask and what happens when. What is found is exact; what is tried depends on the machine.
"""

from __future__ import annotations

import errno
import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any
from zlib import crc32

from tests.contract.query_client import query_client
from tests.crash.clients import (
    Client,
    FifoReceiver,
    FifoSender,
    Forgetful,
    ForgetfulFifo,
    Founder,
    Place,
    Receiver,
    Resender,
    Sender,
    Shared,
)
from tests.crash.drain import Drain, drain
from tests.crash.faults import ALL, DIE, SHORT, Call, FaultyServer, Storage
from tests.crash.wires import BotoWire, ThinWire, Wire
from tests.histories.history import History, QueueFacts, Violation
from tests.histories.verdict import report, violations
from tests.server import arn, eventually

FLAGS = tuple(
    word
    for flag in (
        ("--backend.shards", "2"),
        # Housekeeping so often that many faults come in the middle of it.
        ("--backend.snapshot-events", "300"),
        ("--backend.idle-snapshot-s", "0.2"),
        ("--backend.garbage-bytes-max", "100000"),
        ("--log.checkpoint-bytes", "200000"),
        ("--log.vacuum-bytes", "100000"),
        ("--backend.retry-delay-max-s", "0.2"),
    )
    for word in flag
)

RECEIVES_MAX = 2
"""Of a message of the source, before it is set aside."""
ANSWERS = 3
"""That the clients of each queue get between two faults, at least: all shards serve."""
SERVES_AGAIN_S = 20.0
NOTHING: Mapping[str, str] = MappingProxyType({})


def shard_of(name: str) -> int:
    return crc32(name.encode()) % 2


def letters_of(source: str, suffix: str = "") -> str:
    """A name for its dead-letter queue, which is in the other shard."""
    names = (f"letters-{number}{suffix}" for number in count(1))
    return next(name for name in names if shard_of(name) != shard_of(source))


LETTERS, FIFO_LETTERS = letters_of("source"), letters_of("tasks.fifo", ".fifo")
QUEUES = {
    LETTERS: QueueFacts(),
    FIFO_LETTERS: QueueFacts(fifo=True),
    "orders": QueueFacts(),
    "events.fifo": QueueFacts(fifo=True),
    "source": QueueFacts(dead_letters_to=LETTERS, receive_count_max=RECEIVES_MAX),
    "tasks.fifo": QueueFacts(fifo=True, dead_letters_to=FIFO_LETTERS, receive_count_max=RECEIVES_MAX),
}


class Chapter:
    """Lifecycle: build it (the server does not run yet), `run` once; it leaves no server and no client."""

    def __init__(
        self,
        folder: Path,
        seed: str,
        storage: Storage | None = None,
        environment: Mapping[str, str] = NOTHING,
    ) -> None:
        self.storage = storage
        self.random = Random(seed)
        self.history = History(QUEUES, slack_s=0.02)
        self.shared = Shared(self.history)
        self.happened: Counter[str] = Counter()
        self.blocks_lost = 0
        self.found = ""
        """Everything that is wrong, in words; nothing for a right server."""
        self.broken: list[Violation] = []
        """Those of it that the history shows."""
        self.folder = folder
        self._seed = seed
        storage_of = storage.environment if storage is not None else {}
        self.server = FaultyServer(folder / "data", *FLAGS, environment={**storage_of, **environment})
        self._places: dict[str, Place] = {}
        self._clients: list[Client] = []

    def run(self, rounds: int, kinds: Mapping[str, int]) -> None:
        """Let faults happen, each kind with its weight; then judge."""
        try:
            self._set_up()
            for _ in range(rounds):
                self._one_round(kinds)
            self._wait_until_all_serve()
            self._end_clients()
            self._drain()
            self._look_for_queues()
        except AssertionError as failure:
            self.found = f"{failure}\n{self._said()}"
        finally:
            self.shared.over.set()
            self.shared.up.set()
            self.server.kill()
            for client in self._clients:
                if client.ident is not None:
                    client.join(timeout=60)
                client.wire.close()
        # One that did not come to its end has not been drained: everything in it would count as lost.
        self.broken = violations(self.history) if not self.found else []
        errors = [error for client in self._clients for error in client.errors]
        self.found += "".join(f"{error}\n" for error in errors)
        if self.broken:
            self.found += report(self.history, self.broken)

    def _said(self) -> str:
        log = self.server.log.read_text(errors="replace") if self.server.log.exists() else ""
        return "the server said at last:\n" + log[-3_000:]

    # Clients

    def _set_up(self) -> None:
        self.server.start()
        sqs = self.server.client()
        for name, facts in QUEUES.items():
            attributes = {"FifoQueue": "true"} if facts.fifo else {}
            if facts.dead_letters_to:
                policy = {"deadLetterTargetArn": arn(facts.dead_letters_to), "maxReceiveCount": RECEIVES_MAX}
                attributes["RedrivePolicy"] = json.dumps(policy)
            url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
            self._places[name] = Place(url, name, self.shared)
        self._hire(Sender, "orders", self._sdk())
        self._hire(Sender, "orders", self._thin())
        self._hire(Receiver, "orders", self._thin())
        self._hire(Receiver, "orders", self._query_sdk())
        self._hire(FifoSender, "events.fifo", self._thin())
        self._hire(FifoSender, "events.fifo", self._sdk())
        self._hire(Resender, "events.fifo", self._thin())
        self._hire(FifoReceiver, "events.fifo", self._thin())
        self._hire(FifoReceiver, "events.fifo", self._thin())
        self._hire(Sender, "source", self._thin())
        self._hire(Forgetful, "source", self._thin())
        self._hire(Forgetful, "source", self._thin())
        self._hire(Receiver, LETTERS, self._thin())
        self._hire(FifoSender, "tasks.fifo", self._thin())
        self._hire(ForgetfulFifo, "tasks.fifo", self._thin())
        self._hire(FifoReceiver, FIFO_LETTERS, self._thin())
        self._hire(Founder, "orders", self._thin())
        self.shared.up.set()
        for client in self._clients:
            client.start()

    def _hire(self, kind: type[Client], place: str, wire: Wire) -> None:
        name = f"{kind.__name__.lower()}-{len(self._clients)}"
        self._clients.append(kind(self._places[place], wire, name, self._seed))

    def _thin(self) -> Wire:
        """Some lose patience while the server is stopped; what they asked for happens all the same."""
        return ThinWire(self.server.url, patience_s=self.random.choice([1.5, 3, 30]))

    def _sdk(self) -> Wire:
        return BotoWire(self.server.client(retries={"total_max_attempts": 3, "mode": "standard"}))

    def _query_sdk(self) -> Wire:
        return BotoWire(query_client(self.server, self.folder / "model"))

    def _end_clients(self) -> None:
        self.shared.over.set()
        for client in self._clients:
            client.join(timeout=60)
        assert not any(client.is_alive() for client in self._clients), "a client still waits for an answer"

    # Rounds

    def _one_round(self, kinds: Mapping[str, int]) -> None:
        assert self.server.is_running, "the server has ended by itself"
        self._wait_until_all_serve()
        time.sleep(self.random.choice([0, self.random.uniform(0, 0.5)]))  # the random moment
        [kind] = self.random.choices(list(kinds), list(kinds.values()))
        self.happened[kind] += 1
        FAULTS[kind](self)

    def _wait_until_all_serve(self) -> None:
        goals = {place.name: place.answers + ANSWERS for place in self._places.values()}

        def lacking() -> list[str]:
            return [name for name, goal in goals.items() if self._places[name].answers < goal]

        try:
            eventually(lambda: not lacking(), within_s=SERVES_AGAIN_S, every_s=0.01)
        except AssertionError:
            raise AssertionError(f"no answers from {lacking()} for {SERVES_AGAIN_S} s") from None

    def crash(self, *, power: bool = False) -> None:
        """Kill the server, and start it again; maybe that is killed as well."""
        self.shared.up.clear()
        self._kill(power)
        if self.storage is not None and self.random.random() < 0.2:
            self.happened["killed as it starts"] += 1
            self.storage.fail(Call.SYNC | Call.WRITE, action=DIE, count=1, skip=self.random.randrange(60))
            with suppress(AssertionError):  # as was ordered
                self.server.start()
            self._kill(power)
        self.server.start()
        self.shared.up.set()

    def _kill(self, power: bool) -> None:
        self.server.kill()
        self.shared.server_has_died()
        if self.storage is not None:
            self.storage.be_well()
            if power:
                self.blocks_lost += self.storage.lose_power(self.random).lost
            elif self.random.random() < 0.2:
                self.storage.settle()

    def get_well(self, crash_chance: float = 0.3) -> None:
        """After a while, the storage works again; or the server is killed before."""
        assert self.storage is not None
        time.sleep(self.random.uniform(0.05, 0.5))
        if self.random.random() < crash_chance:
            self.crash(power=self.random.random() < 0.5)
        else:
            self.storage.be_well()

    # The end

    def _drain(self) -> None:
        self.shared.over.clear()
        if self.storage is not None:
            self.storage.slow_down(sync_us=0, write_us=0)  # nothing more happens: no need to wait
        keepers = [
            Drain(place, ThinWire(self.server.url), "drain", self._seed) for place in self._places.values()
        ]
        self._clients += keepers
        drain(self.history, keepers)

    def _look_for_queues(self) -> None:
        for founder in self._clients:
            if isinstance(founder, Founder):
                founder.errors += founder.broken()


# What happens


def stop(chapter: Chapter) -> None:
    """The process stands still, then goes on: a machine that is paused, or swaps."""
    chapter.server.send_signal(signal.SIGSTOP)
    time.sleep(chapter.random.choice([0.2, 0.3, 0.5, 0.5, 1, 2, chapter.random.uniform(2, 5)]))
    chapter.server.send_signal(signal.SIGCONT)


def lose_power(chapter: Chapter) -> None:
    """Mostly while the disk is busy: otherwise little is at stake."""
    assert chapter.storage is not None
    if chapter.random.random() < 0.8:
        chapter.storage.slow_down(sync_us=chapter.random.randint(5_000, 60_000), write_us=0)
        time.sleep(chapter.random.uniform(0.02, 0.2))
    chapter.crash(power=True)


def die_in_a_call(chapter: Chapter) -> None:
    """Killed in the middle of a write, which is torn, or before a sync has done anything."""
    assert chapter.storage is not None
    calls = chapter.random.choice([Call.SYNC, Call.WRITE, Call.TRUNCATE, Call.SYNC | Call.WRITE])
    chapter.storage.fail(calls, action=DIE, count=1, skip=chapter.random.choice([0, 1, 3, 20, 100]))
    deadline = time.monotonic() + 0.5
    while chapter.server.is_running and time.monotonic() < deadline:
        time.sleep(0.002)
    chapter.crash(power=chapter.random.random() < 0.5)


def sync_fails(chapter: Chapter) -> None:
    assert chapter.storage is not None
    count = chapter.random.choice([1, 1, 2, 5, ALL])
    chapter.storage.fail(Call.SYNC, errno.EIO, count=count, forgetting=chapter.random.random() < 0.5)
    chapter.get_well(crash_chance=0.5)


def write_fails(chapter: Chapter, error: int = errno.EIO) -> None:
    assert chapter.storage is not None
    random = chapter.random
    per_mille, count = random.choice([1_000, 300, 20]), random.choice([1, 5, ALL])
    chapter.storage.fail(Call.WRITE | Call.TRUNCATE, error, count=count, per_mille=per_mille)
    chapter.get_well()


def short_writes(chapter: Chapter) -> None:
    assert chapter.storage is not None
    chapter.storage.fail(Call.WRITE, action=SHORT, per_mille=chapter.random.choice([100, 1_000]))
    chapter.get_well()


def slow(chapter: Chapter) -> None:
    assert chapter.storage is not None
    chapter.storage.slow_down(sync_us=chapter.random.randint(20_000, 300_000), write_us=500)
    chapter.get_well()


FAULTS: dict[str, Callable[[Chapter], None]] = {
    "kill": lambda chapter: chapter.crash(),
    "stop": stop,
    "loss of power": lose_power,
    "kill in a call": die_in_a_call,
    "failed sync": sync_fails,
    "failed write": write_fails,
    "full disk": lambda chapter: write_fails(chapter, errno.ENOSPC),
    "short writes": short_writes,
    "slow disk": slow,
}
TO_THE_PROCESS = {"kill": 4, "stop": 1}
TO_THE_STORAGE = {
    "loss of power": 3,
    "kill in a call": 4,
    "failed sync": 3,
    "failed write": 2,
    "full disk": 2,
    "short writes": 1,
    "slow disk": 1,
}
EVERYTHING = TO_THE_PROCESS | TO_THE_STORAGE


def figures(chapters: list[Chapter]) -> dict[str, Any]:
    """What was tried, added up."""
    histories = [chapter.history for chapter in chapters]
    sends = [send for history in histories for send in history.sends]
    deletes = [delete for history in histories for delete in history.deletes]
    handed = [each for history in histories for each in history.handed()]
    ids = {each.message_id for each in handed}
    unknown = [send for send in sends if send.answer is None and send.acts]
    bodies = {each.body for each in handed}
    letters = {LETTERS, FIFO_LETTERS}
    storages = [chapter.storage for chapter in chapters if chapter.storage is not None]
    return {
        "sends acknowledged": sum(send.answer is not None for send in sends),
        "sends unknown": len(unknown),
        "of which came": sum(send.body in bodies for send in unknown),
        "messages": len(ids),
        "receives": len(handed),
        "deletes acknowledged": sum(delete.answer is not None for delete in deletes),
        "deletes unknown": sum(delete.answer is None and bool(delete.acts) for delete in deletes),
        "dead letters": len({each.message_id for each in handed if each.receive.queue in letters}),
        "left at the end": sum(len(history.left) for history in histories),
        "storage faults": sum(storage["faults"] for storage in storages),
        "blocks lost": sum(chapter.blocks_lost for chapter in chapters),
    }
