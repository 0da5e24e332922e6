"""One call of an operation, and what all services of the FrontEnd share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from waystation.frontend.auth import Caller
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.queues import Queue, QueueRecord
from waystation.protocol.errors import InvalidAddress, MissingParameter, QueueDoesNotExist

_URL_LENGTH_MAX = 2_048
"""Characters: far more than scheme, host, account and name have, and few enough to be remembered."""


@dataclass(slots=True)
class Call:
    """Who calls, and how they have reached us."""

    caller: Caller
    base_url: str
    """Scheme and host for queue URLs in the answer, without a slash at the end."""
    trace_header: str
    """The request's `X-Amzn-Trace-Id`; empty if there is none."""


def queue_url(call: Call, queue: Queue) -> str:
    """The URL by which the caller can reach a queue."""
    return f"{call.base_url}/{queue.record.account}/{queue.record.name}"


def find_queue(catalogue: Catalogue, call: Call, url: str | None) -> Queue:
    """The queue that a `QueueUrl` names: a URL with any host, its path, or the bare name.

    Raises:
        MissingParameter: there is no URL.
        InvalidAddress: it is neither a URL of a queue nor a name.
        QueueDoesNotExist: there is no such queue, or it is somebody else's.
    """
    if not url:
        raise MissingParameter("QueueUrl")
    if len(url) > _URL_LENGTH_MAX:
        raise InvalidAddress(f"The address {url[:80]}… is not valid for this endpoint.")
    if "/" not in url:
        account, name = call.caller.account, url
    else:
        account, name = _split(url)
    queue = catalogue.find(account, name)
    if queue is None or account != call.caller.account:
        raise QueueDoesNotExist
    return queue


async def change_queue(
    catalogue: Catalogue, queue: Queue, change: Callable[[QueueRecord], QueueRecord]
) -> Queue:
    """Change a queue's record as `Catalogue.update` does; what `change` raises changes nothing.

    Raises:
        QueueDoesNotExist: it has been deleted meanwhile.
    """
    changed = await catalogue.update(queue, change)
    if changed is None:
        raise QueueDoesNotExist
    return changed


@lru_cache(maxsize=4_096)
def _split(url: str) -> tuple[str, str]:
    """Account and name in a queue's URL. Clients send the same few again and again."""
    try:
        parts = urlsplit(url).path.split("/")
    except ValueError:
        parts = []
    if len(parts) != 3 or parts[0]:
        raise InvalidAddress(f"The address {url} is not valid for this endpoint.")
    return parts[1], parts[2]
