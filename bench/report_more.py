"""Tables of message groups, fairness and dead letters, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial
from statistics import median

from bench.driver import Seen
from bench.fairness import CONSUMERS, Dwell, Fairness
from bench.groups import OTHER_GROUPS, Groups
from bench.letters import Letters
from bench.tables import table

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
        alone = runs["alone"]
        for name, dwell in runs.items():
            row = [f"{load:.0%}", name, *(f"{value:,.0f}" for value in _of(dwell))]
            ratios = [with_it / without for with_it, without in zip(_of(dwell), _of(alone), strict=True)]
            if name != "alone":
                row += [" / ".join(f"{ratio:,.1f}" for ratio in ratios)]
            else:
                row += [""]
            if name == "fair":
                said = ["met" if ratio <= DWELL_AIM else "missed" for ratio in ratios]
                row += [f"{best_ratio(load):,.1f}", f"≤ {DWELL_AIM:g}: {' / '.join(said)}"]
            else:
                row += ["", ""]
            rows.append(row)
    head = [
        "consumers' time that quiet tenants need",
        "noisy tenant",
        "dwell ms, mean",
        "median",
        "p95",
        "of that without: mean / median / p95",
        "best possible mean",
        "aim",
    ]
    return table(head, rows)


def _of(dwell: Dwell) -> tuple[float, float, float]:
    return dwell.mean_ms, dwell.median_ms, dwell.p95_ms


def best_ratio(load: float) -> float:
    """The least ratio of mean dwells that a queue can reach which takes no consumer from its work.

    One over the chance that all consumers are busy with quiet tenants' messages alone (Erlang C):
    with a noisy tenant about, they are always busy.
    """
    offered = load * CONSUMERS
    free = sum(offered**busy / factorial(busy) for busy in range(CONSUMERS))
    full = offered**CONSUMERS / factorial(CONSUMERS) / (1 - load)
    return (free + full) / full


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
