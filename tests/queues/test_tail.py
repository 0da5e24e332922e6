"""A tail remembers where a backlog lies, and most of it packed."""

from __future__ import annotations

import random

import pytest

from waystation.queues import tail as tail_module
from waystation.queues.runs import BLOCK_RUNS, RUN_MESSAGES_MAX, Block, Run, Runs
from waystation.queues.tail import Tail


def tail_of(*runs: tuple[int, int, int]) -> Tail:
    """A tail of runs: record, first sequence, messages."""
    tail = Tail()
    for record, first_sequence, messages in runs:
        for sequence in range(first_sequence, first_sequence + messages):
            tail.append(record, sequence)
    return tail


def test_messages_of_one_record_are_one_run() -> None:
    tail = tail_of((3, 10, 4), (5, 14, 1))

    assert list(tail) == [Run(3, 10, 4), Run(5, 14, 1)]
    assert (len(tail), tail.messages) == (2, 5)


def test_a_run_may_skip_sequences() -> None:
    tail = Tail()
    for sequence in (10, 13, 14):
        tail.append(3, sequence)

    assert list(tail) == [Run(3, 10, 3)]


def test_a_run_that_is_full_is_followed_by_another_of_the_same_record() -> None:
    tail = tail_of((3, 1, RUN_MESSAGES_MAX + 2))

    assert list(tail) == [Run(3, 1, RUN_MESSAGES_MAX), Run(3, 1 + RUN_MESSAGES_MAX, 2)]


def test_a_message_does_not_join_a_run_that_was_taken_away() -> None:
    tail = tail_of((3, 1, 2))
    tail.pop()
    tail.append(3, 3)

    assert list(tail) == [Run(3, 3, 1)]


def test_a_long_tail_of_single_messages_costs_less_than_a_byte_each() -> None:
    """All but its ends is packed: a backlog that was sent message by message is no special case."""
    messages = 20 * BLOCK_RUNS
    tail = tail_of(*((record, record, 1) for record in range(1, messages + 1)))

    loose = Runs()
    blocks = tail.save(loose)

    assert len(loose) <= 2 * BLOCK_RUNS
    assert sum(len(block.packed) for block in blocks) < messages
    assert (len(tail), tail.messages) == (messages, messages)


def test_the_front_is_as_many_runs_as_hold_the_messages_wanted() -> None:
    tail = tail_of((1, 1, 3), (2, 4, 3), (3, 7, 3))

    assert tail.front(0) == []
    assert tail.front(3) == [Run(1, 1, 3)]
    assert tail.front(4) == [Run(1, 1, 3), Run(2, 4, 3)]
    assert len(tail.front(100)) == 3


def test_runs_are_taken_away_oldest_first() -> None:
    tail = tail_of((1, 1, 3), (2, 4, 3))

    assert tail.second_sequence() == 4
    assert tail.pop() == Run(1, 1, 3)
    assert (list(tail), tail.messages) == ([Run(2, 4, 3)], 3)
    assert tail.second_sequence() > 2**64


def test_a_sequence_is_found_in_the_run_that_begins_last_before_it() -> None:
    tail = tail_of((1, 1, 3), (2, 10, 3), (3, 20, 3))
    tail.pop()

    assert tail.find(9) is None, "its run was taken away"
    assert tail.find(10) == tail.find(12) == tail.find(19) == Run(2, 10, 3)
    assert tail.find(1_000) == Run(3, 20, 3)


def test_relocation_changes_only_where_a_run_lies() -> None:
    tail = tail_of((1, 1, 3), (2, 4, 3))
    tail.relocate(5, 9)
    tail.relocate(0, 9)

    assert list(tail) == [Run(1, 1, 3), Run(9, 4, 3)]
    assert tail.oldest_record() == 1
    tail.relocate(1, 10)
    assert tail.oldest_record() == 9, "records need not rise"


def test_an_empty_tail_lies_in_no_record() -> None:
    assert Tail().oldest_record() is None
    assert Tail().find(1) is None


def test_the_memory_of_runs_taken_away_is_given_back() -> None:
    """Also of a tail that never grows long, whose newest messages are always those that are next."""
    tail = Tail()
    for record in range(1, 3 * BLOCK_RUNS):
        tail.append(record, record)
        if record > 10:
            assert tail.pop() == Run(record - 10, record - 10, 1)
        assert len(tail._head.locations) + len(tail._last.locations) <= 2 * BLOCK_RUNS + 1

    assert len(tail) == 10
    assert tail._blocks == []


def test_looking_for_relocated_messages_in_order_unpacks_each_block_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Relocation asks for every message of many records, and no client is answered meanwhile."""
    monkeypatch.setattr(tail_module, "BLOCK_RUNS", 8)
    tail = tail_of(*((record, record, 1) for record in range(1, 81)))
    unpacked: list[Block] = []

    class Watched(tail_module._Look):
        def __init__(self, block: Block) -> None:
            unpacked.append(block)
            super().__init__(block)

    monkeypatch.setattr(tail_module, "_Look", Watched)

    for sequence in range(1, 81):
        assert tail.find(sequence) == Run(sequence, sequence, 1)
        tail.relocate(sequence, 1_000 + sequence)

    assert len(unpacked) == len(tail._blocks) > 5
    assert tail.oldest_record() == 1_001
    assert list(tail) == [Run(1_000 + sequence, sequence, 1) for sequence in range(1, 81)]


def test_a_tail_of_an_older_snapshot_is_packed_when_it_is_read() -> None:
    runs = Runs()
    for number in range(5 * BLOCK_RUNS):
        runs.first_sequences.append(3 * number + 1)
        runs.locations.append((number + 1) << 16 | 3)

    tail = Tail.restored(Runs.from_bytes(*runs.to_bytes()), [])

    assert len(tail._blocks) == 3
    assert tail.messages == 15 * BLOCK_RUNS
    assert list(tail) == list(runs)


@pytest.mark.parametrize("seed", range(40))
def test_a_tail_is_a_list_of_runs_whatever_is_packed(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding, taking, relocating, finding, saving and restoring, in any order, at the edges of blocks too."""
    monkeypatch.setattr(tail_module, "BLOCK_RUNS", 3)
    chance = random.Random(seed)
    tail, model = Tail(), list[Run]()
    sequence, record = chance.choice((1, 2**40)), chance.choice((1, 2**46))
    for _ in range(300):
        match chance.choice(("add", "add", "take", "relocate", "find", "save")):
            case "add":
                record += chance.randint(1, 3)
                messages = chance.randint(1, 4)
                model.append(Run(record, sequence, messages))
                for _ in range(messages):
                    tail.append(record, sequence)
                    sequence += 1
                sequence += chance.randint(0, 2)
            case "take" if model:
                assert tail.pop() == model.pop(0)
            case "relocate" if model:
                record += 1
                at = chance.randrange(len(model))
                model[at] = model[at]._replace(record=record)
                tail.relocate(model[at].first_sequence + chance.randrange(model[at].messages), record)
            case "find" if model:
                wanted = chance.choice(model)
                assert tail.find(wanted.first_sequence + wanted.messages - 1) == wanted
                assert tail.find(model[0].first_sequence - 1) is None
            case "save":
                loose = Runs()
                blocks = tail.save(loose)
                tail = Tail.restored(loose, blocks)
        assert list(tail) == model
        assert (len(tail), tail.messages) == (len(model), sum(run.messages for run in model))
        assert tail.oldest_record() == min((run.record for run in model), default=None)
        assert tail.front(3) == model[: len(tail.front(3))]
        assert tail.second_sequence() == (model[1].first_sequence if len(model) > 1 else float("inf"))
