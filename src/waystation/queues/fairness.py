"""Which tenant of a standard queue is served next: quiet ones before noisy ones, and never by a scan.

A tenant is noisy while it has 30 or more messages in flight and more than a tenth of
all, or while it has had more than a tenth of the consumers' time lately (SQS Developer
Guide, fair queues). The second rule also holds where few consumers work, as it counts
time and not messages.

Among the quiet, and among the noisy, the tenant with the fewest messages in flight goes
first, and of several such the one that has waited longest. So a tenant of which nothing
is being worked on never stands behind one that has consumers already, whoever is noisy.
Nobody starves: a tenant that gets no consumers is quiet again when that has lasted a while.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from heapq import heappop, heappush
from math import exp

from waystation.queues.line import Line
from waystation.queues.message import Message

NOISY_IN_FLIGHT_MIN = 30
"""Messages in flight below which a tenant is not noisy for these alone. SQS Developer Guide."""
NOISY_SHARE = 10
"""A tenant is noisy with more than one part in so many of all. SQS Developer Guide."""
_RECENT_MS = 60_000.0
"""Over which consumers' time is averaged; what is twice as old counts an eighth. Ours."""
_NOISY = 1 << 32
"""Added to a place's key: more than there can be in flight."""
_NOWHERE = -1


class TenantLine(Line):
    """The line of a tenant, and how busy it has kept the consumers lately.

    `busy` is the mean number of its messages in flight, as of `busy_at_ms`. `key` is
    where `Fairness` has put it, negative while nothing of it is visible.
    """

    __slots__ = ("busy", "busy_at_ms", "flying_since", "key")

    def __init__(self, group: str) -> None:
        super().__init__(group)
        self.busy = 0.0
        self.busy_at_ms = 0
        self.flying_since = 0
        """How many were in flight from `busy_at_ms` on."""
        self.key = _NOWHERE


class Fairness:
    """The lines of a queue of which something can be received, by noise and by what is in flight."""

    def __init__(self) -> None:
        self._places: dict[int, OrderedDict[str, TenantLine]] = {}
        self._keys: list[int] = []
        """Of `_places`, in order."""
        self._noisy: OrderedDict[str, TenantLine] = OrderedDict()
        self._all = TenantLine("")
        """How busy all tenants together keep the consumers."""

    def first(self) -> TenantLine | None:
        """The line that is served next."""
        return next(self._lines(), None)

    def _lines(self) -> Iterator[TenantLine]:
        for key in self._keys:
            yield from self._places[key].values()

    def in_order(self) -> Iterator[Message]:
        """The messages of all lines, next first, as if each was in flight once it is yielded."""
        lines = self._lines()
        upcoming = next(lines, None)
        begun: list[tuple[int, int, TenantLine, Iterator[Message]]] = []
        turns = 0
        while begun or upcoming is not None:
            # Of two with equally many in flight, one that was served just now has waited less.
            if upcoming is not None and (not begun or upcoming.key <= begun[0][0]):
                key, line, messages = upcoming.key, upcoming, upcoming.in_order()
                upcoming = next(lines, None)
            else:
                key, _, line, messages = heappop(begun)
            message = next(messages, None)
            if message is not None:
                yield message
                turns += 1
                heappush(begun, (key + 1 if line.group else key, turns, line, messages))

    def place(self, line: TenantLine, now_ms: int, in_flight: int) -> None:
        """Put a line that has changed behind those that are like it now.

        Args:
            line: of the queue.
            now_ms: when it has changed.
            in_flight: messages of the whole queue.
        """
        if line.group or self._all.busy_at_ms:
            _note(self._all, in_flight, now_ms)
        if line.group:
            _note(line, line.in_flight, now_ms)
            self._review(line, now_ms, in_flight)
            if self._noisy:
                # In turn, so that one which is quiet now is found, though nothing of it is handed out.
                other = next(iter(self._noisy.values()))
                if other is not line:
                    self._review(other, now_ms, in_flight)
        self._move(line)

    def _review(self, line: TenantLine, now_ms: int, in_flight: int) -> None:
        was_noisy = self._noisy.pop(line.group, None) is not None
        many = line.in_flight >= NOISY_IN_FLIGHT_MIN and line.in_flight * NOISY_SHARE > in_flight
        if many or _busy(line, now_ms) * NOISY_SHARE > _busy(self._all, now_ms):
            self._noisy[line.group] = line
        if was_noisy != (line.group in self._noisy) and line.key != _NOWHERE:
            self._move(line)

    def _move(self, line: TenantLine) -> None:
        key = _NOWHERE
        lost_turn = False
        if line.window or line.back:
            # Each message without a group is a tenant of its own, with nothing in flight.
            key = line.in_flight if line.group else 0
            if line.group in self._noisy:
                key += _NOISY
            if not line.group:
                # Its key says nothing, but it loses its turn when something of it is received.
                lost_turn, line.flying_since = line.in_flight > line.flying_since, line.in_flight
        if key == line.key and not lost_turn:
            return
        self._leave(line)
        if key != _NOWHERE:
            place = self._places.get(key)
            if place is None:
                place = self._places[key] = OrderedDict()
                insort(self._keys, key)
            place[line.group] = line
            line.key = key

    def _leave(self, line: TenantLine) -> None:
        if line.key != _NOWHERE:
            place = self._places[line.key]
            del place[line.group]
            if not place:
                del self._places[line.key]
                del self._keys[bisect_left(self._keys, line.key)]
            line.key = _NOWHERE

    def displace(self, line: TenantLine) -> None:
        """Forget a line."""
        self._leave(line)
        self._noisy.pop(line.group, None)


def _busy(line: TenantLine, now_ms: int) -> float:
    """The mean number in flight lately, older times counting less and less."""
    faded = exp((line.busy_at_ms - now_ms) / _RECENT_MS)
    return line.busy * faded + line.flying_since * (1.0 - faded)


def _note(line: TenantLine, in_flight: int, now_ms: int) -> None:
    line.busy = _busy(line, now_ms)
    line.busy_at_ms = now_ms
    line.flying_since = in_flight
