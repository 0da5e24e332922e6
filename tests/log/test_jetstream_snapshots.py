"""Snapshots on JetStream: replaced as a whole, never by an older one, and never served in part."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.log.asynchrony import async_test
from tests.log.jetstream_world import World, world
from waystation.log.errors import LogDamaged, LogUnavailable
from waystation.log.interface import Snapshot
from waystation.log.jetstream import JetStreamLog

STATE = b"state" * 300_000
"""Three chunks."""
RECORDS = 4
"""A snapshot is of a record that is in the log."""


def snapshot(position: int, payload: bytes = STATE) -> Snapshot:
    return Snapshot(position, bytes([position]) * 16, payload)


async def chunks(made: World) -> list[str]:
    """Subjects of all chunks that are stored, without what they have in common."""
    name = f"{made.settings.prefix}-snapshots"
    request: dict[str, object] = {"subjects_filter": ">"}
    information: dict[str, Any] = await made.api(f"STREAM.INFO.{name}", request)
    subjects = information["state"].get("subjects") or {}
    return sorted(each.removeprefix(f"{made.settings.prefix}.snapshot.") for each in subjects)


async def purge(made: World, subject: str) -> None:
    name, prefix = f"{made.settings.prefix}-snapshots", made.settings.prefix
    await made.api(f"STREAM.PURGE.{name}", {"filter": f"{prefix}.snapshot.{subject}"})


@async_test
async def test_a_snapshot_with_a_chunk_missing_is_damaged(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(nats_url, records=RECORDS) as made:
        log = await made.owner()
        await log.save_snapshot(snapshot(1))
        [_, second, _] = await chunks(made)
        await purge(made, second)

        with pytest.raises(LogDamaged, match="chunk 1 of the snapshot at record 1 is missing"):
            await (await made.owner()).load_snapshot()
        assert "snapshot is damaged" in caplog.text


@async_test
async def test_a_snapshot_with_a_chunk_that_is_not_what_was_written_is_damaged(nats_url: str) -> None:
    async with world(nats_url, records=RECORDS) as made:
        log = await made.owner()
        await log.save_snapshot(snapshot(1))
        [first, *_] = await chunks(made)
        await made.connections[0].publish(f"{made.settings.prefix}.snapshot.{first}", b"other", {})

        with pytest.raises(LogDamaged, match="chunk 0 of the snapshot at record 1 does not match"):
            await log.load_snapshot()


@async_test
async def test_a_manifest_that_cannot_be_read_is_damage(nats_url: str) -> None:
    async with world(nats_url, records=RECORDS) as made:
        log = await made.owner()
        key = f"$KV.{made.settings.prefix}-manifests.shard.0"
        await made.connections[0].publish(key, b"{}", {})

        with pytest.raises(LogDamaged, match="manifest"):
            await log.load_snapshot()


@async_test
async def test_an_older_snapshot_never_replaces_a_later_one(nats_url: str) -> None:
    async with world(nats_url, records=RECORDS) as made:
        old, new = await made.owner(), await made.owner()
        await old.save_snapshot(snapshot(1))
        await new.save_snapshot(snapshot(3))

        with pytest.raises(LogUnavailable, match="later snapshot"):
            await old.save_snapshot(snapshot(2))
        assert await old.load_snapshot() == snapshot(3)


@async_test
async def test_owners_that_save_at_once_leave_the_latest_snapshot_whole(nats_url: str) -> None:
    async with world(nats_url, records=RECORDS) as made:
        owners = [await made.owner() for _ in range(4)]
        results = await asyncio.gather(
            *(owner.save_snapshot(snapshot(at)) for at, owner in enumerate(owners, 1)),
            return_exceptions=True,
        )

        assert results[-1] is None
        assert all(result is None or type(result) is LogUnavailable for result in results)
        assert await (await made.owner()).load_snapshot() == snapshot(4)


@async_test
async def test_a_snapshot_that_was_saved_already_is_not_saved_again(nats_url: str) -> None:
    async with world(nats_url, records=RECORDS) as made:
        log, other = await made.owner(), await made.owner()
        await log.save_snapshot(snapshot(1))
        saved = await chunks(made)
        await log.save_snapshot(snapshot(1))
        await other.save_snapshot(snapshot(1))

        assert await chunks(made) == saved


@async_test
async def test_the_chunks_of_a_replaced_or_unfinished_snapshot_go(nats_url: str) -> None:
    async with world(nats_url, records=RECORDS) as made:
        log = await made.owner()
        await log.save_snapshot(snapshot(1))
        for unfinished in ("0.2.unfinished.0", "0.9.unfinished.0", "1.1.other.0"):
            await made.connections[0].publish(f"{made.settings.prefix}.snapshot.{unfinished}", b"", {})
        await log.save_snapshot(snapshot(2, b"small"))

        [kept, *others] = await chunks(made)
        assert kept.startswith("0.2.")
        # Another owner may be about to finish a later one; other shards have snapshots of their own.
        assert others == ["0.9.unfinished.0", "1.1.other.0"]
        assert await log.load_snapshot() == snapshot(2, b"small")


@pytest.mark.parametrize("write", range(4), ids=["chunk", "chunk", "chunk", "manifest"])
@pytest.mark.parametrize("fault", ["lose the answer", "lose the request"])
@async_test
async def test_a_write_that_was_not_answered_happens_all_the_same(
    write: int, fault: str, nats_url: str
) -> None:
    async with world(nats_url, records=RECORDS) as made:
        log = await made.owner()
        made.connections[-1].faults = [""] * write + [fault]
        await log.save_snapshot(snapshot(1))

        assert not made.connections[-1].faults
        assert await (await made.owner()).load_snapshot() == snapshot(1)
        assert len(await chunks(made)) == 3


@async_test
async def test_a_snapshot_that_is_replaced_while_it_is_loaded_is_to_be_loaded_again(nats_url: str) -> None:
    async with world(nats_url, records=RECORDS) as made:
        log = await made.owner()
        await log.save_snapshot(snapshot(1))

        class Slow(JetStreamLog):
            """Another owner saves between its manifest and its chunks."""

            async def load_snapshot(self) -> Snapshot | None:
                read = self._snapshots._read_manifest

                async def read_and_wait() -> Any:
                    manifest = await read()
                    await log.save_snapshot(snapshot(2))
                    return manifest

                self._snapshots._read_manifest = read_and_wait  # type: ignore[method-assign]
                return await super().load_snapshot()

        slow = Slow(await made.connect(), made.settings, 0)
        await slow.open()
        with pytest.raises(LogUnavailable, match="replaced the snapshot"):
            await slow.load_snapshot()
        assert await (await made.owner()).load_snapshot() == snapshot(2)
