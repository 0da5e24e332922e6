"""The tags of a queue: names and values that mean something to their owner alone.

Source: SQS Developer Guide, "Amazon SQS standard queue quotas" and "cost allocation
tags". The text about too many tags is AWS's, the other reasons are ours.
"""

from __future__ import annotations

import re

import msgspec

from waystation.frontend.calls import Call, change_queue, find_queue
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.queues import QueueRecord
from waystation.protocol import limits, operations
from waystation.protocol.errors import InvalidParameterValue

_TEXT = re.compile(r"[\w.:/=+@\- \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000-]*\Z")
"""Letters, digits and separators of any script, and the signs that all of AWS allows in tags."""
_RESERVED_PREFIX = "aws:"


class TagService:
    """Handlers of the operations on tags. Errors are those that the API Reference lists for each."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    async def tag_queue(self, call: Call, request: operations.TagQueueRequest) -> None:
        queue = find_queue(self._catalogue, call, request.queue_url)
        given = request.tags or {}
        check_tags(queue.record.name, given)

        def change(record: QueueRecord) -> QueueRecord:
            tags = {**record.tags, **given}
            # What others add meanwhile counts: so once more, on what it would come to.
            check_tags(record.name, tags)
            return msgspec.structs.replace(record, tags=tags)

        await change_queue(self._catalogue, queue, change)

    async def untag_queue(self, call: Call, request: operations.UntagQueueRequest) -> None:
        queue = find_queue(self._catalogue, call, request.queue_url)
        gone = frozenset(request.tag_keys or ())

        def change(record: QueueRecord) -> QueueRecord:
            tags = {key: value for key, value in record.tags.items() if key not in gone}
            return msgspec.structs.replace(record, tags=tags)

        await change_queue(self._catalogue, queue, change)

    async def list_queue_tags(
        self, call: Call, request: operations.ListQueueTagsRequest
    ) -> operations.ListQueueTagsResult:
        queue = find_queue(self._catalogue, call, request.queue_url)
        return operations.ListQueueTagsResult(tags=queue.record.tags)


def check_tags(queue_name: str, tags: dict[str, str]) -> None:
    """Validate all tags that a queue would have, or those that a client wants to add.

    Raises:
        InvalidParameterValue: there are too many, or a key or a value cannot be.
    """
    if len(tags) > limits.TAGS_MAX:
        raise InvalidParameterValue(f"Too many tags added for queue {queue_name}.")
    for key, value in tags.items():
        if not 1 <= len(key) <= limits.TAG_KEY_LENGTH_MAX:
            raise InvalidParameterValue(
                f"Tag keys must be between 1 and {limits.TAG_KEY_LENGTH_MAX} characters in length."
            )
        if len(value) > limits.TAG_VALUE_LENGTH_MAX:
            raise InvalidParameterValue(
                f"Tag values must be at most {limits.TAG_VALUE_LENGTH_MAX} characters in length."
            )
        if not (_TEXT.match(key) and _TEXT.match(value)):
            raise InvalidParameterValue(
                "Tag keys and values can only include letters, digits, spaces, and any of _ . : / = + - @"
            )
        if key.lower().startswith(_RESERVED_PREFIX):
            raise InvalidParameterValue(f"Tag keys that start with {_RESERVED_PREFIX} are reserved.")
