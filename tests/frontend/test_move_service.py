"""Which moves are refused, how a task is named, and what is told of it."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from tests.frontend.app_driver import ACCOUNT, START_MS, AppDriver, Refused
from tests.frontend.signing import authenticator, signed
from tests.log.asynchrony import until
from waystation.metadata.store import MetadataUnavailable

REGION = "us-east-1"
INVALID = "400 InvalidParameterValueException:"
NOT_FOUND = "404 ResourceNotFoundException:"
NOT_THERE = f"{NOT_FOUND} The resource that you specified for the {{}} parameter doesn't exist."
FORMAT = (
    f"{INVALID} You must use this format to specify the {{}}: "
    "arn:<partition>:<service>:<region>:<account-id>:<resource-id>"
)


@pytest.fixture
def app() -> Iterator[AppDriver]:
    """A dead-letter queue "letters" of "orders", and another queue."""
    with AppDriver() as driver:
        create_queues(driver)
        yield driver


def create_queues(app: AppDriver) -> None:
    app.create_queue("letters")
    policy = json.dumps({"deadLetterTargetArn": arn("letters"), "maxReceiveCount": 1})
    app.create_queue("orders", RedrivePolicy=policy)
    app.create_queue("other")


def arn(name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"


def start(app: AppDriver, source: str = "letters", **members: Any) -> str:
    handle: str = app.call("StartMessageMoveTask", SourceArn=arn(source), **members)["TaskHandle"]
    return handle


def tasks(app: AppDriver, count: int = 10) -> list[dict[str, Any]]:
    answer = app.call("ListMessageMoveTasks", SourceArn=arn("letters"), MaxResults=count)
    listed: list[dict[str, Any]] = answer.get("Results", [])
    return listed


def ended(app: AppDriver) -> dict[str, Any]:
    """The newest task once it has ended."""
    queue = app.catalogue.find(ACCOUNT, "letters")
    assert queue is not None
    while tasks(app, 1)[0]["Status"] in ("RUNNING", "CANCELLING"):
        app.run(asyncio.sleep(0.01))
    return tasks(app, 1)[0]


def send(app: AppDriver, queue: str = "letters", count: int = 1) -> None:
    for _ in range(count):
        app.call("SendMessage", QueueUrl=queue, MessageBody="poison")


# Refusals


def refusal(app: AppDriver, operation: str = "StartMessageMoveTask", **members: Any) -> str:
    before = app.picture()
    with pytest.raises(Refused) as refused:
        app.call(operation, **members)
    assert app.picture() == before
    return str(refused.value)


@pytest.mark.parametrize(
    "text", ["letters", "arn:aws:sqs", "arn:aws:sqs:us-east-1:0: letters", "arn:::::x", "x" * 9_999]
)
def test_what_is_no_arn_is_refused_with_the_format_of_one(app: AppDriver, text: str) -> None:
    assert refusal(app, SourceArn=text) == FORMAT.format("SourceArn")
    assert refusal(app, "ListMessageMoveTasks", SourceArn=text) == FORMAT.format("SourceArn")
    destination = refusal(app, SourceArn=arn("letters"), DestinationArn=text)
    assert destination == FORMAT.format("DestinationArn")


@pytest.mark.parametrize(
    "text",
    [
        arn("nobody"),
        arn("letters").replace(REGION, "eu-west-1"),
        arn("letters").replace(ACCOUNT, "999999999999"),
        arn("letters").replace(":sqs:", ":sns:"),
        arn("letters") + ".fifo",
        arn("letters") + "/x",
    ],
)
def test_an_arn_of_no_queue_of_the_caller_is_not_found(app: AppDriver, text: str) -> None:
    assert refusal(app, SourceArn=text) == NOT_THERE.format("SourceArn")
    assert refusal(app, "ListMessageMoveTasks", SourceArn=text) == NOT_THERE.format("SourceArn")
    expected = NOT_THERE.format("DestinationArn")
    assert refusal(app, SourceArn=arn("letters"), DestinationArn=text) == expected


def test_a_queue_of_another_account_is_not_found(app: AppDriver) -> None:
    strict = app.app_for(authenticator())
    for operation in ("StartMessageMoveTask", "ListMessageMoveTasks"):
        body = json.dumps({"SourceArn": arn("letters")}).encode()
        request = signed(headers={"X-Amz-Target": f"AmazonSQS.{operation}"}, body=body)
        assert app.run(strict.handle(request)).status == 404

    send(app)
    body = json.dumps({"TaskHandle": start(app)}).encode()
    request = signed(headers={"X-Amz-Target": "AmazonSQS.CancelMessageMoveTask"}, body=body)
    assert app.run(strict.handle(request)).status == 404


def test_only_dead_letter_queues_are_sources(app: AppDriver) -> None:
    text = f"{INVALID} Source queue must be configured as a Dead Letter Queue."
    assert refusal(app, SourceArn=arn("orders")) == text

    app.call("SetQueueAttributes", QueueUrl="orders", Attributes={"RedrivePolicy": ""})
    assert refusal(app, SourceArn=arn("letters")) == text


def test_a_queue_is_not_moved_to_itself(app: AppDriver) -> None:
    assert refusal(app, SourceArn=arn("letters"), DestinationArn=arn("letters")) == (
        f"{INVALID} The source and the destination of a message move task must differ."
    )


@pytest.mark.parametrize("rate", [0, 501, -1, 2**31 - 1])
def test_a_rate_is_from_1_to_500(app: AppDriver, rate: int) -> None:
    assert refusal(app, SourceArn=arn("letters"), MaxNumberOfMessagesPerSecond=rate) == (
        f"{INVALID} Value {rate} for parameter MaxNumberOfMessagesPerSecond is "
        "invalid. Reason: Must be between 1 and 500, if provided."
    )


@pytest.mark.parametrize("count", [0, 11, -1])
def test_at_most_ten_tasks_are_listed(app: AppDriver, count: int) -> None:
    assert refusal(app, "ListMessageMoveTasks", SourceArn=arn("letters"), MaxResults=count) == (
        f"{INVALID} Value {count} for parameter MaxResults is "
        "invalid. Reason: Must be between 1 and 10, if provided."
    )


def test_a_destination_is_of_the_same_type_as_its_source(app: AppDriver) -> None:
    app.create_queue("other.fifo", FifoQueue="true")

    assert refusal(app, SourceArn=arn("letters"), DestinationArn=arn("other.fifo")) == (
        f"{INVALID} The destination of a message move task must be the same type of queue as its source."
    )


def test_a_source_has_one_task_at_a_time(app: AppDriver) -> None:
    send(app, count=3)
    start(app, DestinationArn=arn("other"), MaxNumberOfMessagesPerSecond=1)

    with pytest.raises(Refused) as refused:
        start(app)
    assert str(refused.value) == (
        f"{INVALID} There is already a task running. Only one active task is allowed for a source queue arn "
        "at a given time."
    )


# Handles


def encoded(document: Any) -> str:
    return b64encode(json.dumps(document).encode()).decode()


def test_a_handle_is_the_task_and_its_source_in_base64(app: AppDriver) -> None:
    send(app)
    handle = json.loads(b64decode(start(app, MaxNumberOfMessagesPerSecond=1)))

    assert set(handle) == {"taskId", "sourceArn"}
    assert handle["sourceArn"] == arn("letters")
    assert str(UUID(handle["taskId"])) == handle["taskId"]


@pytest.mark.parametrize(
    "handle",
    [
        "garbage",
        "ü",
        "x" * 100_000,
        b64encode(b"[" * 700).decode(),
        encoded([]),
        encoded({"taskId": "1"}),
        encoded({"taskId": 1, "sourceArn": arn("letters")}),
        encoded({"taskId": "1", "sourceArn": "letters"}),
        encoded({"taskId": "1", "sourceArn": arn("letters")})[:-4] + "!!!!",
    ],
)
def test_what_is_no_handle_is_invalid(app: AppDriver, handle: str) -> None:
    assert refusal(app, "CancelMessageMoveTask", TaskHandle=handle) == (
        f"{INVALID} Value for parameter TaskHandle is invalid."
    )


def test_a_task_that_never_was_does_not_exist(app: AppDriver) -> None:
    handle = encoded({"taskId": "00000000-0000-4000-8000-000000000000", "sourceArn": arn("letters")})
    assert refusal(app, "CancelMessageMoveTask", TaskHandle=handle) == (f"{NOT_FOUND} Task does not exist.")
    handle = encoded({"taskId": "1", "sourceArn": arn("nobody")})
    assert refusal(app, "CancelMessageMoveTask", TaskHandle=handle) == NOT_THERE.format("SourceArn")


def test_a_handle_names_a_task_of_its_own_source_only(app: AppDriver) -> None:
    send(app, count=3)
    handle = start(app, DestinationArn=arn("other"), MaxNumberOfMessagesPerSecond=1)
    task_id = json.loads(b64decode(handle))["taskId"]
    other = encoded({"taskId": task_id, "sourceArn": arn("other")})
    with pytest.raises(Refused, match=r"404 .*: Task does not exist\."):
        app.call("CancelMessageMoveTask", TaskHandle=other)

    app.call("CancelMessageMoveTask", TaskHandle=handle)


def test_a_task_that_has_ended_is_not_cancelled(app: AppDriver) -> None:
    handle = start(app)
    ended(app)

    assert refusal(app, "CancelMessageMoveTask", TaskHandle=handle) == (
        f"{NOT_FOUND} Only active tasks can be cancelled."
    )


def test_a_task_is_cancelled_for_good_even_if_it_has_just_ended_otherwise_and_that_is_not_saved_yet(
    app: AppDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(app)
    handle = start(app, DestinationArn=arn("other"))
    queue = app.catalogue.find(ACCOUNT, "letters")
    assert queue is not None

    async def not_now(*_: object) -> None:
        raise MetadataUnavailable("refused by the test")

    app.run(until(lambda: app.runner.move_of(queue) is not None))
    move = app.runner.move_of(queue)
    assert move is not None
    with monkeypatch.context() as patched:
        patched.setattr(app.tasks, "save", not_now)
        app.run(until(lambda: not move.task.is_active))
        app.call("CancelMessageMoveTask", TaskHandle=handle)
    assert ended(app)["Status"] == "CANCELLED"


# What is told


def test_a_source_that_was_never_moved_has_no_tasks(app: AppDriver) -> None:
    assert app.call("ListMessageMoveTasks", SourceArn=arn("letters")) == {}


def test_a_running_task_is_shown_with_its_handle_and_all_that_was_asked_for(app: AppDriver) -> None:
    send(app, count=5)
    app.advance(seconds=3)
    handle = start(app, DestinationArn=arn("other"), MaxNumberOfMessagesPerSecond=1)

    [task] = tasks(app)
    moved = task.pop("ApproximateNumberOfMessagesMoved")
    assert moved <= 1
    assert task == {
        "TaskHandle": handle,
        "Status": "RUNNING",
        "SourceArn": arn("letters"),
        "DestinationArn": arn("other"),
        "MaxNumberOfMessagesPerSecond": 1,
        "ApproximateNumberOfMessagesToMove": 5,
        "StartedTimestamp": START_MS + 3_000,
    }


def test_a_task_that_has_ended_has_no_handle_and_what_was_not_asked_for_is_not_shown(app: AppDriver) -> None:
    start(app)

    assert ended(app) == {
        "Status": "COMPLETED",
        "SourceArn": arn("letters"),
        "ApproximateNumberOfMessagesMoved": 0,
        "ApproximateNumberOfMessagesToMove": 0,
        "StartedTimestamp": START_MS,
    }


def test_a_task_that_has_failed_says_why(app: AppDriver) -> None:
    send(app)
    start(app)

    task = ended(app)
    assert (task["Status"], task["FailureReason"]) == ("FAILED", "CouldNotDetermineMessageSource")
    assert "TaskHandle" not in task


def test_a_cancelled_task_answers_how_far_it_was(app: AppDriver) -> None:
    send(app, count=5)
    handle = start(app, DestinationArn=arn("other"), MaxNumberOfMessagesPerSecond=1)
    answer = app.call("CancelMessageMoveTask", TaskHandle=handle)
    assert answer["ApproximateNumberOfMessagesMoved"] <= 1
    assert "TaskHandle" not in tasks(app)[0]

    task = ended(app)
    assert task["Status"] == "CANCELLED"
    assert task["ApproximateNumberOfMessagesMoved"] <= 1


def test_a_task_may_be_cancelled_again_while_something_is_on_its_way() -> None:
    with AppDriver(carries=False) as app:
        create_queues(app)
        send(app, count=5)
        handle = start(app, DestinationArn=arn("other"), MaxNumberOfMessagesPerSecond=1)
        letters = app.catalogue.find(ACCOUNT, "letters")
        assert letters is not None
        queue = app.backend.shards[letters.shard].state.queues[letters.number]
        app.run(until(lambda: len(queue.aside) > 0))
        for _ in range(2):
            answer = app.call("CancelMessageMoveTask", TaskHandle=handle)
            assert answer == {"ApproximateNumberOfMessagesMoved": 0}
            assert tasks(app)[0]["Status"] == "CANCELLING"
            assert "TaskHandle" not in tasks(app)[0]


def test_the_tasks_of_a_queue_that_is_gone_are_forgotten_when_another_begins(app: AppDriver) -> None:
    policy = json.dumps({"deadLetterTargetArn": arn("other"), "maxReceiveCount": 1})
    app.create_queue("bills", RedrivePolicy=policy)
    start(app)
    ended(app)
    app.call("DeleteQueue", QueueUrl="letters")
    assert len(app.run(app.tasks.of(ACCOUNT, "letters"))) == 1
    start(app, "other")

    assert app.run(app.tasks.of(ACCOUNT, "letters")) == []
    assert len(app.run(app.tasks.of(ACCOUNT, "other"))) == 1


def test_the_newest_task_comes_first_and_is_the_only_one_unless_more_are_asked_for(app: AppDriver) -> None:
    for _ in range(11):
        start(app)
        ended(app)
        app.advance(seconds=1)

    started = [task["StartedTimestamp"] for task in tasks(app)]
    assert started == [START_MS + second * 1_000 for second in range(10, 0, -1)]
    [newest] = app.call("ListMessageMoveTasks", SourceArn=arn("letters"))["Results"]
    assert newest["StartedTimestamp"] == started[0]
    assert len(tasks(app, 3)) == 3
