"""What the operations on queues do over time, against each other, and across a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from tests.frontend.app_driver import START_MS, AppDriver, Refused, request_of
from waystation.queues import commands
from waystation.queues.snapshots import to_snapshot


@pytest.fixture
def app() -> Iterator[AppDriver]:
    with AppDriver() as driver:
        yield driver


def queues_of_the_shards(app: AppDriver) -> set[str]:
    return {queue.settings.name for shard in app.backend.shards for queue in shard.state.queues.values()}


def test_a_queue_that_is_created_many_times_at_once_is_one_queue(app: AppDriver) -> None:
    async def create() -> list[str]:
        request = request_of("CreateQueue", b'{"QueueName":"orders"}')
        answers = await asyncio.gather(*(app.app.handle(request) for _ in range(20)))
        return [answer.body.decode() for answer in answers]

    assert len(set(app.run(create()))) == 1
    numbers = [number for shard in app.backend.shards for number in shard.state.queues]
    assert len(numbers) == 1


def test_of_two_creations_at_once_that_differ_one_is_refused(app: AppDriver) -> None:
    async def create() -> list[int]:
        bodies = [{"QueueName": "orders", "Attributes": {"DelaySeconds": delay}} for delay in "12"]
        requests = [request_of("CreateQueue", json.dumps(body).encode()) for body in bodies]
        answers = await asyncio.gather(*(app.app.handle(request) for request in requests))
        return sorted(answer.status for answer in answers)

    assert app.run(create()) == [200, 400]


def test_a_deleted_queue_is_gone_from_its_shard(app: AppDriver) -> None:
    app.call("DeleteQueue", QueueUrl=app.create_queue("orders"))

    assert queues_of_the_shards(app) == set()


def test_of_two_deletions_at_once_one_is_refused(app: AppDriver) -> None:
    app.create_queue("orders")

    async def delete() -> list[int]:
        request = request_of("DeleteQueue", b'{"QueueUrl":"orders"}')
        answers = await asyncio.gather(*(app.app.handle(request) for _ in range(2)))
        return sorted(answer.status for answer in answers)

    assert app.run(delete()) == [200, 400]


def test_a_start_drops_a_queue_that_the_catalogue_does_not_have(app: AppDriver) -> None:
    """A crash between the shard's part of a creation and the catalogue's leaves one."""
    app.create_queue("orders")
    settings = commands.QueueSettings("half-created")

    async def restart() -> None:
        await app.backend.submit(1, commands.CreateQueue(settings))
        await app.reconcile()

    app.run(restart())
    assert queues_of_the_shards(app) == {"orders"}


def test_a_start_brings_settings_up_to_date(app: AppDriver) -> None:
    """A crash between the catalogue's part of a change and the shard's leaves old ones."""
    app.create_queue("orders", MessageRetentionPeriod="60")
    [queue] = app.catalogue.queues()

    async def restart() -> int:
        stale = commands.QueueSettings("orders", retention_ms=1_000)
        await app.backend.submit(queue.shard, commands.ConfigureQueue(queue.number, stale))
        await app.reconcile()
        return app.backend.shards[queue.shard].state.queues[queue.number].settings.retention_ms

    assert app.run(restart()) == 60_000


def test_a_queue_that_its_shard_does_not_know_works_again_after_a_start(
    app: AppDriver, caplog: pytest.LogCaptureFixture
) -> None:
    """A shard's file from an older backup lacks queues; what was in them is lost, and said to be."""
    url = app.create_queue("orders")
    [queue] = app.catalogue.queues()

    async def restart() -> None:
        await app.backend.submit(queue.shard, commands.DeleteQueue(queue.number))
        await app.reconcile()

    app.run(restart())
    app.call("SendMessage", QueueUrl=url, MessageBody="again")
    assert "queue is missing in its shard, so its messages are lost" in caplog.text
    [message] = app.call("ReceiveMessage", QueueUrl=url)["Messages"]
    assert message["Body"] == "again"


def test_a_start_writes_nothing_when_all_is_well(app: AppDriver) -> None:
    app.create_queue("orders", MessageRetentionPeriod="60")
    app.call("SetQueueAttributes", QueueUrl="orders", Attributes={"DelaySeconds": "1"})
    before = [to_snapshot(shard.state) for shard in app.backend.shards]
    positions = [shard._log.position for shard in app.backend.shards]

    app.run(app.reconcile())
    assert [to_snapshot(shard.state) for shard in app.backend.shards] == before
    assert [shard._log.position for shard in app.backend.shards] == positions


def test_times_are_in_seconds_and_a_change_moves_the_second_one(app: AppDriver) -> None:
    queue = app.create_queue("orders")
    app.advance(seconds=90)
    app.call("SetQueueAttributes", QueueUrl=queue, Attributes={"DelaySeconds": "1"})

    names = ["CreatedTimestamp", "LastModifiedTimestamp"]
    shown = app.call("GetQueueAttributes", QueueUrl=queue, AttributeNames=names)["Attributes"]
    assert shown == {
        "CreatedTimestamp": str(START_MS // 1_000),
        "LastModifiedTimestamp": str(START_MS // 1_000 + 90),
    }


def test_a_purge_is_allowed_again_after_60_seconds(app: AppDriver) -> None:
    queue = app.create_queue("orders")
    app.call("PurgeQueue", QueueUrl=queue)

    app.advance(seconds=59.999)
    with pytest.raises(Refused, match="403 PurgeQueueInProgress"):
        app.call("PurgeQueue", QueueUrl=queue)

    app.advance(seconds=0.001)
    assert app.call("PurgeQueue", QueueUrl=queue) == {}


def test_the_time_between_two_purges_can_be_configured() -> None:
    with AppDriver(purge_interval_s=0) as app:
        queue = app.create_queue("orders")

        assert app.call("PurgeQueue", QueueUrl=queue) == app.call("PurgeQueue", QueueUrl=queue) == {}


def test_a_list_without_a_page_size_ends_after_1000_queues_without_a_token(app: AppDriver) -> None:
    for number in range(1_001):
        app.create_queue(f"queue-{number:04}")

    listed = app.call("ListQueues")
    assert len(listed["QueueUrls"]) == 1_000
    assert "NextToken" not in listed

    page = app.call("ListQueues", MaxResults=1_000)
    rest = app.call("ListQueues", MaxResults=1_000, NextToken=page["NextToken"])
    assert [url[-10:] for url in rest["QueueUrls"]] == ["queue-1000"]


def test_a_page_begins_where_the_last_one_ended_though_queues_have_gone(app: AppDriver) -> None:
    for name in "abcd":
        app.create_queue(name)
    token = app.call("ListQueues", MaxResults=2)["NextToken"]
    app.call("DeleteQueue", QueueUrl="b")

    listed = app.call("ListQueues", MaxResults=2, NextToken=token)
    assert [url[-1] for url in listed["QueueUrls"]] == ["c", "d"]


@pytest.fixture
def strict() -> Iterator[AppDriver]:
    """As strict about the names of deleted queues as AWS."""
    with AppDriver(name_reuse_s=60) as driver:
        yield driver


def test_the_name_of_a_deleted_queue_is_taken_for_60_seconds(strict: AppDriver) -> None:
    strict.call("DeleteQueue", QueueUrl=strict.create_queue("orders"))

    strict.advance(seconds=59.999)
    with pytest.raises(Refused) as caught:
        strict.create_queue("orders")
    assert (caught.value.status, caught.value.type) == (400, "QueueDeletedRecently")
    assert caught.value.message == (
        "You must wait 60 seconds after deleting a queue before you can create another with the same name."
    )
    assert queues_of_the_shards(strict) == set()
    assert strict.create_queue("Orders"), "another name is not concerned"

    strict.advance(seconds=0.001)
    assert strict.create_queue("orders")
    assert strict.call("GetQueueUrl", QueueName="orders")


def test_a_name_is_taken_again_after_each_deletion(strict: AppDriver) -> None:
    for _ in range(3):
        strict.call("DeleteQueue", QueueUrl=strict.create_queue("orders"))
        with pytest.raises(Refused, match="QueueDeletedRecently"):
            strict.create_queue("orders")
        strict.advance(seconds=60)


def test_a_clock_that_was_set_back_keeps_no_name_taken(strict: AppDriver) -> None:
    strict.call("DeleteQueue", QueueUrl=strict.create_queue("orders"))
    strict.advance(seconds=-3_600)

    assert strict.create_queue("orders")


def test_a_creation_by_a_front_end_that_has_not_heard_of_the_deletion_is_refused_too(
    strict: AppDriver,
) -> None:
    strict.call("DeleteQueue", QueueUrl=strict.create_queue("orders"))
    strict.catalogue._gone.clear()

    with pytest.raises(Refused, match="QueueDeletedRecently"):
        strict.create_queue("orders")
    assert queues_of_the_shards(strict) == set()


def test_with_no_waiting_time_names_are_free_at_once_and_nothing_is_left(app: AppDriver) -> None:
    app.call("DeleteQueue", QueueUrl=app.create_queue("orders"))

    assert app.run(app.catalogue._store.list("queue/")) == []
    assert app.create_queue("orders")


def test_deletions_clear_away_what_is_left_of_earlier_ones(strict: AppDriver) -> None:
    for number in range(10):
        strict.call("DeleteQueue", QueueUrl=strict.create_queue(f"queue-{number}"))
        strict.advance(seconds=20)

    assert len(strict.run(strict.catalogue._store.list("queue/"))) <= 4


# FIFO queues

FIFO_NAME_RULE = (
    "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, "
    "must end with .fifo suffix and be 1 to 80 in length."
)
NAME_RULE = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"


def test_the_longest_name_of_a_fifo_queue_has_80_characters(app: AppDriver) -> None:
    name = "x" * 75 + ".fifo"

    assert app.create_queue(name, FifoQueue="true").endswith(f"/{name}")


@pytest.mark.parametrize(
    ("name", "fifo", "text"),
    [
        ("orders", "true", FIFO_NAME_RULE),
        ("x" * 76 + ".fifo", "true", FIFO_NAME_RULE),
        (".fifo", "true", FIFO_NAME_RULE),
        ("or.ders.fifo", "true", FIFO_NAME_RULE),
        ("orders.FIFO", "true", FIFO_NAME_RULE),
        ("orders.fifo\n", "true", FIFO_NAME_RULE),
        ("orders.fifo", None, NAME_RULE),
        ("orders", "false", "Unknown Attribute FifoQueue."),
        ("orders", "TRUE", "Unknown Attribute FifoQueue."),
        ("orders.fifo", "false", "Unknown Attribute FifoQueue."),
    ],
)
def test_the_name_of_a_queue_and_its_type_go_together(
    app: AppDriver, name: str, fifo: str | None, text: str
) -> None:
    with pytest.raises(Refused) as refused:
        app.create_queue(name, **({} if fifo is None else {"FifoQueue": fifo}))
    assert (refused.value.status, refused.value.message) == (400, text)
    assert queues_of_the_shards(app) == set()


def test_a_fifo_queue_is_the_same_when_it_is_created_again_alike(app: AppDriver) -> None:
    alike = {"FifoQueue": "true", "DeduplicationScope": "messageGroup"}
    url = app.create_queue("orders.fifo", **alike, FifoThroughputLimit="perMessageGroupId")

    assert app.create_queue("orders.fifo", **alike) == url
    assert app.create_queue("orders.fifo", FifoQueue="true", FifoThroughputLimit="perMessageGroupId") == url
    with pytest.raises(Refused, match="different value for attribute DeduplicationScope"):
        app.create_queue("orders.fifo", FifoQueue="true", DeduplicationScope="queue")


def test_a_creation_with_attributes_that_do_not_go_together_leaves_nothing_behind(app: AppDriver) -> None:
    with pytest.raises(Refused, match="400 InvalidAttributeValue"):
        app.create_queue("orders.fifo", FifoQueue="true", FifoThroughputLimit="perMessageGroupId")

    assert queues_of_the_shards(app) == set()


def test_of_two_changes_at_once_that_do_not_go_together_one_is_refused(app: AppDriver) -> None:
    app.create_queue("orders.fifo", FifoQueue="true", DeduplicationScope="messageGroup")

    async def change() -> list[int]:
        wishes = [{"FifoThroughputLimit": "perMessageGroupId"}, {"DeduplicationScope": "queue"}]
        requests = [
            request_of(
                "SetQueueAttributes", json.dumps({"QueueUrl": "orders.fifo", "Attributes": wish}).encode()
            )
            for wish in wishes
        ]
        answers = await asyncio.gather(*(app.app.handle(request) for request in requests))
        return sorted(answer.status for answer in answers)

    assert app.run(change()) == [200, 400]


def test_a_shard_is_told_of_a_new_delay_of_a_fifo_queue(app: AppDriver) -> None:
    app.create_queue("orders.fifo", FifoQueue="true")
    app.call("SetQueueAttributes", QueueUrl="orders.fifo", Attributes={"DelaySeconds": "5"})

    [queue] = app.catalogue.queues()
    settings = app.backend.shards[queue.shard].state.queues[queue.number].settings
    assert (settings.fifo, settings.delay_ms) == (True, 5_000)


def test_the_scope_of_deduplication_that_a_queue_was_created_with_stays_in_force(app: AppDriver) -> None:
    app.create_queue("orders.fifo", FifoQueue="true", DeduplicationScope="messageGroup")
    app.call("SetQueueAttributes", QueueUrl="orders.fifo", Attributes={"DeduplicationScope": "queue"})

    [queue] = app.catalogue.queues()
    assert queue.deduplicates_in_groups
    assert queue.record.attributes["DeduplicationScope"] == "queue"


def test_a_start_writes_nothing_for_a_fifo_queue_either(app: AppDriver) -> None:
    app.create_queue("orders.fifo", FifoQueue="true", DelaySeconds="5")
    positions = [shard._log.position for shard in app.backend.shards]

    app.run(app.reconcile())
    assert [shard._log.position for shard in app.backend.shards] == positions
