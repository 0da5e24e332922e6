"""Which node serves which shard, and the calls between nodes."""
