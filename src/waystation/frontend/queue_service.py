"""The operations on queues: create, find, list, configure, purge, delete.

A queue exists once the catalogue has it. Its shard hears of it before that, and
of its end after: whatever a crash leaves in between, no client can have seen,
and the `Reconciler` clears it up.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from waystation.backend.interface import Shards
from waystation.frontend import queue_attributes
from waystation.frontend.arns import QueueArn
from waystation.frontend.calls import Call, change_queue, find_queue, queue_url
from waystation.frontend.dead_letter_service import check_dead_letter_target
from waystation.frontend.pages import Page
from waystation.frontend.partitions import partitions_of
from waystation.frontend.parts import Parts
from waystation.frontend.settings import ServiceSettings
from waystation.frontend.tag_service import check_tags
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.queues import Queue, QueueRecord, shard_settings
from waystation.metadata.store import Conflict
from waystation.protocol import limits, operations
from waystation.protocol.errors import (
    InvalidAttributeName,
    InvalidParameterValue,
    PurgeQueueInProgress,
    QueueDeletedRecently,
    QueueDoesNotExist,
    QueueNameExists,
)
from waystation.queues import commands


class QueueService:
    """Handlers of the operations on queues. Errors are those that the API Reference lists for each."""

    def __init__(
        self,
        settings: ServiceSettings,
        catalogue: Catalogue,
        shards: Shards,
        parts: Parts,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._shards = shards
        self._parts = parts
        self._clock = clock

    async def create_queue(
        self, call: Call, request: operations.CreateQueueRequest
    ) -> operations.CreateQueueResult:
        name = request.queue_name or ""
        given = request.attributes or {}
        is_fifo = given.get("FifoQueue") == "true"
        attributes = queue_attributes.check_attributes(given, is_fifo=is_fifo)
        _check_name(name, is_fifo)
        tags = request.tags or {}
        check_tags(name, tags)
        parts = partitions_of(tags, attributes, self._settings.partitions, self._shards.count)
        account = call.caller.account
        queue = self._catalogue.find(account, name)
        if queue is None:
            self._check_reuse(account, name)
            check_dead_letter_target(self._catalogue, self._arn(account, name), attributes)
            queue = await self._create(account, name, attributes, tags, parts)
        difference = queue_attributes.first_difference(queue.record.attributes, attributes)
        if difference is not None:
            raise QueueNameExists(difference)
        return operations.CreateQueueResult(queue_url=queue_url(call, queue))

    async def _create(
        self, account: str, name: str, attributes: dict[str, str], tags: dict[str, str], parts: int
    ) -> Queue:
        """Create the queue, or find the one that somebody else has just created."""
        first = self._shards.place(name)
        shards = [(first + part) % self._shards.count for part in range(parts)]
        now_s = int(self._clock())
        merged = queue_attributes.merge_attributes({}, attributes)
        record = QueueRecord(name, account, now_s, now_s, first, 0, merged, tags)
        if "DeduplicationScope" in merged:
            record = msgspec.structs.replace(record, deduplication_scope=merged["DeduplicationScope"])
        made = await self._parts.create(shards, shard_settings(record, 0))
        record = msgspec.structs.replace(record, number=made[0].number, parts=tuple(made[1:]))
        try:
            return await self._catalogue.create(record)
        except Conflict:
            await self._parts.drop(made)
            queue = self._catalogue.find(account, name)
            if queue is None:  # created and deleted again meanwhile
                self._check_reuse(account, name)
                raise QueueDoesNotExist from None
            return queue

    def _check_reuse(self, account: str, name: str) -> None:
        deleted_ms = self._catalogue.deleted_ms(account, name)
        # In both directions: after a clock was set back, nobody should wait until it has caught up.
        if abs(self._now_ms() - deleted_ms) < self._settings.name_reuse_s * 1_000:
            raise QueueDeletedRecently(self._settings.name_reuse_s)

    def _now_ms(self) -> int:
        return int(self._clock() * 1_000)

    def _arn(self, account: str, name: str) -> QueueArn:
        return QueueArn(self._settings.region, account, name)

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
        page = Page.asked_for(request.max_results, request.next_token)
        prefix = request.queue_name_prefix or ""
        names, token = page.cut(
            self._catalogue.names(call.caller.account, prefix, page.after, page.length_max + 1)
        )
        return operations.ListQueuesResult(
            queue_urls=[f"{call.base_url}/{call.caller.account}/{name}" for name in names], next_token=token
        )

    async def delete_queue(self, call: Call, request: operations.DeleteQueueRequest) -> None:
        queue = find_queue(self._catalogue, call, request.queue_url)
        reuse_ms, now_ms = self._settings.name_reuse_s * 1_000, self._now_ms()
        if not await self._catalogue.delete(queue, tombstone_ms=now_ms if reuse_ms else None):
            raise QueueDoesNotExist
        await self._parts.ask_all(queue, commands.DeleteQueue)
        await self._catalogue.sweep(now_ms - reuse_ms)

    async def purge_queue(self, call: Call, request: operations.PurgeQueueRequest) -> None:
        queue = find_queue(self._catalogue, call, request.queue_url)
        interval_ms = self._settings.purge_interval_s * 1_000
        answers = await self._parts.try_all(queue, lambda number: commands.PurgeQueue(number, interval_ms))
        refusals = [answer for answer in answers if isinstance(answer, Exception)]
        for refusal in refusals:
            # Parts of a purge that was half done, and is asked for again, have been purged a moment ago.
            if not isinstance(refusal, PurgeQueueInProgress) or len(refusals) == len(answers):
                raise refusal

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
        counts = await self._parts.count(queue)
        record = queue.record
        return {
            "QueueArn": str(self._arn(record.account, record.name)),
            "ApproximateNumberOfMessages": str(counts.visible),
            "ApproximateNumberOfMessagesNotVisible": str(counts.in_flight),
            "ApproximateNumberOfMessagesDelayed": str(counts.delayed),
            "CreatedTimestamp": str(record.created_s),
            "LastModifiedTimestamp": str(record.modified_s),
            **queue_attributes.effective_attributes(record.attributes),
        }

    async def set_queue_attributes(self, call: Call, request: operations.SetQueueAttributesRequest) -> None:
        queue = find_queue(self._catalogue, call, request.queue_url)
        given = queue_attributes.check_attributes(request.attributes or {}, is_fifo=queue.is_fifo)
        check_dead_letter_target(self._catalogue, self._arn(queue.record.account, queue.record.name), given)

        def change(record: QueueRecord) -> QueueRecord:
            merged = queue_attributes.merge_attributes(record.attributes, given)
            return msgspec.structs.replace(record, attributes=merged, modified_s=int(self._clock()))

        await self._configure(await change_queue(self._catalogue, queue, change))

    async def _configure(self, queue: Queue) -> None:
        settings = queue.settings()
        await self._parts.ask_all(queue, lambda number: commands.ConfigureQueue(number, settings))


def _check_name(name: str, is_fifo: bool) -> None:
    if is_fifo and not limits.FIFO_QUEUE_NAME_PATTERN.match(name):
        raise InvalidParameterValue(
            "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, "
            "must end with .fifo suffix and be 1 to 80 in length."
        )
    if not is_fifo and not limits.QUEUE_NAME_PATTERN.match(name):
        raise InvalidParameterValue(
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
        )
