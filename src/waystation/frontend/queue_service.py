"""The operations on queues: create, find, list, configure, purge, delete.

A queue exists once the catalogue has it. Its shard hears of it before that, and
of its end after: whatever a crash leaves in between, no client can have seen,
and `reconcile` clears it up at the next start.
"""

from __future__ import annotations

import logging
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from contextlib import suppress

import msgspec

from waystation.backend.backend import Backend
from waystation.frontend import queue_attributes
from waystation.frontend.calls import Call, find_queue, queue_url
from waystation.frontend.message_rules import check_range
from waystation.frontend.settings import ServiceSettings
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.queues import Queue, QueueRecord, shard_settings
from waystation.metadata.store import Conflict
from waystation.protocol import limits, operations
from waystation.protocol.errors import (
    InvalidAttributeName,
    InvalidParameterValue,
    QueueDoesNotExist,
    QueueNameExists,
)
from waystation.queues import commands

_logger = logging.getLogger(__name__)


class QueueService:
    """Handlers of the operations on queues. Errors are those that the API Reference lists for each."""

    def __init__(
        self,
        settings: ServiceSettings,
        catalogue: Catalogue,
        backend: Backend,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._backend = backend
        self._clock = clock

    async def create_queue(
        self, call: Call, request: operations.CreateQueueRequest
    ) -> operations.CreateQueueResult:
        name = request.queue_name or ""
        attributes = queue_attributes.check_attributes(request.attributes or {})
        if not limits.QUEUE_NAME_PATTERN.match(name):
            raise InvalidParameterValue(
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
            )
        tags = _check_tags(request.tags or {})
        queue = self._catalogue.find(call.caller.account, name)
        if queue is None:
            queue = await self._create(call.caller.account, name, attributes, tags)
        difference = queue_attributes.first_difference(queue.record.attributes, attributes)
        if difference is not None:
            raise QueueNameExists(difference)
        return operations.CreateQueueResult(queue_url=queue_url(call, queue))

    async def _create(
        self, account: str, name: str, attributes: dict[str, str], tags: dict[str, str]
    ) -> Queue:
        """Create the queue, or find the one that somebody else has just created."""
        shard = self._backend.place(name)
        now_s = int(self._clock())
        record = QueueRecord(
            name, account, now_s, now_s, shard, 0, queue_attributes.merge_attributes({}, attributes), tags
        )
        made = await self._backend.submit(shard, commands.CreateQueue(shard_settings(record, 0)))
        assert isinstance(made, commands.QueueId)
        try:
            return await self._catalogue.create(msgspec.structs.replace(record, number=made.queue))
        except Conflict:
            await self._backend.submit(shard, commands.DeleteQueue(made.queue))
            queue = self._catalogue.find(account, name)
            if queue is None:
                raise QueueDoesNotExist from None  # created and deleted again meanwhile
            return queue

    async def get_queue_url(
        self, call: Call, request: operations.GetQueueUrlRequest
    ) -> operations.GetQueueUrlResult:
        owner = request.queue_owner_aws_account_id or call.caller.account
        queue = self._catalogue.find(owner, request.queue_name or "")
        if queue is None or owner != call.caller.account:
            raise QueueDoesNotExist
        return operations.GetQueueUrlResult(queue_url=queue_url(call, queue))

    async def list_queues(
        self, call: Call, request: operations.ListQueuesRequest
    ) -> operations.ListQueuesResult:
        check_range(request.max_results, "MaxResults", limits.LIST_RESULTS_MIN, limits.LIST_RESULTS_MAX)
        limit = request.max_results or limits.LIST_RESULTS_MAX
        after = _read_token(request.next_token)
        prefix = request.queue_name_prefix or ""
        names = self._catalogue.names(call.caller.account, prefix, after, limit + 1)
        more = len(names) > limit and request.max_results is not None
        names = names[:limit]
        return operations.ListQueuesResult(
            queue_urls=[f"{call.base_url}/{call.caller.account}/{name}" for name in names],
            next_token=urlsafe_b64encode(names[-1].encode()).decode() if more else None,
        )

    async def delete_queue(self, call: Call, request: operations.DeleteQueueRequest) -> None:
        queue = find_queue(self._catalogue, call, request.queue_url)
        if not await self._catalogue.delete(queue):
            raise QueueDoesNotExist
        await self._backend.submit(queue.shard, commands.DeleteQueue(queue.number))

    async def purge_queue(self, call: Call, request: operations.PurgeQueueRequest) -> None:
        queue = find_queue(self._catalogue, call, request.queue_url)
        interval_ms = self._settings.purge_interval_s * 1_000
        await self._backend.submit(queue.shard, commands.PurgeQueue(queue.number, interval_ms))

    async def get_queue_attributes(
        self, call: Call, request: operations.GetQueueAttributesRequest
    ) -> operations.GetQueueAttributesResult:
        queue = find_queue(self._catalogue, call, request.queue_url)
        asked = request.attribute_names or []
        for name in asked:
            if name not in queue_attributes.READABLE:
                raise InvalidAttributeName.unknown(name)
        if not asked:
            return operations.GetQueueAttributesResult()
        shown = await self._shown_attributes(queue)
        if "All" not in asked:
            shown = {name: shown[name] for name in asked if name in shown}
        return operations.GetQueueAttributesResult(attributes=shown)

    async def _shown_attributes(self, queue: Queue) -> dict[str, str]:
        counts = await self._backend.submit(queue.shard, commands.CountMessages(queue.number))
        assert isinstance(counts, commands.Counts)
        record = queue.record
        return {
            "QueueArn": f"arn:aws:sqs:{self._settings.region}:{record.account}:{record.name}",
            "ApproximateNumberOfMessages": str(counts.visible),
            "ApproximateNumberOfMessagesNotVisible": str(counts.in_flight),
            "ApproximateNumberOfMessagesDelayed": str(counts.delayed),
            "CreatedTimestamp": str(record.created_s),
            "LastModifiedTimestamp": str(record.modified_s),
            **queue_attributes.effective_attributes(record.attributes),
        }

    async def set_queue_attributes(self, call: Call, request: operations.SetQueueAttributesRequest) -> None:
        queue = find_queue(self._catalogue, call, request.queue_url)
        given = queue_attributes.check_attributes(request.attributes or {})

        def change(record: QueueRecord) -> QueueRecord:
            merged = queue_attributes.merge_attributes(record.attributes, given)
            return msgspec.structs.replace(record, attributes=merged, modified_s=int(self._clock()))

        changed = await self._catalogue.update(queue, change)
        if changed is None:
            raise QueueDoesNotExist
        await self._configure(changed)

    async def _configure(self, queue: Queue) -> None:
        await self._backend.submit(queue.shard, commands.ConfigureQueue(queue.number, queue.settings()))

    async def reconcile(self) -> None:
        """At start: make the shards' queues those of the catalogue, with the catalogue's settings."""
        known = {(queue.shard, queue.number): queue for queue in self._catalogue.queues()}
        for shard in self._backend.shards:
            for number, state in list(shard.state.queues.items()):
                queue = known.pop((shard.number, number), None)
                if queue is None:
                    await self._backend.submit(shard.number, commands.DeleteQueue(number))
                elif state.settings != msgspec.structs.replace(
                    queue.settings(), revision=state.settings.revision
                ):
                    await self._configure(queue)
        for queue in known.values():
            await self._restore(queue)

    async def _restore(self, queue: Queue) -> None:
        """Give a queue that its shard does not know a new, empty place."""
        # No crash leads here: one of the files is from another time than the other.
        _logger.error(
            "queue is missing in its shard, so its messages are lost",
            extra={"queue": queue.record.name, "shard": queue.shard},
        )
        made = await self._backend.submit(queue.shard, commands.CreateQueue(queue.settings()))
        assert isinstance(made, commands.QueueId)
        number = made.queue
        await self._catalogue.update(queue, lambda record: msgspec.structs.replace(record, number=number))


def _check_tags(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > limits.TAGS_MAX:
        raise InvalidParameterValue(f"Too many tags added for queue. Maximum is {limits.TAGS_MAX}.")
    for key, value in tags.items():
        if not 1 <= len(key) <= limits.TAG_KEY_LENGTH_MAX or len(value) > limits.TAG_VALUE_LENGTH_MAX:
            raise InvalidParameterValue(
                f"Tag keys must be between 1 and {limits.TAG_KEY_LENGTH_MAX} characters in length, and "
                f"tag values at most {limits.TAG_VALUE_LENGTH_MAX}."
            )
    return tags


def _read_token(token: str | None) -> str:
    if not token:
        return ""
    with suppress(Base64Error, ValueError):
        name = urlsafe_b64decode(token).decode("ascii")
        if limits.QUEUE_NAME_PATTERN.match(name.removesuffix(limits.FIFO_SUFFIX)):
            return name
    raise InvalidParameterValue("Invalid or expired next token.")
