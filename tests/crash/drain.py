"""The end of every history: what is left is counted when all has come to rest, then received and deleted."""

from __future__ import annotations

from collections.abc import Sequence

from tests.crash.clients import Receiver
from tests.histories.history import Delete, History
from tests.server import eventually

RESTS_S, RESTS_LOOKS = 1.5, 10
"""How long nothing must change at the end: dead letters that had to wait are tried again after a second,
and are counted in two places until then if they have arrived already."""


class Drain(Receiver):
    """Receives and deletes what is left in its queue, once what is hidden has shown itself."""

    def act(self) -> None:
        while received := self.receive(timeout_s=600, wait_s=0):
            self.history.left += [handed for handed, _ in received]
            entries = [{"ReceiptHandle": handle} for _, handle in received]
            deletes = [
                Delete(self.name, self.place.name, message_id=handed.message_id) for handed, _ in received
            ]
            self.history.deletes += deletes
            deleted = self.ask_for_each("DeleteMessageBatch", deletes, entries)
            assert len(deleted) == len(received)

    def count(self) -> int:
        """How many messages its queue says it has."""
        answer = self.ask("GetQueueAttributes", [], AttributeNames=["All"])
        assert answer is not None, "the server does not serve when all is well again"
        names = ("", "NotVisible", "Delayed")
        return sum(int(answer["Attributes"][f"ApproximateNumberOfMessages{name}"]) for name in names)


def drain(history: History, keepers: Sequence[Drain], within_s: float = 60) -> None:
    """Count, then empty, all queues, of each of which one of the keepers takes care.

    Fails when it does not come to rest, or what is counted cannot be received within that time.
    """
    seen: list[int] = []

    def rests() -> bool:
        seen.append(sum(keeper.count() for keeper in keepers))
        return len(seen) >= RESTS_LOOKS and len(set(seen[-RESTS_LOOKS:])) == 1

    eventually(rests, within_s=30, every_s=RESTS_S / RESTS_LOOKS)
    history.counted = seen[-1]

    looks: list[int] = []

    def is_empty() -> bool:
        """Twice: what goes from queue to queue can be in neither as one looks at both."""
        for keeper in keepers:
            keeper.act()
        looks.append(sum(keeper.count() for keeper in keepers))
        return looks[-2:] == [0, 0]

    try:
        eventually(is_empty, within_s)
    except AssertionError:
        counts = {keeper.place.name: keeper.count() for keeper in keepers}
        raise AssertionError(f"what is left cannot be received: {counts}") from None
