"""AddPermission and RemovePermission: single permissions in the `Policy` attribute of a queue."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from waystation.frontend import policies
from waystation.frontend.arns import QueueArn
from waystation.frontend.calls import Call, change_queue, find_queue
from waystation.frontend.settings import ServiceSettings
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.queues import Queue, QueueRecord
from waystation.protocol import operations


class PermissionService:
    """Handlers of the operations on permissions. Errors are those that the API Reference lists for each."""

    def __init__(
        self, settings: ServiceSettings, catalogue: Catalogue, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._clock = clock

    async def add_permission(self, call: Call, request: operations.AddPermissionRequest) -> None:
        queue = find_queue(self._catalogue, call, request.queue_url)
        label, accounts = request.label or "", request.aws_account_ids or []
        actions = request.actions or []
        policies.check_permission(label, accounts, actions)
        arn = QueueArn(self._settings.region, queue.record.account, queue.record.name)
        await self._change_policy(
            queue, lambda policy: policies.add_permission(policy, arn, label, accounts, actions)
        )

    async def remove_permission(self, call: Call, request: operations.RemovePermissionRequest) -> None:
        queue = find_queue(self._catalogue, call, request.queue_url)
        label = request.label or ""
        await self._change_policy(queue, lambda policy: policies.remove_permission(policy, label))

    async def _change_policy(self, queue: Queue, change_text: Callable[[str], str]) -> None:
        """Replace a queue's policy by what the function makes of it; empty is none, in and out."""

        def change(record: QueueRecord) -> QueueRecord:
            attributes = dict(record.attributes)
            policy = change_text(attributes.pop("Policy", ""))
            if policy:
                attributes["Policy"] = policy
            return msgspec.structs.replace(record, attributes=attributes, modified_s=int(self._clock()))

        await change_queue(self._catalogue, queue, change)
