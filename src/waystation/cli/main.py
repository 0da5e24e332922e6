"""The command `waystation`: what it was asked for, and the exit code it ends with."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from waystation import __version__
from waystation.cli.errors import ExitCode, UsageError
from waystation.cli.flags import OVERVIEW
from waystation.cli.settings import Settings, load_settings

if TYPE_CHECKING:
    from waystation.cli.serve import Runnable


def main(
    arguments: Sequence[str] | None = None, make_node: Callable[[Settings], Runnable] | None = None
) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; those of the process when `None`.
        make_node: builds what is run; the real node when `None`.

    Returns:
        The code to exit with, one of `ExitCode`.
    """
    try:
        return _dispatch(sys.argv[1:] if arguments is None else arguments, make_node)
    except UsageError as error:
        for problem in error.problems:
            print(f"waystation: {problem}", file=sys.stderr)
        print("waystation: see waystation serve --help", file=sys.stderr)
        return ExitCode.USAGE
    except KeyboardInterrupt:  # before or after the node's own handling of signals
        return ExitCode.STOPPED


def _dispatch(arguments: Sequence[str], make_node: Callable[[Settings], Runnable] | None) -> int:
    match arguments:
        case ["serve", *flags]:
            return _serve(flags, make_node)
        case ["--version" | "-V"]:
            print(f"waystation {__version__}")
        case ["--help" | "-h" | "help"]:
            print(OVERVIEW, end="")
        case []:
            raise UsageError("a command is needed: serve")
        case [other, *_]:
            raise UsageError(f"command {other} is not known; there is: serve")
    return ExitCode.STOPPED


def _serve(flags: Sequence[str], make_node: Callable[[Settings], Runnable] | None) -> int:
    try:
        settings = load_settings(flags, os.environ)
    except SystemExit:  # `--help` has been answered
        return ExitCode.STOPPED
    # Only now: help and mistakes are told at once, without loading the server.
    from waystation.cli.serve import run
    from waystation.telemetry.logs import configure_logs

    if make_node is None:
        from waystation.cli.node import Node

        make_node = Node
    configure_logs(settings.telemetry)
    return run(make_node(settings), settings)
