"""Where shards are, as a FrontEnd knows it: the address of each owner, from the records of the cluster.

It only leads there. An owner that is gone, or no owner any more, refuses; then `note_wrong` has the
record read again, and `changed` wakes who waits for another one.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from waystation.cluster.bucket import ClusterBucket
from waystation.cluster.membership import SHARD_KEYS, ShardRecord, decode
from waystation.cluster.ownership import shard_key
from waystation.metadata.store import MetadataUnavailable


class Routes:
    """The owners of all shards.

    Lifecycle: build it before the bucket is loaded, and it follows the bucket from then on; `close` it.
    """

    def __init__(self, bucket: ClusterBucket) -> None:
        self._bucket = bucket
        self._addresses: dict[int, str] = {}
        self._waiting: dict[int, dict[asyncio.Future[None], None]] = {}
        """Who waits for news of a shard, in order."""
        self._reading: dict[int, asyncio.Task[None]] = {}
        bucket.listen(self._note)

    def address_of(self, shard: int) -> str | None:
        """Of the node that serves a shard; None when nobody does, or is known to."""
        return self._addresses.get(shard)

    def note_wrong(self, shard: int, address: str) -> None:
        """The node at that address does not serve the shard: read the record again, unless it has changed."""
        if self._addresses.get(shard) == address and shard not in self._reading:
            self._reading[shard] = asyncio.create_task(self._read(shard))

    async def changed(self, shard: int, timeout_s: float) -> None:
        """Return when something new is known of a shard, or the time is over."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(shard, {})
        waiting[future] = None
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await future
        finally:
            waiting.pop(future, None)

    async def close(self) -> None:
        """End what reads. Who waits is woken."""
        reading = list(self._reading.values())
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        for shard in self._waiting:
            self._wake(shard)

    def _note(self, key: str) -> None:
        number = key.removeprefix(SHARD_KEYS)
        if not key.startswith(SHARD_KEYS) or not number.isdecimal():
            return
        record = decode(ShardRecord, self._bucket.entry(key).value)
        if record is not None and record.state == "serving":
            self._addresses[int(number)] = record.address
        else:
            self._addresses.pop(int(number), None)
        self._wake(int(number))

    def _wake(self, shard: int) -> None:
        for future in self._waiting.get(shard, ()):
            if not future.done():
                future.set_result(None)

    async def _read(self, shard: int) -> None:
        try:
            with suppress(MetadataUnavailable):  # the watch and the polls go on
                await self._bucket.read(shard_key(shard))
        finally:
            del self._reading[shard]
