"""Every setting, under the names by which each source knows it.

The tree of dataclasses is the one list there is: names, types, defaults and help
all come from it, so a box that gains a field gains its flag, variable and key too.

A field `idle_timeout_s` of the box `http` is `--http.idle-timeout-s` as a flag,
`WAYSTATION_HTTP_IDLE_TIMEOUT_S` as a variable and `idle_timeout_s` in the table
`[http]` of the file. The few that everybody needs have a short name in place of
that flag and variable, never beside it: each source knows one name for one thing.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_type_hints

VARIABLE_PREFIX = "WAYSTATION_"

_SHORT_NAMES = {
    "http.host": "host",
    "http.port": "port",
    "http.tls_certificate": "tls-certificate",
    "http.tls_key": "tls-key",
    "service.public_url": "public-url",
    "service.account": "account",
    "service.region": "region",
    "auth.enabled": "no-auth",
    "nats.servers": "cluster",
    "telemetry.log_level": "log-level",
    "telemetry.log_format": "log-format",
}

# Short names that say the opposite of their field, with their own help.
_NEGATED = {
    "auth.enabled": "Believe every caller, whatever its signature: for development, on loopback only.",
}

# Boxes whose values are secrets. `ps` shows flags to every user of the machine, and
# configuration files are copied and committed, so these come from the environment alone.
_ENVIRONMENT_ONLY = frozenset({"root"})


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One leaf of the settings tree."""

    path: tuple[str, ...]
    """Names of the fields that lead to it, such as `("http", "port")`."""

    kind: Any
    """Its type, as annotated: `int`, `Path | None`, a `Literal`, and so on."""

    default: object
    """Its value when no source gives one."""

    help: str
    """What its flag does, on one line: the docstring below the field, unless the flag negates it."""

    secret: bool
    """Its value must never be shown: the field is left out of its dataclass's `repr`."""

    @property
    def key(self) -> str:
        """Its name in messages and in the configuration file: `http.port`."""
        return ".".join(self.path)

    @property
    def dotted_flag(self) -> str:
        """The systematic flag, which is in use only when there is no short name."""
        return "--" + self.key.replace("_", "-")

    @property
    def flag(self) -> str:
        """The one flag that sets it."""
        short = _SHORT_NAMES.get(self.key)
        return f"--{short}" if short else self.dotted_flag

    @property
    def dotted_variable(self) -> str:
        """The systematic variable, which is in use only when there is no short name."""
        return _variable(self.key)

    @property
    def variable(self) -> str:
        """The one environment variable that sets it."""
        return _variable(_SHORT_NAMES.get(self.key, self.key))

    @property
    def negated(self) -> bool:
        """Flag and variable say the opposite of the field, as `--no-auth` of `auth.enabled`."""
        return self.key in _NEGATED

    @property
    def environment_only(self) -> bool:
        """Neither a flag nor the configuration file may set it."""
        return self.path[0] in _ENVIRONMENT_ONLY


def settings_of(tree: type) -> tuple[Setting, ...]:
    """Every leaf of a tree of dataclasses, in the order in which the fields are written."""
    return tuple(_leaves(tree, tree(), ()))


def _leaves(branch: type, defaults: Any, above: tuple[str, ...]) -> Iterator[Setting]:
    kinds = get_type_hints(branch)
    helps = _field_docstrings(branch)
    for each in fields(branch):
        path = (*above, each.name)
        kind = kinds[each.name]
        default = getattr(defaults, each.name)
        if is_dataclass(kind):
            yield from _leaves(kind, default, path)  # type: ignore[arg-type]  # a class, not an instance
        else:
            help_text = _NEGATED.get(".".join(path)) or helps.get(each.name, "")
            yield Setting(path=path, kind=kind, default=default, help=help_text, secret=not each.repr)


def _variable(name: str) -> str:
    return VARIABLE_PREFIX + name.upper().replace(".", "_").replace("-", "_")


def _field_docstrings(branch: type) -> dict[str, str]:
    """The string below each field, also of its bases. Python drops them, so they are read from the source."""
    found = {}
    for each in (base for base in branch.__mro__ if is_dataclass(base)):
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        assert isinstance(definition, ast.ClassDef)
        for statement, below in zip(definition.body, definition.body[1:], strict=False):
            match statement, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = " ".join(text.split())
    return found
