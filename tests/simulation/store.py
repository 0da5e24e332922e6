"""The metadata store, which outlives the processes that use it and tells each of them of changes, late."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from waystation.metadata.store import Conflict, MetadataUnavailable, Stored, Watch


@dataclass(kw_only=True)
class StoreWeather:
    """How the store behaves now."""

    write_s: float = 0.001
    """A call takes up to twice as long, before and after what it does."""
    failing: float = 0.0
    """Share of calls that fail; a write that does may have happened."""
    watch_s: float = 0.002
    """A change is told of up to twice as late."""


class StoreDisk:
    """What the store holds: survives crashes."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.values: dict[str, tuple[bytes, int]] = {}
        self.revision = 0
        self.stores: list[SimulatedStore] = []
        """Of the processes that are alive."""
        self.weather = StoreWeather()
        self.unknown_writes = 0
        """That have happened, and whose writer was told that they failed, or died before it was told."""


class SimulatedStore:
    """Implements `MetadataStore` for one process. When that dies, so does this."""

    def __init__(self, disk: StoreDisk) -> None:
        self._disk = disk
        self._watches: list[Watch] = []
        self._told_s = 0.0
        self._is_open = False
        self.is_dead = False

    async def open(self) -> None:
        self._require_alive()
        self._is_open = True
        self._disk.stores.append(self)

    def die(self) -> None:
        """The process is gone."""
        self.is_dead, self._is_open = True, False
        if self in self._disk.stores:
            self._disk.stores.remove(self)

    def _require_alive(self) -> None:
        if self.is_dead:
            raise MetadataUnavailable("the process is dead")

    async def _answers(self) -> None:
        self._require_open()
        await self._take_time()
        self._require_open()
        if self._fails():
            raise MetadataUnavailable("the store does not answer")

    def _require_open(self) -> None:
        if not self._is_open:
            raise MetadataUnavailable("the store is not open")

    async def _take_time(self) -> None:
        await asyncio.sleep(self._disk.weather.write_s * 2 * self._disk.random.random())

    def _fails(self) -> bool:
        failing = self._disk.weather.failing
        return failing > 0 and self._disk.random.random() < failing

    async def get(self, key: str) -> Stored | None:
        await self._answers()
        found = self._disk.values.get(key)
        return None if found is None else Stored(key, *found)

    async def list(self, prefix: str) -> list[Stored]:
        await self._answers()
        values = self._disk.values
        return [Stored(key, *values[key]) for key in sorted(values) if key.startswith(prefix)]

    async def put(self, key: str, value: bytes, expected: int) -> int:
        return await self._write(key, value, expected)

    async def delete(self, key: str, expected: int) -> int:
        return await self._write(key, None, expected)

    async def _write(self, key: str, value: bytes | None, expected: int) -> int:
        """Shielded: it happens also when its caller goes away, and may fail when nobody hears of that."""
        writing = asyncio.ensure_future(self._compare_and_set(key, value, expected))
        writing.add_done_callback(lambda written: written.cancelled() or written.exception())
        return await asyncio.shield(writing)

    async def _compare_and_set(self, key: str, value: bytes | None, expected: int) -> int:
        disk = self._disk
        await self._answers()
        if disk.values.get(key, (b"", 0))[1] != expected:
            raise Conflict(key)
        disk.revision += 1
        if value is None:
            disk.values.pop(key, None)
        else:
            disk.values[key] = (value, disk.revision)
        change = Stored(key, value, disk.revision)
        for store in disk.stores:
            if store is self:
                self._tell(change, tuple(self._watches))
            else:
                store._hear(change)
        revision = disk.revision
        await self._take_time()
        if self.is_dead or self._fails():
            disk.unknown_writes += 1
            raise MetadataUnavailable("nobody knows")
        return revision

    def _hear(self, change: Stored) -> None:
        loop = asyncio.get_running_loop()
        # In order: each a little later than the one before.
        late_s = self._disk.weather.watch_s * 2 * self._disk.random.random()
        self._told_s = max(self._told_s + 1e-6, loop.time() + late_s)
        loop.call_at(self._told_s, self._tell, change, tuple(self._watches))

    def _tell(self, change: Stored, watches: Sequence[Watch]) -> None:
        for watch in watches:
            watch.notify(change)

    def watch(self, prefix: str) -> Watch:
        self._watches = [watch for watch in self._watches if not watch.is_over]
        watch = Watch(prefix)
        self._watches.append(watch)
        return watch

    def cut_off(self) -> None:
        """Lose all watches, as a reader that has fallen too far behind."""
        for watch in self._watches:
            watch._is_cut_off = True
            watch.close()

    async def close(self) -> None:
        for watch in self._watches:
            watch.close()
        self.die()
