"""Settings of the FrontEnd: what it listens on, what it bounds, whom it trusts.

Each field carries its unit in its name and its reason beside it. The command
line fills these in once; nothing here reads the environment.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from waystation.protocol.limits import PURGE_INTERVAL_S, QUEUE_DELETED_WAIT_S


@dataclass(frozen=True, kw_only=True)
class HttpSettings:
    """How the data plane listens and what it bounds."""

    host: str = "127.0.0.1"
    """Address to listen on. Loopback until somebody decides otherwise."""

    port: int = 9324
    """TCP port; 0 takes a free one and prints it."""

    tls_certificate: Path | None = None
    """PEM file with the certificate chain. With it, the port speaks TLS only."""

    tls_key: Path | None = None
    """PEM file with the private key of `tls_certificate`."""

    connections_max: int = 8_192
    """Open connections; one more is closed at once. Each costs about 5 KB when idle."""

    header_bytes_max: int = 16_384
    """Request line and headers of one request. AWS and most proxies stop at 8 to 16 KB."""

    target_bytes_max: int = 8_192
    """Path and query of one request. RFC 9110 asks for at least 8 000."""

    body_bytes_max: int = 6_553_600
    """One request's body. A 1 MiB batch whose every byte is a JSON escape is six times that."""

    buffered_bytes_max: int = 268_435_456
    """Bodies of all unanswered requests together; past it, connections are not read."""

    pipelined_max: int = 16
    """Requests read ahead on one connection while an earlier one is still unanswered."""

    idle_timeout_s: float = 75.0
    """Between two requests of a connection. Longer than the 60 s that load balancers keep one."""

    read_timeout_s: float = 15.0
    """From the first byte of a request's head or body to its last: an answer to slowloris."""

    write_timeout_s: float = 30.0
    """For a client to take the answer it asked for, once its socket is full."""

    half_closed_grace_s: float = 1.0
    """For a request whose client has shut down its sending side to be answered.

    That looks the same as a client that has gone, and a message received for one that has
    gone is hidden until its visibility timeout: so long enough for a send, not for a long poll.
    """

    shutdown_grace_s: float = 10.0
    """For requests in progress to be answered after a stop has been asked for."""


@dataclass(frozen=True, kw_only=True)
class AuthSettings:
    """Whom the FrontEnd believes."""

    enabled: bool = True
    """False believes everybody: for development on loopback only."""

    clock_skew_max_s: int = 300
    """How far a signature's date may be from this clock. AWS allows five minutes for SQS."""

    signers_max: int = 4_096
    """Derived keys kept, one for each access key, day, region and set of signed headers; about 1 KB each."""


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """How queues are named to clients, and what one caller may ask for."""

    account: str = "000000000000"
    """Twelve digits: the owner in queue URLs and ARNs."""

    region: str = "us-east-1"
    """The region in ARNs. Requests signed for another region are served as well."""

    public_url: str | None = None
    """Scheme and host for queue URLs; without it, those that the client itself used."""

    purge_interval_s: int = PURGE_INTERVAL_S
    """Least time between two purges of a queue (AWS: 60 s)."""

    partitions: int = 1
    """Parts of a new standard queue whose tags do not say, each in a shard of its own; never more than there
    are shards. One keeps the limits of a queue, and its order as far as it has one, as they are on AWS."""

    name_reuse_s: int = QUEUE_DELETED_WAIT_S
    """How long the name of a deleted queue stays taken (AWS: 60 s); 0 frees it at once, for tests."""
