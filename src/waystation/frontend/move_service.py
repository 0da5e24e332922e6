"""The operations on message move tasks: what may be moved where, and how a task is shown.

A task is written to the `MoveRegister`; the work itself is the `MoveRunner`'s in the process that has the
source's shard.

Source: SQS API Reference, StartMessageMoveTask, ListMessageMoveTasks and
CancelMessageMoveTask; recorded responses. The texts about a destination that cannot be,
about too many tasks and about one that has ended already are ours.
"""

from __future__ import annotations

import re
import time
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from uuid import uuid4

import msgspec

from waystation.frontend.arns import QueueArn
from waystation.frontend.calls import Call
from waystation.frontend.dead_letter_service import sources_of
from waystation.frontend.message_rules import check_range
from waystation.frontend.parts import Parts
from waystation.frontend.settings import ServiceSettings
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.move_register import MoveRegister
from waystation.metadata.move_tasks import MoveStatus, MoveTask
from waystation.metadata.queues import Queue
from waystation.protocol import limits, operations
from waystation.protocol.errors import InvalidParameterValue, ResourceNotFoundException

_ARN_FORMAT = "arn:<partition>:<service>:<region>:<account-id>:<resource-id>"
_ARN = re.compile(r"arn:[^:\s]+:[^:\s]+:[^:\s]*:[^:\s]*:\S+\Z")
"""Any ARN: one of something else than a queue is well-formed, and names no queue."""

_HANDLE_LENGTH_MAX = 1_024
"""Characters: some four times as many as a handle has."""


class MoveService:
    """Handlers of the operations on move tasks."""

    def __init__(
        self,
        settings: ServiceSettings,
        catalogue: Catalogue,
        parts: Parts,
        register: MoveRegister,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._parts = parts
        self._register = register
        self._clock = clock

    async def start_message_move_task(
        self, call: Call, request: operations.StartMessageMoveTaskRequest
    ) -> operations.StartMessageMoveTaskResult:
        rate_max = request.max_number_of_messages_per_second
        check_range(rate_max, "MaxNumberOfMessagesPerSecond", 1, limits.MOVE_RATE_MAX)
        source = self._find(call, request.source_arn or "", "SourceArn")
        arn = self._arn(source)
        if next(sources_of(self._catalogue, arn), None) is None:
            raise InvalidParameterValue("Source queue must be configured as a Dead Letter Queue.")
        destination = ""
        if request.destination_arn:
            target = self._arn(self._find(call, request.destination_arn, "DestinationArn"))
            _check_destination(arn, target)
            destination = str(target)
        counts = await self._parts.count(source)
        task = MoveTask(
            str(uuid4()),
            arn.account,
            arn.name,
            source.shard,
            source.number,
            int(self._clock() * 1_000),
            counts.visible,
            destination,
            rate_max,
            ahead=source.places[1:],
        )
        await self._register.sweep(lambda account, name: self._catalogue.find(account, name) is not None)
        await self._register.begin(task)
        return operations.StartMessageMoveTaskResult(task_handle=_handle(task.id, arn))

    async def list_message_move_tasks(
        self, call: Call, request: operations.ListMessageMoveTasksRequest
    ) -> operations.ListMessageMoveTasksResult:
        check_range(
            request.max_results, "MaxResults", limits.MOVE_TASK_RESULTS_MIN, limits.MOVE_TASK_RESULTS_MAX
        )
        source = self._find(call, request.source_arn or "", "SourceArn")
        length_max = request.max_results or limits.MOVE_TASK_RESULTS_DEFAULT
        tasks = await self._register.of(source.record.account, source.record.name)
        return operations.ListMessageMoveTasksResult(
            results=[_show(task, self._arn(source)) for task in tasks[:length_max]]
        )

    async def cancel_message_move_task(
        self, call: Call, request: operations.CancelMessageMoveTaskRequest
    ) -> operations.CancelMessageMoveTaskResult:
        task_id, arn = _read_handle(request.task_handle or "")
        source = self._find(call, arn, "SourceArn")
        tasks = await self._register.of(source.record.account, source.record.name)
        task = next((each for each in tasks if each.id == task_id), None)
        if task is None:
            raise ResourceNotFoundException("Task does not exist.")
        cancelled = await self._register.cancel(task)
        if cancelled is None:
            raise ResourceNotFoundException("Only active tasks can be cancelled.")
        return operations.CancelMessageMoveTaskResult(approximate_number_of_messages_moved=cancelled.moved)

    def _arn(self, queue: Queue) -> QueueArn:
        return QueueArn(self._settings.region, queue.record.account, queue.record.name)

    def _find(self, call: Call, text: str, parameter: str) -> Queue:
        """The caller's queue of an ARN.

        Raises:
            InvalidParameterValue: it is no ARN.
            ResourceNotFoundException: it is none of a queue, or there is no such queue.
        """
        if not _ARN.match(text):
            raise InvalidParameterValue(f"You must use this format to specify the {parameter}: {_ARN_FORMAT}")
        arn = QueueArn.parse(text)
        queue = None if arn is None else self._catalogue.find(arn.account, arn.name)
        if queue is None or arn != self._arn(queue) or queue.record.account != call.caller.account:
            raise ResourceNotFoundException(
                f"The resource that you specified for the {parameter} parameter doesn't exist."
            )
        return queue


def _check_destination(source: QueueArn, destination: QueueArn) -> None:
    if destination == source:
        raise InvalidParameterValue("The source and the destination of a message move task must differ.")
    if destination.is_fifo != source.is_fifo:
        raise InvalidParameterValue(
            "The destination of a message move task must be the same type of queue as its source."
        )


def _show(task: MoveTask, source: QueueArn) -> operations.ListMessageMoveTasksResultEntry:
    is_running = task.status is MoveStatus.RUNNING
    return operations.ListMessageMoveTasksResultEntry(
        status=task.status.value,
        source_arn=str(source),
        started_timestamp=task.started_ms,
        approximate_number_of_messages_moved=task.moved,
        approximate_number_of_messages_to_move=task.to_move,
        task_handle=_handle(task.id, source) if is_running else None,
        destination_arn=task.destination or None,
        max_number_of_messages_per_second=task.rate_max,
        failure_reason=task.failure or None,
    )


class _TaskHandle(msgspec.Struct):
    """What a task handle says, in base64. It proves nothing: the caller has to own the queue anyway."""

    task_id: str = msgspec.field(name="taskId")
    source_arn: str = msgspec.field(name="sourceArn")


def _handle(task_id: str, source: QueueArn) -> str:
    return b2a_base64(msgspec.json.encode(_TaskHandle(task_id, str(source))), newline=False).decode()


def _read_handle(text: str) -> tuple[str, str]:
    """The task's id and the ARN of its source. Raises `InvalidParameterValue` for what is no handle."""
    try:
        data = a2b_base64(text, strict_mode=True) if len(text) <= _HANDLE_LENGTH_MAX else b""
        handle = msgspec.json.decode(data, type=_TaskHandle)
    except (Base64Error, ValueError, msgspec.MsgspecError, RecursionError):
        handle = _TaskHandle("", "")
    if QueueArn.parse(handle.source_arn) is None:
        raise InvalidParameterValue("Value for parameter TaskHandle is invalid.")
    return handle.task_id, handle.source_arn
