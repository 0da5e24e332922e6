"""The command line answers at once, says what is wrong in one line, and its exit codes mean something."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.cli.fake_node import FakeNode
from tests.server import running
from waystation import __version__
from waystation.cli.errors import CannotStart, ExitCode
from waystation.cli.main import COMMANDS, main
from waystation.cli.serve import raise_file_limit

FAKE_NODE = Path(__file__).parent / "fake_node.py"
DEADLINE_S = 30

pytestmark = pytest.mark.usefixtures("logging_as_it_was")


@contextmanager
def serving(*flags: str, behaviour: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that serves with a fake node; killed if the test leaves it running."""
    environment = {"FAKE_NODE": behaviour, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, FAKE_NODE, "serve", *flags],
        # Buffered, as for users: what is left in a buffer matters when a reader has gone.
        env=os.environ | environment | {"PYTHONUNBUFFERED": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_line(stream: IO[str] | None, start: str) -> str:
    """Read a stream of the process up to the line that starts so."""
    assert stream is not None
    for line in stream:
        if line.startswith(start):
            return line.rstrip("\n")
    raise AssertionError(f"the stream ended without a line {start!r}")


def run_until_it_fails(node: FakeNode) -> int:
    return main(["serve"], lambda settings: node)


def test_exit_codes_are_what_scripts_rely_on() -> None:
    assert {code.name: code.value for code in ExitCode} == {"STOPPED": 0, "FAILED": 1, "USAGE": 2}


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == ExitCode.STOPPED
    assert capsys.readouterr().out == f"waystation {__version__}\n"


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "waystation", "--version"]

    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.startswith(
        "waystation "
    )


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"]])
def test_help_names_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == ExitCode.STOPPED
    text = capsys.readouterr().out
    assert all(f"\n  {command}  " in text for command in COMMANDS)


def test_help_of_serve_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    """Flags with their defaults, examples, the data directory, the environment, the file, exit codes."""
    assert main(["serve", "--help"]) == ExitCode.STOPPED

    text = capsys.readouterr().out
    for expected in (
        "--port N",
        "(default: 9324)",
        "--http.idle-timeout-s N",
        "examples:",
        "data directory:",
        "WAYSTATION_ROOT_SECRET_ACCESS_KEY",
        "[telemetry]",
        "exit codes:",
    ):
        assert expected in text
    assert "--root" not in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "a command is needed: serve, backup, restore, check or cluster"),
        (["sevre"], "command sevre is not known; there are: serve, backup, restore, check and cluster"),
        (["serve", "--prot", "1"], "flag --prot is not known; did you mean --port?"),
    ],
)
def test_a_mistake_is_told_and_ends_with_code_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments, lambda settings: FakeNode()) == ExitCode.USAGE

    said = capsys.readouterr()
    assert said.out == ""
    see = "waystation serve --help" if arguments[:1] == ["serve"] else "waystation --help"
    assert said.err == f"waystation: {expected}\nwaystation: see {see}\n"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CannotStart("the data directory /data is in use"), "the data directory /data is in use"),
        (
            OSError(errno.EADDRINUSE, "cannot listen on 127.0.0.1:9324: address already in use"),
            "cannot listen on 127.0.0.1:9324: address already in use",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/data"), "/data: Permission denied"),
        (ValueError("not\nexpected"), "ValueError: not expected"),
    ],
)
def test_a_node_that_cannot_start_costs_one_line_and_code_1(
    error: Exception, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    node = FakeNode(fails_with=error)

    assert run_until_it_fails(node) == ExitCode.FAILED

    assert capsys.readouterr().err.splitlines() == [
        "fake: start",
        f"waystation: cannot start: {expected}",
        "fake: stop",
    ]
    assert node.stops == 1


def test_a_node_that_does_not_stop_cleanly_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    node = FakeNode(fails_with=CannotStart("first"), fails_to_stop_with=RuntimeError("second"))

    assert run_until_it_fails(node) == ExitCode.FAILED
    assert "waystation: could not stop cleanly: RuntimeError: second\n" in capsys.readouterr().err


def test_a_node_that_could_not_go_on_is_a_failure_though_it_stopped_well(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class FailingNode(FakeNode):
        async def start(self) -> None:
            self.failure = "another process is node n1 already"
            signal.raise_signal(signal.SIGTERM)

    assert run_until_it_fails(FailingNode()) == ExitCode.FAILED
    expected = "waystation: stopped, because it could not go on: another process is node n1 already\n"
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_node_gracefully(number: signal.Signals) -> None:
    with serving("--log-level", "info", "--log-format", "json") as process:
        wait_for_line(process.stdout, "listening on ")
        process.send_signal(number)
        _, errors = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == ExitCode.STOPPED
    assert "fake: stop" in errors
    log = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    assert [line["message"] for line in log] == ["node started", "node stops", "node stopped"]
    assert log[1]["signal"] == number.name


def test_a_second_signal_ends_a_stop_that_hangs() -> None:
    with serving(behaviour="stops for ever") as process:
        wait_for_line(process.stdout, "listening on ")
        process.send_signal(signal.SIGTERM)
        wait_for_line(process.stderr, "fake: stop")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == ExitCode.FAILED
    assert errors == "waystation: stopped at once, by a second signal\n"


def test_a_signal_ends_a_start_that_takes_long() -> None:
    with serving(behaviour="starts for ever") as process:
        wait_for_line(process.stderr, "fake: start")
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == ExitCode.STOPPED
    assert (out, errors) == ("", "fake: stop\n")


def test_a_new_key_is_shown_once_ready_to_paste() -> None:
    with serving(behaviour="makes a key") as process:
        wait_for_line(process.stdout, "a new root access key")
        assert wait_for_line(process.stdout, "  export ") == (
            "  export AWS_ACCESS_KEY_ID=WSEXAMPLE AWS_SECRET_ACCESS_KEY='se/cr et'"
            " AWS_DEFAULT_REGION=us-east-1 AWS_ENDPOINT_URL_SQS=http://127.0.0.1:4321"
        )


def test_without_authentication_the_greeting_says_so() -> None:
    with serving("--no-auth", behaviour="has no key") as process:
        assert wait_for_line(process.stdout, "auth") == "authentication is off: every caller is believed"


def test_the_greeting_says_where_and_with_which_key() -> None:
    with serving("--data-dir", "relative") as process:
        assert wait_for_line(process.stdout, "waystation ") == f"waystation {__version__}"
        assert wait_for_line(process.stdout, "listening") == "listening on http://127.0.0.1:4321"
        assert wait_for_line(process.stdout, "data") == f"data directory {Path.cwd() / 'relative'}"
        assert (
            wait_for_line(process.stdout, "access")
            == "access key WSEXAMPLE; its secret is in root-access-key.json in the data directory"
        )


def test_other_users_cannot_read_what_is_stored_even_in_a_directory_open_to_them(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    data_dir.chmod(0o755)
    with running(data_dir) as server:
        server.client().create_queue(QueueName="orders")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data_dir.iterdir()}

    assert {"metadata.db", "shard-000.db", "shard-000.db-wal"} <= modes.keys()
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}


def test_as_many_files_may_be_open_as_there_may_be_connections() -> None:
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        raise_file_limit(1_000)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 1_000
        raise_file_limit(100)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 1_000, "it is never lowered"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def test_a_reader_that_has_gone_is_no_reason_to_stop() -> None:
    with serving("--log-level", "info", "--log-format", "json") as process:
        assert process.stdout is not None
        process.stdout.close()
        wait_for_line(process.stderr, '{"time"')
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == ExitCode.STOPPED
    assert "BrokenPipe" not in errors
