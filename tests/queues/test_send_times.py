"""The table that says which sequence was sent when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.queues import send_times
from waystation.queues.send_times import SendTimes


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=60), st.integers(0, 20))
def test_the_first_sequence_since_a_time_is_found_among_those_kept(
    sends: list[tuple[int, int]], kept_ms: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(send_times, "_TRIM_AT", 3)
        times, sent, now_ms, sequence = SendTimes(), dict[int, int](), 100, 1
        for step_ms, messages in sends:
            now_ms += step_ms
            times.note(now_ms, sequence, now_ms - kept_ms)
            sent |= dict.fromkeys(range(sequence, sequence + messages), now_ms)
            sequence += messages

            for at_ms in range(now_ms - kept_ms, now_ms + 2):
                first = min((at for at, sent_at_ms in sent.items() if sent_at_ms >= at_ms), default=None)
                assert times.first_since(at_ms) == first
        read = SendTimes.from_bytes(*times.to_bytes())
        assert read.to_bytes() == times.to_bytes()
        assert read.first_since(now_ms) == times.first_since(now_ms)


def test_a_time_costs_the_same_however_many_were_sent_in_it() -> None:
    times = SendTimes()
    for sequence in range(1, 1_000):
        times.note(5, sequence, 0)

    assert [len(part) for part in times.to_bytes()] == [8, 8]
    assert times.first_since(5) == 1


def test_forgotten_times_give_their_memory_back() -> None:
    times = SendTimes()
    for now_ms in range(100_000):
        times.note(now_ms, now_ms + 1, now_ms - 100)

    assert len(times._times_ms) < 3 * send_times._TRIM_AT
