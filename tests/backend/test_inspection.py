"""Nothing is said of a log that a shard has written, whatever happened to it, and everything of damage."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from tests.queues import test_dead_letters_properties, test_fifo_properties, test_state_properties
from tests.queues.clients import Clients
from tests.queues.driver import QueueDriver
from tests.queues.fifo_clients import FifoClients
from tests.queues.histories import Actions, live
from tests.queues.letter_world import LetterWorld
from tests.queues.pure_shard import PureShard, run_now
from tests.queues.windows import small_limits
from waystation.backend.inspection import PROBLEMS_MAX, Inspection, inspect_log
from waystation.log.memory import MemoryLog


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    """Windows of four messages, so that most are in tails."""
    yield from small_limits()


def inspected(log: MemoryLog) -> Inspection:
    return run_now(inspect_log(log, sorted(log.records.items())))


def live_and_inspect(actions: Actions, random: Random, shards: list[PureShard]) -> None:
    """Do much, and inspect what is committed again and again."""

    def check() -> None:
        if random.random() < 0.1:
            assert [inspected(shard.log).problems for shard in shards] == [[] for _ in shards]

    live(actions, check, random, steps=300)
    for shard in shards:
        shard.commit()
        found = inspected(shard.log)
        assert found.problems == []
        assert found.records == len(shard.log.records)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_wrong_after_any_history_of_standard_queues(seed: int) -> None:
    clients, random = Clients(), Random(seed)
    clients.create(600_000)
    clients.create(90_000)
    live_and_inspect(test_state_properties.actions_of(clients, random), random, [clients.shard])


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_wrong_after_any_history_of_fifo_queues(seed: int) -> None:
    clients, random = FifoClients(), Random(seed)
    clients.create(2_000_000)
    clients.create(90_000, delay_ms=1_000, receive_count_max=2)
    live_and_inspect(test_fifo_properties.actions_of(clients, random), random, [clients.shard])


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_wrong_after_any_history_of_dead_letters(seed: int) -> None:
    world, random = LetterWorld(), Random(seed)
    actions = test_dead_letters_properties.actions_of(world, random)
    live_and_inspect(actions, random, [node.shard for node in world.nodes])


def lost(messages: int, first_record: int) -> str:
    return (
        f"messages of queue orders are lost, {messages} in all: not in the log where they should be, "
        f"the first of them in record {first_record}"
    )


def some_history() -> QueueDriver:
    """Ten messages, each in a record, of which four are in a window, and a snapshot behind them all."""
    queue = QueueDriver()
    for number in range(10):
        queue.send(f"m{number}", at_s=1)
    queue.shard.snapshot()
    return queue


@pytest.mark.parametrize("position", [2, 11], ids=["in the window", "in the tail"])
def test_a_live_message_whose_record_is_damaged_is_lost(position: int) -> None:
    log = some_history().shard.log
    log.records[position] = log.records[position][:-1] + b"?"

    assert inspected(log).problems[:1] == [f"record {position} does not match its checksum"]
    if position < log.position:  # else the log cannot even be opened
        assert inspected(log).problems[1:] == [lost(1, position)]


def test_live_messages_whose_records_are_truncated_are_lost() -> None:
    log = some_history().shard.log
    for position in range(1, 8):
        del log.records[position]

    assert inspected(log).problems == [lost(6, 2)]


def test_a_record_that_holds_something_else_does_not_hold_its_message() -> None:
    """Every checksum is right, but the messages of another queue's log are there."""
    log, other = some_history().shard.log, QueueDriver().shard
    for _ in range(log.position - 1):
        run_now(other.log.append(b"\x90"))
    other.log.snapshot = log.snapshot
    assert log.snapshot is not None
    other.log.snapshot = log.snapshot._replace(checksum=other.log.checksum)

    assert inspected(other.log).problems == [lost(10, 2)]


def test_a_dead_message_is_not_missed() -> None:
    queue = some_history()
    for _ in range(3):
        queue.delete(*queue.receive(at_s=2), at_s=2)
    queue.shard.snapshot()
    del queue.shard.log.records[1], queue.shard.log.records[2], queue.shard.log.records[3]

    assert inspected(queue.shard.log).problems == []


def test_what_expired_for_the_owner_that_relocated_the_rest_is_not_missed() -> None:
    """Of a run that an older snapshot has, only those that were still alive were written again."""
    queue = QueueDriver(retention_s=60)
    queue.send(*(f"m{number}" for number in range(4)), at_s=1)
    queue.send("a", "b", "c", at_s=1)
    queue.shard.snapshot()
    saved = queue.shard.log.snapshot
    queue.shard.load_all(queue.queue)
    queue.queue._drop(queue.queue.messages[5])
    queue.queue._settle(61_000)
    queue.shard.relocate(3, 50_000)
    queue.shard.commit()
    queue.shard.log.snapshot = saved

    assert inspected(queue.shard.log).problems == []


def test_a_log_that_cannot_be_replayed_is_still_read_to_its_end() -> None:
    log = some_history().shard.log
    log.snapshot = None
    del log.records[5]
    log.records[8] = log.records[8][:-1] + b"?"

    found = inspected(log)

    assert found.state is None
    assert found.problems == ["records 5 to 5 are missing", "record 8 does not match its checksum"]
    assert found.records == log.position - 2


def test_events_of_a_queue_that_never_was_are_no_history() -> None:
    queue = some_history()
    queue.shard.log.snapshot = None
    first = queue.shard.log.records.pop(1)
    log = MemoryLog()
    run_now(log.open())
    for data in queue.shard.log.records.values():
        run_now(log.append(data[32:-16]))
    assert first not in log.records.values()

    [problem] = inspected(log).problems

    assert problem.startswith("the records cannot be replayed: KeyError")


def test_of_very_many_problems_only_some_are_listed() -> None:
    log = some_history().shard.log
    for number in range(100):
        run_now(log.append(b"\xc1%d" % number))

    problems = inspected(log).problems

    assert len(problems) == PROBLEMS_MAX + 1
    assert problems[-1] == f"{100 - PROBLEMS_MAX} more problems are not listed"
