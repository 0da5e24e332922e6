"""The commands that look after a data directory: their flags, help, and what they print."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from waystation.cli.errors import CommandFailed, ExitCode
from waystation.cli.flags import Formatter, Parser

_DESCRIPTIONS = {
    "backup": """\
Copy a data directory as it is at this moment, also while a node runs on it: everything that was
acknowledged before is in the copy. The node's writes pause for some milliseconds. Run it as the
user that the node runs as.

The copy has everything that the data directory has, also the secrets: the access key, and that of
receipt handles. Protect it as well.

example:
  waystation backup --data-dir /var/lib/waystation --to /backups/waystation-$(date +%F)
""",
    "restore": """\
Make a new data directory from a backup, after verifying it as `waystation check` does. This is
going back in time: what was sent since is gone, and what was deleted since is there again.

example:
  waystation restore --from /backups/waystation-2026-03-01 --data-dir /var/lib/waystation
""",
    "check": """\
Verify a data directory or a backup, and say what is wrong, where, and what to do about it:
checksums of all records, what they lead to, and whether every message is where it should be. It
changes nothing, and works beside a running node, as the same user.

A problem is damage; a remark is as well to know. The last line says what there is, in numbers.

example:
  waystation check --data-dir /var/lib/waystation
""",
}

_DATA_DIR_HELP = {
    "backup": "Data directory to copy.",
    "restore": "Data directory to make; new or empty.",
    "check": "Data directory, or backup, to verify.",
}

_EXIT_CODES = {
    "backup": "done|could not be done; nothing is left that looks like a backup",
    "restore": "done|could not be done; nothing is left of it",
    "check": "no problems|there are problems, or it could not be looked at",
}


def run_command(name: str, arguments: Sequence[str]) -> ExitCode:
    """Run `waystation backup`, `restore` or `check`. Raises `UsageError`."""
    try:
        given = _parser(name).parse_args(list(arguments))
    except SystemExit:  # `--help` has been answered
        return ExitCode.STOPPED
    from waystation.cli.serve import reason, tell

    try:
        # Whoever stops it so finds as little of it as after Control-C.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return _run(name, given)
        finally:
            signal.signal(signal.SIGTERM, before)
    except KeyboardInterrupt:
        tell(f"{name} was interrupted")
    except (CommandFailed, OSError) as error:
        tell(f"{name} failed: {reason(error)}")
    return ExitCode.FAILED


def _run(name: str, given: argparse.Namespace) -> ExitCode:
    # Only now: help and mistakes are told at once, without loading all that it takes.
    if name == "backup":
        from waystation.cli.backup import back_up

        print(back_up(given.data_dir, given.target))
    elif name == "restore":
        from waystation.cli.restore import restore

        print(restore(given.backup, given.data_dir))
    else:
        return _check(given.data_dir)
    return ExitCode.STOPPED


def _check(directory: Path) -> ExitCode:
    from waystation.cli.check import check
    from waystation.cli.findings import counted

    began_s = time.monotonic()
    report = check(directory)
    for finding in report.findings:
        print(finding)
    problems, remarks = len(report.problems), len(report.findings) - len(report.problems)
    seconds = time.monotonic() - began_s
    found = f"{counted(problems, 'problem')}, {counted(remarks, 'remark')}"
    print(f"{directory}: {report.contents()}, {seconds:.1f} s: {found}")
    return ExitCode.FAILED if problems else ExitCode.STOPPED


def _parser(name: str) -> argparse.ArgumentParser:
    done, failed = _EXIT_CODES[name].split("|")
    parser = Parser(
        prog=f"waystation {name}",
        description=_DESCRIPTIONS[name],
        epilog=f"exit codes:\n  0  {done}\n  1  {failed}\n  2  a flag is wrong or missing\n",
        formatter_class=Formatter,
        allow_abbrev=False,
        add_help=False,
    )
    flags = parser.add_argument_group("flags")
    if name == "restore":
        flags.add_argument(
            "--from", dest="backup", type=Path, required=True, metavar="PATH", help="Backup to restore."
        )
    flags.add_argument("--data-dir", type=Path, required=True, metavar="PATH", help=_DATA_DIR_HELP[name])
    if name == "backup":
        flags.add_argument(
            "--to",
            dest="target",
            type=Path,
            required=True,
            metavar="PATH",
            help="Directory for the copy; new or empty.",
        )
    flags.add_argument("-h", "--help", action="help", help="Show this help.")
    return parser
