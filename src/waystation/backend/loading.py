"""What a shard reads back from its log: tails of queues, ahead of need, and envelopes that are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waystation.backend.cache import EnvelopeCache
from waystation.backend.reading import read_envelopes, read_runs
from waystation.log.errors import LogDamaged
from waystation.log.interface import Log
from waystation.queues.commands import Received
from waystation.queues.contents import run_messages, waiting_messages
from waystation.queues.state import Queue

if TYPE_CHECKING:
    from waystation.backend.shard import Shard


class Loader:
    """Works for one shard, as long as one life of its state. What waits raises what the log does."""

    def __init__(self, shard: Shard, log: Log, cache: EnvelopeCache) -> None:
        self._shard = shard
        self._log = log
        self._cache = cache
        self._loading: set[int] = set()

    def is_loading(self, queue: int) -> bool:
        """Whether a part of the queue's tail is being read just now."""
        return queue in self._loading

    def load_ahead(self, queue: Queue) -> None:
        """Start to load what consumers will soon ask for."""
        if queue.needs_load() and queue.number not in self._loading:
            self._loading.add(queue.number)
            # Whoever waits for it is served by it; when it fails, so does this life of the shard.
            _ = self._shard.start(self._load(queue))

    async def fill(self, queue: Queue) -> bool:
        """Load a tail that no consumer asks for. False when one does, or when the queue is gone."""
        if queue.number in self._loading or queue.number not in self._shard.state.queues:
            return False
        self._loading.add(queue.number)
        await self._load(queue)
        return True

    async def _load(self, queue: Queue) -> None:
        """Fill a queue's window from its tail, then serve who waits for that."""
        state = self._shard.state
        try:
            wanted = queue.runs_to_load()
            runs = [run for _, run in wanted]
            await self._shard.committed(max((run.record for run in runs), default=0))
            found = {
                position: waiting_messages(record, queue.number)
                for position, record in (await read_runs(self._log, runs)).items()
            }
            for group, run in wanted:
                if state.queues.get(queue.number) is not queue:
                    break  # deleted meanwhile
                if not queue.takes(group, run):
                    continue  # purged or relocated meanwhile, or full: the next receive asks again
                if run.record not in found:
                    raise LogDamaged(f"record {run.record} is missing, and live messages are in it")
                loaded = run_messages(found[run.record], queue.lines[group], run)
                queue.load(group, run, [message for message, _ in loaded], state.now_ms)
                for message, envelope in loaded:
                    self._cache.put(queue.number, message.sequence, envelope)
        finally:
            self._loading.discard(queue.number)
        self._shard.serve_soon(queue.number)

    async def complete(self, received: Received) -> Received:
        """An answer with the envelopes that were not in the cache, without what is not alive any more."""
        looked_at: set[tuple[int, int]] = set()
        # Again when relocation has overtaken the read: what is alive is handed out.
        while places := self._missing(received) - looked_at:
            looked_at |= places
            await self._shard.committed(max(record for _, record in places))
            await read_envelopes(self._log, received.queue, received.messages)
        held = [message for message in received.messages if message.envelope]
        return Received(received.queue, held, received.visible_at_ms, received.attempt)

    def _missing(self, received: Received) -> set[tuple[int, int]]:
        """Sequences of the living messages that have no envelope yet, and where they lie now."""
        queue = self._shard.state.queues.get(received.queue)
        places: set[tuple[int, int]] = set()
        for message in received.messages:
            alive = queue.messages.get(message.sequence) if queue is not None else None
            if alive is not None and not message.envelope:
                message.record = alive.record
                places.add((message.sequence, alive.record))
        return places
