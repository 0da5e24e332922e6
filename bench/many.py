"""What queues cost that nobody uses: a hundred thousand of them in one process.

    python -m bench.many create|use URL PID --queues 100000

is the child that makes them, or uses each once. `measure` is what `deep.py` calls.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import sleep

import msgspec
import uvloop

from bench.client import Client
from bench.driver import Load, Seen
from bench.loader import SnapshotCost
from bench.phases import empty_directory
from bench.processes import Server, cpu_s, memory_mb, output_of, waystation
from bench.tables import table
from bench.workload import Call, Task, Workload, _decode_received

QUEUES = 100_000
IDLE_S = 40.0
"""Four rounds of housekeeping, which looks at each queue every ten seconds."""
PAUSE_S = 12.0
"""For what the last change has made due."""
_CONNECTIONS = 32


@dataclass(kw_only=True)
class Many:
    """What was measured. Memory in units of 1,000,000 bytes."""

    queues: int
    created: Seen
    used: Seen
    """One message sent, received and deleted in each."""
    empty_rss_mb: float
    """Of a server without queues."""
    created_rss_mb: float
    used_rss_mb: float
    killed_rss_mb: float
    """After a start that follows SIGKILL."""
    peak_rss_mb: float
    """Of the server that made and used them."""
    killed_start_s: float
    clean_start_s: float
    idle_cpu_share: float
    """Of one core."""
    slowest_ms: float
    """Of small requests to an otherwise idle server, one every ten milliseconds."""
    snapshot: SnapshotCost


def measure(data_dir: Path, queues: int = QUEUES, idle_s: float = IDLE_S, pause_s: float = PAUSE_S) -> Many:
    """Create, use, kill, start, idle and stop: some five minutes."""
    with empty_directory(data_dir / "many") as directory:
        with Server.run(*waystation(directory)) as server:
            empty = memory_mb(server.pid, "VmRSS")
            created = _child("create", server, queues)
            sleep(pause_s)
            created_rss = memory_mb(server.pid, "VmRSS")
            used = _child("use", server, queues)
            sleep(pause_s)
            used_rss, peak = memory_mb(server.pid, "VmRSS"), memory_mb(server.pid, "VmHWM")
            os.kill(server.pid, signal.SIGKILL)
        with Server.run(*waystation(directory)) as server:
            killed_start_s, killed_rss = server.start_s, memory_mb(server.pid, "VmRSS")
            sleep(pause_s)
            before = cpu_s(server.pid)
            sleep(idle_s)
            idle_cpu = cpu_s(server.pid) - before
            slowest = _child("look", server, round(idle_s * 100))
        with Server.run(*waystation(directory)) as server:
            clean_start_s = server.start_s
        cost = msgspec.json.decode(
            output_of("-m", "bench.loader", "snapshot", str(directory)), type=SnapshotCost
        )
    return Many(
        queues=queues,
        created=created,
        used=used,
        empty_rss_mb=empty,
        created_rss_mb=created_rss,
        used_rss_mb=used_rss,
        killed_rss_mb=killed_rss,
        peak_rss_mb=peak,
        killed_start_s=killed_start_s,
        clean_start_s=clean_start_s,
        idle_cpu_share=idle_cpu / idle_s,
        slowest_ms=slowest.max_ms[""],
        snapshot=cost,
    )


def _child(kind: str, server: Server, queues: int) -> Seen:
    output = output_of("-m", "bench.many", kind, server.url, str(server.pid), "--queues", str(queues))
    return msgspec.json.decode(output, type=Seen)


class _Queues(Workload):
    """One task for each queue; each counts as a message sent."""

    def __init__(self, kind: str, account_url: str) -> None:
        super().__init__(account_url, 1, 256)
        self._kind = kind
        self._account_url = account_url

    def send(self) -> Task:
        self._number += 1
        name = f"queue-{self._number}"
        if self._kind == "create":
            yield Call("CreateQueue", b'{"QueueName":"%b"}' % name.encode())
        elif self._kind == "look":
            yield Call("GetQueueUrl", b'{"QueueName":"queue-1"}')
        else:
            yield from self._use(json.dumps(f"{self._account_url}/{name}").encode())
        self.sent += 1

    def _use(self, url: bytes) -> Generator[Call, bytes, None]:
        yield Call("SendMessage", b'{"QueueUrl":%b,"MessageBody":"%b"}' % (url, self._filler))
        [message] = _decode_received((yield Call("ReceiveMessage", b'{"QueueUrl":%b}' % url))).messages
        handle = message.handle.encode()
        yield Call("DeleteMessage", b'{"QueueUrl":%b,"ReceiptHandle":"%b"}' % (url, handle))


async def _run(kind: str, url: str, pid: int, queues: int) -> Seen:
    client = Client(url, pid)
    made = await client.call("CreateQueue", {"QueueName": "queue-1"})
    account_url = made["QueueUrl"].rpartition("/")[0]
    load = Load(
        mode="send",
        connections=min(_CONNECTIONS, queues),
        warmup_messages=0,
        # When the last that counts is done, the other connections are at work on one each.
        messages=queues - min(_CONNECTIONS, queues) + 1,
        rate=100.0 if kind == "look" else None,
    )
    return await client.run(load, _Queues(kind, account_url))


def many_table(many: Many) -> str:
    """Memory, starts and idleness."""

    def each(rss_mb: float) -> str:
        return f"{rss_mb:,.0f} MB, {(rss_mb - many.empty_rss_mb) * 1e6 / many.queues:,.0f} bytes a queue"

    cost = many.snapshot
    rows = [
        ["created at", f"{many.created.messages_per_s:,.0f} queues/s, p99 {many.created.p99_ms['']:.1f} ms"],
        ["server CPU to create one", f"{many.created.cpu_us_per_message:.0f} µs"],
        ["memory without queues", f"{many.empty_rss_mb:,.0f} MB"],
        ["memory with queues that were never used", each(many.created_rss_mb)],
        ["memory once each had a message sent, received and deleted", each(many.used_rss_mb)],
        ["memory after a restart", each(many.killed_rss_mb)],
        ["peak memory until then", f"{many.peak_rss_mb:,.0f} MB"],
        ["start after SIGKILL", f"{many.killed_start_s:.2f} s"],
        ["start after a clean stop", f"{many.clean_start_s:.2f} s"],
        ["CPU of the idle server", f"{many.idle_cpu_share * 100:.1f} % of a core"],
        ["slowest of 100 small requests a second meanwhile", f"{many.slowest_ms:.0f} ms"],
        ["a snapshot", f"{cost.snapshot_bytes / 1e6:,.1f} MB"],
        ["it blocks the event loop for", f"{cost.blocked_ms:,.0f} ms"],
        ["and takes", f"{cost.total_ms:,.0f} ms"],
    ]
    return table([f"{many.queues:,} queues", ""], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=["create", "use", "look"])
    parser.add_argument("url")
    parser.add_argument("pid", type=int)
    parser.add_argument("--queues", type=int, default=QUEUES)
    arguments = parser.parse_args()
    seen = uvloop.run(_run(arguments.kind, arguments.url, arguments.pid, arguments.queues))
    print(json.dumps(asdict(seen)))


if __name__ == "__main__":
    main()
