"""Spreads the requests for a queue that spans several shards over its parts.

A send goes to one part, a receive asks one part after another, and what is about a message goes to the part
that its handle names; everything else goes to all of them. Nothing here is ever needed to be right: what is
kept of a queue only saves asking parts that are empty or do not answer.

Invariant: a receive is answered with nothing only after every part has said that it has nothing; and what a
part has handed out is in the answer, or is given back at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, TypeVar
from zlib import crc32

from msgspec.structs import replace

from waystation.backend.errors import was_not_done
from waystation.backend.giving_back import give_back_if_answered
from waystation.backend.interface import Shards
from waystation.frontend.part_polls import Handed, PartPoll, give_back_all, submitted
from waystation.metadata.queues import Place, Queue
from waystation.protocol.errors import Refusal, Unavailable
from waystation.queues import commands
from waystation.queues.commands import Answer, Arrival, Command, Entry, Outcome, Received, ReceiveMessages

_REMEMBERED_S = 1.0
"""How long a part that did not answer, or had nothing more, comes after the others. Others may send to it,
and it may be well again."""
_SEND_S = 20.0
"""After that no other part is tried: SDKs give up after 60 s, and one shard may take 15 s to say no."""
_SPREADS_MAX = 10_000
"""Queues of which something is kept, some 500 bytes each; past it the oldest are forgotten."""

Item = TypeVar("Item")
_Failure: TypeAlias = Refusal | Unavailable


class _Spread:
    """What one FrontEnd has seen of the parts of a queue, by index; it may be out of date."""

    __slots__ = ("_down_until_s", "_empty_until_s", "receives", "sends")

    def __init__(self, parts: int) -> None:
        self._empty_until_s = [0.0] * parts
        self._down_until_s = [0.0] * parts
        self.sends = self.receives = 0

    def order_of_send(self, now_s: float) -> list[int]:
        """In turn, those that did not answer lately last."""
        self.sends += 1
        return sorted(self._in_turn(self.sends), key=lambda index: self._is_down(index, now_s))

    def order_of_receive(self, now_s: float) -> list[int]:
        """Those that may have more first, in turn, so that none of them waits until another is empty."""
        self.receives += 1
        return sorted(
            self._in_turn(self.receives),
            key=lambda index: (self._is_down(index, now_s), self._empty_until_s[index] > now_s),
        )

    def _in_turn(self, turn: int) -> list[int]:
        count = len(self._down_until_s)
        first = turn % count
        return [*range(first, count), *range(first)]

    def may_have_more(self, index: int, now_s: float) -> bool:
        """Whether it is worth while to ask a part before waiting at all of them."""
        return self._empty_until_s[index] <= now_s and not self._is_down(index, now_s)

    def note(self, index: int, now_s: float, *, has_more: bool) -> None:
        """A part has answered, and may have more than it was asked for, or has not."""
        self._down_until_s[index] = 0.0
        self._empty_until_s[index] = 0.0 if has_more else now_s + _REMEMBERED_S

    def note_down(self, index: int, now_s: float) -> None:
        """A part has not answered."""
        self._down_until_s[index] = now_s + _REMEMBERED_S

    def _is_down(self, index: int, now_s: float) -> bool:
        return self._down_until_s[index] > now_s


def place_of_group(queue: Queue, group: str) -> Place:
    """The part of a FIFO queue that has a message group: always the same one, which keeps its order."""
    return queue.places[crc32(group.encode()) % len(queue.places)]


def parts_for(queue: Queue, source_shard: int, arrivals: list[Arrival]) -> dict[Place, list[Arrival]]:
    """Which part takes over which messages of another queue, or of a part of it, in the shard given.

    Always the same one for the same message, as only that one knows whether it has come already. Parts that
    other messages of the same source go to may be among those that get none.
    """
    if not queue.is_fifo:
        return {queue.places[source_shard % len(queue.places)]: arrivals}
    found: dict[Place, list[Arrival]] = {place: [] for place in queue.places}
    for arrival in arrivals:
        found[place_of_group(queue, arrival.group)].append(arrival)
    return found


class Parts:
    """All that one FrontEnd asks of queues with several parts. Of those with one it does the same, slower."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._spreads: dict[Place, _Spread] = {}

    def _spread(self, queue: Queue) -> _Spread:
        spread = self._spreads.get(queue.places[0])
        if spread is None:
            if len(self._spreads) >= _SPREADS_MAX:
                del self._spreads[next(iter(self._spreads))]
            spread = self._spreads[queue.places[0]] = _Spread(len(queue.places))
        return spread

    # Sending

    async def send(self, queue: Queue, entries: Sequence[Entry]) -> list[tuple[Place, int]]:
        """Have messages added: all to one part, or on a FIFO queue each to the part of its group.

        Returns:
            The part and the sequence of each, in order.

        Raises:
            Refusal, Unavailable: as of one shard. On a FIFO queue some may have been added all the same;
                whoever sends them again, as SDKs do, adds nothing twice.
        """
        if queue.is_fifo:
            located = [(place_of_group(queue, entry.group), entry) for entry in entries]
            answers = await self._by_part(located, commands.SendMessages)
            sequences = {place: iter(_sent(answer)) for place, answer in answers.items()}
            return [(place, next(sequences[place])) for place, _ in located]
        spread, loop = self._spread(queue), asyncio.get_running_loop()
        began_s = loop.time()
        failure: Unavailable | None = None
        for index in spread.order_of_send(began_s):
            place = queue.places[index]
            answer = await self._try(place.shard, commands.SendMessages(place.number, list(entries)))
            if not isinstance(answer, Unavailable):
                spread.note(index, loop.time(), has_more=True)
                return [(place, sequence) for sequence in _sent(answer)]
            failure = failure or answer
            spread.note_down(index, loop.time())
            if loop.time() - began_s > _SEND_S:
                break
        assert failure is not None, "a queue has a part"
        raise failure

    async def _try(self, shard: int, command: Command) -> Answer | Unavailable:
        """Its answer, or why it has certainly not done it. Raises what leaves that open, and refusals."""
        try:
            answering = self._shards.submit(shard, command)
        except Unavailable as error:  # what is refused at once has not happened
            return error
        try:
            return await answering
        except Unavailable as error:
            if not was_not_done(error):
                raise
            return error

    # Receiving

    async def receive(self, queue: Queue, command: ReceiveMessages) -> list[Handed]:
        """Receive from whichever parts have messages, or wait at all of them at once for the first that has.

        Args:
            command: for any part; its queue does not count.

        Raises:
            Refusal, Unavailable: of a part that did not answer, when the others have nothing.
        """
        spread, loop = self._spread(queue), asyncio.get_running_loop()
        began_s = loop.time()
        order = spread.order_of_receive(began_s)
        asked = order
        if command.attempt:
            # Whoever asks again must come first to where the messages of the first time came from.
            first = int.from_bytes(command.attempt[:4]) % len(order)
            asked = [*range(first, len(order)), *range(first)]
        elif command.wait_ms:
            asked = [index for index in order if spread.may_have_more(index, began_s)]
        found, failure = await self._ask_in_turn(queue, command, asked, spread)
        if not found and command.wait_ms:
            left_ms = max(command.wait_ms - int((loop.time() - began_s) * 1_000), 1)
            poll = PartPoll(self._shards, queue, replace(command, wait_ms=left_ms))
            try:
                found = await poll.run(order)
            finally:
                for index in order:
                    spread.note(index, loop.time(), has_more=index in poll.may_have_more)
                for index in poll.failures:
                    spread.note_down(index, loop.time())
        elif not found and failure is not None:
            raise failure
        return found

    async def _ask_in_turn(
        self, queue: Queue, command: ReceiveMessages, indexes: Iterable[int], spread: _Spread
    ) -> tuple[list[Handed], _Failure | None]:
        """Ask parts until there are enough messages; with those comes why a part did not answer, if any."""
        found: list[Handed] = []
        failure: _Failure | None = None
        loop = asyncio.get_running_loop()
        try:
            for index in indexes:
                place, room = queue.places[index], command.max_messages - len(found)
                ask = replace(command, queue=place.number, max_messages=room, wait_ms=0)
                try:
                    received = await _receive(self._shards, place.shard, ask)
                except (Refusal, Unavailable) as error:
                    if failure is None or isinstance(error, Unavailable):
                        failure = error
                    if isinstance(error, Unavailable):
                        spread.note_down(index, loop.time())
                    continue
                spread.note(index, loop.time(), has_more=len(received.messages) == room)
                found += [(place, message) for message in received.messages]
                if len(found) == command.max_messages:
                    break
        except asyncio.CancelledError:
            if not command.attempt:
                give_back_all(self._shards, found)
            raise
        return found, failure

    # What goes to certain parts, or to all

    async def outcomes(
        self, located: Sequence[tuple[Place, Item]], make: Callable[[int, list[Item]], Command]
    ) -> list[Outcome]:
        """What became of each item, in order, which `make` puts into a command to the part that has it.

        Raises:
            Refusal, Unavailable: of any part; what the others were given may be done.
        """
        answers = await self._by_part(located, make)
        ended = {place: iter(_outcomes(answer)) for place, answer in answers.items()}
        return [next(ended[place]) for place, _ in located]

    async def _by_part(
        self, located: Iterable[tuple[Place, Item]], make: Callable[[int, list[Item]], Command]
    ) -> dict[Place, Answer]:
        items: dict[Place, list[Item]] = {}
        for place, item in located:
            items.setdefault(place, []).append(item)
        asked = [(place.shard, make(place.number, each)) for place, each in items.items()]
        if len(asked) == 1:
            return dict.fromkeys(items, await self._shards.submit(*asked[0]))
        return dict(zip(items, _all_of(await self._ask(asked)), strict=True))

    async def ask_all(self, queue: Queue, make: Callable[[int], Command]) -> list[Answer]:
        """Give all parts the same command, made with the number of each; returns what they answer.

        Raises:
            Refusal, Unavailable: of any part, after all have been given it.
        """
        return _all_of(await self.try_all(queue, make))

    async def try_all(self, queue: Queue, make: Callable[[int], Command]) -> list[Answer | _Failure]:
        """The same, with the errors of those that refuse in the place of their answers."""
        return await self._ask([(place.shard, make(place.number)) for place in queue.places])

    async def count(self, queue: Queue) -> commands.Counts:
        """The messages of all parts."""
        visible = in_flight = delayed = 0
        for counts in await self.ask_all(queue, commands.CountMessages):
            assert isinstance(counts, commands.Counts)
            visible += counts.visible
            in_flight += counts.in_flight
            delayed += counts.delayed
        return commands.Counts(visible, in_flight, delayed)

    async def create(self, shards: Sequence[int], settings: commands.QueueSettings) -> list[Place]:
        """Make the parts of a new queue. When one cannot be made, what is left the reconciler drops."""
        answers = await self._ask([(shard, commands.CreateQueue(settings)) for shard in shards])
        made = [
            Place(shard, answer.queue)
            for shard, answer in zip(shards, answers, strict=True)
            if isinstance(answer, commands.QueueId)
        ]
        if len(made) < len(shards):
            await self.drop(made)
        _all_of(answers)
        return made

    async def drop(self, places: Iterable[Place]) -> None:
        """Drop parts that no client has seen, as far as their shards answer."""
        await self._ask([(place.shard, commands.DeleteQueue(place.number)) for place in places])

    async def _ask(self, asked: Iterable[tuple[int, Command]]) -> list[Answer | _Failure]:
        """Give shards their commands, all at once; each one's answer or error, in order."""
        answering = [submitted(self._shards, shard, command) for shard, command in asked]
        answers: list[Answer | _Failure] = []
        for answer in await asyncio.gather(*answering, return_exceptions=True):
            if isinstance(answer, BaseException) and not isinstance(answer, Refusal | Unavailable):
                raise answer
            answers.append(answer)
        return answers


async def _receive(shards: Shards, shard: int, command: ReceiveMessages) -> Received:
    """As `Shards.submit`; whoever goes away while the answer comes takes no message along."""
    answering = shards.submit(shard, command)
    try:
        received = await answering
    except asyncio.CancelledError:
        give_back_if_answered(shards.submit, shard, answering)
        raise
    assert isinstance(received, Received)
    return received


def _all_of(answers: Iterable[Answer | _Failure]) -> list[Answer]:
    """Raises the first error among them: one that tells to try again rather than a refusal."""
    answered: list[Answer] = []
    failure: _Failure | None = None
    for answer in answers:
        if not isinstance(answer, Refusal | Unavailable):
            answered.append(answer)
        elif failure is None or isinstance(answer, Unavailable):
            failure = answer
    if failure is not None:
        raise failure
    return answered


def _sent(answer: Answer) -> list[int]:
    assert isinstance(answer, commands.Sent)
    return answer.sequences


def _outcomes(answer: Answer) -> list[Outcome]:
    assert isinstance(answer, commands.Outcomes)
    return answer.outcomes
