"""The flags of `waystation serve`, and the help that teaches them.

Flags, their groups, defaults and texts come from the settings tree. The rest of the
help is what a newcomer asks next: what to type, where data goes, what else there is.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Literal, NoReturn, get_args, get_origin

from waystation.cli.errors import ExitCode, UsageError
from waystation.cli.names import Setting
from waystation.cli.sources import CONFIG_VARIABLE, Given, allowed, from_words, shown, unknown

OVERVIEW = """\
usage: waystation COMMAND [flags]
       waystation COMMAND --help
       waystation --version

A self-hosted, durable message queue that speaks the Amazon SQS API.

  serve    run a node until it is told to stop
  backup   copy a data directory, also while a node runs on it
  restore  make a new data directory from a backup
  check    verify a data directory or a backup
  cluster  make a cluster of many machines, look at it, or try one out on this machine
"""

_DESCRIPTION = """\
Run a node: a durable message queue that any SQS client uses by changing its endpoint URL.
It says where it listens once it does, and answers what is in progress before it stops.

examples:
  waystation serve
      on 127.0.0.1:9324, data in ./waystation-data; prints a new access key the first time
  waystation serve --data-dir /var/lib/waystation --host 0.0.0.0 \\
                   --tls-certificate cert.pem --tls-key key.pem
      for other machines, over TLS
  waystation serve --port 0 --no-auth --data-dir "$(mktemp -d)"
      for a test: a free port, any credentials, data that nobody needs
  waystation serve --cluster nats://10.0.0.1:4222,nats://10.0.0.2:4222 \\
                   --host 10.0.0.1 --transport.listen 10.0.0.1:9326
      as one node of a cluster, see `waystation cluster --help`
"""

_EPILOG = """\
data directory:
  Holds all that must survive a restart: messages, queues and the root access key. An answered
  request is on its disk. `waystation backup` copies it while the node runs; to start anew, remove
  it. A second node on the same directory refuses to start. A node of a cluster keeps nothing in it:
  all that must survive is on the NATS servers.

environment:
  Each flag has a variable: its name in capitals after WAYSTATION_, with _ for . and -, such as
  WAYSTATION_DATA_DIR or WAYSTATION_HTTP_IDLE_TIMEOUT_S. Only from the environment come
{environment_only}

configuration file, given by --config or {config_variable}:
  data_dir = "/var/lib/waystation"

  [http]
  host = "0.0.0.0"
  idle_timeout_s = 120

  [telemetry]
  log_format = "json"

  A table is a box and a key its field: the flag --http.idle-timeout-s is idle_timeout_s in [http].
  A flag goes before a variable, that before the file, that before the default. A name that is not
  known is refused, wherever it is written.

exit codes:
  {stopped}  stopped as asked
  {failed}  could not start, such as when the port or the data directory is in use
  {usage}  a flag, variable or the configuration file is wrong

SIGTERM and SIGINT (Ctrl-C) stop the node gracefully; a second one stops it at once. Neither loses
a message.
"""


def read_flags(
    settings: Sequence[Setting], arguments: Sequence[str]
) -> tuple[dict[str, Given], str | None, list[str]]:
    """Read the arguments of `waystation serve`; `--help` prints help and raises `SystemExit`.

    Returns:
        What is given, by key of the setting; the path in `--config`, `None` without it; and a
        sentence for each problem.
    """
    by_key = {setting.key: setting for setting in settings if not setting.environment_only}
    try:
        found, left_over = _parser(settings).parse_known_args(list(arguments))
    except UsageError as error:  # such as a flag without its value: where the next one starts is unclear
        return {}, None, list(error.problems)

    flags = [setting.flag for setting in by_key.values()]
    also = {setting.dotted_flag: setting.flag for setting in by_key.values()}
    names = [word.partition("=")[0] for word in left_over if word.startswith("-")]
    problems = [unknown("flag", name, [*flags, "--config", "--help"], also) for name in names]
    if left_over and not names:
        problems.append(f"argument {left_over[0]} is not known; serve takes flags only")

    given: dict[str, Given] = {}
    words = vars(found)
    config = words.pop("config", None)
    for key, word in words.items():
        try:
            given[key] = from_words(by_key[key], f"flag {by_key[key].flag}", word)
        except UsageError as error:
            problems.extend(error.problems)
    return given, config, problems


class Parser(argparse.ArgumentParser):
    """Mistakes in arguments are told as all others are."""

    def error(self, message: str) -> NoReturn:
        """Instead of printing and ending the process, as argparse does."""
        raise UsageError(message.replace("argument ", "flag ", 1))


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Descriptions as they are written, and lines for a terminal of 100 columns."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=100)


def _parser(settings: Sequence[Setting]) -> argparse.ArgumentParser:
    parser = Parser(
        prog="waystation serve",
        usage="waystation serve [flags]",
        description=_DESCRIPTION,
        epilog=_epilog(settings),
        formatter_class=Formatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,  # an abbreviation would change its meaning when a flag is added
        add_help=False,
    )
    common = parser.add_argument_group("flags")
    common.add_argument("--config", metavar="PATH", help="Configuration file; see below.")
    common.add_argument("-h", "--help", action="help", help="Show this help.")
    groups: dict[str, Any] = {}
    for setting in settings:
        if setting.environment_only:
            continue
        box = setting.path[0]
        if setting.flag != setting.dotted_flag or len(setting.path) == 1:
            _add(common, setting)
        else:
            group = groups.get(box) or groups.setdefault(box, parser.add_argument_group(f"[{box}]"))
            _add(group, setting)
    return parser


def _add(group: Any, setting: Setting) -> None:
    switch = setting.kind is bool
    help_text = setting.help
    if setting.negated:
        help_text += f" In the file: {setting.key} = false."
    elif setting.flag != setting.dotted_flag:
        help_text += f" In the file: {setting.key}."
    if setting.default is not None and not switch:
        help_text += f" (default: {shown(setting, setting.default)})"
    group.add_argument(
        setting.flag,
        dest=setting.key,
        metavar=_metavar(setting),
        help=help_text.replace("%", "%%"),
        # A switch may stand alone, and still be turned off in a script: --no-auth=false.
        **({"nargs": "?", "const": "true"} if switch else {}),
    )


def _metavar(setting: Setting) -> str:
    if get_origin(setting.kind) is Literal:
        return "|".join(get_args(setting.kind))
    return {"a whole number": "N", "a number": "N", "a path": "PATH", "true or false": "true|false"}.get(
        allowed(setting.kind), "TEXT"
    )


def _epilog(settings: Sequence[Setting]) -> str:
    environment_only = "".join(
        f"    {each.variable}\n        {each.help}\n" for each in settings if each.environment_only
    )
    return _EPILOG.format(
        environment_only=environment_only.rstrip(),
        config_variable=CONFIG_VARIABLE,
        stopped=ExitCode.STOPPED.value,
        failed=ExitCode.FAILED.value,
        usage=ExitCode.USAGE.value,
    )
