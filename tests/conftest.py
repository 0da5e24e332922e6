"""What holds for every test: the same surroundings on every machine, and bounded chance."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import hypothesis
import pytest

from tests.nats_server import nats_servers

# A slow machine is no failure: hangs are pytest-timeout's to find. In CI the examples are the
# same in every run, so that a red build is the change's fault; locally they keep looking.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session", autouse=True)
def surroundings() -> Iterator[None]:
    """No test, nor a process that it starts, sees this user's credentials, settings or proxies."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AWS_", "WAYSTATION_")) or name.lower().endswith("_proxy"):
                patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """For tests that set up the logs of the process, which is pytest's own process too."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One NATS server for all tests that do not disturb it; each uses names of its own."""
    with nats_servers(tmp_path_factory.mktemp("nats")) as [server]:
        yield server.url
