"""One call of an operation, and what all services of the FrontEnd share."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from waystation.frontend.auth import Caller
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.queues import Queue
from waystation.protocol.errors import InvalidAddress, MissingParameter, QueueDoesNotExist


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
    if "/" not in url:
        account, name = call.caller.account, url
    else:
        try:
            parts = urlsplit(url).path.split("/")
        except ValueError:
            parts = []
        if len(parts) != 3 or parts[0]:
            raise InvalidAddress(f"The address {url} is not valid for this endpoint.")
        _, account, name = parts
    queue = catalogue.find(account, name)
    if queue is None or account != call.caller.account:
        raise QueueDoesNotExist
    return queue
