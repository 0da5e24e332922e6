"""How long quiet tenants wait when one is noisy: 8 consumers, and one tenant that sends 100 times as much.

    python bench/fairness.py [--seconds 30]

Tenants send at random moments (Poisson); consumers receive one message at a time, work on it for
a random time (exponential, 100 ms in the mean), and delete it. Dwell is from send to receive.

No queue can take a consumer away from a noisy tenant in the middle of its work. So a quiet
message that would have found a consumer idle has to wait, with a noisy tenant about, until one of
the eight is done: work / 8 at best. Where consumers are mostly idle without the noisy tenant,
that is far more than no wait at all, whatever the queue does; where quiet tenants need 85 % of the
consumers' time, it is little beside the wait there is anyway.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from math import factorial
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.phases import empty_directory
from bench.processes import ROOT, Server, waystation
from bench.stock_client import stock_client
from bench.tables import table

CONSUMERS = 8
QUIET_TENANTS = 15
NOISE = 100
WORK_S = 0.1
SECONDS = 30.0
LOADS = (0.85, 0.4)
"""Shares of the consumers' time that the quiet tenants need, beside some 5 % for receives and deletes."""
DWELL_AIM = 2.0
"""Times the dwell without the noisy tenant."""
_NOISY = "noisy"


@dataclass(kw_only=True)
class Dwell:
    """Of the quiet tenants' messages that were received in the last three quarters."""

    messages: int
    mean_ms: float
    median_ms: float
    p95_ms: float


@dataclass(kw_only=True)
class Fairness:
    """By load, then `alone`, `fair` (with a noisy tenant) and `ungrouped` (the same without groups)."""

    by_load: dict[float, dict[str, Dwell]] = field(default_factory=dict)


def measure(data_dir: Path, seconds: float = SECONDS) -> Fairness:
    """Three runs for each load."""
    seen = Fairness()
    for load in LOADS:
        for name in ("alone", "fair", "ungrouped"):
            with (
                empty_directory(data_dir / "fairness") as directory,
                Server.run(*waystation(directory)) as server,
            ):
                run = _Run(load, noisy=name != "alone", grouped=name != "ungrouped", seconds=seconds)
                seen.by_load.setdefault(load, {})[name] = asyncio.run(run.measure(server.url))
    return seen


class _Run:
    def __init__(self, load: float, *, noisy: bool, grouped: bool, seconds: float) -> None:
        self._rate = load * CONSUMERS / WORK_S / QUIET_TENANTS
        self._noisy = noisy
        self._grouped = grouped
        self._seconds = seconds
        self._dwell_ms: list[float] = []

    async def measure(self, url: str) -> Dwell:
        async with stock_client(url) as self._client:
            self._queue = (await self._client.create_queue(QueueName="bench"))["QueueUrl"]
            self._ends_at = time.monotonic() + self._seconds
            parts: list[Coroutine[Any, Any, None]] = [self._consume(at) for at in range(CONSUMERS)]
            parts += [self._send(str(tenant), tenant) for tenant in range(QUIET_TENANTS)]
            if self._noisy:
                parts.append(self._make_noise())
            await asyncio.gather(*parts)
        ordered = sorted(self._dwell_ms)
        return Dwell(
            messages=len(ordered),
            mean_ms=fmean(ordered),
            median_ms=ordered[len(ordered) // 2],
            p95_ms=ordered[len(ordered) * 95 // 100],
        )

    def _entry(self, at: int, tenant: str) -> dict[str, str]:
        group = {"MessageGroupId": tenant} if self._grouped else {}
        return {"Id": str(at), "MessageBody": f"{tenant} {time.monotonic()}", **group}

    async def _send(self, tenant: str, seed: int) -> None:
        chance = random.Random(seed)
        due = time.monotonic()
        while (due := due + chance.expovariate(self._rate)) < self._ends_at:
            await asyncio.sleep(max(due - time.monotonic(), 0))
            await self._client.send_message_batch(QueueUrl=self._queue, Entries=[self._entry(0, tenant)])

    async def _make_noise(self) -> None:
        chance = random.Random(NOISE)
        due = time.monotonic()
        while (due := due + chance.expovariate(self._rate * NOISE / 10)) < self._ends_at:
            await asyncio.sleep(max(due - time.monotonic(), 0))
            entries = [self._entry(at, _NOISY) for at in range(10)]
            await self._client.send_message_batch(QueueUrl=self._queue, Entries=entries)

    async def _consume(self, seed: int) -> None:
        chance = random.Random(1_000 + seed)
        settled_at = self._ends_at - self._seconds * 3 / 4
        while time.monotonic() < self._ends_at:
            answer = await self._client.receive_message(QueueUrl=self._queue, WaitTimeSeconds=1)
            now = time.monotonic()
            for message in answer.get("Messages", []):
                tenant, sent_at = message["Body"].split()
                if tenant != _NOISY and now > settled_at:
                    self._dwell_ms.append((now - float(sent_at)) * 1_000)
                await asyncio.sleep(chance.expovariate(1 / WORK_S))
                handle = message["ReceiptHandle"]
                await self._client.delete_message(QueueUrl=self._queue, ReceiptHandle=handle)


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each of the six runs")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "bench/.data")
    arguments = parser.parse_args()
    os.makedirs(arguments.data_dir, exist_ok=True)
    print(fairness_table(measure(arguments.data_dir, arguments.seconds)))


if __name__ == "__main__":
    main()
