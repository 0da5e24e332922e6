"""Do a few thousand old messages keep gigabytes alive? File sizes while traffic passes over them.

Some messages are delayed, some in flight; both stay for as long as the measurement lasts. What is sent
and deleted after them has to leave the disk all the same.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.driver import Load
from bench.phases import drive, empty_directory
from bench.processes import Server, files_mb, memory_mb, waystation
from bench.stock_client import stock_client
from bench.tables import aim, table

PINS = 5_000
TRAFFIC_MB = 4_096
BODY_BYTES = 16_384
SEGMENTS = 10
FEW_SEGMENTS = 2
FILES_MB_AIM = 256.0
_BATCH = 10
_HIDDEN_S = 900
"""The longest delay that there is."""
_LOOK_S = 0.1


@dataclass(kw_only=True)
class Pinned:
    """What was measured. Sizes in units of 1,000,000 bytes."""

    pins: int
    """Half of them delayed, half in flight."""
    before_mb: float
    """Of the files, with the pins alone."""
    passed_mb: list[float] = field(default_factory=list)
    """Bodies that were sent and deleted by the end of each segment."""
    files_mb: list[float] = field(default_factory=list)
    """At the end of each segment."""
    peak_files_mb: list[float] = field(default_factory=list)
    """Within each segment, looked at every tenth of a second."""
    peak_rss_mb: float = 0.0
    restart_s: float = 0.0
    left: int = 0
    """Pins that are still there at the end."""


def measure(data_dir: Path, pins: int = PINS, traffic_mb: int = TRAFFIC_MB) -> Pinned:
    """Pin a log, then send and delete so much: about a minute and a half."""
    with empty_directory(data_dir / "pinned") as directory:
        with Server.run(*waystation(directory)) as server:
            asyncio.run(_pin(server.url, pins))
            seen = Pinned(pins=pins, before_mb=files_mb(directory))
            segments = SEGMENTS if traffic_mb >= SEGMENTS * 10 else FEW_SEGMENTS
            messages = max(int(traffic_mb * 1e6 / BODY_BYTES / segments), _BATCH)
            load = Load(
                mode="both",
                batch=_BATCH,
                body_bytes=BODY_BYTES,
                connections=8,
                warmup_messages=0,
                messages=messages,
            )
            for _ in range(segments):
                with _peak_mb(directory) as peak:
                    # What a segment leaves in its queue is the first that the next receives.
                    done = drive(server.url, server.pid, load, "--queue=traffic", "--keep")
                before = seen.passed_mb[-1] if seen.passed_mb else 0.0
                seen.passed_mb.append(before + done.total_messages * BODY_BYTES / 1e6)
                seen.files_mb.append(files_mb(directory))
                seen.peak_files_mb.append(peak[0])
            seen.peak_rss_mb = memory_mb(server.pid, "VmHWM")
        with Server.run(*waystation(directory)) as server:
            seen.restart_s = server.start_s
            seen.left = asyncio.run(_count(server.url))
    return seen


async def _pin(url: str, pins: int) -> None:
    async with stock_client(url) as client:
        queue = (await client.create_queue(QueueName="pins"))["QueueUrl"]
        for first in range(0, pins, _BATCH):
            delayed = first < pins // 2
            entries = [
                {"Id": str(at), "MessageBody": "x" * 256, "DelaySeconds": _HIDDEN_S if delayed else 0}
                for at in range(min(_BATCH, pins - first))
            ]
            await client.send_message_batch(QueueUrl=queue, Entries=entries)
            if not delayed:
                await client.receive_message(
                    QueueUrl=queue, MaxNumberOfMessages=_BATCH, VisibilityTimeout=_HIDDEN_S
                )


async def _count(url: str) -> int:
    async with stock_client(url) as client:
        queue = (await client.get_queue_url(QueueName="pins"))["QueueUrl"]
        shown = await client.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])
    names = ["", "NotVisible", "Delayed"]
    return sum(int(shown["Attributes"][f"ApproximateNumberOfMessages{name}"]) for name in names)


@contextmanager
def _peak_mb(directory: Path) -> Iterator[list[float]]:
    """The largest size of the files while the context lasts, as the only item."""
    peak, over = [files_mb(directory)], threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_S):
            peak[0] = max(peak[0], files_mb(directory))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield peak
    finally:
        over.set()
        looking.join()


def pinned_table(seen: Pinned) -> str:
    """Files over time, and what is left of the pins."""
    rows = [["0", f"{seen.before_mb:,.0f}", ""]]
    rows += [
        [f"{passed:,.0f}", f"{size:,.0f}", f"{peak:,.0f}"]
        for passed, size, peak in zip(seen.passed_mb, seen.files_mb, seen.peak_files_mb, strict=True)
    ]
    most_mb = max(seen.peak_files_mb)
    head = ["MB sent and deleted since", "files, MB", "most meanwhile, MB"]
    tail = (
        f"{seen.pins:,} messages were sent before, half of them delayed and half in flight, and "
        f"{seen.left:,} are there after a restart of {seen.restart_s:.2f} s. Most ever {most_mb:,.0f} MB, "
        f"aim {aim(FILES_MB_AIM, most_mb)}; peak memory {seen.peak_rss_mb:.0f} MB."
    )
    return table(head, rows) + "\n\n" + tail
