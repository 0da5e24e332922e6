"""Run one node from its start to its stop, and tell the operator about both.

Standard output says once what a person or a script needs to know: where the node
listens and how to sign requests. All else goes to the log. Whatever keeps the node
from starting is told in one line, for the operator can mend a port or a directory
but not a stack trace; that goes to the log at level `debug`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import shlex
import signal
import sys
from typing import TYPE_CHECKING, Protocol

import uvloop

from waystation import __version__
from waystation.cli.errors import CommandFailed, ExitCode
from waystation.frontend.access_keys import FILE_NAME

if TYPE_CHECKING:
    from waystation.cli.settings import Settings
    from waystation.frontend.auth import AccessKey

logger = logging.getLogger(__name__)

_OTHER_FILES = 256
"""Open files that are no connections: storage, the event loop, and TLS handshakes under way."""


class Runnable(Protocol):
    """What `serve` needs of a node.

    Lifecycle: built without I/O, `start` once, `stop` once, also after a start that
    failed or was cancelled half-way: it then releases what had been taken.
    """

    @property
    def url(self) -> str:
        """Where clients reach it; known once it has started."""

    @property
    def root_key(self) -> AccessKey | None:
        """The root access key; `None` without authentication. Known once it has started."""

    @property
    def root_key_created(self) -> bool:
        """This start made `root_key`: nobody knows it yet."""

    @property
    def failure(self) -> str | None:
        """Why it has asked for a stop itself, by SIGTERM; `None` unless it has."""

    async def start(self) -> None:
        """Return once requests are answered. Raises `CannotStart` or `OSError`."""

    async def stop(self) -> None:
        """Return once requests in progress are answered and everything is closed."""


def run(node: Runnable, settings: Settings) -> ExitCode:
    """Run a node until SIGTERM or SIGINT; from then on it stops, and a second signal ends the process.

    Returns:
        `STOPPED` after a signal; `FAILED` when the node could not start, go on, or stop cleanly.
    """
    # SQLite makes its files readable by everybody, and the directory may be one that others made.
    os.umask(0o077)
    raise_file_limit(settings.http.connections_max)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(node, settings))


def raise_file_limit(connections_max: int) -> None:
    """Ask for as many open files as the connections need; the usual limit, 1,024, is far too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections_max + _OTHER_FILES
    if hard != resource.RLIM_INFINITY and wanted > hard:
        logger.warning("too few open files are allowed", extra={"allowed": hard, "wanted": wanted})
        wanted = hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _run(node: Runnable, settings: Settings) -> ExitCode:
    stop_asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _on_signal, number, stop_asked)
    code = await _start_and_wait(node, settings, stop_asked)
    try:
        await node.stop()
    except Exception as error:
        logger.exception("node did not stop cleanly")
        tell(f"could not stop cleanly: {type(error).__name__}: {error}")
        return ExitCode.FAILED
    if node.failure is not None:
        tell(f"stopped, because it could not go on: {node.failure}")
        return ExitCode.FAILED
    logger.info("node stopped")
    return code


async def _start_and_wait(node: Runnable, settings: Settings, stop_asked: asyncio.Event) -> ExitCode:
    starting = asyncio.ensure_future(node.start())
    stopping = asyncio.ensure_future(stop_asked.wait())
    # A start that replays a long log must hear a signal too.
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
    try:
        await starting
    except asyncio.CancelledError:
        return ExitCode.STOPPED
    except Exception as error:
        stopping.cancel()
        logger.debug("node did not start", exc_info=True)
        tell(f"cannot start: {reason(error)}")
        return ExitCode.FAILED
    logger.info("node started", extra={"url": node.url, "data_dir": settings.data_dir})
    _greet(node, settings)
    await stopping
    return ExitCode.STOPPED


def tell(sentence: str) -> None:
    """Say one line to the operator on standard error."""
    print(f"waystation: {sentence}", file=sys.stderr, flush=True)


def _on_signal(number: signal.Signals, stop_asked: asyncio.Event) -> None:
    if stop_asked.is_set():
        # Not a clean-up cut short but none at all: every answered request is on the
        # disk already, and whatever the graceful stop waits for may wait for ever.
        tell("stopped at once, by a second signal")
        os._exit(ExitCode.FAILED)
    logger.info("node stops", extra={"signal": number.name})
    stop_asked.set()


def _greet(node: Runnable, settings: Settings) -> None:
    try:
        print(_greeting(node, settings), flush=True)
    except BrokenPipeError:
        # Whoever read it has gone, which is no reason to stop. What is left in the
        # buffer must go somewhere, or Python ends with code 120 for want of writing it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _greeting(node: Runnable, settings: Settings) -> str:
    lines = [
        f"waystation {__version__}",
        f"listening on {node.url}",
        f"data directory {settings.data_dir.absolute()}",
    ]
    key = node.root_key
    if key is None:
        lines.append("authentication is off: every caller is believed")
    elif node.root_key_created:
        exports = {
            "AWS_ACCESS_KEY_ID": key.id,
            "AWS_SECRET_ACCESS_KEY": key.secret,
            "AWS_DEFAULT_REGION": settings.service.region,
            "AWS_ENDPOINT_URL_SQS": node.url,
        }
        words = " ".join(f"{name}={shlex.quote(value)}" for name, value in exports.items())
        lines += ["a new root access key, shown only this once:", f"  export {words}"]
    elif settings.root.access_key_id is not None:
        lines.append(f"access key {key.id}, from the environment")
    else:
        lines.append(f"access key {key.id}; its secret is in {FILE_NAME} in the data directory")
    return "\n".join(lines)


def reason(error: Exception) -> str:
    """Why a start failed, in one line."""
    if isinstance(error, CommandFailed):
        text = str(error)
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:  # not written for operators: without its type, the text may say nothing
        text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())
