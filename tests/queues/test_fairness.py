"""A standard queue is fair to its tenants: who is served next, and that nobody is left out."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from tests.queues.clients import Clients
from tests.queues.driver import Got, QueueDriver
from tests.queues.test_state_properties import live_long
from tests.queues.windows import small_windows
from waystation.queues import queue_state
from waystation.queues.fairness import NOISY_IN_FLIGHT_MIN
from waystation.queues.standard import StandardQueue

HOUR_S = 3_600


def fair_queue(**backlogs: int) -> QueueDriver:
    """A queue with so many messages of each tenant, sent tenant after tenant at the first second."""
    queue = QueueDriver(visibility_timeout_s=12 * HOUR_S)
    for tenant, messages in backlogs.items():
        send(queue, tenant, messages, at_s=1)
    return queue


def send(queue: QueueDriver, tenant: str, messages: int, *, at_s: float) -> None:
    queue.send(*(f"{tenant}{number}" for number in range(messages)), at_s=at_s, group=tenant)


def take(queue: QueueDriver, messages: int, *, at_s: float) -> list[Got]:
    """Receive so many, in receives of ten."""
    got: list[Got] = []
    while len(got) < messages:
        more = queue.receive(at_s=at_s, max_messages=min(10, messages - len(got)))
        assert more
        got += more
    return got


def tenants(got: list[Got]) -> list[str]:
    return [each.group for each in got]


def test_a_tenant_that_has_consumers_waits_for_those_that_have_none() -> None:
    queue = fair_queue(busy=20)
    take(queue, 5, at_s=2)
    send(queue, "idle", 3, at_s=3)

    assert tenants(take(queue, 4, at_s=4)) == ["idle"] * 3 + ["busy"]


def test_the_tenant_with_the_fewest_messages_in_flight_goes_first() -> None:
    queue = fair_queue(a=3)
    take(queue, 3, at_s=1)
    send(queue, "b", 1, at_s=1)
    take(queue, 1, at_s=1)
    for tenant in ("a", "b", "c"):
        send(queue, tenant, 3, at_s=1)

    assert tenants(queue.receive(at_s=1, max_messages=9)) == ["c", "b", "c", "b", "c", "a", "b", "a", "a"]


def test_tenants_with_equally_many_in_flight_take_turns() -> None:
    queue = fair_queue(a=3, b=3, c=3)

    assert tenants([got for _ in range(9) for got in queue.receive(at_s=2)]) == ["a", "b", "c"] * 3


def test_one_receive_spreads_over_tenants() -> None:
    assert tenants(fair_queue(a=100, b=100, c=100).receive(at_s=2, max_messages=9)) == ["a", "b", "c"] * 3


@pytest.mark.parametrize("seed", range(20))
def test_one_receive_gives_what_receives_of_one_message_would(seed: int) -> None:
    def begin() -> QueueDriver:
        random = Random(seed)
        queue = fair_queue()
        for _ in range(12):
            send(queue, random.choice(["", "a", "b", "c", "d", "e"]), random.randint(1, 4), at_s=1)
            queue.receive(at_s=1, max_messages=random.randint(1, 2))
        return queue

    at_once, one_by_one = begin(), begin()
    got = at_once.receive(at_s=1, max_messages=8)

    assert got
    singles = [each for _ in got for each in one_by_one.receive(at_s=1)]
    assert [each.text for each in got] == [each.text for each in singles]


def test_messages_of_one_tenant_are_received_in_the_order_of_sending() -> None:
    queue = fair_queue(a=5, b=5)

    got = take(queue, 10, at_s=2)
    assert [each.text for each in got if each.group == "a"] == [f"a{number}" for number in range(5)]


def test_a_tenant_is_noisy_with_thirty_in_flight_that_are_more_than_a_tenth_of_all() -> None:
    queue = fair_queue(big=40)
    take(queue, NOISY_IN_FLIGHT_MIN - 1, at_s=1)
    assert noisy(queue) == set()

    take(queue, 1, at_s=1)
    assert noisy(queue) == {"big"}


def test_a_tenant_with_no_more_than_a_tenth_of_all_in_flight_is_quiet() -> None:
    queue = fair_queue(**{f"small{number}": 10 for number in range(27)})
    take(queue, 270, at_s=1)
    send(queue, "big", 40, at_s=1)
    take(queue, NOISY_IN_FLIGHT_MIN, at_s=1)
    assert noisy(queue) == set()

    take(queue, 4, at_s=1)
    assert noisy(queue) == {"big"}


def test_a_tenant_that_has_had_most_of_the_consumers_time_is_served_after_quiet_ones() -> None:
    """With three messages in flight it breaks no limit; over two minutes it has had nearly all the time."""
    queue = fair_queue(noisy=60)
    for second in range(2, 122):
        held = queue.receive(at_s=second, max_messages=3, visibility_timeout_s=1)
        assert held
    queue.delete(*held, at_s=122)
    send(queue, "quiet", 20, at_s=122)

    # Quiet ones go first, however many of theirs are in flight meanwhile.
    assert tenants(take(queue, 10, at_s=122)) == ["quiet"] * 10


def test_messages_without_a_group_are_never_noisy_and_never_wait_for_each_other() -> None:
    queue = fair_queue()
    queue.send(*(f"single{number}" for number in range(200)), at_s=1)
    take(queue, 100, at_s=2)
    send(queue, "a", 20, at_s=3)
    take(queue, 1, at_s=3)

    got = take(queue, 10, at_s=200)
    assert "" in tenants(got)
    assert tenants(got).count("") >= 9, "each is a tenant of its own with nothing in flight"


def test_consumers_of_messages_without_a_group_count_as_consumers() -> None:
    """One in flight of a hundred for minutes is a hundredth of the time, whoever has the others."""
    queue = fair_queue(a=3)
    take(queue, 1, at_s=2)
    queue.send(*(f"single{number}" for number in range(100)), at_s=3)
    single = take(queue, 100, at_s=3)
    assert tenants(single).count("") >= 98
    for got in [got for got in single if got.group]:
        queue.delete(got, at_s=3)
    send(queue, "a", 1, at_s=600)

    assert not noisy(queue)


def noisy(queue: QueueDriver) -> set[str]:
    state = queue.queue
    assert isinstance(state, StandardQueue)
    return set() if state._fairness is None else set(state._fairness._noisy)


def test_a_noisy_tenant_is_not_starved_for_ever() -> None:
    """Quiet tenants have all consumers, and always more to do; after some minutes it has its turn."""
    queue = fair_queue(noisy=100)
    queue.delete(*take(queue, 50, at_s=60), at_s=61)
    random = Random(1)
    waited_s = 0
    held: list[Got] = []
    for second in range(61, 61 + 600):
        tenant = f"quiet{random.randrange(30)}"
        send(queue, tenant, 2, at_s=second)
        held += queue.receive(at_s=second, max_messages=1)
        if held[-1].group == "noisy":
            waited_s = second - 61
            break
        if len(held) > 10:
            queue.delete(held.pop(0), at_s=second)

    assert held[-1].group == "noisy"
    assert waited_s < 300


def test_a_tenant_is_quiet_again_when_others_have_had_the_consumers_for_some_minutes() -> None:
    queue = fair_queue(a=50)
    queue.delete(*take(queue, 40, at_s=30), at_s=60)
    assert noisy(queue) == {"a"}

    for number in range(12):
        send(queue, f"other{number}", 40, at_s=60)
    for second in range(60, 360, 10):
        got = queue.receive(at_s=second, max_messages=10)
        queue.delete(*(each for each in got if each.group != "a"), at_s=second + 10)

    assert "a" not in noisy(queue)


def test_a_tenant_whose_backlog_is_consumed_is_forgotten() -> None:
    queue = fair_queue(a=40)
    queue.delete(*take(queue, 40, at_s=2), at_s=100)

    assert not queue.queue.lines
    assert not noisy(queue)


@pytest.mark.parametrize("seed", range(20))
def test_every_visible_message_in_memory_comes_up_exactly_once(seed: int) -> None:
    random = Random(seed)
    queue = fair_queue()
    for at_s in range(1, 60):
        send(queue, random.choice(["", "a", "b", "c", "d", "e"]), random.randint(1, 9), at_s=at_s)
        got = queue.receive(at_s=at_s, max_messages=random.randint(1, 10))
        queue.delete(*got[: random.randint(0, 10)], at_s=at_s)
    state = queue.queue
    assert isinstance(state, StandardQueue)

    found = [message.sequence for message in state._in_order(60_000)]

    assert len(found) == len(set(found))
    assert set(found) == {at for line in state.lines.values() for at in (*line.window, *line.back)}


def test_an_expired_message_at_the_back_of_a_tenant_hides_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do windows full of expired messages keep those behind them from being loaded."""
    small_windows(monkeypatch, 4)
    queue = QueueDriver(retention_s=60, visibility_timeout_s=0)
    send(queue, "a", 1, at_s=1)
    for _ in range(3):
        take(queue, 1, at_s=1)  # received so often that it goes to the back
    send(queue, "b", 4, at_s=1)
    send(queue, "b", 1, at_s=30)

    assert queue.texts(at_s=70) == ["b0"]


def test_a_receive_touches_a_few_tenants_of_ten_thousand() -> None:
    queue = fair_queue(**{f"tenant{number}": 1 for number in range(10_000)})
    state = queue.queue
    assert isinstance(state, StandardQueue)
    fairness = state._fairness
    assert fairness is not None
    begun: list[str] = []
    lines = fairness._lines

    def watched() -> Iterator[object]:
        for line in lines():
            begun.append(line.group)
            yield line

    fairness._lines = watched  # type: ignore[method-assign,assignment]
    assert len(queue.receive(at_s=2, max_messages=10)) == 10
    assert len(set(begun)) <= 11


# Against the oracle of standard queues


class Tenants(Clients):
    """Clients whose messages have groups."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random

    def group(self) -> str:
        return self._random.choice(["", "a", "a", "a", "b", "c", "d"])


@pytest.mark.parametrize("seed", range(40))
def test_with_tenants_a_standard_queue_keeps_all_that_it_promises(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_windows(monkeypatch, 4)
    monkeypatch.setattr(queue_state, "_STALE_SLACK", 2)
    random = Random(seed)
    live_long(Tenants(random), random, steps=300)
