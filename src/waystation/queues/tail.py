"""The part of a backlog that is only remembered, not held: where its messages lie, in `Runs`.

A run says "from `first_sequence` on, so many messages of this queue lie in log
record `record`". Its messages are neither delayed nor ever received, and run
after run, sequences rise. What they contain stays in the log until consumers
come near.

The oldest runs and the newest can be looked at; those between them are packed into blocks,
so that ten million messages, also when each is alone in its record, cost a few megabytes
in memory and in a snapshot.

Records need not rise from run to run: relocation writes old messages again in
a new record and only changes where a run points.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import chain
from math import inf
from operator import attrgetter

from waystation.queues.runs import BLOCK_RUNS, RUN_MESSAGES_MAX, Block, Run, Runs

_NO_BLOCKS: list[Block] = []
"""Shared by all tails that have none, as a queue may have a hundred thousand. Never changed."""
_first_sequence = attrgetter("first_sequence")


class _Look:
    """A block whose runs are unpacked for now; `changed` if they are no more those that it has packed."""

    __slots__ = ("block", "changed", "runs")

    def __init__(self, block: Block) -> None:
        self.block = block
        self.runs = block.unpack()
        self.changed = False


class Tail:
    """The runs of one line, oldest first.

    They are in `_head`, then in `_blocks`, then in `_last`. Invariant: without blocks, and
    while there are few runs, head and last are the same; the head is empty only when all is.
    """

    __slots__ = ("_blocks", "_head", "_last", "_look", "messages")

    def __init__(self) -> None:
        self._head = self._last = Runs()
        self._blocks = _NO_BLOCKS
        self._look: _Look | None = None
        self.messages = 0

    def __len__(self) -> int:
        last = 0 if self._last is self._head else len(self._last)
        return len(self._head) + sum(block.runs for block in self._blocks) + last

    def __iter__(self) -> Iterator[Run]:
        yield from self._head
        for block in self._blocks:
            yield from self._look_at(block).runs
        if self._last is not self._head:
            yield from self._last

    def append(self, record: int, sequence: int) -> None:
        """Add the newest message. It joins the last run when that is of the same record."""
        self.messages += 1
        last = self._last
        locations = last.locations
        if len(locations) > last.start:
            location = locations[-1]
            if location >> 16 == record and location & RUN_MESSAGES_MAX < RUN_MESSAGES_MAX:
                locations[-1] = location + 1
                return
            if len(locations) >= BLOCK_RUNS:
                if last is not self._head:
                    self._blocks = [*self._blocks, Block.of(last)]
                last = self._last = Runs()
        last.locations.append(record << 16 | 1)
        last.first_sequences.append(sequence)

    def front(self, messages: int) -> list[Run]:
        """The oldest runs that together hold at least `messages` messages, or all there are."""
        runs: list[Run] = []
        if messages > 0:
            for run in self:
                runs.append(run)
                messages -= run.messages
                if messages <= 0:
                    break
        return runs

    def second_sequence(self) -> float:
        """Where the oldest run ends: the first sequence of the run after it, infinite without one."""
        head = self._head
        if len(head) > 1:
            return head.first_sequences[head.start + 1]
        if self._blocks:
            return self._blocks[0].first_sequence
        if self._last is not head and len(self._last):
            return self._last.first_sequences[0]
        return inf

    def pop(self) -> Run:
        """Take the oldest run away."""
        run = self._head.pop()
        self.messages -= run.messages
        if not len(self._head):
            if self._blocks:
                self._head = self._look_at(self._blocks[0]).runs
                self._look = None
                del self._blocks[0]
            else:
                self._head = self._last
        return run

    def find(self, sequence: int) -> Run | None:
        """The run that `sequence` falls in, if any; between two runs, the earlier."""
        runs = self._part_with(sequence)
        index = runs.index(sequence)
        return None if index is None else runs.run(index)

    def relocate(self, sequence: int, record: int) -> None:
        """The run that `sequence` falls in lies in `record` now."""
        runs = self._part_with(sequence)
        index = runs.index(sequence)
        if index is not None and runs.relocate(index, record) and self._look and runs is self._look.runs:
            self._look.changed = True

    def _part_with(self, sequence: int) -> Runs:
        """Where the run is that a sequence falls in, if there is one."""
        last = self._last
        if last is not self._head and len(last) and last.first_sequences[0] <= sequence:
            return last
        index = bisect_right(self._blocks, sequence, key=_first_sequence)
        return self._look_at(self._blocks[index - 1]).runs if index else self._head

    def _look_at(self, block: Block) -> _Look:
        """Unpack a block until another one is looked at: who looks at many does so in order."""
        if self._look is None or self._look.block is not block:
            self._put_back()
            self._look = _Look(block)
        return self._look

    def _put_back(self) -> None:
        look, self._look = self._look, None
        if look is not None and look.changed:
            self._blocks[self._blocks.index(look.block)] = Block.of(look.runs)

    def oldest_record(self) -> int | None:
        """The lowest record that a run lies in."""
        if self._last is self._head:
            return self._head.lowest_record()
        self._put_back()
        ends = (self._head.lowest_record(), self._last.lowest_record())
        blocks = (block.lowest_record for block in self._blocks)
        return min(record for record in chain(ends, blocks) if record is not None)

    def save(self, loose: Runs) -> list[Block]:
        """For a snapshot: adds the runs that are in no block to `loose`, and returns the blocks."""
        loose.extend(self._head)
        if self._last is not self._head:
            self._put_back()
            loose.extend(self._last)
        return self._blocks

    @classmethod
    def restored(cls, loose: Runs, blocks: list[Block]) -> Tail:
        """What `save` gave. Snapshots of older versions have no blocks, however many runs there are."""
        tail = cls()
        tail.messages = loose.messages() + sum(block.messages for block in blocks)
        if blocks:
            cut = bisect_left(loose.first_sequences, blocks[0].first_sequence)
            tail._head, tail._blocks, tail._last = loose.part(0, cut), blocks, loose.part(cut, len(loose))
        elif len(loose) <= BLOCK_RUNS:
            tail._head = tail._last = loose
        else:
            parts = [loose.part(first, first + BLOCK_RUNS) for first in range(0, len(loose), BLOCK_RUNS)]
            tail._head, tail._last = parts[0], parts[-1]
            tail._blocks = [Block.of(part) for part in parts[1:-1]]
        return tail
