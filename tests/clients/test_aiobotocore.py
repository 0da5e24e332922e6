"""aiobotocore: many long polls from one process."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiobotocore.session import get_session

from tests.server import Server, config

POLLERS = 50


def async_client(server: Server) -> Any:
    return get_session().create_client("sqs", **server.connection(), config=config())


def test_fifty_long_polls_get_one_of_fifty_messages_each_and_wake_promptly(
    server: Server, queue: str
) -> None:
    async def scenario() -> None:
        async with async_client(server) as sqs:
            polls = [
                asyncio.create_task(
                    sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=20, VisibilityTimeout=600)
                )
                for _ in range(POLLERS)
            ]
            sent_at_s: dict[str, float] = {}
            for start in range(0, POLLERS, 10):
                bodies = [f"message {number}" for number in range(start, start + 10)]
                entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
                sent_at_s.update(dict.fromkeys(bodies, time.monotonic()))
                await sqs.send_message_batch(QueueUrl=queue, Entries=entries)
            answers = await asyncio.gather(*polls)
            ended_s = time.monotonic()
            nothing_left = await sqs.receive_message(QueueUrl=queue)

        received = [[message["Body"] for message in answer.get("Messages", [])] for answer in answers]
        assert [len(bodies) for bodies in received] == [1] * POLLERS
        assert {body for [body] in received} == set(sent_at_s)
        assert "Messages" not in nothing_left
        # A poll that did not wake would have waited for all of its 20 s.
        assert ended_s - min(sent_at_s.values()) < 10

    asyncio.run(scenario())


def test_a_long_poll_whose_client_has_gone_away_gets_no_message(server: Server, queue: str) -> None:
    """For a second after it has gone, it might still be there: see `half_closed_grace_s`."""

    async def scenario() -> None:
        async with async_client(server) as leaver, async_client(server) as stayer:
            poll = asyncio.create_task(leaver.receive_message(QueueUrl=queue, WaitTimeSeconds=20))
            # The poll is under way when later requests of the same client are answered.
            await asyncio.gather(*(leaver.list_queues() for _ in range(3)))
            poll.cancel()
            await asyncio.gather(poll, return_exceptions=True)
            await stayer.send_message(QueueUrl=queue, MessageBody="for whoever stays", DelaySeconds=3)
            answer = await stayer.receive_message(QueueUrl=queue, WaitTimeSeconds=20)

        assert [message["Body"] for message in answer["Messages"]] == ["for whoever stays"]

    asyncio.run(scenario())


def test_many_requests_at_once_are_all_answered(server: Server, queue: str) -> None:
    async def scenario() -> list[str]:
        async with async_client(server) as sqs:
            sent = await asyncio.gather(
                *(sqs.send_message(QueueUrl=queue, MessageBody=str(number)) for number in range(200))
            )
        return [each["MessageId"] for each in sent]

    assert len(set(asyncio.run(scenario()))) == 200
