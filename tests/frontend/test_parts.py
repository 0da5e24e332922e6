"""A queue that spans shards: where messages go, and how they are found."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

import pytest

from tests.backend.virtual_time import settle, virtual_time
from tests.frontend.parts_world import bodies, parts_world
from waystation.backend.errors import ShardUnavailable, StorageNearlyFull
from waystation.frontend.parts import place_of_group
from waystation.protocol.errors import Unavailable
from waystation.queues.commands import Counts, Outcome

# Sending


@virtual_time
async def test_sends_go_to_all_parts_in_turn_and_a_batch_stays_together() -> None:
    async with parts_world() as world:
        sent = [await world.send("one", "two", "three") for _ in range(8)]

        assert all(len({place for place, _ in batch}) == 1 for batch in sent)
        assert Counter(batch[0][0] for batch in sent) == dict.fromkeys(world.queue.places, 2)
        assert await world.counts() == Counts(24, 0, 0)


@virtual_time
async def test_a_part_that_takes_nothing_is_passed_over() -> None:
    async with parts_world() as world:
        world.logs[1].is_nearly_full = True
        world.logs[3].is_nearly_full = True
        sent = [await world.send("hello") for _ in range(8)]

        assert {place.shard for [(place, _)] in sent} == {0, 2}
        assert (await world.counts()).visible == 8


@virtual_time
async def test_a_send_fails_when_no_part_takes_it() -> None:
    async with parts_world() as world:
        for log in world.logs:
            log.is_nearly_full = True
        with pytest.raises(StorageNearlyFull):
            await world.send("hello")


@virtual_time
async def test_a_send_that_may_have_been_done_is_not_made_again_elsewhere() -> None:
    async with parts_world() as world:
        for log in world.logs:
            log.lost_answers = 1
        with pytest.raises(ShardUnavailable):
            await world.send("hello")
        assert sum(log.lost_answers for log in world.logs) == 3
        await asyncio.sleep(1)

        assert bodies(await world.receive()) == ["hello"]


@virtual_time
async def test_messages_of_a_group_are_all_in_one_part_and_in_order() -> None:
    async with parts_world(fifo=True) as world:
        groups = [f"group-{number}" for number in range(20)]
        for number in range(3):
            for group in groups:
                [(place, _)] = await world.send(f"{group} {number}", group=group)
                assert place == place_of_group(world.queue, group)

        found = []
        while received := await world.receive():
            found += bodies(received)
            await world.delete(received)
        assert sorted(found) == sorted(f"{group} {number}" for group in groups for number in range(3))
        for group in groups:
            assert [body for body in found if body.startswith(f"{group} ")] == [
                f"{group} {number}" for number in range(3)
            ]
        assert len({place_of_group(world.queue, group) for group in groups}) == 4


# Receiving without waiting


@virtual_time
async def test_a_receive_goes_on_to_other_parts_until_it_has_enough() -> None:
    async with parts_world() as world:
        for part in range(4):
            await world.send_to(part, f"{part} a", f"{part} b", f"{part} c")

        found = bodies(await world.receive(7)) + bodies(await world.receive(7))
        assert len(found) == len(set(found)) == 12


@pytest.mark.parametrize("part", range(4))
def test_a_message_is_found_in_any_part_however_empty_that_has_been(part: int) -> None:
    @virtual_time
    async def test() -> None:
        async with parts_world() as world:
            for _ in range(3):
                assert await world.receive() == []
            await world.send_to(part, "hello")

            assert bodies(await world.receive()) == ["hello"]

    test()


@virtual_time
async def test_parts_that_had_more_are_asked_first_and_in_turn() -> None:
    async with parts_world() as world:
        assert await world.receive() == []
        for part in (1, 3):
            await world.send_to(part, *"abcdefghij")
        await asyncio.sleep(1)  # what others have sent is found by then, whatever else there is
        assert {place.shard for _ in range(4) for place, _ in await world.receive(1)} == {1, 3}
        positions = [log.position for log in world.logs]
        taken_from: Counter[int] = Counter()
        for _ in range(6):
            [(place, _)] = await world.receive(1)
            taken_from[place.shard] += 1

        assert set(taken_from) == {1, 3}
        assert min(taken_from.values()) >= 2
        assert [log.position for log in world.logs][::2] == positions[::2]


@virtual_time
async def test_it_is_not_empty_while_a_part_does_not_answer() -> None:
    async with parts_world() as world:
        world.logs[2].refused_appends = world.logs[2].refused_opens = 1_000
        for _ in range(4):
            with suppress(Unavailable):
                await world.send("lost or elsewhere")
        assert not world.backend.shards[2].is_serving
        found = await world.receive()
        assert set(bodies(found)) == {"lost or elsewhere"}

        with pytest.raises(Unavailable):
            await world.receive()
        with pytest.raises(Unavailable):
            await world.receive(wait_s=2)


@virtual_time
async def test_messages_are_deleted_and_shown_in_the_parts_that_their_handles_name() -> None:
    async with parts_world() as world:
        for part in range(4):
            await world.send_to(part, f"{part} a", f"{part} b")
        found = await world.receive()
        assert len({place for place, _ in found}) == 4
        deleted, shown = found[::2], found[1::2]

        assert await world.delete([*deleted, *deleted]) == [Outcome.DONE] * 8
        assert await world.show(shown) == [Outcome.DONE] * 4
        assert await world.counts() == Counts(4, 0, 0)
        assert sorted(bodies(await world.receive())) == sorted(bodies(shown))


@virtual_time
async def test_a_repeated_attempt_gets_the_same_messages() -> None:
    async with parts_world(fifo=True) as world:
        for number in range(30):
            await world.send(f"message {number}", group=f"group {number}")
        first = await world.receive(10, attempt=b"a" * 16)
        other = await world.receive(10, attempt=b"b" * 16)
        again = await world.receive(10, attempt=b"a" * 16)

        assert bodies(again) == bodies(first)
        assert not set(bodies(first)) & set(bodies(other))


@virtual_time
async def test_what_an_abandoned_receive_has_got_so_far_is_given_back() -> None:
    async with parts_world() as world:
        await world.send_to(1, "first")
        await world.send_to(2, "second")
        world.logs[2].appends.shut()
        receiving = asyncio.create_task(world.receive())
        await settle()
        receiving.cancel()
        world.logs[2].appends.release()
        await settle()

        assert await world.counts() == Counts(2, 0, 0)
