"""Tables of what was measured, in Markdown: the same on the terminal and in the README.

Figures of several repetitions are medians, with the least and the greatest where they matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.backlog import Backlog
from bench.driver import Seen
from bench.fairness import Fairness, fairness_table
from bench.groups import Groups, groups_tables
from bench.letters import Letters, letters_table
from bench.limits import CommitSpeed
from bench.phases import PHASES, Phase
from bench.tables import aim, table

README = Path(__file__).with_name("README.md")
_MARKED = re.compile(r"(<!-- figures: begin[^\n]*-->\n).*?(<!-- figures: end -->)", re.DOTALL)

FULL_SPEED_SHARE_AIM = 0.8
RESTART_S_AIM = 1.0


@dataclass(kw_only=True)
class Results:
    """All that one run measured. Lists hold one item for each repetition."""

    machine: dict[str, str]
    phases: dict[str, list[Seen]] = field(default_factory=dict)
    http: dict[str, list[Seen]] = field(default_factory=dict)
    """Our HTTP class answering a constant: to the requests of `send1` and of `send10`."""
    log: list[list[CommitSpeed]] = field(default_factory=list)
    disk: list[CommitSpeed] = field(default_factory=list)
    backlog: Backlog | None = None
    groups: Groups | None = None
    fairness: Fairness | None = None
    letters: Letters | None = None


def report(results: Results) -> str:
    """All tables for which there are figures."""
    parts = [_machine(results.machine)]
    closed = [phase for phase in PHASES if phase.name in results.phases and phase.half_of is None]
    if closed:
        parts.append(_closed_table(closed, results.phases))
    half = [phase for phase in PHASES if phase.name in results.phases and phase.half_of is not None]
    if half:
        parts.append(_half_table(half, results.phases))
    if results.http:
        parts.append(_limits_table(results))
        parts.append(_ratios_table(results))
    if results.backlog is not None:
        parts.append(backlog_table(results.backlog))
    if results.groups is not None:
        parts.append(groups_tables(results.groups))
    if results.fairness is not None:
        parts.append(fairness_table(results.fairness))
    if results.letters is not None:
        parts.append(letters_table(results.letters))
    return "\n\n".join(part for part in parts if part)


def update_readme(results: Results) -> None:
    """Put the tables between the README's markers."""
    text, number = _MARKED.subn(
        lambda found: f"{found[1]}\n{report(results)}\n\n{found[2]}", README.read_text()
    )
    assert number == 1, f"{README} has no markers"
    README.write_text(text)


def _machine(machine: dict[str, str]) -> str:
    return "Measured on: " + "; ".join(f"{name} {value}" for name, value in machine.items()) + "."


def _closed_table(phases: list[Phase], seen: dict[str, list[Seen]]) -> str:
    rows = []
    for phase in phases:
        runs = seen[phase.name]
        cpu = _spread((run.cpu_us_per_message for run in runs), 1)
        rows.append(
            [
                phase.title,
                _spread((run.messages_per_s for run in runs), 0),
                _median(lambda run: run.p50_ms[""], runs),
                _median(lambda run: run.p99_ms[""], runs),
                cpu,
                aim(phase.cpu_us_aim, median(run.cpu_us_per_message for run in runs)),
            ]
        )
    head = ["as fast as it goes", "messages/s", "p50 ms", "p99 ms", "server CPU µs/message", "aim"]
    return table(head, rows)


def _half_table(phases: list[Phase], seen: dict[str, list[Seen]]) -> str:
    rows = []
    for phase in phases:
        runs = seen[phase.name]
        rows.append(
            [
                phase.title,
                _median(lambda run: run.messages_per_s, runs, 0),
                _median(lambda run: run.p50_ms[""], runs),
                _spread((run.p99_ms[""] for run in runs), 1),
                _median(lambda run: run.max_ms[""], runs),
                _median(lambda run: run.cpu_us_per_message, runs),
                aim(phase.p99_ms_aim, median(run.p99_ms[""] for run in runs)),
            ]
        )
    head = [
        "at half of that rate",
        "messages/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "server CPU µs/message",
        "p99 aim",
    ]
    return table(head, rows)


def _limits_table(results: Results) -> str:
    rows = []
    for name, batch in (("send1", 1), ("send10", 10)):
        runs = results.http[name]
        rate = median(run.messages_per_s for run in runs) / batch
        cpu = median(run.cpu_us_per_message for run in runs) * batch
        title = f"our HTTP class answering a constant to the requests of {name}"
        rows.append([title, f"{rate:,.0f}", f"{cpu:.1f}"])
    rows += [
        _commit_row(f"SqliteLog alone, records of {n}", runs) for n, runs in _log_by_size(results).items()
    ]
    rows.append(_commit_row("the disk alone, 4 KiB and `fdatasync`", results.disk))
    return table(["limit", "requests or commits/s", "CPU µs each"], rows)


def _commit_row(title: str, runs: Sequence[CommitSpeed]) -> list[str]:
    rate = median(run.commits_per_s for run in runs)
    return [title, f"{rate:,.0f}", f"{median(run.cpu_us_per_commit for run in runs):.1f}"]


def _ratios_table(results: Results) -> str:
    """CPU against the sum of the parts that a message cannot do without."""
    log = {n: median(run.cpu_us_per_commit for run in runs) for n, runs in _log_by_size(results).items()}
    http = {name: median(run.cpu_us_per_message for run in runs) for name, runs in results.http.items()}
    # A record holds what about half of 32 connections asked for meanwhile. Receives and deletes
    # write little, so their commits cost what small ones do.
    floors = {
        "send1": http["send1"] + log[16] / 16,
        "receive1": 2 * (http["send1"] + log[1] / 16),
        "send10": http["send10"] + log[64] / 64,
        "receive10": 2 * (http["send1"] + log[1] / 16) / 10,
    }
    rows = []
    for phase in PHASES:
        if phase.name in floors and phase.name in results.phases:
            cpu = median(run.cpu_us_per_message for run in results.phases[phase.name])
            floor = floors[phase.name]
            rows.append([phase.title, f"{cpu:.1f}", f"{floor:.1f}", f"{cpu / floor:.1f}"])
    return table(["CPU µs/message", "server", "HTTP and log alone", "ratio"], rows) if rows else ""


def _log_by_size(results: Results) -> dict[int, list[CommitSpeed]]:
    columns = [list(column) for column in zip(*results.log, strict=True)]
    return {column[0].messages: column for column in columns}


def backlog_table(backlog: Backlog) -> str:
    """Two tables: the figures of the backlog, and speeds with it against those without."""
    assert backlog.fill is not None
    assert backlog.drain is not None
    rows = [
        ["filled at, in batches", f"{backlog.fill.messages_per_s:,.0f} messages/s"],
        ["memory of the server without messages", f"{backlog.idle_rss_mb:.0f} MB"],
        ["peak memory while filling", f"{backlog.fill_peak_rss_mb:.0f} MB"],
        ["memory after a restart with the backlog", f"{backlog.waiting_rss_mb:.0f} MB"],
        ["peak memory from there until drained", f"{backlog.drain_peak_rss_mb:.0f} MB"],
        ["files, full", f"{backlog.full_files_mb:,.0f} MB"],
        [
            "files, drained",
            f"{backlog.drained_files_mb:,.0f} MB, {backlog.settled_s:.0f} s after the last delete",
        ],
        ["start of an empty server", f"{backlog.restart_empty_s:.2f} s"],
        ["restart with the backlog, after SIGKILL", f"{backlog.restart_killed_s:.2f} s"],
        ["restart with the backlog, after a clean stop", f"{backlog.restart_full_s:.2f} s"],
        [
            "restart once drained",
            f"{backlog.restart_drained_s:.2f} s, aim {aim(RESTART_S_AIM, backlog.restart_drained_s)}",
        ],
        ["drained at, in batches", f"{backlog.drain.messages_per_s:,.0f} messages/s"],
    ]
    title = f"{backlog.messages:,} messages of 1 KB waiting"
    return table([title, ""], rows) + "\n\n" + _shares_table(backlog)


def _shares_table(backlog: Backlog) -> str:
    titles = {phase.name: phase.title for phase in PHASES}
    rows = []
    for name, runs in backlog.waiting.items():
        alone = backlog.empty[name]
        share = median(run.messages_per_s for run in runs) / median(run.messages_per_s for run in alone)
        rows.append(
            [
                f"{titles[name]}, 1 KB",
                _median(lambda run: run.messages_per_s, alone, 0),
                _median(lambda run: run.messages_per_s, runs, 0),
                f"{share:.2f}",
                _median(lambda run: run.cpu_us_per_message, alone),
                _median(lambda run: run.cpu_us_per_message, runs),
                f"≥ {FULL_SPEED_SHARE_AIM}: {'met' if share >= FULL_SPEED_SHARE_AIM else 'missed'}",
            ]
        )
    head = ["messages/s", "empty queue", "on the backlog", "share", "CPU µs empty", "CPU µs backlog", "aim"]
    return table(head, rows)


def _median(of: Callable[[Seen], float], runs: Sequence[Seen], digits: int = 1) -> str:
    return f"{median(of(run) for run in runs):,.{digits}f}"


def _spread(values: Iterable[float], digits: int) -> str:
    """The median, then the least and the greatest."""
    ordered = sorted(values)
    if len(ordered) == 1:
        return f"{ordered[0]:,.{digits}f}"
    return f"{median(ordered):,.{digits}f} ({ordered[0]:,.{digits}f} to {ordered[-1]:,.{digits}f})"
