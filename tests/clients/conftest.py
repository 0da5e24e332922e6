"""One real server for all clients; every test has a queue of its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.server import Server, running

_numbers = count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data_dir: Path = tmp_path_factory.mktemp("clients") / "data"
    with running(data_dir) as server:
        yield server
        server.stop()


@pytest.fixture
def queue(server: Server) -> str:
    """The URL of a new queue."""
    url: str = server.client().create_queue(QueueName=f"queue-{next(_numbers)}")["QueueUrl"]
    return url
