"""Shards: one writer each, group commit, recovery, and the commands that FrontEnds send."""
