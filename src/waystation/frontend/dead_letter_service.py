"""Dead-letter queues as the catalogue sees them: may a queue have this one, and who has it."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from waystation.frontend import redrive
from waystation.frontend.arns import QueueArn
from waystation.frontend.calls import Call, find_queue
from waystation.frontend.pages import Page
from waystation.frontend.settings import ServiceSettings
from waystation.metadata.catalogue import Catalogue
from waystation.protocol import operations


class DeadLetterService:
    """Handlers of the operations on dead-letter queues. Errors are those that the API Reference lists."""

    def __init__(self, settings: ServiceSettings, catalogue: Catalogue) -> None:
        self._settings = settings
        self._catalogue = catalogue

    async def list_dead_letter_source_queues(
        self, call: Call, request: operations.ListDeadLetterSourceQueuesRequest
    ) -> operations.ListDeadLetterSourceQueuesResult:
        page = Page.asked_for(request.max_results, request.next_token)
        queue = find_queue(self._catalogue, call, request.queue_url)
        arn = QueueArn(self._settings.region, queue.record.account, queue.record.name)
        names, token = page.cut(self._sources(arn, page))
        return operations.ListDeadLetterSourceQueuesResult(
            queue_urls=[f"{call.base_url}/{arn.account}/{name}" for name in names], next_token=token
        )

    def _sources(self, target: QueueArn, page: Page) -> list[str]:
        """Names of queues whose dead letters go to the target, from the page's start and one too many."""
        found: list[str] = []
        for name in self._catalogue.names(target.account, "", page.after, sys.maxsize):
            queue = self._catalogue.find(target.account, name)
            policy = queue.record.attributes.get("RedrivePolicy") if queue is not None else None
            if policy and redrive.parse_redrive_policy(policy).target_arn == target:
                found.append(name)
                if len(found) > page.length_max:
                    break
        return found


def check_dead_letter_target(catalogue: Catalogue, source: QueueArn, attributes: Mapping[str, str]) -> None:
    """Check the target that new attributes name, if they name one.

    Args:
        catalogue: has the target, or not.
        source: the queue that would have the attributes.
        attributes: what `queue_attributes.check_attributes` has passed.

    Raises:
        InvalidParameterValue: that queue cannot take the source's dead letters.
    """
    policy = attributes.get("RedrivePolicy")
    if policy:
        target = redrive.parse_redrive_policy(policy).target_arn
        queue = catalogue.find(target.account, target.name)
        allows = queue.record.attributes.get("RedriveAllowPolicy", "") if queue is not None else None
        redrive.check_target(policy, source, allows)
