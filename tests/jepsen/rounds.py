"""A cluster under load to which one fault after the other happens, and what its clients saw of it.

A *chapter* is one world, one history and some rounds; a round is one fault, from its begin until all is
well again. The seed decides what clients ask and what happens to whom. What is found is exact; what is
tried depends on the machine.
"""

from __future__ import annotations

import json
import pickle
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import boto3

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
from tests.crash.rounds import FIFO_LETTERS, LETTERS, QUEUES, RECEIVES_MAX
from tests.crash.wires import BotoWire, ThinWire, Wire
from tests.histories.history import History, Violation
from tests.histories.verdict import report, violations
from tests.jepsen.faults import Fault
from tests.jepsen.outages import KINDS, Answers, NotingWire, Outage
from tests.jepsen.world import World
from tests.server import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, arn, config, eventually

SENDERS_PAUSES_S, PAUSES_S = (0.2, 0.3, 0.5), (0.05, 0.1)
"""Of each client between two requests. Three nodes, three NATS servers and the clients share this machine,
and faults, not load, are what is tried. More must be received than sent, or the end would take long."""
WAITING_MAX = 2_000
"""So many that no sender pauses in an outage: its silence would count as one."""
PATIENCE_S = (2.0, 3.0, 5.0)
"""How long clients wait for an answer: less than an election of NATS takes, as impatient ones do."""
ANSWERS = 3
"""That senders and receivers of each queue get before all counts as well."""
SERVES_AGAIN_S = 90.0
GOES_ON_S = 25.0
"""How long a node may be at a request that its client has given up: it tries for `routing.retry_s`, and a
call to another node takes up to `routing.call_timeout_s`."""

LOG_ENDS_EARLY = "log ends before what was acknowledged"
"""What a node says when NATS has lost records that it had acknowledged."""
LOST = {"lost"}
REORDERED = {"numbered_as_sent", "in_order", "blocked_by_those_before"}
DUPLICATED = {"strange", "come_back", "handed_out_twice", "in_one_place", "deduplicated"}
"""Names of checks, by what their violations mean."""


class Chapter:
    """Lifecycle: build it, `run` once. Nothing of its world is left then but `folder`."""

    def __init__(
        self, folder: Path, seed: str, faults: Sequence[Fault], rounds: int = 1, *, hurried: bool = False
    ) -> None:
        """`hurried`: the next fault comes when all is well, though not every node has its shards again."""
        self.folder = folder
        self.faults = faults
        self.rounds = rounds
        self.hurried = hurried
        self.random = Random(seed)
        slack_s = max([0.05, *(fault.slack_s for fault in faults)])
        self.history = History(QUEUES, slack_s=slack_s)
        self.shared = Shared(self.history, goes_on=True, waiting_max=WAITING_MAX)
        self.answers = Answers()
        self.outages: dict[str, dict[str, list[Outage]]] = {
            kind: defaultdict(list) for kind in KINDS.values()
        }
        """By kind of request and name of fault, one for each round."""
        self.well_again_s: dict[str, list[float]] = defaultdict(list)
        """By name of fault: from its end until every queue answered and every node was healthy."""
        self.ended_by_itself = 0
        self.error_lines: list[str] = []
        self.found = ""
        """Everything that is wrong, in words; nothing for a right cluster."""
        self.broken: list[Violation] = []
        """Those of it that the history shows."""
        self._seed = seed
        self._places: dict[str, Place] = {}
        self._clients: list[Client] = []

    def run(self) -> None:
        """Let each fault happen so often; then judge."""
        with World(self.folder) as world:
            for fault in self.faults:
                fault.prepare(world)
            with world.as_client():
                try:
                    self._happen(world)
                except AssertionError as failure:
                    self.found = f"{failure}\n{world.said()}"
                finally:
                    self._end(world)
        # One that did not come to its end has not been drained: everything in it would count as lost.
        self.broken = violations(self.history) if not self.found else []
        if any(fault.must_lose for fault in self.faults):
            noticed = any(LOG_ENDS_EARLY in line for line in self.error_lines)
            lost = noticed or self.count(LOST)
            self.found = "" if lost else f"no acknowledged message was lost\n{self.found}"
            return
        errors = [error for client in self._clients for error in client.errors]
        self.found += "".join(f"{error}\n" for error in errors)
        if not any(fault.may_alarm for fault in self.faults):
            self.found += "".join(f"{line}\n" for line in self.error_lines if _breaks_a_promise(line))
        if self.broken:
            self.found += report(self.history, self.broken)
        if self.found:
            (self.folder / "history.pickle").write_bytes(pickle.dumps(self.history))

    def count(self, checks: set[str]) -> int:
        """How many violations these checks have found."""
        return sum(violation.check in checks for violation in self.broken)

    def _happen(self, world: World) -> None:
        world.start()
        self._set_up(world)
        for fault in self.faults:
            fault.settle(world)
        for _ in range(self.rounds):
            for fault in self.faults:
                self._one_round(world, fault)
        self._wait_until_all_answer()
        self._end_clients()
        self._drain(world)

    def _end(self, world: World) -> None:
        self.shared.over.set()
        self.shared.up.set()
        for client in self._clients:
            if client.ident is not None:
                client.join(timeout=60)
            client.wire.close()
        self.ended_by_itself = sum(program.ended_by_itself for program in world.programs)
        self.error_lines = world.error_lines()

    # Clients

    def _set_up(self, world: World) -> None:
        sqs = _sdk(world.hosts[0].url)
        for name, facts in QUEUES.items():
            attributes = {"FifoQueue": "true"} if facts.fifo else {}
            if facts.dead_letters_to:
                policy = {"deadLetterTargetArn": arn(facts.dead_letters_to), "maxReceiveCount": RECEIVES_MAX}
                attributes["RedrivePolicy"] = json.dumps(policy)
            url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
            self._places[name] = Place(url, name, self.shared)
        # Half of all clients come through the floating address; of the others, each stays at one node.
        ways = cycle(way for host in world.hosts for way in (world.url, host.url))
        for number, (kind, queue) in enumerate(_STAFF):
            wire = _boto(next(ways)) if number % 5 == 0 else self._thin(next(ways))
            self._hire(kind, queue, wire)
        self.shared.up.set()
        for client in self._clients:
            client.start()

    def _hire(self, kind: type[Client], queue: str, wire: Wire) -> None:
        name = f"{kind.__name__.lower()}-{len(self._clients)}"
        if not issubclass(kind, Founder):
            self.answers.expect("receive" if issubclass(kind, Receiver) else "send", queue)
            wire = NotingWire(wire, queue, self.answers)
        client = kind(self._places[queue], wire, name, self._seed)
        client.pauses_s = SENDERS_PAUSES_S if issubclass(kind, Sender) else PAUSES_S
        self._clients.append(client)

    def _thin(self, url: str) -> Wire:
        return ThinWire(url, patience_s=self.random.choice(PATIENCE_S))

    def _end_clients(self) -> None:
        self.shared.over.set()
        for client in self._clients:
            client.join(timeout=60)
        assert not any(client.is_alive() for client in self._clients), "a client still waits for an answer"

    # Rounds

    def _one_round(self, world: World, fault: Fault) -> None:
        if not self.hurried:
            world.wait_until_shared_out()
        self._wait_until_all_answer()
        time.sleep(self.random.uniform(0, 0.5))  # the random moment
        began_s = time.monotonic()
        fault.begin(world, self.random)
        time.sleep(fault.lasts_s)
        fault.end(world)
        mended_s = time.monotonic()
        try:
            self._wait_until_all_answer()
            world.wait_until_healthy()
        except AssertionError as failure:
            raise AssertionError(f"after {fault.name}: {failure}") from None
        ended_s = time.monotonic()
        self.well_again_s[fault.name].append(ended_s - mended_s)
        for kind, outages in self.outages.items():
            outages[fault.name].append(self.answers.outage(kind, began_s, ended_s))

    def _wait_until_all_answer(self) -> None:
        goals = {key: count + ANSWERS for key, count in self.answers.counts().items()}

        def lacking() -> list[tuple[str, str]]:
            counts = self.answers.counts()
            return [key for key, goal in goals.items() if counts[key] < goal]

        try:
            eventually(lambda: not lacking(), within_s=SERVES_AGAIN_S, every_s=0.05)
        except AssertionError:
            raise AssertionError(f"no answers to {lacking()} for {SERVES_AGAIN_S} s") from None

    # The end

    def _drain(self, world: World) -> None:
        world.wait_until_shared_out()
        given_up_s = max((act.began_s for act in self.shared.open_acts), default=0.0)
        time.sleep(max(given_up_s + GOES_ON_S - time.monotonic(), 0))  # what is done late is counted, too
        self.shared.over.clear()
        keepers = [Drain(place, ThinWire(world.url), "drain", self._seed) for place in self._places.values()]
        founders = [client for client in self._clients if isinstance(client, Founder)]
        self._clients += keepers
        drain(self.history, keepers, within_s=120)
        for founder in founders:
            founder.errors += founder.broken()

    def figures(self) -> dict[str, Any]:
        """What was tried and found, for people and programs."""
        sends = self.history.sends
        return {
            "faults": [fault.name for fault in self.faults],
            "rounds": self.rounds,
            "acknowledged": sum(send.answer is not None for send in sends),
            "unknown": sum(send.answer is None and bool(send.acts) for send in sends),
            "received": sum(1 for _ in self.history.handed()),
            "deleted": sum(delete.answer is not None for delete in self.history.deletes),
            "lost": self.count(LOST),
            "duplicated": self.count(DUPLICATED),
            "reordered": self.count(REORDERED),
            "violations": dict(Counter(violation.check for violation in self.broken)),
            "ended by itself": self.ended_by_itself,
            "error lines": self.error_lines,
            "outages": {
                kind: {name: [vars(each) for each in of_fault] for name, of_fault in by_fault.items()}
                for kind, by_fault in self.outages.items()
            },
            "well again": dict(self.well_again_s),
            "found": self.found,
        }


_STAFF: tuple[tuple[type[Client], str], ...] = (
    *((Sender, "orders"), (Sender, "orders"), (Receiver, "orders"), (Receiver, "orders")),
    *((FifoSender, "events.fifo"), (FifoSender, "events.fifo"), (Resender, "events.fifo")),
    *((FifoReceiver, "events.fifo"), (FifoReceiver, "events.fifo")),
    *((Sender, "source"), (Sender, "source"), (Forgetful, "source"), (Forgetful, "source")),
    *((Receiver, LETTERS), (Receiver, LETTERS)),
    *((FifoSender, "tasks.fifo"), (FifoSender, "tasks.fifo")),
    *((ForgetfulFifo, "tasks.fifo"), (ForgetfulFifo, "tasks.fifo")),
    *((FifoReceiver, FIFO_LETTERS), (FifoReceiver, FIFO_LETTERS), (Founder, "orders")),
)
"""Who works where."""


def _breaks_a_promise(error_line: str) -> bool:
    """As every error of ours says; what asyncio calls an error need not."""
    return " waystation." in error_line


def _sdk(url: str) -> Any:
    return boto3.client(
        "sqs",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        config=config(
            retries={"total_max_attempts": 3, "mode": "standard"}, connect_timeout=2, read_timeout=5
        ),
    )


def _boto(url: str) -> Wire:
    return BotoWire(_sdk(url))
