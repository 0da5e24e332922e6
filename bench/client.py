"""The load generator: one process that drives one queue and prints what it saw as JSON.

    python -m bench.client --url http://127.0.0.1:9324 --server-pid 4711 --mode send --batch 10

A closed loop keeps every connection busy: how fast can it go? An open loop (`--rate`) starts
tasks at random moments of a given mean rate, whatever has been answered by then, and counts
latency from the moment a task was due: what do users see at that load? A server that
stalls cannot slow down its own measurement that way.

Keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from dataclasses import asdict, fields, replace
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.channel import Channel
from bench.connection import Connection, Meter
from bench.driver import Driver, Load, Seen
from bench.signing import Signer
from bench.workload import Workload

VISIBILITY_TIMEOUT_S = 600
"""Long enough that no message comes back while a slow run is still under way."""


class Client:
    """Connections to one server, on which one load after the other is run.

    Lifecycle: each call and each run opens its own connections and closes them.
    """

    def __init__(self, url: str, server_pid: int) -> None:
        address = urlsplit(url)
        if address.hostname is None or address.port is None:
            raise ValueError(f"{url} has no host and port")
        self._url = url
        self._address = (address.hostname, address.port)
        self._server_pid = server_pid
        self._signer = Signer(
            address.netloc, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        )

    async def call(self, operation: str, arguments: dict[str, object]) -> dict[str, str]:
        """One call outside any measurement; returns what was answered."""
        channel = Channel(self._url, self._signer, Meter(), is_kept=False)
        answer = await channel.call(operation, arguments)
        return msgspec.json.decode(answer, type=dict[str, str]) if answer else {}

    async def run(self, load: Load, workload: Workload) -> Seen:
        """Preload the queue, if asked for, and run the load."""
        if load.preload_messages:
            filling = replace(load, mode="send", batch=10, rate=None, warmup_messages=0)
            filling = replace(filling, messages=load.preload_messages)
            await self._drive(filling, workload.in_batches_of(10))
        return await self._drive(load, workload)

    async def _drive(self, load: Load, workload: Workload) -> Seen:
        meter = Meter()
        driver = Driver(load, workload, self._server_pid, meter)
        connections = [
            Connection(self._signer, meter, driver.idle, driver.failed) for _ in range(load.connections)
        ]
        try:
            for connection in connections:
                await self._connect(connection)
            return await driver.run(connections)
        finally:
            for connection in connections:
                connection.close()

    async def _connect(self, connection: Connection) -> None:
        await asyncio.get_running_loop().create_connection(lambda: connection, *self._address)


async def _main(arguments: argparse.Namespace, load: Load) -> Seen:
    client = Client(arguments.url, arguments.server_pid)
    if arguments.queue_url:
        return await client.run(load, Workload(arguments.queue_url, load.batch, load.body_bytes))
    name, attributes = arguments.queue, {"VisibilityTimeout": str(VISIBILITY_TIMEOUT_S)}
    if load.groups:
        name, attributes["FifoQueue"] = f"{name}.fifo", "true"
    queue = await client.call("CreateQueue", {"QueueName": name, "Attributes": attributes})
    workload = Workload(queue["QueueUrl"], load.batch, load.body_bytes, load.groups, load.first_group)
    seen = await client.run(load, workload)
    if not arguments.keep:
        await client.call("DeleteQueue", {"QueueUrl": queue["QueueUrl"]})
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True, help="of the server")
    parser.add_argument("--server-pid", type=int, required=True, help="whose CPU is read")
    parser.add_argument("--queue", default="bench", help="the name of the queue, which is made when missing")
    parser.add_argument("--queue-url", help="of a queue that is there, instead of --queue")
    parser.add_argument("--keep", action="store_true", help="do not delete the queue afterwards")
    parser.add_argument("--mode", choices=["send", "receive", "both"], required=True)
    for field in fields(Load):
        if field.name not in ("mode", "rate"):
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, default=field.default)
    parser.add_argument("--rate", type=float, help="messages a second of an open loop")
    arguments = parser.parse_args()
    load = Load(**{field.name: getattr(arguments, field.name) for field in fields(Load)})
    print(json.dumps(asdict(uvloop.run(_main(arguments, load)))))


if __name__ == "__main__":
    main()
