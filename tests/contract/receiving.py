"""What a receive of any queue gets, over either protocol."""

from __future__ import annotations

from typing import Any


def receive(sqs: Any, queue: str, count: int = 10, **more: Any) -> list[dict[str, Any]]:
    """Up to so many messages, with all that can be shown of them."""
    answer = sqs.receive_message(
        QueueUrl=queue,
        MaxNumberOfMessages=count,
        MessageSystemAttributeNames=["All"],
        MessageAttributeNames=["All"],
        **more,
    )
    messages: list[dict[str, Any]] = answer.get("Messages", [])
    return messages


def bodies(messages: list[dict[str, Any]]) -> list[str]:
    return [message["Body"] for message in messages]
