"""One run: a world drawn from a seed, in which clients work while things fail; then everything is judged."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from math import inf
from random import Random
from typing import Any

import msgspec
import pytest

from tests.backend.virtual_time import VirtualTimeLoop
from tests.histories.history import History, QueueFacts, Violation, story
from tests.histories.verdict import report, violations
from tests.queues.windows import small_windows
from tests.simulation.caller import RetryingCaller
from tests.simulation.clients import LONG_S, Client, Consumer, Operator, Producer, creation
from tests.simulation.disk import LogDisk
from tests.simulation.machines import FrontEnd, Machine, Owner
from tests.simulation.network import Listener, Network
from tests.simulation.store import StoreDisk
from tests.simulation.weather import Weather
from waystation.backend.settings import BackendSettings
from waystation.log.errors import LogUnavailable
from waystation.metadata.catalogue import QUEUE_PREFIX
from waystation.metadata.queues import Queue, QueueRecord
from waystation.queues import deduplication, queue_state
from waystation.queues.invariants import broken_invariants

OPERATIONS_MIN = 200
"""Of clients, in each run, before faults end and all is drained."""
CLUSTER_OPERATIONS_MIN = 120
"""The same in a cluster: nodes that watch each other cost as much as clients do."""

_LIFE_S_MAX = 10_000.0
"""Of virtual time: a run that takes longer hangs."""
_WAKE_S = 0.2
"""Longer than it takes to wake a receive that waits, and to append what it gets, when nothing fails."""
TURNS_MAX = 200_000
"""Of the event loop; most runs take some four thousand."""
_TRIES_MAX = 10
_LOOKS_MAX = 2_000
"""At what does not serve yet, twenty in a second."""


@dataclass
class Outcome:
    """What a run came to."""

    seed: int
    history: History
    violations: list[Violation]
    operations: int
    told: list[tuple[float, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """What faults came to: they have to do something."""

    def digest(self) -> str:
        """Of everything that clients saw and of all faults: the same for the same seed."""
        lines = [f"{at:.6f} {text}" for at, text in self.told]
        lines += story(self.history, {send.body for send in self.history.sends})
        return sha256("\n".join(lines).encode()).hexdigest()

    def report(self) -> str:
        """To be read by people: violations, with all that happened to the messages that they are about."""
        faults = [f"{at:10.3f}               ---- {text}" for at, text in self.told]
        again = f"once more: make simulate SEEDS=1 ARGS='--first {self.seed}'"
        return f"seed {self.seed}: {report(self.history, self.violations, faults)}\n{again}"


@contextmanager
def listening(note: Callable[[logging.LogRecord], None]) -> Iterator[None]:
    """Hear what the program logs as an error; all else is not even made."""
    logger = logging.getLogger("waystation")
    handler = logging.Handler(logging.ERROR)
    handler.emit = note  # type: ignore[method-assign, assignment]
    before = (logger.level, logger.propagate)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


@contextmanager
def small_world() -> Iterator[None]:
    """Small windows, so that a few messages are a deep backlog. For all runs within."""
    with pytest.MonkeyPatch.context() as patch:
        small_windows(patch, 6)
        patch.setattr(queue_state, "_STALE_SLACK", 4)
        patch.setattr(deduplication, "_FORGET_AT", 4)
        yield


class World:
    """All there is in one run."""

    operations_min = OPERATIONS_MIN
    rest_s = 40.0
    """After faults: longer than any visibility timeout or delay that clients ask for, and any retry."""
    passes_max = 60
    """Over all queues, until they have to be empty."""

    def __init__(self, seed: int, loop: VirtualTimeLoop) -> None:
        self.seed = seed
        self._loop = loop
        self._random = random = Random(seed)
        self._pause_s = random.choice([0.02, 0.1, 0.5, 5.0, 25.0])
        self.queues = draw_queues(random)
        self.history = History(self.queues, slack_s=0.002, wake_s=_WAKE_S)
        shards = random.choice([1, 2, 3])
        self.network = Network(random)
        self.store = StoreDisk(random)
        self.store.values["secret/handles"] = (random.randbytes(32), 0)
        self.disks = [LogDisk(random) for _ in range(shards)]
        self.owner = Owner("owner", self.network, self.store, self.disks, self._settings(), self._clock_ms)
        self.front_ends = [
            FrontEnd(f"frontend-{number}", self.network, self.store, self.owner, shards, self._clock_ms)
            for number in range(random.choice([0, 0, 2]))
        ]
        self.machines: list[Machine] = [self.owner, *self.front_ends]
        self.problems: list[Violation] = []

    def _settings(self) -> BackendSettings:
        random = self._random
        return BackendSettings(
            shards=1,
            record_bytes_max=random.choice([300, 2_000]),
            cache_bytes=random.choice([0, 500, 100_000]),
            snapshot_events=random.choice([20, 60, 1_000]),
            snapshot_bytes=random.choice([1_000, 1_000_000]),
            idle_snapshot_s=random.choice([1, 4, 20]) * max(self._pause_s, 1),
            garbage_bytes_max=random.choice([0, 1_000, 20_000]),
        )

    def _clock_ms(self) -> int:
        return int(self._loop.time() * 1_000)

    def note_exception(self, _: Any, context: dict[str, Any]) -> None:
        """What nobody has caught is a bug, here or in the program."""
        self.problems.append(Violation(f"{context['message']}: {context.get('exception')!r}"))

    def note_error(self, record: logging.LogRecord) -> None:
        """An error line means that a promise is at risk; only a log that fails may lead to one here."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, LogUnavailable):
            reason = getattr(record, "reason", "") if error is None else repr(error)
            self.problems.append(Violation(f"the program says: {record.getMessage()}: {reason}"))

    @contextmanager
    def same_every_time(self) -> Iterator[None]:
        """What the program draws by itself, and would be another in each run, comes from the seed."""
        yield

    # Life

    async def live(self) -> Outcome:
        clients = self._clients()
        weather = self._weather(clients)
        self.history.pauses = weather.pauses
        try:
            async with asyncio.timeout(_LIFE_S_MAX):
                await self._live(clients, weather)
        except TimeoutError:
            self.problems.append(Violation("the run hangs"))
        except Exception:
            self.problems.append(Violation(f"the run has failed: {traceback.format_exc()}"))
        finally:
            for machine in reversed(self.machines):
                await machine.kill()
        # Only now: the network may have doubled a request long after its client had the answer.
        unanswered = self.history.unanswered
        self.history.unanswered = [receive for receive in unanswered if receive.may_have_taken_more()]
        self.problems += [Violation(refusal) for client in clients for refusal in client.refusals]
        found = [*self.problems, *violations(self.history)]
        operations = sum(client.operations for client in clients)
        weather.met["writes of metadata with unknown outcome"] = self.store.unknown_writes
        return Outcome(self.seed, self.history, found, operations, weather.told, weather.met)

    async def _live(self, clients: list[Client], weather: Weather) -> None:
        self._start_first()
        await self._all_serve()
        await self._create_queues(clients[0])
        failing = asyncio.create_task(weather.run())
        each = -(-self.operations_min // len(clients))
        working = [asyncio.create_task(client.run(each)) for client in clients]
        await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
        weather.end()  # what fails when hardly anybody calls proves little
        await asyncio.gather(failing, *working)
        weather.start_all()
        await self._all_serve()
        while not self.network.is_quiet:  # noqa: ASYNC110 (the time is virtual)
            await asyncio.sleep(1)
        await self._create_queues(clients[0])  # some may have been deleted
        await asyncio.sleep(self.rest_s)
        if all(facts.retention_s == inf for facts in self.queues.values()):
            self.history.counted = await self._counts(clients[0])
        self._check_states()
        self._check_catalogues()
        consumer = next(client for client in clients if isinstance(client, Consumer))
        await self._drain(consumer)
        await self._restart_empty(consumer)

    def _start_first(self) -> None:
        for machine in self.machines:
            machine.start()

    def _servers(self) -> Sequence[Listener]:
        """Whom clients call."""
        return self.front_ends or [self.owner]

    def _are_whole(self) -> bool:
        """Whether who answers clients also does what goes on without them."""
        return not self.front_ends

    def _clients(self) -> list[Client]:
        random, servers = self._random, self._servers()
        kinds: list[type[Client]] = [Producer, Consumer, Consumer, *random.choices([Producer, Consumer], k=3)]
        if random.random() < 0.7:
            kinds.append(Operator)
        clients = []
        queues_vanish = self._are_whole() and random.random() < 0.3
        for number, kind in enumerate(kinds):
            caller = RetryingCaller(f"{kind.__name__.lower()}-{number}", self.network, servers, random)
            client = kind(caller, self.queues, self.history, random, self._pause_s)
            if isinstance(client, Operator):
                client.can_move = self._are_whole()
            client.queues_vanish = queues_vanish
            clients.append(client)
        return clients

    def _weather(self, clients: list[Client]) -> Weather:
        servers: Sequence[Machine] = self.front_ends or [self.owner]
        links = [(client.name, server.name) for client in clients for server in servers]
        links += [(front_end.name, self.owner.name) for front_end in self.front_ends]
        callers = [client.caller for client in clients]
        pause_s = max(self._pause_s, 0.02)
        return Weather(
            self._random, callers, self.machines, links, self.network, self.disks, self.store, pause_s
        )

    async def _create_queues(self, client: Client) -> None:
        # Dead-letter queues first, as others name them.
        for name in sorted(self.queues, key=lambda each: bool(self.queues[each].dead_letters_to)):
            for _ in range(_TRIES_MAX):
                answer = await client.caller.call("CreateQueue", [], **creation(name, self.queues[name]))
                if answer.result is not None:
                    break  # and none of those who have just been called is still to start
            assert answer.result is not None, f"{name} was not created: {answer}"
            await asyncio.sleep(0.1)  # until all FrontEnds have heard of it

    async def _all_serve(self) -> None:
        for _ in range(_LOOKS_MAX):
            if all(self._serves(machine) for machine in self.machines):
                return
            for machine in self.machines:
                if (failure := machine.failure()) is not None:
                    raise AssertionError(f"{machine.name} cannot start") from failure
            await asyncio.sleep(0.05)
        raise AssertionError("not all serve again, though nothing fails any more")

    def _serves(self, machine: Machine) -> bool:
        if not isinstance(machine, Owner):
            return machine.is_up
        return machine.is_up and machine.backend is not None and machine.backend.is_serving()

    # The end

    async def _counts(self, client: Client) -> int:
        names = ["", "NotVisible", "Delayed"]
        total = 0
        for queue in self.queues:
            answer = await client.caller.call(
                "GetQueueAttributes", [], QueueUrl=queue, AttributeNames=["All"]
            )
            assert answer.result is not None, f"{queue} cannot be asked when nothing fails: {answer}"
            found = answer.result["Attributes"]
            total += sum(int(found[f"ApproximateNumberOfMessages{name}"]) for name in names)
        return total

    def _check_states(self) -> None:
        for state in self._states():
            for queue in state.queues.values():
                name = queue.settings.name
                self.problems += [Violation(f"{name}: {broken}") for broken in broken_invariants(queue)]

    def _check_catalogues(self) -> None:
        """All processes know the queues as the store has them, whatever watches were lost."""
        stored: dict[str, Queue] = {}
        for key, (value, revision) in self.store.values.items():
            if key.startswith(QUEUE_PREFIX):
                record = msgspec.msgpack.decode(value, type=QueueRecord)
                if not record.deleted_ms:
                    stored[record.name] = Queue(record, revision)
        for machine in self.machines:
            assert machine.catalogue is not None, "it serves"
            known = {queue.record.name: queue for queue in machine.catalogue.queues()}
            for name in sorted(known.keys() | stored.keys()):
                mine, right = known.get(name), stored.get(name)
                if mine is None or right is None or _facts(mine) != _facts(right):
                    self.problems.append(Violation(f"{machine.name} does not know {name} as it is"))

    def _states(self) -> Iterator[Any]:
        assert self.owner.backend is not None, "it serves"
        for shard in self.owner.backend.shards:
            yield shard.state

    async def _drain(self, consumer: Consumer) -> None:
        """Receive and delete until nothing is left anywhere."""
        empty_passes = 0
        for _ in range(self.passes_max):
            found = len(self.history.left)
            for queue in self.queues:
                while received := await consumer.receive(queue, LONG_S, 0, messages_max=10):
                    self.history.left += [handed for handed, _ in received]
                    await consumer.delete(received)
            is_empty = found == len(self.history.left) and await self._counts(consumer) == 0
            empty_passes = empty_passes + 1 if is_empty else 0
            if empty_passes == 2:
                return  # once is not enough: what goes from queue to queue can be in neither as one looks
            await asyncio.sleep(1)
        self.problems.append(Violation(f"{await self._counts(consumer)} messages are not drained"))

    async def _restart_empty(self, consumer: Consumer) -> None:
        """What was deleted stays deleted, also after one more crash."""
        await self._restart()
        await self._all_serve()
        self._check_states()
        for queue in self.queues:
            again = await consumer.receive(queue, LONG_S, 0, messages_max=10)
            bodies = tuple(handed.body for handed, _ in again)
            if bodies:
                text = f"{', '.join(bodies)} is there again after all were deleted"
                self.problems.append(Violation(text, bodies))

    async def _restart(self) -> None:
        await self.owner.kill()
        self.owner.start()


def _facts(queue: Queue) -> tuple[int, QueueRecord]:
    return queue.revision, queue.record


def draw_queues(random: Random) -> dict[str, QueueFacts]:
    """A few queues; most with a dead-letter queue, in the same shard or another."""
    queues: dict[str, QueueFacts] = {}
    kinds = random.choice([("",), (".fifo",), ("", ".fifo")])
    for kind in kinds:
        fifo, number = bool(kind), random.randrange(100)
        letters = f"letters-{number}{kind}" if random.random() < 0.7 else ""
        if letters:
            queues[letters] = QueueFacts(fifo=fifo)
        queues[f"orders-{number}{kind}"] = QueueFacts(
            fifo=fifo,
            dead_letters_to=letters,
            receive_count_max=random.choice([1, 2, 4]) if letters else 0,
            delay_s=random.choice([0, 0, 0, 2]),
            retention_s=random.choice([inf] * 7 + [60]),
        )
    return queues
