"""All checks of a history, and what is to be read when one fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from tests.histories.checks import CHECKS, Index
from tests.histories.fifo_checks import FIFO_CHECKS
from tests.histories.history import History, Violation, story

_TOLD_MAX = 2
"""Violations of each check whose stories are told; more do not help."""


def violations(history: History) -> list[Violation]:
    """Every broken promise; none of a right server."""
    index = Index(history)
    return [
        replace(violation, check=check.__name__)
        for check in (*CHECKS, *FIFO_CHECKS)
        for violation in check(index)
    ]


def report(history: History, found: list[Violation], also: Sequence[str] = ()) -> str:
    """Violations in words, a few of each check with the story of the messages that they are about.

    Args:
        also: lines that begin with a time, to be read between those of each story.
    """
    lines = [f"{len(found)} violations; {history}"]
    told: Counter[str] = Counter()
    for violation in found:
        told[violation.check] += 1
        if told[violation.check] <= _TOLD_MAX:
            lines += ["", str(violation)]
            told_of = story(history, set(violation.bodies)) if violation.bodies else []
            lines += [f"  {line}" for line in sorted([*told_of, *also])]
    lines += ["", *(f"{number} by {check or 'the run'}" for check, number in told.items())]
    return "\n".join(lines)
