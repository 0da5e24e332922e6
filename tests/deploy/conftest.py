"""The certificates and keys of a cluster on loopback, made as the operator's page says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.deploy import parts


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with all that the page has the operator make; its machines are 127.0.0.1 to 127.0.0.3."""
    parts.program("openssl", "openssl")
    directory = tmp_path_factory.mktemp("certificates")
    commands = parts.commands_of_the_page("1. Certificates")
    parts.run_commands(parts.replaced(commands, {"10.0.0.": "127.0.0."}), directory)
    return directory


@pytest.fixture(scope="session")
def nats_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the seeds of NATS users, and the lines for `nats.env` in `keys.txt`."""
    directory = tmp_path_factory.mktemp("keys")
    commands = parts.commands_of_the_page("2. NATS keys")
    parts.run_commands(parts.replaced(commands, {"/opt/waystation/bin/python": sys.executable}), directory)
    return directory
