"""Messages that are received too often are set aside, and arrive in another queue as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.queues.driver import QueueDriver, fifo_queue
from tests.queues.oracle import check_invariants
from tests.queues.windows import small_windows, tail_messages
from waystation.log.interface import Snapshot
from waystation.protocol.limits import RETENTION_S_MAX
from waystation.queues.commands import Arrival, DeliveryOutdated, Outcome
from waystation.queues.events import MessagesReceived, MessagesReleased, MessagesSetAside, NumbersSkipped
from waystation.queues.snapshots import from_snapshot, to_snapshot

DAY_S = 86_400


def source(receive_count_max: int = 2, **settings: float) -> QueueDriver:
    """A queue whose messages are set aside for "letters"."""
    return QueueDriver(receive_count_max=receive_count_max, target="letters", **settings)  # type: ignore[arg-type]


def with_one_set_aside() -> QueueDriver:
    """A queue at 20 s that has set its only message aside, sent at 1 s and received at 2 s."""
    queue = source(1)
    queue.send("poison", at_s=1)
    queue.receive(at_s=2, visibility_timeout_s=8)
    assert queue.texts(at_s=20) == []
    return queue


def letter(sequence: int = 1, *, text: str = "poison", sent_at_s: int = 1, receive_count: int = 3) -> Arrival:
    return Arrival(sequence, sent_at_s * 1_000, receive_count, text.encode())


@pytest.fixture
def with_small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four messages; the rest is in the tail."""
    small_windows(monkeypatch, 4)


# Setting aside


@pytest.mark.parametrize("receive_count_max", [1, 2, 5])
def test_a_message_is_received_as_often_as_the_limit_says_and_set_aside_when_it_would_be_once_more(
    receive_count_max: int,
) -> None:
    queue = source(receive_count_max)
    queue.send("poison", at_s=1)
    for receive in range(1, receive_count_max + 1):
        [got] = queue.receive(at_s=receive * 100)
        assert got.receive_count == receive
        assert queue.letters() == []

    last_s = (receive_count_max + 1) * 100
    assert queue.counts(at_s=last_s) == (1, 0, 0), "time alone sets nothing aside"
    assert queue.texts(at_s=last_s) == []
    assert queue.letters() == [Arrival(1, 1_000, receive_count_max, b"poison")]


def test_without_a_redrive_policy_a_message_is_received_for_ever() -> None:
    queue = QueueDriver()
    queue.send("poison", at_s=1)
    for receive in range(1, 50):
        assert [got.receive_count for got in queue.receive(at_s=receive * 100)] == [receive]


def test_a_receive_that_sets_messages_aside_gets_as_many_others_as_it_asked_for() -> None:
    queue = source(1)
    queue.send("dead 1", "dead 2", at_s=1)
    queue.receive(at_s=2, max_messages=10)
    queue.send("alive 1", "alive 2", "alive 3", at_s=3)

    assert queue.texts(at_s=100, max_messages=2) == ["alive 1", "alive 2"]
    assert [letter.envelope for letter in queue.letters()] == [b"dead 1", b"dead 2"]
    # What is set aside first is also in the log first: nothing is received and dead at once.
    aside, received = queue.shard.events(queue.shard.position - 1)
    assert isinstance(aside, MessagesSetAside)
    assert isinstance(received, MessagesReceived)
    assert aside.target == "letters"


@pytest.mark.usefixtures("with_small_windows")
def test_a_window_full_of_dead_messages_does_not_hide_what_is_behind_them() -> None:
    queue = source(1)
    queue.send("dead 1", "dead 2", "dead 3", "dead 4", at_s=1)
    queue.receive(at_s=2, max_messages=10)
    queue.send(*(f"alive {number}" for number in range(6)), at_s=3)
    queue.queue.advance(100_000)

    assert queue.texts(at_s=100)[:4] == ["alive 0", "alive 1", "alive 2", "alive 3"]
    assert len(queue.letters()) == 4


def test_nobody_receives_deletes_or_changes_a_message_that_is_set_aside() -> None:
    queue = source(1)
    queue.send("poison", at_s=1)
    [got] = queue.receive(at_s=2)
    queue.texts(at_s=100)

    assert queue.delete(got, at_s=101) == [Outcome.DONE]
    assert queue.change_visibility(got, timeout_s=0, at_s=102) == [Outcome.GONE]
    assert queue.texts(at_s=1_000) == []
    assert [letter.envelope for letter in queue.letters()] == [b"poison"]


def test_a_message_that_is_given_back_at_once_counts_its_receives_too() -> None:
    queue = source(2)
    queue.send("poison", at_s=1)
    for _ in range(2):
        [got] = queue.receive(at_s=2)
        queue.change_visibility(got, timeout_s=0, at_s=2)

    assert queue.texts(at_s=2) == []
    assert len(queue.letters()) == 1


def test_a_message_that_is_set_aside_counts_as_in_flight_and_not_against_the_limit_of_those() -> None:
    queue = source(1, in_flight_max=1)
    queue.send("poison", "fine", at_s=1)
    queue.receive(at_s=2)

    assert queue.texts(at_s=100) == ["fine"]
    assert queue.counts(at_s=100) == (0, 2, 0)
    assert queue.queue.in_flight == 1

    queue.release(queue.letters(), at_s=101)
    assert queue.counts(at_s=101) == (0, 1, 0)
    check_invariants(queue.queue)


def test_a_raised_limit_brings_nothing_back_and_gives_others_their_time() -> None:
    queue = source(1)
    queue.send("early", "late", at_s=1)
    queue.receive(at_s=2, visibility_timeout_s=1)
    queue.receive(at_s=2, visibility_timeout_s=10)
    queue.texts(at_s=5)
    queue.redrive(receive_count_max=2, target="letters", at_s=6)

    assert queue.texts(at_s=100) == ["late"]
    assert [letter.envelope for letter in queue.letters()] == [b"early"]


def test_a_lowered_limit_holds_from_the_next_receive_on() -> None:
    queue = source(5)
    queue.send("poison", at_s=1)
    queue.receive(at_s=2)
    queue.receive(at_s=100)
    queue.redrive(receive_count_max=2, target="letters", at_s=101)

    assert queue.texts(at_s=200) == []
    assert len(queue.letters()) == 1


@pytest.mark.parametrize(("count", "target"), [(0, ""), (1, "elsewhere")])
def test_what_is_set_aside_keeps_its_target_whatever_becomes_of_the_policy(count: int, target: str) -> None:
    """The target may have taken it already: whoever else got it would be the second to have it."""
    queue = with_one_set_aside()
    queue.redrive(receive_count_max=count, target=target, at_s=21)
    queue.restart()

    assert queue.queue.aside_targets == {1: "letters"}
    assert queue.texts(at_s=100) == []


def test_a_purge_drops_what_is_set_aside() -> None:
    queue = with_one_set_aside()
    letters = queue.letters()
    queue.purge(at_s=21)

    assert queue.letters() == []
    assert queue.counts(at_s=22) == (0, 0, 0)
    queue.release(letters, at_s=23)
    assert not any(
        isinstance(event, MessagesReleased)
        for at in queue.shard.log.records
        for event in queue.shard.events(at)
    )
    check_invariants(queue.queue)


def test_an_expired_message_is_not_set_aside() -> None:
    queue = source(1, retention_s=60)
    queue.send("poison", at_s=1)
    queue.receive(at_s=2, visibility_timeout_s=10)

    assert queue.texts(at_s=61) == []
    assert queue.letters() == []


def test_what_is_set_aside_outlives_the_retention_of_its_queue_and_no_longer_than_any_queue_keeps_it() -> (
    None
):
    """Its target may keep messages for longer, and only waits to be there again."""
    queue = with_one_set_aside()
    queue.queue.sweep(5 * DAY_S * 1_000)
    assert len(queue.letters()) == 1

    queue.queue.sweep(RETENTION_S_MAX * 1_000)
    assert len(queue.letters()) == 1
    queue.queue.sweep((RETENTION_S_MAX + 1) * 1_000)
    assert queue.letters() == []
    assert queue.queue.live_bytes == 0


# Arriving


def test_a_message_arrives_once_however_often_it_is_delivered() -> None:
    queue = QueueDriver()
    for at_s in (10, 11, 12):
        queue.accept([letter(7)], at_s=at_s)
        queue.restart()
    queue.accept([letter(7), letter(8, text="other")], at_s=13)

    assert queue.texts(at_s=20) == ["poison", "other"]
    assert queue.queue.next_sequence == 3


def test_sequences_are_those_of_their_source_each_queue_counts_for_itself() -> None:
    queue = QueueDriver()
    queue.accept([letter(1, text="of queue 1")], source=1, at_s=10)
    queue.accept([letter(1, text="of queue 2")], source=2, at_s=10)

    assert queue.texts(at_s=20) == ["of queue 1", "of queue 2"]


def test_a_message_that_was_deleted_in_its_new_queue_does_not_arrive_again() -> None:
    queue = QueueDriver()
    queue.accept([letter()], at_s=10)
    queue.delete(*queue.receive(at_s=11), at_s=12)
    queue.purge(at_s=13)
    queue.accept([letter()], at_s=14)

    assert queue.texts(at_s=20) == []


def test_what_is_settled_is_forgotten_and_only_that() -> None:
    queue = QueueDriver()
    queue.accept([letter(1), letter(2)], at_s=10)
    assert queue.queue.arrived == {(0, 1): {1, 2}}

    queue.accept([letter(3)], settled=[1], at_s=11)
    assert queue.queue.arrived == {(0, 1): {2, 3}}
    queue.accept([], settled=[2, 3], at_s=12)
    assert queue.queue.arrived == {}
    queue.restart()
    assert queue.queue.arrived == {}


def test_a_delivery_is_refused_once_a_later_one_was_here_whatever_is_settled_by_then() -> None:
    queue = QueueDriver()
    queue.accept([letter(1)], delivery=(5, 1), at_s=10)
    queue.accept([letter(2)], settled=[1], delivery=(6, 1), at_s=11)
    queue.accept([letter(2)], settled=[1], delivery=(6, 1), at_s=12)
    for restored in (False, True):
        if restored:
            queue.shard.state = from_snapshot(to_snapshot(queue.shard.state))
        for late in ((5, 1), (5, 9), (0, 0)):
            with pytest.raises(DeliveryOutdated):
                queue.accept([letter(1)], delivery=late, at_s=13)
        queue.restart()
    queue.accept([letter(1, text="of another queue")], source=2, delivery=(1, 1), at_s=14)

    assert queue.texts(at_s=20) == ["poison", "poison", "of another queue"]


def test_what_another_node_says_was_sent_in_the_future_was_sent_when_it_arrived() -> None:
    """Else a FIFO queue would hide it for as long as the clocks of two nodes differ."""
    queue = fifo_queue()
    queue.accept([letter(1, sent_at_s=70)], delivery=(1, 1), at_s=10)

    [got] = queue.receive(at_s=10)
    assert got.text == "poison"


def test_after_a_restore_deliveries_begin_anew() -> None:
    queue = QueueDriver()
    queue.accept([letter(1)], delivery=(5, 3), at_s=10)
    queue.shard.record(NumbersSkipped(11_000, 1_000, 10))
    queue.accept([letter(2)], delivery=(4, 1), at_s=12)

    assert queue.texts(at_s=20) == ["poison", "poison"]


def test_a_delivery_of_nothing_new_writes_nothing() -> None:
    queue = QueueDriver()
    queue.accept([letter()], at_s=10)
    position = queue.shard.position
    queue.accept([letter()], at_s=11)
    queue.accept([], at_s=12)

    assert queue.shard.position == position


def test_an_arrival_is_as_old_and_as_often_received_as_it_was_and_first_received_here_anew() -> None:
    queue = QueueDriver()
    queue.accept([letter(sent_at_s=5, receive_count=3)], at_s=100)

    [got] = queue.receive(at_s=110)
    assert (got.sent_at_s, got.receive_count, got.first_received_at_s) == (5, 4, 110)


@pytest.mark.usefixtures("with_small_windows")
def test_arrivals_keep_their_age_and_count_through_tail_restart_and_two_relocations() -> None:
    queue = QueueDriver()
    queue.send(*(f"fresh {number}" for number in range(6)), at_s=10)
    letters = [letter(at, text=f"dead {at}", sent_at_s=at, receive_count=at) for at in range(1, 8)]
    queue.accept(letters[:3], at_s=11)
    queue.accept(letters[3:], at_s=12)
    assert tail_messages(queue.queue) == 9, "it would prove nothing"
    for at_s in (13, 14):
        queue.shard.relocate(20, at_s * 1_000)
        queue.shard.snapshot()
        queue.shard.truncate()
        queue.restart()

    seen: dict[str, tuple[float, int]] = {}
    while got := queue.receive(at_s=20, max_messages=10):
        seen |= {each.text: (each.sent_at_s, each.receive_count) for each in got}
    assert {text: seen[text] for text in seen if "dead" in text} == {
        f"dead {at}": (at, at + 1) for at in range(1, 8)
    }
    assert len(seen) == 13


def test_the_retention_of_an_arrival_counts_from_its_original_sending() -> None:
    queue = QueueDriver(retention_s=60)
    queue.accept([letter(1, text="old", sent_at_s=1), letter(2, text="young", sent_at_s=30)], at_s=50)

    assert queue.counts(at_s=60.9) == (2, 0, 0)
    assert queue.texts(at_s=61) == ["young"]


def test_a_retention_that_was_short_before_an_arrival_came_does_not_count_for_it() -> None:
    queue = QueueDriver(retention_s=60)
    queue.send("expired", at_s=1)
    queue.retain(retention_s=1_000, at_s=100)
    queue.accept([letter(sent_at_s=2)], at_s=101)
    queue.restart()
    queue.retain(retention_s=900, at_s=102)

    assert queue.texts(at_s=110) == ["poison"]
    queue.shard.state = from_snapshot(to_snapshot(queue.shard.state))
    assert queue.texts(at_s=200) == ["poison"]


def test_an_older_arrival_behind_a_younger_message_expires_all_the_same() -> None:
    queue = QueueDriver(retention_s=60)
    queue.send("young", at_s=50)
    queue.accept([letter(sent_at_s=1)], at_s=51)

    assert queue.texts(at_s=100) == ["young"]


def test_a_dead_letter_queue_with_a_redrive_policy_of_its_own_sets_aside_by_all_receives_so_far() -> None:
    first = source(5)
    first.accept([letter(1, text="fourth receive", receive_count=3)], at_s=10)
    first.accept([letter(2, text="enough", receive_count=5)], at_s=10)

    assert first.texts(at_s=20) == ["fourth receive"]
    [second_hop] = first.letters()
    assert second_hop == Arrival(2, 1_000, 5, b"enough")


# Logs and snapshots


def story(queue: QueueDriver) -> Iterator[float]:
    """A life with everything in it, a step at a time; yields the time of each."""
    queue.send(*(f"message {number}" for number in range(7)), at_s=1)
    yield 1.0
    queue.accept([letter(at, receive_count=2) for at in range(1, 7)], at_s=2)
    yield 2.0
    for at_s in (10.0, 20.0, 30.0):
        queue.receive(at_s=at_s, max_messages=3, visibility_timeout_s=5)
        yield at_s
    queue.shard.relocate(3, 31_000)
    yield 31.0
    for at_s in (40.0, 50.0):
        queue.receive(at_s=at_s, max_messages=10, visibility_timeout_s=5)
        yield at_s
    letters = queue.letters()
    assert len(letters) > 4
    queue.release(letters[::2], at_s=51)
    yield 51.0
    queue.shard.relocate(20, 52_000)
    yield 52.0
    queue.accept([letter(9)], settled=[1, 2], at_s=53)
    yield 53.0


@pytest.mark.usefixtures("with_small_windows")
def test_replay_from_any_snapshot_gives_the_same_messages_also_when_those_set_aside_were_in_the_tail() -> (
    None
):
    queue = source(2)
    saved = []
    now_ms = 0
    for at_s in story(queue):
        now_ms = round(at_s * 1_000)
        queue.shard.commit()
        log = queue.shard.log
        saved.append(Snapshot(log.position, log.checksum, to_snapshot(queue.shard.state)))
    expected = queue.shard.contents(queue.shard.state, now_ms)
    assert any(tail_messages(from_snapshot(each.payload).queues[1]) for each in saved)

    for snapshot in [None, *saved]:
        queue.shard.log.snapshot = snapshot
        recovered = queue.shard.recovered()
        check_invariants(recovered.queues[1])
        assert queue.shard.contents(recovered, now_ms) == expected


def test_a_snapshot_holds_what_is_set_aside_and_what_has_arrived() -> None:
    queue = with_one_set_aside()
    queue.accept([letter(4), letter(2)], at_s=21)
    payload = to_snapshot(queue.shard.state)
    restored = from_snapshot(payload)

    assert restored.queues[1].aside == queue.queue.aside
    assert restored.queues[1].aside_targets == {1: "letters"}
    assert restored.queues[1].arrived == {(0, 1): {2, 4}}
    assert to_snapshot(restored) == payload
