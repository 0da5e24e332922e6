"""Settings of the backend: how many shards, and what each may hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BackendSettings:
    """What bounds a shard's memory, and how often its log is made shorter."""

    shards: int = 1
    """Shards of a new data directory; an existing one keeps its number. On one disk,
    one shard groups more messages into each commit than several do."""

    record_bytes_max: int = 1_048_576
    """Envelope bytes in one log record, past which the next record is begun."""

    pending_bytes_max: int = 67_108_864
    """Envelope bytes decided and not yet durable; past it, callers are told to come back."""

    cache_bytes: int = 134_217_728
    """Envelopes kept in memory for the receives that will soon ask for them, per shard."""

    waiting_max: int = 65_536
    """Receives that may long poll at once, per shard; more of them are answered at once."""

    snapshot_events: int = 100_000
    """Messages sent, received, deleted or changed between two snapshots: some 0.2 s of replay."""

    snapshot_bytes: int = 33_554_432
    """Bytes of log between two snapshots, if that comes first."""

    idle_snapshot_s: float = 10.0
    """Between two looks for something to tidy up when there is little traffic: expired messages,
    and a snapshot when that costs little beside what has changed, so that an idle log is short."""

    garbage_bytes_max: int = 67_108_864
    """Dead bytes in the log that are always tolerated. Past this and three times the live
    bytes, live messages at the log's beginning are written again at its end."""

    retry_delay_max_s: float = 1.0
    """Between attempts to get a failed log going again; the first is made after 50 ms."""
