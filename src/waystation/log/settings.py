"""Settings of the storage engines: SQLite on this machine, or NATS servers on several."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """How the SQLite log trades file size against work."""

    checkpoint_bytes: int = 1_048_576
    """Appended bytes after which SQLite's write-ahead log is copied into its file and reused. Appends
    wait while the disk is busy with that: with 16 MiB, p99 at half load was 15 ms instead of 4."""

    reserve_bytes: int = 67_108_864
    """Free space on the disk that sends may not use up, so that what makes the log shorter, receives
    and deletes, still can. Enough for SQLite to write its write-ahead log and copy it into the file."""

    vacuum_bytes: int = 33_554_432
    """Free space inside the file that is kept for reuse; more is given back to the file system."""


@dataclass(frozen=True, kw_only=True)
class NatsSettings:
    """How to reach the NATS servers of a cluster."""

    servers: str = ""
    """Addresses of NATS servers, comma-separated, as in nats://a:4222,nats://b:4222: keep all queues there
    and be one node of a cluster. Without it, everything is in the data directory."""

    prefix: str = "waystation"
    """With which the names of this cluster's streams and buckets begin: several can share the servers."""

    replicas: int = 3
    """Servers that hold a copy of each stream and bucket; of three, any one may fail."""

    append_deadline_s: float = 20.0
    """For one append, or another step, to be done for certain. The servers elect a new leader in 4.4 to
    8.9 s (measured), and may have to do so twice."""

    reserve_bytes: int = 268_435_456
    """Of what the servers may store: not for sends, so that receives and deletes still can be stored."""

    unchecked: bool = False
    """Go on though the servers do not tell whether they sync each append to the disk."""

    nkey_file: Path | None = None
    """File with the seed of the node's NATS key (nkey)."""

    tls_ca: Path | None = None
    """Certificate of the authority that has signed the servers' certificates; turns TLS on."""

    tls_certificate: Path | None = None
    """Certificate that this node shows to the servers, for mutual TLS."""

    tls_key: Path | None = None
    """Private key of that certificate."""

    def tls_context(self) -> ssl.SSLContext | None:
        """For the connection; None without TLS. Raises `OSError` when a file cannot be used."""
        if self.tls_ca is None:
            return None
        context = ssl.create_default_context(cafile=self.tls_ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if self.tls_certificate is not None:
            context.load_cert_chain(self.tls_certificate, self.tls_key)
        return context
