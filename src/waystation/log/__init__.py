"""The append-only log of one shard: record format, memory and SQLite logs, snapshots."""
