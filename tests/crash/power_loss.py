"""What is left of files when a machine loses power: made from the journals that faults.c keeps.

What was written since the last sync of a file may be on disk or not, in part or whole, in any
order: each block has what was last synced, or what any later write gave it. Sizes change in the
order in which they did, up to some moment. After a sync that failed, a block that was to be
written may keep its older content until it is written again: a later sync does not help it.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

_HEAD = struct.Struct("=IIqqqII")
"""`struct record` in faults.c: kind, kept, offset, length, size before, total."""
_JOURNAL_HEAD_BYTES = 8
_WROTE, _CUT, _SYNCED, _FAILED = b"wcsf"
BLOCK_BYTES = (512, 4096)
"""What a disk writes whole: old and new ones."""


@dataclass(frozen=True)
class Record:
    """Something that happened to a file; `at` is its place in the journal."""

    at: int
    kind: int
    offset: int
    length: int
    size_before: int
    before: bytes

    @property
    def size(self) -> int:
        """Of the file afterwards."""
        return self.offset if self.kind == _CUT else max(self.size_before, self.offset + self.length)

    @property
    def touched(self) -> tuple[int, int]:
        """The first byte that it changed, and the one after the last."""
        if self.kind == _CUT:
            return (self.offset, max(self.offset, self.size_before))
        return (self.offset, self.offset + self.length)


def read_journal(content: bytes) -> list[Record]:
    """All that is in a journal; what a kill has cut off at its end has not happened."""
    records, at = [], _JOURNAL_HEAD_BYTES
    while at + _HEAD.size <= len(content):
        kind, kept, offset, length, size_before, total, _ = _HEAD.unpack_from(content, at)
        if at + total > len(content):
            break
        before = content[at + _HEAD.size : at + _HEAD.size + kept]
        records.append(Record(at, kind, offset, length, size_before, before))
        at += total
    return records


@dataclass
class Loss:
    """What a loss of power did."""

    blocks: int = 0
    """That were at stake."""
    lost: int = 0
    """That are not what was last written."""


@dataclass
class _Block:
    """What may be on disk for one block: versions are numbers of changes, -1 is what was synced long ago."""

    content: dict[int, bytes] = field(default_factory=dict)
    possible: set[int] = field(default_factory=lambda: {-1})
    dirty: list[int] = field(default_factory=list)

    def covered(self, number: int) -> list[int]:
        """Versions that a sync, begun before change `number`, was to write; they are not dirty any more."""
        cut = bisect_left(self.dirty, number)
        covered, self.dirty = self.dirty[:cut], self.dirty[cut:]
        return covered


def lose_power(data_dir: Path, journals: Path, random: Random) -> Loss:
    """Change the files, and empty the journals: what is there now is on disk."""
    loss = Loss()
    for journal in sorted(journals.iterdir()):
        file = data_dir / journal.name
        records = read_journal(journal.read_bytes())
        if records and file.exists():
            file.write_bytes(after_power_loss(file.read_bytes(), records, random, loss))
        journal.unlink()
    return loss


def after_power_loss(content: bytes, records: list[Record], random: Random, loss: Loss) -> bytes:
    """What might be on disk of a file whose last content this is."""
    block_bytes = random.choice(BLOCK_BYTES)
    changes = [record for record in records if record.kind in (_WROTE, _CUT)]
    blocks = _versions(content, changes, block_bytes)
    places = [change.at for change in changes]
    size_known = -1
    changed = iter(changes)
    pending = next(changed, None)
    number = 0
    for record in records:
        if record is pending:
            for index in _blocks_of(record, block_bytes):
                blocks[index].dirty.append(number)
            number, pending = number + 1, next(changed, None)
            continue
        before = bisect_left(places, record.offset)
        for block in blocks.values():
            covered = block.covered(before)
            if covered:
                block.possible = {covered[-1]} if record.kind == _SYNCED else block.possible | {*covered}
        if record.kind == _SYNCED:
            size_known = max(size_known, before - 1)
    return _choose(content, changes, blocks, block_bytes, size_known, random, loss)


def _versions(content: bytes, changes: list[Record], block_bytes: int) -> dict[int, _Block]:
    """Each block that was changed, with what each change made of it: found by undoing them."""
    blocks: dict[int, _Block] = {}
    image = bytearray(content)
    for number in range(len(changes) - 1, -1, -1):
        change = changes[number]
        touched = _blocks_of(change, block_bytes)
        for index in touched:
            block = blocks.setdefault(index, _Block())
            block.content[number] = _block(image, index, block_bytes)
        del image[change.size_before :]
        image.extend(bytes(change.size_before - len(image)))
        start = change.touched[0]
        image[start : start + len(change.before)] = change.before
        for index in touched:
            blocks[index].content[-1] = _block(image, index, block_bytes)
    return blocks


def _blocks_of(change: Record, block_bytes: int) -> range:
    start, end = change.touched
    return range(start // block_bytes, -(-end // block_bytes))


def _block(image: bytearray, index: int, block_bytes: int) -> bytes:
    return bytes(image[index * block_bytes : (index + 1) * block_bytes]).ljust(block_bytes, b"\0")


def _choose(
    content: bytes,
    changes: list[Record],
    blocks: dict[int, _Block],
    block_bytes: int,
    size_known: int,
    random: Random,
    loss: Loss,
) -> bytes:
    """Choose what came to the disk: nothing, all, or each block with a chance of its own."""
    last = len(changes) - 1
    keeps = random.choice([0.0, 0.5, 0.9, random.random(), 1.0])
    size_until = random.choice([size_known, random.randint(size_known, last), last])
    if size_until >= 0:
        size = changes[size_until].size
    else:
        size = changes[0].size_before if changes else len(content)
    image = bytearray(content[:size].ljust(size, b"\0"))
    for index, block in blocks.items():
        versions = sorted(_allowed(block, index * block_bytes, changes, size_until))
        chosen = versions[-1] if random.random() < keeps else random.choice(versions[:-1] or versions)
        start = index * block_bytes
        end = max(start, min(size, start + block_bytes))
        image[start:end] = block.content[chosen][: end - start]
        loss.blocks += 1
        loss.lost += image[start:end] != content[start : start + block_bytes]
    return bytes(image)


def _allowed(block: _Block, start: int, changes: list[Record], size_until: int) -> set[int]:
    """The versions that go with the sizes up to a change: a cut that came to the disk ends older ones."""
    versions = block.possible | {*block.dirty}
    cuts = list(_cuts(block, start, changes))
    first = max((cut for cut in cuts if cut <= size_until), default=-1)
    end = min((cut for cut in cuts if cut > size_until), default=len(changes))
    return {version for version in versions if first <= version < end} or {max(versions)}


def _cuts(block: _Block, start: int, changes: list[Record]) -> Iterator[int]:
    for number in block.content:
        if number >= 0 and changes[number].kind == _CUT and changes[number].offset <= start:
            yield number
