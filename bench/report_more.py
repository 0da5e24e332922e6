"""Tables of message groups, fairness and dead letters, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench.driver import Seen
from bench.fairness import Fairness
from bench.groups import OTHER_GROUPS, Groups
from bench.letters import Letters
from bench.tables import aim, table

SHARE_AIM = 0.9
DWELL_AIM = 2.0

_TITLES = {
    "send1": "send, singly",
    "send10": "send, batches of 10",
    "receive10": "receive + delete, batches of 10",
}


def groups_tables(groups: Groups) -> str:
    """CPU and rates by number of groups, and what a deep group costs itself and the others."""
    standard = groups.by_groups[0]
    rows = []
    for name, title in _TITLES.items():
        for number, runs in groups.by_groups.items():
            beside = standard[name]
            if name == "receive10" and number == 1:
                beside = groups.single_connection
            kind = f"FIFO, groups: {number:,}" if number else "standard"
            rows.append([title, kind, _rate(runs[name]), _cpu(runs[name]), _ratio(runs[name], beside)])
    head = ["256 bytes", "queue", "messages/s", "server CPU µs/message", "CPU, of a standard queue's"]
    return table(head, rows) + "\n\n" + _deep_table(groups)


def _deep_table(groups: Groups) -> str:
    rows = []
    titles = {"itself": "from the deep group itself", "others": f"with {OTHER_GROUPS} other groups in turn"}
    for name, runs in groups.deep.items():
        alone = groups.alone[name]
        share = _median_rate(runs) / _median_rate(alone)
        said = f"≥ {SHARE_AIM}: {'met' if share >= SHARE_AIM else 'missed'}"
        rows.append([titles[name], _rate(alone), _rate(runs), f"{share:.2f}", _cpu(alone), _cpu(runs), said])
    head = [
        f"receive + delete in tens, {groups.messages:,} waiting in one group",
        "messages/s without",
        "with",
        "share",
        "CPU µs without",
        "with",
        "aim",
    ]
    assert groups.fill is not None
    tail = (
        f"Filled at {groups.fill.messages_per_s:,.0f} messages/s; restart {groups.restart_s:.2f} s; "
        f"peak memory from there {groups.peak_rss_mb:.0f} MB, "
        "of which some 150 bytes are for each deduplication id of the last five minutes."
    )
    return table(head, rows) + "\n\n" + tail


def fairness_table(fairness: Fairness) -> str:
    """How long messages of quiet tenants wait, without and with a noisy one."""
    rows = []
    for load, runs in fairness.by_load.items():
        for name, dwell in runs.items():
            ratio = dwell.mean_ms / runs["alone"].mean_ms
            rows.append(
                [
                    f"{load:.0%}",
                    name,
                    f"{dwell.mean_ms:,.0f}",
                    f"{dwell.median_ms:,.0f}",
                    f"{dwell.p95_ms:,.0f}",
                    "" if name == "alone" else f"{ratio:,.1f}",
                    aim(DWELL_AIM, ratio) if name == "fair" else "",
                ]
            )
    head = [
        "consumers' time that quiet tenants need",
        "noisy tenant",
        "dwell ms, mean",
        "median",
        "p95",
        "mean, of that without",
        "aim",
    ]
    return table(head, rows)


def letters_table(letters: Letters) -> str:
    """What moving a message to another queue costs."""
    rows = [
        [
            "received once and then set aside, in tens",
            f"{letters.dead_per_s:,.0f}",
            f"{letters.dead_cpu_us:.0f}",
        ],
        ["moved by a task", f"{letters.moved_per_s:,.0f}", f"{letters.moved_cpu_us:.0f}"],
    ]
    return table(["dead letters", "messages/s", "server CPU µs/message"], rows)


def _median_rate(runs: Sequence[Seen]) -> float:
    return median(run.messages_per_s for run in runs)


def _rate(runs: Sequence[Seen]) -> str:
    return f"{_median_rate(runs):,.0f}"


def _cpu(runs: Sequence[Seen]) -> str:
    return f"{median(run.cpu_us_per_message for run in runs):.1f}"


def _ratio(runs: Sequence[Seen], beside: Sequence[Seen]) -> str:
    cpu = median(run.cpu_us_per_message for run in runs)
    return f"{cpu / median(run.cpu_us_per_message for run in beside):.2f}"
