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

COMMANDS = ("serve", "backup", "restore", "check", "cluster")


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
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return _dispatch(arguments, make_node)
    except UsageError as error:
        for problem in error.problems:
            print(f"waystation: {problem}", file=sys.stderr)
        command = f" {arguments[0]}" if arguments and arguments[0] in COMMANDS else ""
        print(f"waystation: see waystation{command} --help", file=sys.stderr)
        return ExitCode.USAGE
    except KeyboardInterrupt:  # before or after the node's own handling of signals
        return ExitCode.STOPPED


def _dispatch(arguments: Sequence[str], make_node: Callable[[Settings], Runnable] | None) -> int:
    match arguments:
        case ["serve", *flags]:
            return _serve(flags, make_node)
        case ["backup" | "restore" | "check" as name, *flags]:
            from waystation.cli.commands import run_command

            return run_command(name, flags)
        case ["cluster", *rest]:
            from waystation.cli.cluster_commands import run_cluster_command

            return run_cluster_command(rest)
        case ["frontend-process"]:  # what `serve --frontends` starts; not for people
            from waystation.cli.frontend_process import run_frontend_process

            return run_frontend_process()
        case ["--version" | "-V"]:
            print(f"waystation {__version__}")
        case ["--help" | "-h" | "help"]:
            print(OVERVIEW, end="")
        case []:
            raise UsageError(f"a command is needed: {_listed('or')}")
        case [other, *_]:
            raise UsageError(f"command {other} is not known; there are: {_listed('and')}")
    return ExitCode.STOPPED


def _listed(word: str) -> str:
    return f"{', '.join(COMMANDS[:-1])} {word} {COMMANDS[-1]}"


def _serve(flags: Sequence[str], make_node: Callable[[Settings], Runnable] | None) -> int:
    try:
        settings = load_settings(flags, os.environ)
    except SystemExit:  # `--help` has been answered
        return ExitCode.STOPPED
    # Only now: help and mistakes are told at once, without loading the server.
    from waystation.cli.serve import run
    from waystation.telemetry.logs import configure_logs

    if make_node is None and settings.nats.servers:
        from waystation.cli.cluster_node import ClusterNode

        make_node = ClusterNode
    elif make_node is None and settings.frontends:
        from waystation.cli.frontends import SplitNode

        make_node = SplitNode
    elif make_node is None:
        from waystation.cli.node import Node

        make_node = Node
    configure_logs(settings.telemetry)
    return run(make_node(settings), settings)
