"""What `waystation check` finds: what is wrong, where, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Finding:
    """One line for the operator. `what` goes on where `where` begins; `remedy` is a sentence."""

    where: str
    what: str
    remedy: str
    is_problem: bool = True
    """Or else a remark: nothing is damaged, and it is as well to know."""

    def __str__(self) -> str:
        return f"{'problem' if self.is_problem else 'remark'}: {self.where} {self.what}. {self.remedy}"


@dataclass
class Report:
    """All that was found in a directory."""

    findings: list[Finding] = field(default_factory=list)
    queues: int = 0
    visible: int = 0
    delayed: int = 0
    in_flight: int = 0
    aside: int = 0
    records: int = 0
    bytes: int = 0

    @property
    def problems(self) -> list[Finding]:
        """Those findings that something has to be done about."""
        return [finding for finding in self.findings if finding.is_problem]

    def contents(self) -> str:
        """What there is, in numbers: messages as they were at the last record."""
        messages = self.visible + self.delayed + self.in_flight + self.aside
        return (
            f"{counted(self.queues, 'queue')}, {counted(messages, 'message')} ({self.visible:,} visible, "
            f"{self.delayed:,} delayed, {self.in_flight:,} in flight, {self.aside:,} set aside), "
            f"{counted(self.records, 'record')}, {counted(self.bytes, 'byte')}"
        )


def counted(number: int, noun: str) -> str:
    """So many of something."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
