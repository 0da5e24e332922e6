"""Settings of the calls between nodes: where to listen, whom to trust, and what is bounded."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class TransportSettings:
    """How nodes reach each other. All nodes of a cluster should have the same limits."""

    node: str = ""
    """This node's id, which it tells those that it is connected to. At most 255 bytes."""

    cluster: str = "waystation"
    """Name of the cluster; a node does not talk to nodes of another. At most 255 bytes."""

    listen: str = "127.0.0.1:0"
    """Where other nodes reach this one: `host:port`, with port 0 for a free one, or `unix:path`."""

    tls_ca: Path | None = None
    """PEM file with the authority that has signed the certificates of all nodes. It turns mutual TLS on."""

    tls_certificate: Path | None = None
    """PEM file with this node's certificate chain."""

    tls_key: Path | None = None
    """PEM file with the private key of `tls_certificate`."""

    tls_check_names: bool = False
    """Also demand that a node's certificate names the host it was reached at. An authority that signs for
    this cluster alone, as it should, makes that needless, and addresses of nodes change; set it where the
    authority signs for others as well. It cannot help against a client, whose host is not known."""

    frame_bytes_max: int = 12_582_912
    """Payload of one call or answer: ten messages of 1 MiB, the most that one receive gives, fit with room.
    Who sends more is cut off."""

    connections_max: int = 1_024
    """Connections that a node takes; one more is closed at once."""

    connection_calls_max: int = 16_384
    """Calls in progress on one connection, long polls among them; one more is refused as not done."""

    calls_max: int = 65_536
    """Calls in progress in a node on all its connections; one more is refused as not done."""

    unsent_bytes_high: int = 1_048_576
    """Bytes of answers that wait for the other side to take them, past which no more calls are read from it;
    and of calls, past which they wait in the caller, where it is certain that they are not done."""

    unsent_bytes_max: int = 67_108_864
    """The same, past which a connection is broken, and a call is refused as not done."""

    unsent_s_max: float = 10.0
    """For the other side to take answers once too many wait, until the connection is broken."""

    ping_interval_s: float = 0.5
    """After which a side that has said nothing says that it is alive."""

    pings_lost_max: int = 5
    """So many intervals of silence, and the other side is taken for dead: 2.5 s. An event loop must never
    be busy that long with one thing."""

    connect_timeout_s: float = 2.0
    """For connecting, TLS and hello together."""

    reconnect_delay_max_s: float = 1.0
    """Between two attempts to connect; the first is made after 50 ms."""

    breaker_failures: int = 5
    """Successive failures to connect or to be answered in time that open the circuit breaker of a link."""

    breaker_open_s: float = 1.0
    """How long calls are refused as not done then, before one is let through to try."""

    drain_s: float = 10.0
    """For calls in progress to end after a stop has been asked for."""


def parse_address(address: str) -> tuple[str, int] | Path:
    """Host and port, or the path of a Unix socket. Raises `ValueError`."""
    if address.startswith("unix:"):
        return Path(address.removeprefix("unix:"))
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"{address} is neither host:port nor unix:path")
    return host.removeprefix("[").removesuffix("]"), int(port)


def server_tls(settings: TransportSettings) -> ssl.SSLContext | None:
    """None without TLS. Raises `OSError` when a file cannot be used, `ValueError` when one is not given."""
    return None if settings.tls_ca is None else _context(ssl.PROTOCOL_TLS_SERVER, settings)


def client_tls(settings: TransportSettings) -> ssl.SSLContext | None:
    """As `server_tls`, for the side that connects."""
    return None if settings.tls_ca is None else _context(ssl.PROTOCOL_TLS_CLIENT, settings)


def _context(side: int, settings: TransportSettings) -> ssl.SSLContext:
    """Each side shows its certificate and demands one that the cluster's authority has signed."""
    if settings.tls_certificate is None or settings.tls_key is None:
        raise ValueError("TLS between nodes is mutual: tls_ca needs tls_certificate and tls_key")
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = side == ssl.PROTOCOL_TLS_CLIENT and settings.tls_check_names
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(settings.tls_ca)
    context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    return context
