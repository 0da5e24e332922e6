"""What `bench/cluster.py` compares: how each is started, which processes are whose, and how it is driven."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import msgspec

from bench.driver import Load
from bench.frontends import children_of
from bench.peers.children import descendants
from bench.peers.rabbitmq import missing, rabbitmq
from bench.peers.window import Done
from bench.phases import drive
from bench.processes import ROOT, Server, cpu_s, environment, output_of, waystation
from tests.nats_server import NatsServer, nats_servers, urls

NODES = 3
START_S_MAX = 60.0
_OWNER = re.compile(r"^  (\S+)  .*  shards: 0$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Work:
    """One load: every connection always waits for an answer."""

    mode: str
    """`send`, or `receive`, which deletes as well."""
    batch: int
    """Messages of a request; or, where there are no batches, on their way over one connection."""
    connections: int
    body_bytes: int
    messages: int


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What one load cost. Microseconds are CPU, user and system, for each message."""

    messages_per_s: float
    us: dict[str, float]
    """Of the servers, by what they are."""
    client_us: float
    p50_ms: float
    p99_ms: float
    messages_per_record: float | None = None
    """How many share an append, where that can be seen."""
    record_bytes: float | None = None
    """Of the log, for each message."""


@dataclass(frozen=True, kw_only=True)
class System:
    """One that runs. `run` takes the work and the name of a queue of its own."""

    run: Callable[[Work, str], Ran]


Start = Callable[[Path], AbstractContextManager[dict[str, System]]]
"""Starts one or several systems in a folder; they are gone when the context ends."""


class Missing(Exception):
    """A system cannot be measured here; says why."""


# Waystation


@dataclass(frozen=True)
class _Node:
    """How to drive a node, and whose CPU counts."""

    server: Server
    roles: dict[str, list[int]]
    log: Callable[[], tuple[int, int]] | None = None
    """Records appended so far, and the bytes that are there."""

    def run(self, work: Work, queue: str) -> Ran:
        warmup = work.messages // 10 if work.mode == "send" else 0
        load = Load(
            mode="send" if work.mode == "send" else "receive",
            batch=work.batch,
            body_bytes=work.body_bytes,
            connections=work.connections,
            warmup_messages=warmup,
            messages=work.messages,
        )
        before, appended = self._cpu_s(), self.log() if self.log else None
        seen = drive(self.server.url, self.server.pid, load, f"--queue={queue}", "--keep")
        used = {role: after - before[role] for role, after in self._cpu_s().items()}
        grouped = record_bytes = None
        if self.log and appended:
            records, stored_bytes = self.log()
            grouped = seen.total_messages / max(records - appended[0], 1)
            if stored_bytes > appended[1]:  # it has not been truncated meanwhile
                record_bytes = (stored_bytes - appended[1]) / seen.total_messages
        return Ran(
            messages_per_s=seen.messages_per_s,
            us={role: seconds / seen.total_messages * 1e6 for role, seconds in used.items()},
            client_us=seen.client_cpu_share * seen.seconds / seen.messages * 1e6,
            p50_ms=seen.p50_ms[""],
            p99_ms=seen.p99_ms[""],
            messages_per_record=grouped,
            record_bytes=record_bytes,
        )

    def _cpu_s(self) -> dict[str, float]:
        return {role: sum(map(cpu_s, pids)) for role, pids in self.roles.items()}


@contextmanager
def embedded(folder: Path) -> Iterator[dict[str, System]]:
    """One node with its own disk, as it is without flags."""
    with Server.run(*waystation(folder / "data")) as server:
        yield {"embedded": System(run=_Node(server, {"node": [server.pid]}).run)}


@contextmanager
def with_frontends(folder: Path) -> Iterator[dict[str, System]]:
    """The same with two FrontEnd processes."""
    with Server.run(*waystation(folder / "data", "--frontends", "2")) as server:
        roles = {"owner": [server.pid], "FrontEnds": children_of(server.pid)}
        yield {"frontends": System(run=_Node(server, roles).run)}


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, System]]:
    """Three nodes over three NATS servers, with one shard: clients at its owner, and at another node."""
    with ExitStack() as running:
        servers = running.enter_context(nats_servers(folder / "nats", NODES))
        storage = _children_with(str(folder / "nats"))
        assert len(storage) == NODES
        addresses = urls(servers)
        output_of("-m", "waystation", "cluster", "init", "--cluster", addresses, "--cluster.shards", "1")
        nodes = {}
        for number in range(1, NODES + 1):
            flags = ("--node-id", f"node-{number}", "--transport.listen", "127.0.0.1:0")
            command = waystation(folder / f"node-{number}", "--cluster", addresses, *flags)
            nodes[f"node-{number}"] = running.enter_context(Server.run(*command))
        owner = nodes.pop(_owner(addresses))
        other, *_ = nodes.values()

        def log() -> tuple[int, int]:
            return _records(servers[0])

        at_owner = {"owner": [owner.pid], "nats-servers": storage}
        at_other = {"FrontEnd": [other.pid], **at_owner}
        yield {
            "cluster-owner": System(run=_Node(owner, at_owner, log).run),
            "cluster-other": System(run=_Node(other, at_other, log).run),
        }


def _owner(addresses: str) -> str:
    """Who serves the only shard, once somebody does. Raises `RuntimeError`."""
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline:
        said = output_of("-m", "waystation", "cluster", "status", "--cluster", addresses)
        if found := _OWNER.search(said):
            return found[1]
        time.sleep(0.5)
    raise RuntimeError(f"nobody serves the shard:\n{said}")


def _records(server: NatsServer) -> tuple[int, int]:
    """How many records the stream of shard 0 has had, and the bytes of those that it has."""
    with urlopen(f"{server.monitor_url}/jsz?accounts=true&streams=true", timeout=10) as answer:
        accounts = json.load(answer)["account_details"]
    for account in accounts:
        for stream in account.get("stream_detail") or ():
            if stream["name"] == "waystation-shard-0":
                state = stream["state"]
                return int(state["last_seq"]), int(state["bytes"])
    raise RuntimeError("the stream of the shard is not there")


# Others


@contextmanager
def jetstream(folder: Path) -> Iterator[dict[str, System]]:
    """Work queues on three NATS servers of their own, set up like those of our cluster."""
    with nats_servers(folder, NODES) as servers:
        pids = _children_with(str(folder))
        assert len(pids) == NODES
        peer = _Peer("bench.peers.jetstream_client", [server.url for server in servers], pids, "nats-servers")
        yield {"jetstream": System(run=peer.run)}


@contextmanager
def quorum_queues(folder: Path) -> Iterator[dict[str, System]]:
    """Three RabbitMQ nodes. Raises `Missing`."""
    if reason := missing():
        raise Missing(reason)
    with rabbitmq(folder) as (addresses, pids):
        peer = _Peer("bench.peers.rabbitmq_client", addresses, pids, "RabbitMQ")
        yield {"rabbitmq": System(run=peer.run)}


@dataclass(frozen=True)
class _Peer:
    module: str
    addresses: list[str]
    pids: list[int]
    role: str

    def run(self, work: Work, queue: str) -> Ran:
        command = [
            *(sys.executable, "-m", self.module, f"--mode={work.mode}", f"--queue={queue}"),
            *(f"--addresses={','.join(self.addresses)}", f"--pids={','.join(map(str, self.pids))}"),
            *(f"--window={work.batch}", f"--connections={work.connections}"),
            *(f"--messages={work.messages}", f"--body-bytes={work.body_bytes}"),
        ]
        run = subprocess.run(
            command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
        )
        if run.returncode:
            raise RuntimeError(f"{self.module} failed: {run.stderr[-2_000:]}")
        done = msgspec.json.decode(run.stdout, type=Done)
        return Ran(
            messages_per_s=done.messages / done.seconds,
            us={self.role: sum(done.server_cpu_s.values()) / done.messages * 1e6},
            client_us=done.client_cpu_s / done.messages * 1e6,
            p50_ms=done.p50_ms,
            p99_ms=done.p99_ms,
        )


def _children_with(word: str) -> list[int]:
    return [found for pid in children_of(os.getpid()) for found in descendants(pid, word)]


STARTS: tuple[Start, ...] = (embedded, with_frontends, cluster, quorum_queues, jetstream)
TITLES = {
    "embedded": "Waystation, 1 node",
    "frontends": "Waystation, 1 node with 2 FrontEnd processes",
    "cluster-owner": "Waystation, 3 nodes, clients at the owner",
    "cluster-other": "Waystation, 3 nodes, clients at another node",
    "rabbitmq": "RabbitMQ, 3 nodes, quorum queue",
    "jetstream": "JetStream, 3 servers, work queue",
}
OURS = ("embedded", "frontends", "cluster-owner", "cluster-other")
