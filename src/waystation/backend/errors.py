"""Why a shard does not answer now. All are `Unavailable`: SDKs try again."""

from __future__ import annotations

from waystation.protocol.errors import Refusal, Unavailable


class ShardBusy(Unavailable):
    """More is waiting for the disk than may wait. The request has not happened."""


class StorageNearlyFull(Unavailable):
    """The disk has room for receives and deletes, but not for new messages. It has not happened."""


class NotOwner(Unavailable):
    """The shard is not in this process, or not any more. The request has not happened, and never will."""


class ShardUnavailable(Unavailable):
    """The shard is recovering, stopped or damaged.

    A request refused on arrival has not happened. One that was waiting for its
    append when the log failed may have happened, and will never be known to.
    """


class NotDone(Unavailable):
    """It is certain that nothing was done: it may be tried again, here or elsewhere."""


def was_not_done(error: BaseException) -> bool:
    """Whether it is certain that a command whose answer has ended like this was not done."""
    return isinstance(error, Refusal | NotDone | NotOwner | ShardBusy | StorageNearlyFull) or isinstance(
        error.__cause__, NotDone
    )
