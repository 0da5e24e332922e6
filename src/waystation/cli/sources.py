"""What the environment and the configuration file say, and how their words become values.

Nothing is judged here but names and types; how settings fit together is `rules`.
Every source answers alike: what it gives by key, and its problems as sentences.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from waystation.cli.errors import UsageError
from waystation.cli.names import VARIABLE_PREFIX, Setting

CONFIG_VARIABLE = VARIABLE_PREFIX + "CONFIG"

_KUBERNETES_HINT = (
    "the environment has Kubernetes' variables for a service named waystation, which look like settings; "
    "set enableServiceLinks: false in the pod, or name the service differently"
)


@dataclass(frozen=True)
class Given:
    """A value and where it was given, for messages: `flag --port`."""

    source: str
    value: object


def from_words(setting: Setting, source: str, word: str) -> Given:
    """Read a value that arrived as text, from a flag or a variable.

    Raises:
        UsageError: the text is not a value of the setting's type.
    """
    if word == "":
        raise UsageError(f"{source} is empty; leave it out to get the default")
    kind = bool if setting.negated else setting.kind
    value = _converted(setting, kind, source, word, strict=False)
    return Given(source, not value if setting.negated else value)


def read_environment(
    settings: Sequence[Setting], environment: Mapping[str, str]
) -> tuple[dict[str, Given], list[str]]:
    """Read every variable whose name starts with `WAYSTATION_`, but for that of the file's path.

    Returns:
        What is given, by key of the setting; and a sentence for each problem.
    """
    by_name = {setting.variable: setting for setting in settings}
    also = {setting.dotted_variable: setting.variable for setting in settings}
    given: dict[str, Given] = {}
    problems: list[str] = []
    for name, word in sorted(environment.items()):
        if not name.startswith(VARIABLE_PREFIX) or name == CONFIG_VARIABLE:
            continue
        setting = by_name.get(name)
        if setting is None:
            problems.append(unknown("variable", name, [*by_name, CONFIG_VARIABLE], also))
            continue
        try:
            given[setting.key] = from_words(setting, f"variable {name}", word)
        except UsageError as error:
            problems.extend(error.problems)
    if problems and "WAYSTATION_SERVICE_HOST" in environment:
        problems.append(_KUBERNETES_HINT)
    return given, problems


def read_file(settings: Sequence[Setting], path: Path) -> tuple[dict[str, Given], list[str]]:
    """Read a TOML file whose tables are the boxes and whose keys are their fields.

    Returns:
        What is given, by key of the setting; and a sentence for each problem.

    Raises:
        UsageError: the file cannot be read, or is not TOML.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not even UTF-8
        raise UsageError(f"file {path} is not TOML: {error}") from error

    by_key = {setting.key: setting for setting in settings if not setting.environment_only}
    boxes = {setting.path[0] for setting in by_key.values() if len(setting.path) > 1}
    given: dict[str, Given] = {}
    problems: list[str] = []
    for key, value in _flat(tables, boxes):
        setting = by_key.get(key)
        source = f"file {path}, key {key}"
        if setting is None:
            known = [*by_key, *boxes]
            is_table = f"{source} is a table, written [{key}]"
            problems.append(is_table if key in boxes else unknown(f"file {path}, key", key, known))
            continue
        try:
            given[key] = Given(source, _converted(setting, setting.kind, source, value, strict=True))
        except UsageError as error:
            problems.extend(error.problems)
    return given, problems


def unknown(what: str, name: str, known: Iterable[str], also: Mapping[str, str] | None = None) -> str:
    """Say that a name is not known, and which one was probably meant.

    Args:
        what: the kind of name, such as `flag`.
        name: as it was written.
        known: the names that there are.
        also: names that somebody may well expect, with the known name of the same thing.
    """
    names = dict(also or {}) | {each: each for each in known}
    near = difflib.get_close_matches(name, names, n=1)
    return f"{what} {name} is not known" + (f"; did you mean {names[near[0]]}?" if near else "")


def allowed(kind: Any) -> str:
    """What values of a type look like, for messages and help."""
    choices = [each for each in get_args(kind) if each is not type(None)]
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(choices)
    if choices:  # `X | None`: nobody writes None, it is what leaving it out means
        [kind] = choices
    return {bool: "true or false", int: "a whole number", float: "a number", Path: "a path"}.get(kind, "text")


def shown(setting: Setting, value: object) -> str:
    """A value for people: secrets hidden, text quoted only when it holds more than plain characters."""
    if setting.secret:
        return "(hidden)"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if text.isprintable() and text and " " not in text else repr(text)


def _flat(table: Mapping[str, Any], boxes: set[str], above: str = "") -> Iterator[tuple[str, Any]]:
    """The keys and values below a table; a table that is no box is left whole, as an unknown key."""
    for name, value in table.items():
        key = f"{above}.{name}" if above else name
        if isinstance(value, dict) and key in boxes:
            yield from _flat(value, boxes, key)
        else:
            yield key, value


def _converted(setting: Setting, kind: Any, source: str, raw: object, *, strict: bool) -> object:
    """`raw` as a value of `kind`; `strict` is False for text, where a number is written as a word."""
    try:
        return msgspec.convert(raw, kind, strict=strict, dec_hook=_path)
    except msgspec.ValidationError as error:
        # In a file, the text "1" and the number 1 are two things, and the message must tell them apart.
        written = json.dumps(raw, default=str) if strict else shown(setting, raw)
        raise UsageError(f"{source}: {written} is not {allowed(kind)}") from error


def _path(kind: type, raw: object) -> Path:
    if kind is Path and isinstance(raw, str) and raw:
        return Path(raw).expanduser()
    raise ValueError("not a path")
