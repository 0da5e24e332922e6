"""What the long run says: limits, whether all is well, the page, and what is on its plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bench.flatness import WARM_UP_SHARE, Limit, Verdict, judge
from bench.tables import table

WARM_UP_S_WANTED = 360.0
"""Deduplication ids are remembered for five minutes, and forgotten an eighth of them at a time."""

_NOISE = "the machine is shared, and its disk too"
LIMITS = (
    Limit(
        series="rss_mb",
        title="memory of the server, MB",
        growth_max=0.05,
        slack=2.0,
        judges_trend=True,
        reason="caches have limits; the allocator's own disorder is a few per cent",
    ),
    Limit(
        series="descriptors",
        title="open descriptors of the server",
        growth_max=0.0,
        slack=8.0,
        judges_trend=True,
        reason="some connections live for one call",
    ),
    Limit(
        series="threads",
        title="threads of the server",
        growth_max=0.0,
        slack=1.0,
        reason="their number is fixed once all are at work",
    ),
    Limit(
        series="files_mb",
        title="files, MB",
        growth_max=0.1,
        slack=4.0,
        judges_trend=True,
        reason="the log's length goes up and down with snapshots",
    ),
    Limit(
        series="cpu_us_per_message",
        title="CPU of the server, µs/message",
        growth_max=0.25,
        reason="the busier the machine, the larger a commit, and the cheaper a message",
    ),
    *(
        Limit(series=f"{name}_{share}_ms", title=title, growth_max=growth, slack=slack, reason=_NOISE)
        for name, what in (
            ("send", "send"),
            ("receive", "receive, without waiting"),
            ("delete", "delete"),
            ("delivery", "from send to receive"),
        )
        for share, growth, slack in (("p50", 0.25, 0.5), ("p99", 0.5, 2.0))
        for title in [f"{what}, {share} ms"]
    ),
    Limit(
        series="sent_per_s",
        title="sent, messages/s",
        growth_max=0.05,
        must_not_fall=True,
        reason="the rate is given; moments are random",
    ),
    Limit(
        series="deleted_per_s",
        title="received and deleted, messages/s",
        growth_max=0.05,
        must_not_fall=True,
        reason="consumers keep up",
    ),
    Limit(
        series="backlog",
        title="messages on their way",
        growth_max=0.25,
        slack=100.0,
        reason="consumers keep up; most of these are delayed",
    ),
    Limit(
        series="client_rss_mb",
        title="memory of the clients, MB",
        growth_max=0.1,
        slack=5.0,
        judges_trend=True,
        reason="so that what is measured is not the load generator",
    ),
)


@dataclass(kw_only=True)
class Soak:
    """What was measured. Series have one value for each of `at_s`."""

    machine: dict[str, str]
    messages_per_s: float
    """Asked for."""
    seconds: float
    """How long messages were sent."""
    at_s: list[float] = field(default_factory=list)
    series: dict[str, list[float | None]] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    """By flow: accepted."""
    deleted: dict[str, int] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    """By queue, what the server still counted at the end."""
    queues_churned: int = 0
    faults: int = 0
    first_faults: list[str] = field(default_factory=list)

    def add(self, at_s: float, sample: dict[str, float | None]) -> None:
        """Add a sample. A series that begins later, as that of a new file, was 0 before."""
        for name in dict.fromkeys([*self.series, *sample]):
            values = self.series.setdefault(name, [0.0] * len(self.at_s))
            values.append(_short(sample.get(name, 0.0)))
        self.at_s.append(round(at_s, 2))

    def verdicts(self) -> Iterator[Verdict | str]:
        """In the order of the table; a sentence for a series that has too little to be judged."""
        for limit in LIMITS:
            try:
                yield judge(limit, self.at_s, self.series[limit.series])
            except ValueError as error:
                yield str(error)

    def broken(self) -> list[str]:
        """A sentence for each promise that did not hold; empty when all is well."""
        said = []
        for verdict in self.verdicts():
            if isinstance(verdict, str):
                said.append(verdict)
            elif not verdict.is_flat:
                said.append(f"{verdict.limit.title}: not flat")
        if self.faults:
            said.append(f"faults: {self.faults}")
        for flow, sent in self.sent.items():
            if self.deleted[flow] != sent:
                said.append(f"{flow}: {sent:,} were accepted, {self.deleted[flow]:,} received and deleted")
        said += [f"{queue}: {count} messages are left" for queue, count in self.left.items() if count]
        return said


def _short(value: float | None) -> float | None:
    """Five digits are more than any figure here deserves, and half of the file."""
    return None if value is None else float(f"{value:.5g}")


def save(soak: Soak, path: Path) -> None:
    """Write soak.json: one line for each series."""
    path.write_bytes(msgspec.json.encode(soak).replace(b'],"', b'],\n"') + b"\n")


def load(path: Path) -> Soak:
    """What `save` wrote. Raises `OSError`, or `msgspec.MsgspecError` if that is something else."""
    return msgspec.json.decode(path.read_bytes(), type=Soak)


# The page


def report(soak: Soak) -> str:
    """Markdown: what was done, the verdict, the plots."""
    return "\n\n".join(_parts(soak)) + "\n"


def _parts(soak: Soak) -> Iterator[str]:
    broken = soak.broken()
    yield "# Long run"
    yield "`make soak` writes this page. [What is measured](../README.md#long-run)."
    machine = "; ".join(f"{name} {value}" for name, value in soak.machine.items())
    total = sum(soak.sent.values())
    yield (
        f"Mixed load of {soak.messages_per_s:,.0f} messages/s for {soak.seconds / 60:,.1f} minutes: "
        f"{total:,} messages, {soak.queues_churned:,} queues made and deleted. Measured on: {machine}."
    )
    yield f"**{'Flat, and nothing lost.' if not broken else 'Broken: ' + '; '.join(broken) + '.'}**"
    if soak.first_faults:
        yield "\n".join(f"- {text}" for text in soak.first_faults)
    if soak.seconds * WARM_UP_SHARE < WARM_UP_S_WANTED:
        yield (
            f"This run was short: its warm-up of {soak.seconds * WARM_UP_SHARE:.0f} s is less than the "
            f"{WARM_UP_S_WANTED:.0f} s that deduplication ids need to reach their number, "
            "so memory may still rise."
        )
    yield _flatness_table([verdict for verdict in soak.verdicts() if isinstance(verdict, Verdict)])
    yield _messages_table(soak)
    for plot in PLOTS:
        yield f"![{plot.title}](soak-{plot.name}.svg)"


def _flatness_table(verdicts: Sequence[Verdict]) -> str:
    rows = []
    for verdict in verdicts:
        limit = verdict.limit
        ratio = "" if verdict.ratio is None else f"{verdict.ratio:.2f}"
        allowed = f"{'-' if limit.must_not_fall else '+'}{verdict.allowed:,.3g}"
        rows.append(
            [
                limit.title,
                f"{verdict.first:,.4g}",
                f"{verdict.last:,.4g}",
                ratio,
                f"{verdict.slope_per_h:+,.3g}",
                f"{allowed}: {'met' if verdict.is_flat else 'broken'}",
                limit.reason,
            ]
        )
    head = ["median of", "first quarter", "last quarter", "ratio", "slope per hour", "limit", "because"]
    return table(head, rows)


def _messages_table(soak: Soak) -> str:
    rows = [[flow, f"{sent:,}", f"{soak.deleted[flow]:,}"] for flow, sent in soak.sent.items()]
    rows.append(["left in all queues", "", f"{sum(soak.left.values()):,}"])
    return table(["messages", "accepted", "received and deleted"], rows)


# Plots


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One picture: series by the name that its legend gives them."""

    name: str
    title: str
    lines: dict[str, str]


PLOTS = (
    Plot(
        name="memory",
        title="Memory, MB",
        lines={
            "server": "rss_mb",
            "of it anonymous": "anonymous_mb",
            "of it of files": "mapped_mb",
            "clients": "client_rss_mb",
        },
    ),
    Plot(name="files", title="Files, MB", lines={"all": "files_mb"}),
    Plot(
        name="latency",
        title="Latency, ms",
        lines={
            f"{name} {share}": f"{name}_{share}_ms"
            for share in ("p50", "p99")
            for name in ("send", "receive", "delete")
        },
    ),
    Plot(
        name="throughput",
        title="Messages/s",
        lines={"sent": "sent_per_s", "received and deleted": "deleted_per_s"},
    ),
    Plot(
        name="descriptors",
        title="Descriptors and threads",
        lines={"open descriptors": "descriptors", "threads": "threads"},
    ),
)
FILE_SERIES = "file "
"""What the series of single files begin with, in units of 1,000,000 bytes."""
