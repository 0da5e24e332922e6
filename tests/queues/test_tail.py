"""A tail remembers where a backlog lies, at 16 bytes a run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from waystation.queues import tail as tail_module
from waystation.queues.tail import RUN_MESSAGES_MAX, Run, Tail


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


def test_a_run_costs_16_bytes() -> None:
    tail = tail_of(*((record, record, 1) for record in range(1, 1_001)))

    assert sum(map(len, tail.to_bytes())) == 16 * 1_000
    assert tail._first_sequences.itemsize + tail._locations.itemsize == 16


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
    runs = 3 * tail_module._TRIM_AT
    tail = tail_of(*((record, record, 1) for record in range(1, runs + 1)))
    for expected in range(1, runs - 9):
        assert tail.pop() == Run(expected, expected, 1)

    assert len(tail) == 10
    assert len(tail._locations) == len(tail._first_sequences) < tail_module._TRIM_AT
    assert tail.find(runs) == Run(runs, runs, 1)


runs_to_append = st.lists(st.tuples(st.integers(1, 2**47), st.integers(1, 4)), max_size=20)


@given(runs_to_append, st.integers(0, 10))
def test_a_tail_survives_being_saved(appended: list[tuple[int, int]], popped: int) -> None:
    tail = Tail()
    sequence = 2**40
    for record, messages in appended:
        for _ in range(messages):
            tail.append(record, sequence)
            sequence += 1
    for _ in range(min(popped, len(tail))):
        tail.pop()

    saved = Tail.from_bytes(*tail.to_bytes())

    assert list(saved) == list(tail)
    assert saved.messages == tail.messages
