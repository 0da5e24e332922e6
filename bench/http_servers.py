"""What one small POST costs a Python HTTP server, in microseconds of its CPU.

Each server answers the same signed-looking SendMessage of a stock SDK with the same constant,
in a process of its own, driven over loopback by 32 keep-alive connections from this one.
No queue, no signature check: this is the price of HTTP alone, and the limit of what
the data plane can reach. The table is in `docs/decisions/0002-own-http-protocol-class.md`.

    python bench/http_servers.py [--requests 100000] [--rounds 5] [server ...]

Servers other than ours are run if they are installed: `pip install uvicorn granian aiohttp`.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

CONNECTIONS = 32
ANSWER = json.dumps(
    {
        "MessageId": "8f2c3a04-9d9e-4a46-8d0a-3a0f6c1ff2bb",
        "MD5OfMessageBody": "7bc8563a7ac1d1f1b4c6d2a3e2d0f9ab",
    }
).encode()
CONTENT_TYPE = "application/x-amz-json-1.0"
BODY = json.dumps(
    {"QueueUrl": "http://127.0.0.1:9324/000000000000/orders", "MessageBody": "x" * 310}, separators=(",", ":")
).encode()
REQUEST = (
    b"POST / HTTP/1.1\r\n"
    b"Host: 127.0.0.1:9324\r\n"
    b"Accept-Encoding: identity\r\n"
    b"X-Amz-Target: AmazonSQS.SendMessage\r\n"
    b"Content-Type: application/x-amz-json-1.0\r\n"
    b"User-Agent: Boto3/1.43.0 md/Botocore#1.43.0 md/awscrt#0.31.2 ua/2.1 os/linux#6.8.0 md/arch#x86_64 "
    b"lang/python#3.11.7 md/pyimpl#CPython m/b,Z,D,n cfg/retry-mode#standard Botocore/1.43.0\r\n"
    b"X-Amzn-Query-Mode: true\r\n"
    b"X-Amz-Date: 20261124T120000Z\r\n"
    b"Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261124/us-east-1/sqs/aws4_request, "
    b"SignedHeaders=content-type;host;x-amz-date;x-amz-target;x-amzn-query-mode, "
    b"Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7\r\n"
    b"amz-sdk-invocation-id: 3f1c7b52-6b5e-4d52-9a30-0f5d7c4b7a11\r\n"
    b"amz-sdk-request: attempt=1\r\n"
    b"Content-Length: " + str(len(BODY)).encode() + b"\r\n\r\n" + BODY
)


# The servers. Each function runs in the child and does not return.


def serve_waystation(port: int) -> None:
    from waystation.frontend.http import HttpServer, Request, Response
    from waystation.frontend.settings import HttpSettings

    async def answer(request: Request) -> Response:
        return Response(200, ANSWER, CONTENT_TYPE)

    async def serve() -> None:
        await HttpServer(HttpSettings(port=port), answer).start()
        await asyncio.Event().wait()

    uvloop.run(serve())


def serve_floor(port: int) -> None:
    """Reads no HTTP at all: what uvloop and the kernel cost by themselves."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    answer = head % (CONTENT_TYPE.encode(), len(ANSWER)) + ANSWER

    class Floor(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.write = transport.write

        def data_received(self, data: bytes) -> None:
            self.write(answer)

    async def serve() -> None:
        await asyncio.get_running_loop().create_server(Floor, "127.0.0.1", port)
        await asyncio.Event().wait()

    uvloop.run(serve())


async def asgi_application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """A bare ASGI application: reads the body, answers the constant."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body", False):
        pass
    headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def serve_uvicorn(port: int) -> None:
    import uvicorn

    uvicorn.run(
        asgi_application,
        port=port,
        http="httptools",
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_level="error",
    )


def serve_granian(port: int) -> None:
    from granian import Granian
    from granian.constants import Interfaces, Loops

    sys.path.insert(0, str(Path(__file__).parent))
    Granian(
        "http_servers:asgi_application",
        port=port,
        interface=Interfaces.ASGINL,
        loop=Loops.uvloop,
        log_enabled=False,
    ).serve()


def serve_aiohttp(port: int) -> None:
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=ANSWER, headers={"Content-Type": CONTENT_TYPE})

    async def serve() -> None:
        application = web.Application()
        application.router.add_post("/", answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()

    uvloop.run(serve())


SERVERS: dict[str, Callable[[int], None]] = {
    "waystation": serve_waystation,
    "uvicorn": serve_uvicorn,
    "granian": serve_granian,
    "aiohttp": serve_aiohttp,
    "floor": serve_floor,
}


# The client and the measuring.


class Client(asyncio.Protocol):
    """One connection that sends the next request as soon as it has the answer to the last."""

    def __init__(self, left: list[int], finished: asyncio.Future[None]) -> None:
        self._left = left
        self._finished = finished
        self._answer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._answer.endswith(ANSWER):
            return
        if not self._answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"unexpected answer: {self._answer!r}")
        self._answer = b""
        self._left[0] -= 1
        if self._left[0] >= CONNECTIONS:
            self._transport.write(REQUEST)
        elif self._left[0] == 0:
            self._finished.set_result(None)


async def drive(port: int, requests: int) -> None:
    """Send so many requests over 32 connections, each waiting for its answers."""
    loop = asyncio.get_running_loop()
    left, finished = [requests], loop.create_future()
    clients = [
        await loop.create_connection(lambda: Client(left, finished), "127.0.0.1", port)
        for _ in range(CONNECTIONS)
    ]
    await finished
    for transport, _ in clients:
        transport.close()


def cpu_s(pid: int) -> float:
    """User and system time of a process and all its descendants, in seconds."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = sum(int(field) for field in after_name[11:15])  # utime, stime and those of dead children
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return ticks / os.sysconf("SC_CLK_TCK") + sum(cpu_s(int(child)) for child in children)


def measure(name: str, requests: int) -> tuple[float, float]:
    """One round of one server: its CPU microseconds per request, and requests per second."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, __file__, "--serve", name, "--port", str(port)])
    try:
        wait_until_listening(port, server)
        uvloop.run(drive(port, requests // 10))  # warm up
        cpu_before, began = cpu_s(server.pid), time.perf_counter()
        uvloop.run(drive(port, requests))
        seconds, cpu = time.perf_counter() - began, cpu_s(server.pid) - cpu_before
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)
    return cpu / requests * 1e6, requests / seconds


def wait_until_listening(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the server did not start")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "servers", nargs="*", metavar="server", help=f"of {', '.join(SERVERS)}; all by default"
    )
    parser.add_argument("--requests", type=int, default=100_000, help="per round")
    parser.add_argument("--rounds", type=int, default=5, help="the median of which is printed")
    parser.add_argument("--serve", choices=list(SERVERS), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        SERVERS[arguments.serve](arguments.port)
        return
    names = []
    for name in arguments.servers or SERVERS:
        if name in ("uvicorn", "granian", "aiohttp") and importlib.util.find_spec(name) is None:
            print(f"{name} is left out: it is not installed", file=sys.stderr)
        else:
            names.append(name)
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(arguments.rounds):
        for name in names:  # Round by round, so that a busy moment of the machine hits all alike.
            results[name].append(measure(name, arguments.requests))
    print(f"POST of {len(REQUEST)} bytes, medians of {arguments.rounds} rounds of {arguments.requests:,}\n")
    print("| server | CPU µs a request | requests/s |\n|---|---:|---:|")
    for name, rounds in results.items():
        cpu_us, rate = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"| {name} | {cpu_us:.1f} | {rate:,.0f} |")


if __name__ == "__main__":
    main()
