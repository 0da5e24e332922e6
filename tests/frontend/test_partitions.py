"""Queues of several parts as their clients and operators see them: made, listed, counted, purged, moved."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from tests.backend.virtual_time import virtual_time
from tests.frontend.app_driver import AppDriver, Refused, request_of
from tests.frontend.move_world import InstantStore
from waystation.metadata.move_register import MoveRegister
from waystation.metadata.move_tasks import MoveTask
from waystation.metadata.queues import Place, Queue
from waystation.protocol.errors import InvalidParameterValue
from waystation.queues import commands

TAG = "waystation:partitions"
BY_GROUP = {
    "FifoQueue": "true",
    "ContentBasedDeduplication": "true",
    "DeduplicationScope": "messageGroup",
    "FifoThroughputLimit": "perMessageGroupId",
}


@pytest.fixture
def app() -> Iterator[AppDriver]:
    with AppDriver(shards=4, purge_interval_s=60) as driver:
        yield driver


def create(app: AppDriver, name: str = "orders", parts: str = "4", **attributes: str) -> str:
    url: str = app.call("CreateQueue", QueueName=name, Attributes=attributes, tags={TAG: parts})["QueueUrl"]
    return url


def queue_of(app: AppDriver, name: str = "orders") -> Queue:
    [queue] = [queue for queue in app.catalogue.queues() if queue.record.name == name]
    return queue


def in_shards(app: AppDriver) -> list[set[Place]]:
    """Where each name is, as the shards have it."""
    found: dict[str, set[Place]] = {}
    for shard in app.backend.shards:
        for number, queue in shard.state.queues.items():
            found.setdefault(queue.settings.name, set()).add(Place(shard.number, number))
    return list(found.values())


def fill(app: AppDriver, url: str, count: int = 12) -> list[str]:
    """Messages in all parts; returns their bodies."""
    bodies = [f"message {number}" for number in range(count)]
    for body in bodies:
        more = {"MessageGroupId": body.replace(" ", "-")} if url.endswith(".fifo") else {}
        app.call("SendMessage", QueueUrl=url, MessageBody=body, **more)
    return bodies


def take(app: AppDriver, url: str, **members: Any) -> list[dict[str, Any]]:
    """Everything that can be received."""
    found: list[dict[str, Any]] = []
    while True:
        answer = app.call("ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=10, **members)
        if not answer.get("Messages"):
            return found
        found += answer["Messages"]


def bodies(messages: list[dict[str, Any]]) -> list[str]:
    return sorted(message["Body"] for message in messages)


def counts(app: AppDriver, url: str) -> tuple[int, int]:
    shown = app.call("GetQueueAttributes", QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return (
        int(shown["ApproximateNumberOfMessages"]),
        int(shown["ApproximateNumberOfMessagesNotVisible"]),
    )


# Making


def test_a_queue_has_as_many_parts_as_its_tag_says_each_in_a_shard_of_its_own(app: AppDriver) -> None:
    url = create(app, parts="3")

    assert len({place.shard for place in queue_of(app).places}) == 3
    assert in_shards(app) == [set(queue_of(app).places)]
    assert app.call("ListQueueTags", QueueUrl=url)["Tags"] == {TAG: "3"}


def test_a_queue_without_the_tag_has_one_part(app: AppDriver) -> None:
    app.create_queue("orders")

    assert not queue_of(app).is_spread


def test_a_node_may_say_how_many_parts_standard_queues_have() -> None:
    with AppDriver(shards=4, partitions=16) as app:
        app.create_queue("orders")
        app.create_queue("orders.fifo", FifoQueue="true")
        create(app, "small", parts="1")

        assert [len(queue_of(app, name).places) for name in ("orders", "orders.fifo", "small")] == [4, 1, 1]


@pytest.mark.parametrize("text", ["0", "5", "65", "-1", "01x", "four", "", " 2", "2 ", "٣", "9" * 200])
def test_a_number_of_parts_that_cannot_be_is_refused(app: AppDriver, text: str) -> None:
    with pytest.raises(Refused, match="must be a number from 1 to 4") as refused:
        create(app, parts=text)

    assert (refused.value.status, refused.value.type) == (400, "InvalidParameterValueException")
    assert in_shards(app) == []


@pytest.mark.parametrize("name", ["DeduplicationScope", "FifoThroughputLimit"])
def test_a_fifo_queue_that_is_not_wholly_by_group_has_no_parts(app: AppDriver, name: str) -> None:
    attributes = {each: value for each, value in BY_GROUP.items() if each != name}
    with pytest.raises(Refused, match="only if its DeduplicationScope is messageGroup") as refused:
        create(app, "orders.fifo", **attributes)

    assert refused.value.type == "InvalidParameterValueException"


def test_any_fifo_queue_may_be_said_to_have_one_part(app: AppDriver) -> None:
    create(app, "orders.fifo", parts="1", FifoQueue="true")

    assert not queue_of(app, "orders.fifo").is_spread


def test_the_number_of_parts_never_changes(app: AppDriver) -> None:
    url = create(app, parts="2")
    places = queue_of(app).places
    app.call("TagQueue", QueueUrl=url, Tags={TAG: "4"})
    assert app.call("ListQueueTags", QueueUrl=url)["Tags"] == {TAG: "4"}
    assert queue_of(app).places == places
    app.call("UntagQueue", QueueUrl=url, TagKeys=[TAG])

    assert queue_of(app).places == places
    assert create(app, parts="3") == url
    assert queue_of(app).places == places


def test_a_queue_that_is_created_many_times_at_once_is_one_queue(app: AppDriver) -> None:
    async def twenty() -> None:
        body = json.dumps({"QueueName": "orders", "tags": {TAG: "4"}}).encode()
        answers = await asyncio.gather(*(app.app.handle(request_of("CreateQueue", body)) for _ in range(20)))
        assert {answer.status for answer in answers} == {200}

    app.run(twenty())

    assert in_shards(app) == [set(queue_of(app).places)]


def test_when_a_part_cannot_be_made_none_is_left(app: AppDriver) -> None:
    app.run(app.backend.drop(2))
    with pytest.raises(Refused) as refused:
        create(app)

    assert refused.value.status == 503
    assert in_shards(app) == []


# Messages


@pytest.mark.parametrize("name", ["orders", "orders.fifo"])
def test_messages_are_sent_counted_received_and_deleted_in_batches(app: AppDriver, name: str) -> None:
    url = create(app, name, **(BY_GROUP if name.endswith(".fifo") else {}))
    sent = fill(app, url)
    assert counts(app, url) == (12, 0)
    found = take(app, url)
    assert bodies(found) == sorted(sent)
    assert len({message["MessageId"] for message in found}) == 12
    assert counts(app, url) == (0, 12)

    entries = [
        {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
        for number, message in enumerate(found[:10])
    ]
    hidden = app.call(
        "ChangeMessageVisibilityBatch",
        QueueUrl=url,
        Entries=[{**entry, "VisibilityTimeout": 60} for entry in entries],
    )
    assert [entry["Id"] for entry in hidden["Successful"]] == [entry["Id"] for entry in entries]
    entries.insert(3, {"Id": "bad", "ReceiptHandle": found[0]["ReceiptHandle"][::-1]})
    deleted = app.call("DeleteMessageBatch", QueueUrl=url, Entries=entries[:10])
    assert [entry["Id"] for entry in deleted["Failed"]] == ["bad"]
    assert [entry["Id"] for entry in deleted["Successful"]] == [str(number) for number in range(9)]
    for message in found[9:]:
        app.call("DeleteMessage", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    assert counts(app, url) == (0, 0)


def test_a_batch_for_many_groups_is_answered_in_order_and_deduplicated_by_group(app: AppDriver) -> None:
    url = create(app, "orders.fifo", **BY_GROUP)
    entries = [
        {"Id": f"id-{number}", "MessageBody": "same", "MessageGroupId": f"group {number}".replace(" ", "-")}
        for number in range(10)
    ]
    first = app.call("SendMessageBatch", QueueUrl=url, Entries=entries)["Successful"]
    again = app.call("SendMessageBatch", QueueUrl=url, Entries=entries[::-1])["Successful"]

    assert [entry["Id"] for entry in first] == [entry["Id"] for entry in entries]
    assert {each["Id"]: each["MessageId"] for each in again} == {
        each["Id"]: each["MessageId"] for each in first
    }
    assert counts(app, url) == (10, 0)


def test_a_handle_of_a_part_is_of_no_use_for_another_queue(app: AppDriver) -> None:
    url, other = create(app), create(app, "others")
    fill(app, url)

    for message in take(app, url):
        with pytest.raises(Refused, match="ReceiptHandle"):
            app.call("DeleteMessage", QueueUrl=other, ReceiptHandle=message["ReceiptHandle"])


# Queues as a whole


def test_a_purge_empties_all_parts_and_may_be_finished_after_it_has_failed(app: AppDriver) -> None:
    url = create(app)
    fill(app, url)
    app.call("PurgeQueue", QueueUrl=url)
    assert counts(app, url) == (0, 0)
    with pytest.raises(Refused, match="Only one PurgeQueue operation"):
        app.call("PurgeQueue", QueueUrl=url)

    app.advance(61)
    fill(app, url)
    place = queue_of(app).places[2]
    app.run(_submit(app, place, commands.PurgeQueue(place.number, 60_000)))
    app.call("PurgeQueue", QueueUrl=url)
    assert counts(app, url) == (0, 0)


async def _submit(app: AppDriver, place: Place, command: commands.Command) -> commands.Answer:
    return await app.backend.submit(place.shard, command)


def test_settings_reach_all_parts(app: AppDriver) -> None:
    url = create(app)
    app.call("SetQueueAttributes", QueueUrl=url, Attributes={"MessageRetentionPeriod": "60"})

    for shard, number in queue_of(app).places:
        assert app.backend.shards[shard].state.queues[number].settings.retention_ms == 60_000


def test_a_deleted_queue_is_gone_from_all_shards(app: AppDriver) -> None:
    app.call("DeleteQueue", QueueUrl=create(app))

    assert in_shards(app) == []


def test_parts_that_a_crash_has_left_are_dropped_and_those_that_are_missing_are_made_again(
    app: AppDriver,
) -> None:
    url = create(app)
    orphan = commands.CreateQueue(commands.QueueSettings("half-made"))
    app.run(_submit(app, Place(1, 0), orphan))
    lost = queue_of(app).places[2]
    first = queue_of(app).places[0]
    app.run(_submit(app, lost, commands.DeleteQueue(lost.number)))
    app.run(app.reconcile())

    places = queue_of(app).places
    assert [place.shard for place in places] == [(first.shard + part) % 4 for part in range(4)]
    assert places[2].number > lost.number
    assert in_shards(app) == [set(places)]
    assert bodies(take(app, url)) == []
    fill(app, url)
    assert len(take(app, url)) == 12


# Dead letters and moves


def dead_letter_queue(app: AppDriver, name: str, parts: str, **attributes: str) -> tuple[str, str]:
    url = create(app, name, parts, **attributes)
    return url, app.call("GetQueueAttributes", QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]


def settled(app: AppDriver, url: str, messages: int) -> bool:
    async def rest() -> None:
        await asyncio.sleep(0.01)

    for _ in range(1_000):
        if counts(app, url) == (messages, 0):
            return True
        app.run(rest())
    return False


@pytest.mark.parametrize(("parts", "letter_parts"), [("4", "3"), ("1", "4"), ("4", "1")])
@pytest.mark.parametrize("suffix", ["", ".fifo"])
def test_dead_letters_go_from_any_part_to_any_and_are_moved_back(
    app: AppDriver, suffix: str, parts: str, letter_parts: str
) -> None:
    more = BY_GROUP if suffix else {}
    letters, arn = dead_letter_queue(app, f"letters{suffix}", letter_parts, **more)
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
    url = create(app, f"orders{suffix}", parts, RedrivePolicy=policy, **more)
    sent = fill(app, url)
    for _ in range(2):
        take(app, url, VisibilityTimeout=1)
        app.advance(2)
    assert settled(app, letters, 12)
    assert counts(app, url) == (0, 0)

    app.call("StartMessageMoveTask", SourceArn=arn)
    with pytest.raises(Refused, match="already a task running"):
        app.call("StartMessageMoveTask", SourceArn=arn)
    assert settled(app, url, 12)
    assert counts(app, letters) == (0, 0)
    assert ended(app, arn) == ("COMPLETED", 12, 12)
    assert bodies(take(app, url)) == sorted(sent)


def ended(app: AppDriver, arn: str) -> tuple[str, int, int]:
    async def rest() -> None:
        await asyncio.sleep(0.01)

    for _ in range(1_000):
        [task] = app.call("ListMessageMoveTasks", SourceArn=arn)["Results"]
        if task["Status"] != "RUNNING":
            break
        app.run(rest())
    return (
        task["Status"],
        task["ApproximateNumberOfMessagesMoved"],
        task["ApproximateNumberOfMessagesToMove"],
    )


@virtual_time
async def test_a_move_that_has_gone_on_to_another_part_never_goes_back() -> None:
    """A node that has lost a shard may still save what it knows of the move there."""
    store = InstantStore()
    await store.open()
    register = MoveRegister(store)
    task = MoveTask("task", "000000000000", "letters", 0, 7, 1, 10, ahead=(Place(1, 8), Place(2, 9)))
    await register.begin(task)
    gone_on = replace(task, shard=1, number=8, ahead=(Place(2, 9),), moved=4)
    assert await register.save(lambda: gone_on) == gone_on

    assert await register.save(lambda: replace(task, moved=5)) == replace(gone_on, moved=5)
    with pytest.raises(InvalidParameterValue, match="already a task running"):
        await register.begin(replace(task, id="another"))
