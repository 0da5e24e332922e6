"""Dead-letter queues as the catalogue sees them: may a queue have this one, and who has it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from itertools import islice

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
        names = list(islice(sources_of(self._catalogue, arn, page.after), page.length_max + 1))
        shown, token = page.cut(names)
        return operations.ListDeadLetterSourceQueuesResult(
            queue_urls=[f"{call.base_url}/{arn.account}/{name}" for name in shown], next_token=token
        )


def sources_of(catalogue: Catalogue, target: QueueArn, after: str = "") -> Iterator[str]:
    """Names of the queues whose dead letters go to the target, sorted, past a name."""
    for name in catalogue.names(target.account, "", after, sys.maxsize):
        queue = catalogue.find(target.account, name)
        policy = queue.record.attributes.get("RedrivePolicy") if queue is not None else None
        if policy and redrive.parse_redrive_policy(policy).target_arn == target:
            yield name


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
