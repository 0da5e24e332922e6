"""Whether the NATS servers are set up so that nothing is lost, asked before anything is trusted to them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

from waystation.log.errors import LogUnavailable
from waystation.log.nats import SERVERS_SUBJECT, NatsConnection, NatsFailure, Retries
from waystation.log.settings import NatsSettings

VERSION_MIN = (2, 15, 1)
"""Older ones have faults in what we build on, or sync the disk twice for each append."""
PAYLOAD_BYTES_MIN = 4_194_304
"""A record has 2.3 MiB at most; the rest is room for headers, and for what comes."""

_DEADLINE_S = 10.0

_HOW_TO_EXPORT = f"""\
Let the system account export it, in the configuration of each server:
  accounts {{
    SYS {{ exports: [ {{ service: "{SERVERS_SUBJECT}", response_type: stream, accounts: [WAYSTATION] }} ] }}
    WAYSTATION {{ imports: [ {{ service: {{ account: SYS, subject: "{SERVERS_SUBJECT}" }} }} ] }}
  }}
or set --nats.unchecked, if you have made sure of `sync_interval: always` yourself."""

_logger = logging.getLogger(__name__)


class ServersUnsafe(LogUnavailable):
    """A NATS server is not set up for what we need. The message says what to change at which."""


class ServersUnchecked(LogUnavailable):
    """The NATS servers do not tell how they are set up. The message says how to make them."""


async def check_servers(connection: NatsConnection, settings: NatsSettings) -> None:
    """Return if every server is new enough, takes our records, and syncs each append to its disk.

    A minority that does not answer is left out: a node has to be able to start while a server is down.

    Raises:
        ServersUnsafe: one is not.
        ServersUnchecked: they do not say, and `settings.unchecked` does not allow that.
        LogUnavailable: they do not answer.
    """
    retries = Retries(connection, _DEADLINE_S, "The NATS servers cannot be checked")
    while True:
        try:
            servers = await connection.servers()
            break
        except NatsFailure as failure:
            await retries.after(failure)
    faults = [f"{server.get('server_name')}: {fault}" for server in servers for fault in _faults(server)]
    if faults:
        raise ServersUnsafe("The NATS servers are not set up as they have to be:\n  " + "\n  ".join(faults))
    silent = _cluster_size(servers) - len(servers)
    if servers and silent < len(servers):
        if silent:
            _logger.warning("some NATS servers were not checked, as they do not answer")
        return
    if not settings.unchecked:
        raise ServersUnchecked(
            f"The NATS servers do not tell us whether they sync each append to the disk. {_HOW_TO_EXPORT}"
        )
    _logger.warning("NATS servers were not checked; nats.unchecked allows that")


def _cluster_size(servers: Iterable[Mapping[str, Any]]) -> int:
    metas = [server.get("jetstream", {}).get("meta", {}) for server in servers]
    return max((int(meta.get("cluster_size", 1)) for meta in metas), default=0)


def _faults(server: Mapping[str, Any]) -> list[str]:
    """What has to be changed at one server, in words; `server` is what it says of itself."""
    faults = []
    version = str(server.get("version", ""))
    if _numbers(version) < VERSION_MIN:
        faults.append(f"version {version} is too old: install {'.'.join(map(str, VERSION_MIN))} or newer")
    payload_bytes = int(server.get("max_payload", 0))
    if payload_bytes < PAYLOAD_BYTES_MIN:
        faults.append(f"max_payload is {payload_bytes} bytes: set `max_payload: 8MB`")
    configuration = server.get("jetstream", {}).get("config")
    if not configuration:
        faults.append("JetStream is off: add `jetstream { store_dir: ..., sync_interval: always }`")
    elif not configuration.get("sync_always", False):
        faults.append(
            "a loss of power would lose acknowledged messages: set `sync_interval: always` in `jetstream`"
        )
    return faults


def _numbers(version: str) -> tuple[int, ...]:
    """Of `2.15.1` or `2.16.0-RC.1`; what comes after the three numbers does not count."""
    return tuple(map(int, re.findall(r"\d+", version.partition("-")[0])[:3]))
