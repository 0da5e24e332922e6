"""Requests that are valid, nearly valid and hopeless, made from botocore's own model."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from botocore.model import Shape
from hypothesis import strategies as st

from tests.frontend.app_driver import AppDriver
from tests.protocol.service_model import OPERATION_NAMES, SERVICE

QUEUE_NAME, FIFO_NAME = "fuzzed", "fuzzed.fifo"
QUEUE_URLS = [f"http://queues.test:9324/000000000000/{name}" for name in (QUEUE_NAME, FIFO_NAME)]
HANDLE, FIFO_HANDLE, TASK = "{handle}", "{fifo-handle}", "{task}"
"""Stand for handles that are valid when the request is made: of a message in each queue, and of a move."""
_ARN = "arn:aws:sqs:us-east-1:000000000000:"
_ARNS = [_ARN + name for name in ("a", "a.fifo", QUEUE_NAME, FIFO_NAME)]
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_TEXT = st.text(max_size=20)
_ATTRIBUTE_NAMES = ["All", "DelaySeconds", "VisibilityTimeout", "QueueArn", "Policy"]
_SYSTEM_NAMES = ["All", "SenderId", "AWSTraceHeader", "SequenceNumber", "MessageGroupId"]
_GOOD_VALUES: list[dict[str, str]] = [
    {"DataType": "String.x", "StringValue": "text"},
    {"DataType": "Number", "StringValue": "-1e5"},
    {"DataType": "Binary", "BinaryValue": "AAEC"},
]

# What makes a request get past the first checks, for members of these names.
_LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "QueueUrl": st.sampled_from([*QUEUE_URLS, QUEUE_NAME, FIFO_NAME]),
    "QueueName": st.sampled_from([QUEUE_NAME, FIFO_NAME])
    | st.from_regex(r"[a-c]{1,2}(\.fifo)?", fullmatch=True),
    "QueueOwnerAWSAccountId": st.just("000000000000"),
    "QueueNamePrefix": st.sampled_from(["", "a", "fuzz"]),
    "NextToken": st.just(""),
    "Attributes": st.dictionaries(
        st.sampled_from(["DelaySeconds", "VisibilityTimeout", "ReceiveMessageWaitTimeSeconds"]),
        st.sampled_from(["0", "20", "030"]),
    )
    | st.sampled_from(
        [
            {"Policy": '{"Statement":[]}'},
            *({"RedrivePolicy": f'{{"deadLetterTargetArn":"{arn}","maxReceiveCount":1}}'} for arn in _ARNS),
            {"RedriveAllowPolicy": '{"redrivePermission":"allowAll"}'},
            {"RedriveAllowPolicy": f'{{"redrivePermission":"byQueue","sourceQueueArns":["{_ARNS[0]}"]}}'},
            {"FifoQueue": "true"},
            {"FifoQueue": "true", "ContentBasedDeduplication": "true"},
            {"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"},
            {"FifoThroughputLimit": "perMessageGroupId"},
            {"KmsMasterKeyId": "x"},
            {"SqsManagedSseEnabled": "false"},
        ]
    ),
    "AttributeNames": st.lists(st.sampled_from(_ATTRIBUTE_NAMES), max_size=3),
    "MessageSystemAttributeNames": st.lists(st.sampled_from(_SYSTEM_NAMES), max_size=3),
    "MessageAttributes": st.dictionaries(st.sampled_from(["a", "b.c", "ü"]), st.sampled_from(_GOOD_VALUES)),
    "MessageSystemAttributes": st.just({"AWSTraceHeader": {"DataType": "String", "StringValue": "x"}}),
    "ReceiptHandle": st.sampled_from([HANDLE, FIFO_HANDLE]),
    "ReceiveRequestAttemptId": st.sampled_from(["attempt", "a b"]),
    "Id": st.from_regex(r"[a-z]{2}", fullmatch=True),
    "MessageBody": st.sampled_from(["hello"] * 9 + ["x" * 1_048_576]),
    "MessageGroupId": st.just("group"),
    "MessageDeduplicationId": st.just("id"),
    "DelaySeconds": st.integers(0, 900),
    "VisibilityTimeout": st.integers(0, 43_000),
    "WaitTimeSeconds": st.integers(0, 20),
    "MaxNumberOfMessages": st.integers(1, 10),
    "MaxResults": st.integers(1, 1_000),
    "tags": st.just({"team": "blue"}),
    "Tags": st.dictionaries(st.sampled_from(["team", "cost centre", "aws:x"]), st.just("blue"), min_size=1),
    "TagKeys": st.lists(st.sampled_from(["team", "cost centre"]), min_size=1, max_size=2),
    "Label": st.sampled_from(["a", "b"]),
    "AWSAccountIds": st.lists(st.sampled_from(["111111111111", "222222222222"]), min_size=1, max_size=3),
    "SourceArn": st.sampled_from(_ARNS),
    "DestinationArn": st.sampled_from(_ARNS),
    "TaskHandle": st.just(TASK),
    "MaxNumberOfMessagesPerSecond": st.integers(1, 500),
    "Actions": st.lists(st.sampled_from(["*", "SendMessage", "Fly", "CreateQueue"]), min_size=1, max_size=8),
}


def _value(name: str, shape: Shape) -> st.SearchStrategy[Any]:
    likely, usual = _LIKELY.get(name), _of_type(name, shape)
    if likely is None:
        return usual
    return st.integers(0, 15).flatmap(lambda dice: likely if dice else usual)


def _of_type(name: str, shape: Shape) -> st.SearchStrategy[Any]:
    match shape.type_name:
        case "structure":
            needed = set(shape.required_members)
            members = {each: _value(each, member) for each, member in shape.members.items()}
            return st.fixed_dictionaries(
                {each: value for each, value in members.items() if each in needed},
                optional={each: value for each, value in members.items() if each not in needed},
            )
        case "list":
            return st.lists(_value("", shape.member), max_size=4) | st.lists(
                _value("", shape.member), max_size=11
            )
        case "map":
            return st.dictionaries(_TEXT, _value("", shape.value), max_size=4)
        case "string":
            return _TEXT
        case "integer" | "long":
            return st.integers()
        case "boolean":
            return st.booleans()
        case "blob":
            return st.binary(max_size=20).map(lambda data: b64encode(data).decode())
    raise NotImplementedError(f"the model has a new kind of shape: {shape.type_name} of {name}")


_REQUESTS = {name: _of_type(name, SERVICE.operation_model(name).input_shape) for name in OPERATION_NAMES}
"""For each operation, members as they go over the wire: of the right types, mostly."""


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """An operation, and members for it that mostly are such as the kind of its queue takes."""
    operation = draw(st.sampled_from(OPERATION_NAMES))
    members = draw(_REQUESTS[operation])
    is_fifo = members.get("QueueUrl", members.get("QueueName", "")).endswith(".fifo")
    if is_fifo and operation == "CreateQueue" and draw(st.integers(0, 3)):
        members["Attributes"] = {**members.get("Attributes", {}), "FifoQueue": "true"}
    if is_fifo and operation.startswith("SendMessage") and draw(st.integers(0, 3)):
        for message in members.get("Entries", [members]):
            message.pop("DelaySeconds", None)
            message["MessageGroupId"] = draw(st.sampled_from(["group", "other"]))
            message["MessageDeduplicationId"] = str(draw(st.integers(0, 99)))
    return operation, members


@st.composite
def mutated(draw: st.DrawFn, request: Any) -> Any:
    """The request with one value, at any depth, lost or replaced by something else."""
    if isinstance(request, dict) and request and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(request)))
        if draw(st.integers(0, 4)) == 0:
            return {each: value for each, value in request.items() if each != key}
        return request | {key: draw(mutated(request[key]))}
    if isinstance(request, list) and request and draw(st.integers(0, 3)):
        index = draw(st.integers(0, len(request) - 1))
        return [*request[:index], draw(mutated(request[index])), *request[index + 1 :]]
    return draw(_JSON)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, bytes]:
    """An operation, and a body for it: as it should be, with a wrong value, or with wrong bytes."""
    operation, members = draw(requests())
    request: Any = members
    damage = draw(st.sampled_from(["none", "none", "value", "bytes"]))
    if damage == "value":
        request = draw(mutated(request))
    body = json.dumps(request).encode()
    if damage == "bytes":
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(st.binary(max_size=3)) + body[at + draw(st.integers(0, 3)) :]
    return operation, body


@contextmanager
def still_app() -> Iterator[AppDriver]:
    """An app where nothing happens but by requests: no receive waits, and no move gets on."""
    with AppDriver(carries=False) as app:
        app.backend.drain()
        with patch.object(app.runner, "_run"):
            yield app


def prepare(app: AppDriver) -> dict[str, str]:
    """Have queues with messages and a move, whatever became of them; returns what the stand-ins stand for."""
    queue, fifo = (_queue(app, name) for name in (QUEUE_NAME, FIFO_NAME))
    app.call("SendMessage", QueueUrl=queue, MessageBody="hello", DelaySeconds=0)
    # A group and a deduplication id of its own, or an earlier message would be in its way.
    app.advance(seconds=0.001)
    name = f"prepared-{app.now_ms}"
    ids = {"MessageGroupId": name, "MessageDeduplicationId": name}
    app.call("SendMessage", QueueUrl=fifo, MessageBody="hello", **ids)
    # As if all earlier moves had ended.
    app.end_moves()
    return {
        HANDLE: _receive(app, queue, timeout_s=0),
        FIFO_HANDLE: _receive(app, fifo, timeout_s=600),
        TASK: app.call("StartMessageMoveTask", SourceArn=_ARN + QUEUE_NAME)["TaskHandle"],
    }


def _queue(app: AppDriver, name: str) -> str:
    """A queue that is the dead-letter queue of another."""
    kind = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
    url: str = app.call("CreateQueue", QueueName=name, Attributes=kind)["QueueUrl"]
    defaults = {"VisibilityTimeout": "30", "MaximumMessageSize": "1048576", "DelaySeconds": "0"}
    app.call(
        "SetQueueAttributes",
        QueueUrl=url,
        Attributes={**defaults, "RedrivePolicy": "", "RedriveAllowPolicy": ""},
    )
    redrive = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": _ARN + name, "maxReceiveCount": 9})}
    app.call("CreateQueue", QueueName=f"feeds-{name}", Attributes={**kind, **redrive})
    return url


def _receive(app: AppDriver, queue: str, timeout_s: int) -> str:
    [message] = app.call("ReceiveMessage", QueueUrl=queue, VisibilityTimeout=timeout_s)["Messages"]
    handle: str = message["ReceiptHandle"]
    return handle
