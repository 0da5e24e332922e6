"""How a log fails."""

from __future__ import annotations

from waystation.protocol.errors import Unavailable


class LogUnavailable(Unavailable):
    """The log could not do it now: the disk is full, or does not answer properly.

    After a failed append the record may be in the log or not. The log refuses
    everything until it has been opened again, which finds that out.
    """


class LogDamaged(Exception):
    """What was read is not what was written. Names the record and the place; never served."""


class Fenced(LogUnavailable):
    """Another owner has appended to the log. Whoever gets this no longer owns the shard.

    What it had asked to append is not in the log, and never will be.
    """
