"""What ends the command line early, and the codes that it ends with."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells whoever started it."""

    STOPPED = 0
    """It was asked to stop, and did; or it did what it was asked for, and found nothing wrong."""

    FAILED = 1
    """It could not start, or not stop in time, or not do it, or found a problem: somebody must look
    at the machine or the data."""

    USAGE = 2
    """A flag, variable or configuration file is wrong: starting it again changes nothing."""


class UsageError(Exception):
    """Settings or arguments are wrong; nothing has been started.

    `problems` holds one sentence for each, never empty: all that are found are told at once.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class CommandFailed(Exception):
    """A command could not do what it was asked for.

    The text is one sentence for the operator; it names the thing and what to do about it.
    """


class CannotStart(CommandFailed):
    """The node found what keeps it from starting, such as a data directory that is in use."""
