"""What must hold for FIFO queues, besides what holds for all.

Queues that get dead letters are left out of the order: there, messages are as old as they came.

Source: SQS Developer Guide, FIFO queue delivery logic, and exactly-once processing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import pairwise
from math import inf

from tests.histories.checks import Check, Index
from tests.histories.history import Handed, Send, Violation

WINDOW_S = 300.0
"""In which a deduplication id is recognised."""


def numbered_as_sent(index: Index) -> Iterator[Violation]:
    """Who sends after somebody else was answered gets a higher sequence number; so do those of a batch."""
    for sends in _sends_by_queue(index).values():
        ids: dict[int, str] = {}
        for send in sends:
            if send.sequence and ids.setdefault(send.sequence, send.message_id) != send.message_id:
                yield Violation(f"{send.body} has the sequence number of another message", (send.body,))
        firsts = _first_of_each_id(sends)
        sent_by = Counter(send.deduplication_id for send in sends if send.deduplication_id)
        for before, send in pairwise(firsts):
            if sent_by[before.deduplication_id] > 1 or sent_by[send.deduplication_id] > 1:
                continue  # somebody else may have been quicker with one of the two
            if send.answer is not None and send.answer is before.answer and send.sequence < before.sequence:
                text = f"{send.body} came after {before.body} in a batch and has a lower sequence number"
                yield Violation(text, (send.body, before.body))
        answered = sorted((each for each in firsts if each.answer), key=lambda each: each.answer.ended_s)  # type: ignore[union-attr]
        position, highest, holder = 0, 0, ""
        for send in sorted(firsts, key=lambda each: each.began_s):
            while position < len(answered) and answered[position].answer.ended_s < send.began_s:  # type: ignore[union-attr]
                if answered[position].sequence > highest:
                    highest, holder = answered[position].sequence, answered[position].body
                position += 1
            if send.sequence and send.sequence <= highest:
                text = f"{send.body} was sent after {holder} and has a lower sequence number"
                yield Violation(text, (send.body, holder))


def _sends_by_queue(index: Index) -> dict[str, list[Send]]:
    by_queue: dict[str, list[Send]] = defaultdict(list)
    for send in index.history.sends:
        if index.history.queues[send.queue].fifo:
            by_queue[send.queue].append(send)
    return by_queue


def _first_of_each_id(sends: list[Send]) -> list[Send]:
    """A send that repeats another has the number of the first, whenever it is made."""
    first: dict[tuple[str, int], Send] = {}
    for send in sorted(sends, key=lambda each: each.began_s):
        first.setdefault((send.deduplication_id, send.sequence), send)
    # An act that nobody was told of may have been the first, after the queue was purged for example.
    unknown = {send.deduplication_id for send in sends if send.acts != [send.answer]}
    return [send for send in first.values() if send.deduplication_id not in unknown]


def in_order(index: Index) -> Iterator[Violation]:
    """A message is received only when all before it in its group are gone, or come with it."""
    numbers = _numbers(index)
    for (queue, group), receives in _by_group(index).items():
        if queue in index.sources:
            continue
        there = [
            (sequence, _may_be_gone_s(index, queue, message_id, body), body)
            for sequence, (message_id, body) in numbers[queue, group].items()
        ]
        heapify(there)
        for got in sorted(receives, key=lambda each: each[0].act.ended_s):
            sequences = [message.sequence for message in got]
            bodies = tuple(message.body for message in got)
            if sequences != sorted(sequences):
                yield Violation(f"messages of group {group} came in a wrong order", bodies)
            first = _first_there(there, got[0].act.ended_s + index.history.slack_s, set(sequences))
            if first is not None and first[0] < sequences[-1]:
                text = f"{bodies[-1]} was received before {first[1]}, which was sent first"
                yield Violation(text, (*bodies, first[1]))


def _first_there(there: list[tuple[int, float, str]], by_s: float, here: set[int]) -> tuple[int, str] | None:
    """Sequence number and body of the first message that was surely there, besides some.

    `there` is a heap, from which this takes what may be gone: each call is later than the one before.
    """
    kept, found = [], None
    while there and found is None:
        sequence, gone_s, body = message = heappop(there)
        if gone_s > by_s:
            kept.append(message)
            if sequence not in here:
                found = sequence, body
    for message in kept:
        heappush(there, message)
    return found


def _numbers(index: Index) -> dict[tuple[str, str], dict[int, tuple[str, str]]]:
    """By queue and group: ids and bodies of all messages that were surely accepted, by sequence number."""
    found: dict[tuple[str, str], dict[int, tuple[str, str]]] = defaultdict(dict)
    for send in index.history.sends:
        if send.sequence:
            found[send.queue, send.group][send.sequence] = (send.message_id, send.body)
    for handed in index.history.handed():
        if handed.sequence:
            found[handed.receive.queue, handed.group][handed.sequence] = (handed.message_id, handed.body)
    return found


def _may_be_gone_s(index: Index, queue: str, message_id: str, body: str) -> float:
    """When a message may have left a queue; `inf` if it has not."""
    sent_s = min((send.began_s for send in index.by_body[body]), default=0.0)
    there_s = max(sent_s, index.seen_s(message_id, queue))
    gone_s = min(
        index.may_be_gone_s(queue, message_id, there_s), max(_too_old_s(index, queue, body), there_s)
    )
    # Dead letters keep their id, and all of them are seen at the end, unless somebody clears or moves
    # them, or they expire; or clears the queue that they have left, before they have arrived.
    target = index.history.queues[queue].dead_letters_to
    if not target:
        return gone_s
    set_aside = any(handed.receive.queue == target for handed in index.by_id[message_id])
    moved = any(move.queue == target for move in index.history.moves)
    expire = index.history.queues[target].retention_s < inf
    cleared = any(index.clears[place] for place in (queue, target))
    return there_s if set_aside or moved or expire or cleared else gone_s


def _too_old_s(index: Index, queue: str, body: str) -> float:
    """When a queue may have dropped a message, at the earliest."""
    sent_s = min((send.began_s for send in index.by_body[body]), default=0.0)
    return sent_s + index.history.queues[queue].retention_s


def blocked_by_those_before(index: Index) -> Iterator[Violation]:
    """While a message of a group is in flight, nobody gets any that was sent after it.

    Those before it may be received, as AWS does it: a consumer can give back one message of several.
    """
    for (_, group), receives in _by_group(index).items():
        receives.sort(key=lambda each: each[0].act.began_s)
        flying: list[tuple[float, list[Handed]]] = []
        """What may be in flight, and until when."""
        for got in receives:
            second = got[0].receive
            flying = [each for each in flying if each[0] > got[0].act.began_s]
            for _, held in flying:
                first = held[0].receive
                if first.attempt_id and first.attempt_id == second.attempt_id:
                    continue
                if _blocks(index, held, got) and _ordered(index, held, got):
                    bodies = tuple(message.body for message in (*held, *got))
                    text = f"{got[-1].body} of group {group} was received while {held[0].body} was in flight"
                    yield Violation(text, bodies)
            flying.append((max(_flies_until_s(index, message) for message in got), got))


def _flies_until_s(index: Index, message: Handed) -> float:
    """After this, it may be visible or gone, whoever looks."""
    gone_s = index.may_be_gone_s(message.receive.queue, message.message_id, message.act.began_s)
    too_old_s = _too_old_s(index, message.receive.queue, message.body)
    return min(gone_s, too_old_s, message.hidden_until_s(inf))


def _blocks(index: Index, held: list[Handed], got: list[Handed]) -> bool:
    """Whether a message of one receive was surely in flight when a later one was received."""
    act, last = got[0].act, max(message.sequence for message in got)
    by_s = act.ended_s + index.history.slack_s
    return any(
        message.sequence < last
        and by_s < message.hidden_until_s(act.began_s)
        and by_s < _flies_until_s(index, message)
        for message in held
    )


def _ordered(index: Index, held: list[Handed], got: list[Handed]) -> bool:
    """Whether the first receive came surely before the second; or it was as wrong the other way round."""
    return held[0].act.ended_s < got[0].act.began_s or _blocks(index, got, held)


def _by_group(index: Index) -> dict[tuple[str, str], list[list[Handed]]]:
    """By FIFO queue and group: what each receive got of it."""
    found: dict[tuple[str, str], list[list[Handed]]] = defaultdict(list)
    for receive in index.history.receives:
        if index.history.queues[receive.queue].fifo:
            groups: dict[str, list[Handed]] = defaultdict(list)
            for message in receive.messages:
                groups[message.group].append(message)
            for group, messages in groups.items():
                found[receive.queue, group].append(messages)
    return found


def deduplicated(index: Index) -> Iterator[Violation]:
    """Within five minutes of its first send, a deduplication id is of one message; after, of another."""
    for queue, sends in _sends_by_queue(index).items():
        by_id: dict[str, list[Send]] = defaultdict(list)
        for send in sends:
            if send.deduplication_id:
                by_id[send.deduplication_id].append(send)
        for same in by_id.values():
            first_s = min(send.began_s for send in same)
            if any(act.ended_s >= first_s for clear in index.clears[queue] for act in clear.acts):
                continue  # what was cleared may be sent anew
            yield from _too_many(index, same)
            yield from _too_few(index, same)


def _too_many(index: Index, same: list[Send]) -> Iterator[Violation]:
    acts = [act for send in same for act in send.acts]
    soon_s = min((act.began_s for act in acts), default=-inf) + WINDOW_S - index.history.slack_s
    told = {send.message_id for send in same if send.answer is not None and send.answer.ended_s < soon_s}
    seen = {message_id for send in same for message_id in index.ids_of[send.body]}
    moved = len(index.history.moves)
    if len(told) > 1 or (len(seen) > 1 + moved and all(act.ended_s < soon_s for act in acts)):
        bodies = tuple(sorted({send.body for send in same}))
        yield Violation(f"{bodies[0]} was sent once and is there under {len(told | seen)} ids", bodies)


def _too_few(index: Index, same: list[Send]) -> Iterator[Violation]:
    """A send whose id was first used more than five minutes ago is a new message."""
    late_s: dict[str, float] = {}
    for send in sorted(same, key=lambda each: each.answer.ended_s if each.answer else inf):
        if send.answer is None:
            continue
        over_s = late_s.setdefault(send.message_id, send.answer.ended_s + WINDOW_S + index.history.slack_s)
        if send.began_s > over_s:
            text = f"{send.body} was sent anew after five minutes and taken for a duplicate"
            yield Violation(text, (send.body,))


FIFO_CHECKS: tuple[Check, ...] = (numbered_as_sent, in_order, blocked_by_those_before, deduplicated)
