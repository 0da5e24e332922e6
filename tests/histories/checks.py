"""What must hold for every history of every queue, standard and FIFO.

Each check gives the broken promises that it finds; only what is wrong whenever within its acts each
thing happened is one. What must hold for FIFO queues only is in `fifo_checks`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from heapq import heappush
from itertools import accumulate, pairwise
from math import inf

from tests.histories.history import Act, Call, Clear, Delete, Handed, History, Receive, Send, Violation


@dataclass
class Index:
    """A history, by message."""

    history: History
    by_id: dict[str, list[Handed]] = field(default_factory=lambda: defaultdict(list))
    by_body: dict[str, list[Send]] = field(default_factory=lambda: defaultdict(list))
    ids_of: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Every id under which a body was accepted or received."""
    deletes: dict[str, list[Delete]] = field(default_factory=lambda: defaultdict(list))
    clears: dict[str, list[Clear]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for handed in self.history.handed():
            self.by_id[handed.message_id].append(handed)
            self.ids_of[handed.body].add(handed.message_id)
        for send in self.history.sends:
            self.by_body[send.body].append(send)
            if send.answer is not None:
                self.ids_of[send.body].add(send.message_id)
        for delete in self.history.deletes:
            self.deletes[delete.message_id].append(delete)
        for clear in self.history.clears:
            self.clears[clear.queue].append(clear)

    @cached_property
    def left(self) -> set[str]:
        """Ids of what was found at the end."""
        return {handed.message_id for handed in self.history.left}

    @cached_property
    def sources(self) -> dict[str, list[str]]:
        """Names of the queues that set messages aside for a queue."""
        found: dict[str, list[str]] = defaultdict(list)
        for name, facts in self.history.queues.items():
            if facts.dead_letters_to:
                found[facts.dead_letters_to].append(name)
        return found

    @cached_property
    def unanswered_s(self) -> dict[str, float]:
        """By queue: since when somebody may have received messages without our knowing."""
        found: dict[str, float] = defaultdict(lambda: inf)
        for receive in self.history.unanswered:
            found[receive.queue] = min(found[receive.queue], receive.began_s)
        return found

    def places(self, queue: str) -> list[str]:
        """The queue that a message was sent to, and those that may have it from there."""
        target = self.history.queues[queue].dead_letters_to
        return [queue, target] if target else [queue]

    def sent_s(self, send: Send) -> float:
        """Before this, the message of an acknowledged send was not there."""
        assert send.answer is not None
        if not self.history.queues[send.queue].fifo:
            return send.answer.began_s
        # The answer may tell of the message of an earlier send with the same deduplication id.
        return min(each.began_s for each in self.by_body[send.body])

    def seen_s(self, message_id: str, *places: str) -> float:
        """When a message was surely still in one of these queues, as it was received from there later."""
        handed = self.by_id[message_id]
        return max((each.act.began_s for each in handed if each.receive.queue in places), default=-inf)

    def may_be_gone_s(self, queue: str, message_id: str, from_s: float) -> float:
        """When a client may have deleted or cleared what was there at `from_s`; `inf` if nobody has.

        Cleared may also be the queue to which it went from there.
        """
        calls = [
            *self.deletes[message_id],
            *(each for place in self.places(queue) for each in self.clears[place]),
        ]
        acts = (act for call in calls for act in call.acts)
        return min((max(act.began_s, from_s) for act in acts if act.ended_s >= from_s), default=inf)


Check = Callable[[Index], Iterator[Violation]]


def lost(index: Index) -> Iterator[Violation]:
    """An accepted message is there until somebody deletes it."""
    history = index.history
    moved_from = {place for move in history.moves for place in (move.queue, *index.sources[move.queue])}
    for send in history.sends:
        if send.answer is None:
            continue
        message_id = send.message_id
        if message_id in index.left:
            continue
        there_s = max(index.sent_s(send), index.seen_s(message_id, *index.places(send.queue)))
        if index.may_be_gone_s(send.queue, message_id, there_s) < inf:
            continue
        if history.queues[send.queue].retention_s < inf:
            continue  # it may be too old by now
        others = index.ids_of[send.body] - {message_id}
        if send.queue in moved_from and any(other in index.left or index.deletes[other] for other in others):
            continue  # moved, it has another id
        seen = "and never received" if not index.by_id[message_id] else "received, not deleted, and is gone"
        yield Violation(f"{send.body} was acknowledged {seen}", (send.body,))


def strange(index: Index) -> Iterator[Violation]:
    """Nothing is received that was not sent, and an id is of one message."""
    bodies: dict[str, set[str]] = defaultdict(set)
    for body, ids in index.ids_of.items():
        sends = index.by_body[body]
        if not sends:
            yield Violation(f"{body} was received and never sent", (body,))
            continue
        for message_id in ids:
            bodies[message_id].add(body)
        acts = sum(len(send.acts) for send in sends) + len(index.history.moves)
        if len(ids) > acts:
            yield Violation(f"{body} was sent {acts} times and is there under {len(ids)} ids", (body,))
    for message_id, shared in bodies.items():
        if len(shared) > 1:
            yield Violation(f"{message_id} is the id of {len(shared)} messages", tuple(sorted(shared)))


def as_sent(index: Index) -> Iterator[Violation]:
    """A message comes from where it was sent to, or from where that sets it aside, as it was sent."""
    for body, sends in index.by_body.items():
        places = {place for send in sends for place in index.places(send.queue)}
        groups = {send.group for send in sends}
        numbers = {(send.queue, send.message_id): send.sequence for send in sends}
        for handed in (each for message_id in index.ids_of[body] for each in index.by_id[message_id]):
            queue = handed.receive.queue
            if queue not in places and not index.history.moves:
                yield Violation(f"{body} was received from {queue}, where nobody sent it", (body,))
            if handed.group not in groups:
                yield Violation(f"{body} was received as one of group {handed.group}", (body,))
            if handed.sequence != numbers.get((queue, handed.message_id), handed.sequence):
                yield Violation(f"{body} was received with another sequence number", (body,))


def too_often(index: Index) -> Iterator[Violation]:
    """What was received as often as its queue allows is set aside."""
    for handed in index.history.handed():
        facts = index.history.queues[handed.receive.queue]
        if facts.dead_letters_to and handed.count > facts.receive_count_max:
            yield Violation(
                f"{handed.body} was not set aside after {handed.count - 1} receives", (handed.body,)
            )


def early(index: Index) -> Iterator[Violation]:
    """A delayed message is not received before its delay is over, nor any before it was sent."""
    history = index.history
    for body, sends in index.by_body.items():
        began_s = min(send.began_s + (send.delay_s or history.queues[send.queue].delay_s) for send in sends)
        for message_id in index.ids_of[body]:
            for handed in index.by_id[message_id]:
                if handed.act.ended_s + history.slack_s < began_s:
                    early_s = began_s - handed.act.ended_s
                    yield Violation(f"{body} was received {early_s:.3f} s before its delay was over", (body,))


def come_back(index: Index) -> Iterator[Violation]:
    """A message whose delete was acknowledged is never received again."""
    slack_s = index.history.slack_s
    for message_id, deletes in index.deletes.items():
        for delete in deletes:
            if delete.answer is None:
                continue
            for handed in index.by_id[message_id]:
                if handed.act.began_s <= delete.answer.ended_s + slack_s:
                    continue
                target = index.history.queues[delete.queue].dead_letters_to
                if handed.receive.queue == target and not _was_held(index, delete, delete.answer):
                    continue  # it may have been set aside already, beyond the reach of this delete
                yield Violation(
                    f"{handed.body} was received after its delete had been acknowledged", (handed.body,)
                )
                break


def _was_held(index: Index, delete: Delete, act: Act) -> bool:
    """Whether the message was surely still hidden in the queue where it was deleted."""
    here = [each for each in index.by_id[delete.message_id] if each.receive.queue == delete.queue]
    newest = max(here, key=lambda each: each.count, default=None)
    return newest is not None and act.ended_s + index.history.slack_s < newest.hidden_until_s(act.ended_s)


def cleared(index: Index) -> Iterator[Violation]:
    """What was in a queue before a purge is never received from it again."""
    for queue, clears in index.clears.items():
        if queue in index.sources:
            continue  # dead letters may have come in since, as old as they are
        acts = [clear.answer for clear in clears if clear.answer is not None]
        for send in index.history.sends if acts else ():
            if send.queue != queue or send.answer is None:
                continue
            after = [act for act in acts if act.began_s > send.answer.ended_s]
            gone_s = min((act.ended_s for act in after), default=inf)
            for handed in index.by_id[send.message_id]:
                if handed.receive.queue == queue and handed.act.began_s > gone_s:
                    yield Violation(f"{send.body} was received after it had been purged", (send.body,))
                    break


def handed_out_twice(index: Index) -> Iterator[Violation]:
    """Between a receive and the end of its visibility timeout no other receive gets the message."""
    slack_s = index.history.slack_s
    for handed in index.by_id.values():
        if len(handed) < 2:
            continue
        in_order = sorted(handed, key=lambda each: (each.count, each.act.began_s))
        for first, second in pairwise(in_order):
            if first.count == second.count:
                if not (first.receive.attempt_id and first.receive.attempt_id == second.receive.attempt_id):
                    text = f"receive {first.count} of {first.body} was handed out twice"
                    yield Violation(text, (first.body,))
                continue
            hidden_until_s = first.hidden_until_s(second.act.began_s)
            if second.act.ended_s + slack_s < hidden_until_s:
                early_s = hidden_until_s - second.act.ended_s
                text = f"receive {second.count} of {second.body} came {early_s:.3f} s too early"
                yield Violation(text, (first.body,))


def overlooked(index: Index) -> Iterator[Violation]:
    """No receive from a standard queue is answered with nothing while there is something.

    Judged are messages that nobody had received until then, nor could have without our knowing.
    """
    history = index.history
    if history.wake_s == inf:
        return
    visible: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for send in history.sends:
        if send.answer is not None and not history.queues[send.queue].fifo:
            visible[send.queue].append((*_surely_visible_s(index, send), send.body))
    for queue, receives in _empty_receives(index).items():
        coming = sorted(visible[queue], reverse=True)
        there: list[tuple[float, str]] = []
        for receive, ended_s in receives:
            while coming and coming[-1][0] < ended_s - history.wake_s:
                _, until_s, body = coming.pop()
                heappush(there, (-until_s, body))
            if there and ended_s < -there[0][0]:
                body = there[0][1]
                text = f"{receive.client} got nothing while {body} was in {queue}, at {ended_s:.3f}"
                yield Violation(text, (body,))


class _Acts:
    """When clients may have done something to a queue."""

    def __init__(self, calls: Iterable[Call], queue: str) -> None:
        acts = sorted(
            (act.began_s, act.ended_s) for call in calls if call.queue == queue for act in call.acts
        )
        self._began_s = [began_s for began_s, _ in acts]
        self._ended_s = list(accumulate((ended_s for _, ended_s in acts), max))

    def overlap(self, act: Act) -> bool:
        """Whether one of them may have happened while an act did."""
        begun = bisect_right(self._began_s, act.ended_s)
        return begun > 0 and self._ended_s[begun - 1] >= act.began_s


def _empty_receives(index: Index) -> dict[str, list[tuple[Receive, float]]]:
    """By queue: those that can be judged, and when they were answered, in this order."""
    history = index.history
    found: dict[str, list[tuple[Receive, float]]] = defaultdict(list)
    deletes = {queue: _Acts(history.deletes, queue) for queue in history.queues}
    for receive in history.receives:
        act = receive.answer
        assert act is not None
        if receive.messages or receive.queue in index.sources:
            continue
        if act.ended_s - act.began_s > receive.timeout_s > 0:
            continue  # what it took may have been visible again before it was answered
        if any(pause.began_s <= act.ended_s <= pause.ended_s for pause in history.pauses):
            continue
        if deletes[receive.queue].overlap(act):
            continue  # what it took may have been deleted, by an older receipt, before it could be answered
        found[receive.queue].append((receive, act.ended_s))
    for receives in found.values():
        receives.sort(key=lambda each: each[1])
    return found


def _surely_visible_s(index: Index, send: Send) -> tuple[float, float]:
    """From when to when a message was surely there for everybody, and had never been received."""
    assert send.answer is not None
    facts = index.history.queues[send.queue]
    from_s = send.answer.ended_s + (send.delay_s or facts.delay_s) + index.history.slack_s
    ends = [handed.act.began_s for handed in index.by_id[send.message_id]]
    ends.append(index.unanswered_s[send.queue])
    ends.append(index.may_be_gone_s(send.queue, send.message_id, send.answer.began_s))
    ends.append(send.began_s + facts.retention_s)
    return from_s, min(ends)


def in_one_place(index: Index) -> Iterator[Violation]:
    """When all is drained, each message has been there once, and the queues had counted them right."""
    history = index.history
    seen: set[str] = set()
    for handed in history.left:
        if handed.message_id in seen:
            yield Violation(f"{handed.body} was there twice when all was drained", (handed.body,))
        seen.add(handed.message_id)
    if history.counted is not None and history.counted != len(seen):
        yield Violation(f"the queues counted {history.counted} messages, and {len(seen)} were there")


CHECKS: tuple[Check, ...] = (
    lost,
    strange,
    as_sent,
    too_often,
    early,
    come_back,
    cleared,
    handed_out_twice,
    overlooked,
    in_one_place,
)
