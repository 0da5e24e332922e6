"""The minute after a deletion, as AWS has it; all other tests do without."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.query_client import query_client
from tests.contract.wire import post, refused
from tests.server import eventually, running

AS_ON_AWS = ("--service.name-reuse-s", "60")
TEXT = "You must wait 60 seconds after deleting a queue before you can create another with the same name."


def test_a_deleted_queue_cannot_be_created_again_at_once_not_even_after_a_crash(tmp_path: Path) -> None:
    with running(tmp_path / "data", *AS_ON_AWS) as server:
        json_client, form_client = server.client(), query_client(server, tmp_path / "model")
        json_client.delete_queue(QueueUrl=json_client.create_queue(QueueName="orders")["QueueUrl"])
        for client in (json_client, form_client):
            with refused("QueueDeletedRecently", TEXT):
                client.create_queue(QueueName="orders")
            with refused("NonExistentQueue"):
                client.get_queue_url(QueueName="orders")
        assert "QueueUrls" not in json_client.list_queues()

        server.kill()
        server.start()
        answer = post(server.url, "CreateQueue", {"QueueName": "orders"})
        assert answer.error == (
            400,
            "com.amazonaws.sqs#QueueDeletedRecently",
            "AWS.SimpleQueueService.QueueDeletedRecently;Sender",
        )
        assert server.client().create_queue(QueueName="others")["QueueUrl"]


@pytest.mark.parametrize("flags", [(), ("--service.name-reuse-s", "1")])
def test_a_name_is_free_after_the_time_that_is_configured(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with running(tmp_path / "data", *flags) as server:
        client = server.client(retries={"total_max_attempts": 1})
        url = client.create_queue(QueueName="orders")["QueueUrl"]
        client.delete_queue(QueueUrl=url)

        def again() -> str | None:
            try:
                return str(client.create_queue(QueueName="orders")["QueueUrl"])
            except client.exceptions.QueueDeletedRecently:
                return None

        assert (eventually(again) if flags else again()) == url
