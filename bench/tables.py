"""Markdown tables."""

from __future__ import annotations


def aim(limit: float | None, value: float) -> str:
    """What we wanted, and whether it is so; nothing without an aim."""
    return "" if limit is None else f"≤ {limit:g}: {'met' if value <= limit else 'missed'}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """The first column to the left, the others to the right."""
    alignment = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, alignment, *rows])
