"""From an HTTP request to an answer: who asks, what for, and who does it.

Every refusal becomes AWS's error here, and nowhere else. What is neither a
refusal nor unavailability is a bug: the HTTP server logs it and answers 500.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, TypeAlias

from waystation.frontend.auth import Authenticator
from waystation.frontend.calls import Call
from waystation.frontend.dead_letter_service import DeadLetterService
from waystation.frontend.http_messages import Request, Response
from waystation.frontend.message_service import MessageService
from waystation.frontend.move_service import MoveService
from waystation.frontend.permission_service import PermissionService
from waystation.frontend.queue_service import QueueService
from waystation.frontend.settings import ServiceSettings
from waystation.frontend.tag_service import TagService
from waystation.frontend.wire import Wire, wire_of
from waystation.protocol.errors import Refusal, Unavailable
from waystation.protocol.operations import Operation, Shape, require

_Service: TypeAlias = Callable[[Call, Any], Coroutine[Any, Any, Shape | None]]

HEALTH_PATH = "/health"
_HEALTHY = Response(200, b'{"status":"ok"}', "application/json")
_UNHEALTHY = Response(503, b'{"status":"unavailable"}', "application/json")


class App:
    """The handler that the HTTP server calls with each request."""

    def __init__(
        self,
        settings: ServiceSettings,
        authenticator: Authenticator,
        queues: QueueService,
        messages: MessageService,
        tags: TagService,
        permissions: PermissionService,
        dead_letters: DeadLetterService,
        moves: MoveService,
        is_healthy: Callable[[], bool],
    ) -> None:
        self._public_url = settings.public_url.rstrip("/") if settings.public_url else None
        self._authenticator = authenticator
        self._is_healthy = is_healthy
        self._request_ids = _request_ids()
        self._services: dict[str, _Service] = {
            "CreateQueue": queues.create_queue,
            "GetQueueUrl": queues.get_queue_url,
            "ListQueues": queues.list_queues,
            "DeleteQueue": queues.delete_queue,
            "PurgeQueue": queues.purge_queue,
            "GetQueueAttributes": queues.get_queue_attributes,
            "SetQueueAttributes": queues.set_queue_attributes,
            "SendMessage": messages.send_message,
            "SendMessageBatch": messages.send_message_batch,
            "ReceiveMessage": messages.receive_message,
            "DeleteMessage": messages.delete_message,
            "DeleteMessageBatch": messages.delete_message_batch,
            "ChangeMessageVisibility": messages.change_message_visibility,
            "ChangeMessageVisibilityBatch": messages.change_message_visibility_batch,
            "TagQueue": tags.tag_queue,
            "UntagQueue": tags.untag_queue,
            "ListQueueTags": tags.list_queue_tags,
            "AddPermission": permissions.add_permission,
            "RemovePermission": permissions.remove_permission,
            "ListDeadLetterSourceQueues": dead_letters.list_dead_letter_source_queues,
            "StartMessageMoveTask": moves.start_message_move_task,
            "ListMessageMoveTasks": moves.list_message_move_tasks,
            "CancelMessageMoveTask": moves.cancel_message_move_task,
        }

    async def handle(self, request: Request) -> Response:
        """Answer a request. Raises nothing but what is a bug."""
        if request.path == HEALTH_PATH and request.method in ("GET", "HEAD"):
            return _HEALTHY if self._is_healthy() else _UNHEALTHY
        request_id = self._request_ids()
        wire = wire_of(request)
        try:
            operation = wire.operation_of(request)
            result = await self._begin(request, wire, operation)
        except (Refusal, Unavailable) as error:
            return wire.refuse(error, request_id)
        return wire.answer(operation, result, request_id)

    def _begin(self, request: Request, wire: Wire, operation: Operation) -> Coroutine[Any, Any, Shape | None]:
        caller = self._authenticator.authenticate(request)
        arguments = wire.decode(operation, request)
        require(arguments)
        call = Call(caller, self._base_url(request), request.headers.get("x-amzn-trace-id", ""))
        return self._services[operation.name](call, arguments)

    def _base_url(self, request: Request) -> str:
        if self._public_url is not None:
            return self._public_url
        return f"{'https' if request.secure else 'http'}://{request.headers.get('host', '')}"


def _request_ids() -> Callable[[], str]:
    """Ids that look like UUIDs: random for the process, counted within it, and cheap."""
    random = secrets.token_hex(10)
    prefix = f"{random[:8]}-{random[8:12]}-4{random[13:16]}-8{random[17:20]}-"
    numbers = count(1)
    return lambda: f"{prefix}{next(numbers):012x}"
