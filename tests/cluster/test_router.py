"""Commands find the owner of their shard, and are done at most once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.backend.virtual_time import virtual_time
from waystation.backend.errors import NotOwner, ShardBusy, ShardUnavailable
from waystation.cluster.router import Router
from waystation.cluster.settings import RoutingSettings
from waystation.cluster.transport_client import NotDone, OutcomeUnknown
from waystation.protocol.errors import QueueDoesNotExist
from waystation.queues.commands import (
    Answer,
    Command,
    CountMessages,
    Counts,
    Done,
    PurgeQueue,
    Received,
    ReceiveMessages,
)

SETTINGS = RoutingSettings(retry_s=10.0, retry_pause_s=0.25, calls_per_shard_max=3)
COUNTS = Counts(1, 2, 3)
COMMAND = CountMessages(7)


class Node:
    """Shards of a node, here or elsewhere. `answers` says what becomes of each command, in turn."""

    def __init__(self, *answers: Answer | Exception | None) -> None:
        self.answers = list(answers)
        self.commands: list[Command] = []
        self.timeouts_s: list[float] = []
        self.is_here = True

    def serves(self, shard: int) -> bool:
        return self.is_here

    def submit(self, shard: int, command: Command, timeout_s: float = 0.0) -> asyncio.Future[Answer]:
        self.commands.append(command)
        self.timeouts_s.append(timeout_s)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        match self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]:
            case Exception() as error:
                future.set_exception(error)
            case None:
                pass  # never
            case answer:
                future.set_result(answer)
        return future


class Owners:
    """Where a shard is; `then` is what a look at its record brings, a second later."""

    def __init__(self, address: str | None, then: str | None = None) -> None:
        self.address = address
        self._then = then
        self.wrong: list[str] = []

    def address_of(self, shard: int) -> str | None:
        return self.address

    def note_wrong(self, shard: int, address: str) -> None:
        self.wrong.append(address)
        asyncio.get_running_loop().call_later(1.0, self._learn)

    def _learn(self) -> None:
        self.address = self._then or self.address

    async def changed(self, shard: int, timeout_s: float) -> None:
        async with asyncio.timeout(60.0):  # asks for a task, as the real one does
            await asyncio.sleep(timeout_s)


def nowhere() -> Node:
    node = Node(NotOwner("not here"))
    node.is_here = False
    return node


def router(owners: Owners, local: Node | None = None, **others: Node) -> Router:
    return Router(SETTINGS, 16, local or nowhere(), owners, others.__getitem__, lambda: True)


async def drive(router: Router, command: Command = COMMAND) -> Answer:
    return await router.submit(3, command)


@virtual_time
async def test_a_shard_of_this_process_is_asked_directly() -> None:
    local = Node(COUNTS)

    assert await drive(router(Owners("other"), local)) == COUNTS


@virtual_time
async def test_a_shard_of_another_node_is_asked_over_its_link() -> None:
    other = Node(COUNTS)

    assert await drive(router(Owners("other"), other=other)) == COUNTS
    assert other.timeouts_s == [SETTINGS.call_timeout_s]


@virtual_time
async def test_a_long_poll_has_the_time_that_it_waits_in_addition() -> None:
    other = Node(Received(7, []))
    await drive(router(Owners("other"), other=other), ReceiveMessages(7, 1, 30_000, 20_000))

    assert other.timeouts_s == [SETTINGS.call_timeout_s + 20.0]


@pytest.mark.parametrize("refusal", [NotDone("cannot be reached"), NotOwner("moved")])
@virtual_time
async def test_what_was_not_done_is_done_by_the_next_owner(refusal: Exception) -> None:
    old, new = Node(refusal), Node(COUNTS)
    owners = Owners("old", then="new")

    assert await drive(router(owners, old=old, new=new)) == COUNTS
    assert set(owners.wrong) == {"old"}
    assert new.commands == [COMMAND]


@virtual_time
async def test_what_was_not_done_elsewhere_is_done_here_once_the_shard_has_come() -> None:
    local, other = Node(COUNTS), Node(NotOwner("moved"))
    local.is_here = False
    asyncio.get_running_loop().call_later(2.0, setattr, local, "is_here", True)

    assert await drive(router(Owners("other"), local, other=other)) == COUNTS


@virtual_time
async def test_a_shard_without_an_owner_is_waited_for() -> None:
    owners = Owners(None)
    asyncio.get_running_loop().call_later(3.0, setattr, owners, "address", "other")

    assert await drive(router(owners, other=Node(COUNTS))) == COUNTS


@virtual_time
async def test_what_may_have_been_done_is_not_done_again() -> None:
    """A send that was done twice would be a second message."""
    other = Node(OutcomeUnknown("the link broke"), Done())

    with pytest.raises(OutcomeUnknown):
        await drive(router(Owners("other"), other=other), PurgeQueue(7, 60_000))
    assert len(other.commands) == 1


@pytest.mark.parametrize("answer", [QueueDoesNotExist(), ShardBusy("too much waits")])
@virtual_time
async def test_what_the_owner_says_is_the_answer(answer: Exception) -> None:
    other = Node(answer)

    with pytest.raises(type(answer)):
        await drive(router(Owners("other"), other=other))
    assert len(other.commands) == 1


@virtual_time
async def test_the_client_is_told_when_nobody_serves_the_shard_in_time() -> None:
    began_s = asyncio.get_running_loop().time()

    with pytest.raises(ShardUnavailable):
        await drive(router(Owners("other"), other=Node(NotDone("cannot be reached"))))
    assert asyncio.get_running_loop().time() - began_s == pytest.approx(SETTINGS.retry_s, abs=0.3)


@virtual_time
async def test_time_that_was_spent_looking_is_not_waited_for_again() -> None:
    old, new = Node(NotDone("gone")), Node(Received(7, []))
    owners = Owners("old", then="new")
    await drive(router(owners, old=old, new=new), ReceiveMessages(7, 1, 30_000, 20_000))

    [command] = new.commands
    assert isinstance(command, ReceiveMessages)
    assert 18_000 <= command.wait_ms <= 19_100


@virtual_time
async def test_a_shard_that_does_not_answer_takes_only_so_many_with_it() -> None:
    silent = router(Owners("other"), other=Node(None))
    waiting = [asyncio.create_task(drive(silent)) for _ in range(SETTINGS.calls_per_shard_max)]
    await asyncio.sleep(0)

    with pytest.raises(ShardBusy):
        await drive(silent)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    again = asyncio.create_task(drive(silent))
    await asyncio.sleep(1.0)
    assert not again.done(), "there is room again"
    again.cancel()


@virtual_time
async def test_a_caller_who_goes_away_takes_the_call_with_it() -> None:
    futures: list[asyncio.Future[Answer]] = []

    class Kept(Node):
        def submit(self, shard: int, command: Command, timeout_s: float = 0.0) -> asyncio.Future[Answer]:
            futures.append(super().submit(shard, command, timeout_s))
            return futures[-1]

    calling = asyncio.create_task(drive(router(Owners("other"), other=Kept(None))))
    await asyncio.sleep(0)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)

    assert futures[0].cancelled()


def test_queues_are_placed_alike_by_every_node() -> None:
    place: Callable[[str], int] = router(Owners(None)).place

    assert {place(f"queue-{number}") for number in range(500)} == set(range(16))
    assert place("orders") == place("orders")
