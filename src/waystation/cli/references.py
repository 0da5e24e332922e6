"""Whether the catalogue and the shards of a data directory belong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from waystation.cli.data_directory import METADATA_FILE, shard_file
from waystation.cli.findings import Finding, counted
from waystation.frontend.arns import QueueArn
from waystation.metadata.inspection import Inspected
from waystation.metadata.queues import Place, QueueRecord
from waystation.queues.state import Queue, ShardState

States = Mapping[int, ShardState | None]
"""By number of the shard; None for one whose log leads to no state."""

_NOTHING = "Nothing has to be done"


def compare(catalogue: Inspected, states: States, *, of_one_moment: bool, restore: str) -> Iterator[Finding]:
    """Find what refers to something that is not there.

    Args:
        catalogue: what the metadata store holds.
        states: the shards whose files are there.
        of_one_moment: all files are known to be, as in a backup.
        restore: what to do about damage.
    """
    known: dict[Place, QueueRecord] = {}
    for record in catalogue.queues:
        for place in record.places:
            other = known.setdefault(place, record)
            if other is not record:
                what = f"gives queues {other.name} and {record.name} the same place in shard {place.shard}"
                yield Finding(METADATA_FILE, what, restore)
            yield from _missing_queue(record, place, states, restore)
    deleted = {place for record in catalogue.tombstones for place in record.places}
    for shard, state in states.items():
        for number, queue in state.queues.items() if state is not None else ():
            if Place(shard, number) not in known:
                is_explained = of_one_moment or Place(shard, number) in deleted
                yield _unknown_queue(shard, queue, is_explained, restore)
    names = {(record.account, record.name): record for record in catalogue.queues}
    for record in catalogue.queues:
        for shard, number in record.places:
            state = states.get(shard)
            if state is not None and number in state.queues:
                yield from _missing_targets(record, state.queues[number], names)
    yield from _stray_tasks(catalogue, names)


def _missing_queue(record: QueueRecord, place: Place, states: States, restore: str) -> Iterator[Finding]:
    state = states.get(place.shard)
    if state is None:
        return  # said already: its file is missing or damaged
    queue = state.queues.get(place.number)
    if queue is None:
        what = f"has queue {record.name}, which shard {place.shard} does not know: its messages are lost"
        remedy = f"The files are of different times. {restore}; a node that starts so makes it empty"
        yield Finding(METADATA_FILE, what, remedy)
    elif queue.settings.name != record.name:
        what = f"has queue {record.name} in the place where shard {place.shard} has {queue.settings.name}"
        yield Finding(METADATA_FILE, what, f"The files are of different times. {restore}")


def _unknown_queue(shard: int, queue: Queue, is_explained: bool, restore: str) -> Finding:
    """A queue is made in its shard first and deleted there last, so a crash may lead here."""
    where = shard_file(Path(), shard).name
    what = f"has queue {queue.settings.name}, which the catalogue does not know"
    was_used = queue.next_sequence > 1 and queue.live > 0
    if is_explained or not was_used:
        remedy = f"{_NOTHING}: it was just being made or deleted, and the next start drops it"
        return Finding(where, what, remedy, is_problem=False)
    remedy = (
        f"Unless it is being deleted right now, {METADATA_FILE} is of another time, and the next start "
        f"drops these messages. {restore}"
    )
    return Finding(where, f"{what}, and {counted(queue.live, 'message')} in it", remedy)


def _missing_targets(
    record: QueueRecord, queue: Queue, names: Mapping[tuple[str, str], QueueRecord]
) -> Iterator[Finding]:
    waiting = Counter(queue.aside_targets.values())
    for target in {queue.settings.dead_letter_target, *waiting} - {""}:
        arn = QueueArn.parse(target)
        if arn is None or (arn.account, arn.name) in names:
            continue  # one that is no ARN belongs to a move, which ends when it has nowhere to go
        what = f"has dead letters go to {target}, which does not exist"
        if waiting[target]:
            what += f"; {counted(waiting[target], 'message')} set aside for it"
        remedy = f"Nothing is lost: make that queue, or change the redrive policy of {record.name}"
        yield Finding(f"queue {record.name}", what, remedy, is_problem=False)


def _stray_tasks(catalogue: Inspected, names: Mapping[tuple[str, str], QueueRecord]) -> Iterator[Finding]:
    sources = {(task.account, task.source) for task in catalogue.tasks}
    for _, source in sorted(sources - names.keys()):
        what = f"has moves of messages out of queue {source}, which is gone"
        remedy = f"{_NOTHING}: the next start forgets them"
        yield Finding(METADATA_FILE, what, remedy, is_problem=False)
