"""One real server for all tests of the contract, and a queue of its own for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.contract.forms import Ask, post_form
from tests.contract.query_client import query_client
from tests.contract.wire import post
from tests.server import Server, running

_numbers = count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Stopped at the end as an operator would, which has to go well."""
    data_dir: Path = tmp_path_factory.mktemp("contract") / "data"
    with running(data_dir) as server:
        yield server
        server.stop()


@pytest.fixture(scope="session")
def json_sqs(server: Server) -> Any:
    """A boto3 client, which speaks AWS JSON. It lets wrong parameters through, for the server to refuse."""
    return server.client(parameter_validation=False)


@pytest.fixture(scope="session")
def query_sqs(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same over the Query protocol."""
    return query_client(server, tmp_path_factory.mktemp("model"), parameter_validation=False)


@pytest.fixture(scope="session", params=["json", "query"])
def sqs(request: pytest.FixtureRequest) -> Any:
    """Each of the two in turn: a test that takes it runs once over each protocol."""
    return request.getfixturevalue(f"{request.param}_sqs")


@pytest.fixture(params=[post, post_form], ids=["json", "query"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """One request by hand over each protocol in turn, for what no SDK does and for the form of answers."""
    function: Ask = request.param
    return function


@pytest.fixture
def new_name() -> Callable[[], str]:
    """Names that no other test uses."""
    return lambda: f"queue-{next(_numbers)}"


@pytest.fixture
def new_queue(json_sqs: Any, new_name: Callable[[], str]) -> Callable[..., str]:
    """Creates a queue with the attributes given, and returns its URL."""

    def create(**attributes: str) -> str:
        url: str = json_sqs.create_queue(QueueName=new_name(), Attributes=attributes)["QueueUrl"]
        return url

    return create


@pytest.fixture
def queue(new_queue: Callable[..., str]) -> str:
    """The URL of a new queue with default attributes."""
    return new_queue()


@pytest.fixture
def new_fifo(json_sqs: Any, new_name: Callable[[], str]) -> Callable[..., str]:
    """Creates a FIFO queue with the attributes given, and returns its URL."""

    def create(**attributes: str) -> str:
        given = {"FifoQueue": "true", **attributes}
        url: str = json_sqs.create_queue(QueueName=f"{new_name()}.fifo", Attributes=given)["QueueUrl"]
        return url

    return create


@pytest.fixture
def fifo(new_fifo: Callable[..., str]) -> str:
    """The URL of a FIFO queue that deduplicates by contents."""
    return new_fifo(ContentBasedDeduplication="true")
