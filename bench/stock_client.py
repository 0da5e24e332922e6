"""A stock client for what is not about speed: aiobotocore, on a server of the benchmark's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiobotocore.session import get_session
from botocore.config import Config

from bench.processes import ACCESS_KEY_ID, SECRET


@asynccontextmanager
async def stock_client(url: str) -> AsyncIterator[Any]:
    """For one server, with the key that all of them are given."""
    async with get_session().create_client(
        "sqs",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET,
        config=Config(max_pool_connections=100, retries={"max_attempts": 0}),
    ) as client:
        yield client
