"""In how many parts a new queue is made: what its tag says, or else the settings of the node.

Source of all of it: ours. Amazon SQS partitions queues by itself, and tells nobody.
"""

from __future__ import annotations

from collections.abc import Mapping

from waystation.protocol.errors import InvalidParameterValue

PARTITIONS_TAG = "waystation:partitions"
PARTITIONS_MAX = 64
"""More would cost each long poll more than they bring: it waits in all of them."""


def partitions_of(tags: Mapping[str, str], attributes: Mapping[str, str], default: int, shards: int) -> int:
    """How many parts a queue with these tags and attributes gets, each in a shard of its own.

    Args:
        default: for standard queues without the tag; at most as many as there are shards.

    Raises:
        InvalidParameterValue: the tag is no number, or one that cannot be; or it is for a FIFO queue whose
            order or deduplication is not by message group, which no two shards could keep.
    """
    is_fifo = "FifoQueue" in attributes
    text = tags.get(PARTITIONS_TAG)
    if text is None:
        return 1 if is_fifo else min(default, shards)
    most = min(PARTITIONS_MAX, shards)
    if not (text.isascii() and text.isdigit() and len(text) <= 2 and 1 <= int(text) <= most):
        raise InvalidParameterValue(
            f"The tag {PARTITIONS_TAG} must be a number from 1 to {most}: a queue has at most "
            f"{PARTITIONS_MAX} partitions, each in a shard of its own, and there are {shards} shards."
        )
    if is_fifo and int(text) > 1 and not _is_by_group(attributes):
        raise InvalidParameterValue(
            f"The tag {PARTITIONS_TAG} can be more than 1 for a FIFO queue only if its DeduplicationScope is "
            "messageGroup and its FifoThroughputLimit is perMessageGroupId."
        )
    return int(text)


def _is_by_group(attributes: Mapping[str, str]) -> bool:
    return (
        attributes.get("DeduplicationScope") == "messageGroup"
        and attributes.get("FifoThroughputLimit") == "perMessageGroupId"
    )
