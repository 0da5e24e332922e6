"""What a call between two nodes costs each of them, beside a request and its reply over NATS.

    python bench/transport.py                     # about two minutes
    python bench/transport.py --seconds 0.2       # does it run? The figures mean nothing
    python bench/transport.py --skip-nats

Both ends are processes of their own on this machine, each with one thread; a third one is the NATS server.
The handler gives an echo one turn of its event loop later, as a shard does for all that share a commit.
CPU is user and system time of the process, divided by calls. Needs Linux (it reads `/proc`).
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time

import nats
import uvloop
from nats.aio.msg import Msg

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.processes import cpu_s, environment
from tests.clients.certificates import make_certificate
from waystation.cluster.transport_client import Link
from waystation.cluster.transport_server import TransportServer
from waystation.cluster.transport_settings import TransportSettings

IN_FLIGHT = (1, 32, 256)
PAYLOAD_BYTES = (300, 65_536)
TIMEOUT_S = 10.0
SUBJECT = "bench.echo"

CallOnce = Callable[[bytes], Awaitable[object]]


def settings_of(listen: str, folder: Path) -> TransportSettings:
    """With TLS when the folder has a certificate, which is its own authority."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    if not certificate.exists():
        return TransportSettings(listen=listen)
    return TransportSettings(listen=listen, tls_ca=certificate, tls_certificate=certificate, tls_key=key)


async def serve(listen: str, folder: Path) -> None:
    """Echo calls until killed."""
    loop = asyncio.get_running_loop()

    def echo(_: int, payload: bytes) -> asyncio.Future[bytes]:
        answer: asyncio.Future[bytes] = loop.create_future()
        loop.call_soon(answer.set_result, payload)
        return answer

    server = TransportServer(echo, settings_of(listen, folder))
    await server.start()
    print(server.address, flush=True)
    await loop.create_future()


async def serve_nats(url: str) -> None:
    """Echo requests until killed."""
    connection = await nats.connect(url)

    async def echo(message: Msg) -> None:
        await message.respond(message.data)

    await connection.subscribe(SUBJECT, cb=echo)
    await connection.flush()
    print(url, flush=True)
    await asyncio.get_running_loop().create_future()


@contextmanager
def child(*command: str) -> Iterator[tuple[int, str]]:
    """A server of this file as a process: its id, and the address that it prints."""
    process = subprocess.Popen(
        [sys.executable, __file__, *command], stdout=subprocess.PIPE, text=True, env=environment()
    )
    try:
        assert process.stdout is not None
        yield process.pid, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


@contextmanager
def nats_server() -> Iterator[tuple[int, str]]:
    """A NATS server without JetStream."""
    program = shutil.which("nats-server") or str(Path(sys.executable).with_name("nats-server"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([program, "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        yield process.pid, f"nats://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def measure(name: str, call: CallOnce, seconds: float, pids: list[int]) -> None:
    """Print a line for each size and number of calls in flight."""
    for payload_bytes in PAYLOAD_BYTES:
        payload = b"x" * payload_bytes
        for in_flight in IN_FLIGHT:
            await _drive(call, payload, in_flight, seconds / 5)  # warm up
            before = [cpu_s(pid) for pid in pids]
            cpu_before, began = process_time(), perf_counter()
            calls = await _drive(call, payload, in_flight, seconds)
            took_s, cpu = perf_counter() - began, process_time() - cpu_before
            others = [(cpu_s(pid) - old) / calls * 1e6 for pid, old in zip(pids, before, strict=True)]
            columns = " | ".join(f"{each:7.1f}" for each in [cpu / calls * 1e6, *others])
            print(
                f"| {name:<10} | {payload_bytes:>6} | {in_flight:>4} | {calls / took_s:>8,.0f} | {columns} |"
            )


async def _drive(call: CallOnce, payload: bytes, in_flight: int, seconds: float) -> int:
    """Returns how many calls were answered."""
    end = perf_counter() + seconds
    counts = [0] * in_flight

    async def one_after_the_other(number: int) -> None:
        while perf_counter() < end:
            await call(payload)
            counts[number] += 1

    await asyncio.gather(*map(one_after_the_other, range(in_flight)))
    return sum(counts)


async def measure_link(name: str, listen: str, folder: Path, seconds: float) -> None:
    with child("--serve", listen, "--folder", str(folder)) as (pid, address):
        link = Link(address, settings_of(listen, folder))
        try:
            await measure(name, lambda payload: link.call(1, payload, TIMEOUT_S), seconds, [pid])
        finally:
            await link.close()


async def measure_nats(seconds: float) -> None:
    with nats_server() as (server_pid, url), child("--serve-nats", url) as (pid, _):
        connection = await nats.connect(url)
        try:
            await measure(
                "NATS",
                lambda payload: connection.request(SUBJECT, payload, timeout=TIMEOUT_S),
                seconds,
                [pid, server_pid],
            )
        finally:
            await connection.close()


async def run(seconds: float, *, with_nats: bool) -> None:
    print("| over       |  bytes | in flight | calls/s | CPU µs/call: caller | handler | NATS server |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as plain, tempfile.TemporaryDirectory() as secure:
        make_certificate(Path(secure))
        await measure_link("TCP", "127.0.0.1:0", Path(plain), seconds)
        await measure_link("Unix", f"unix:{plain}/socket", Path(plain), seconds)
        await measure_link("TLS", "127.0.0.1:0", Path(secure), seconds)
    if with_nats:
        await measure_nats(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--skip-nats", action="store_true")
    parser.add_argument("--serve", metavar="ADDRESS", help=argparse.SUPPRESS)
    parser.add_argument("--serve-nats", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.serve:
        uvloop.run(serve(flags.serve, flags.folder))
    elif flags.serve_nats:
        uvloop.run(serve_nats(flags.serve_nats))
    else:
        uvloop.run(run(flags.seconds, with_nats=not flags.skip_nats))


if __name__ == "__main__":
    main()
