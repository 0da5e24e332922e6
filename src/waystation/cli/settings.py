"""One frozen settings tree for the whole process.

Flags go before environment variables, those before the configuration file, and
that before the defaults. A name that no box knows is refused whatever source it
comes from, and so is a bad value: a setting that is silently not in force is worse
than a server that does not start. All that is wrong is told at once.

Nothing below the command line reads flags, variables or files: each box is handed
its own frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from waystation.backend.settings import BackendSettings
from waystation.cli.errors import UsageError
from waystation.cli.flags import read_flags
from waystation.cli.names import Setting, settings_of
from waystation.cli.rules import broken_rules
from waystation.cli.sources import CONFIG_VARIABLE, Given, read_environment, read_file, shown
from waystation.cluster.settings import ClusterSettings, RoutingSettings
from waystation.cluster.transport_settings import TransportSettings
from waystation.frontend.settings import AuthSettings, HttpSettings, ServiceSettings
from waystation.log.settings import LogSettings, NatsSettings
from waystation.telemetry.settings import TelemetrySettings


@dataclass(frozen=True, kw_only=True)
class RootKeySettings:
    """The first access key, for those who want to choose it. Environment only."""

    access_key_id: str | None = None
    """Id of the root access key. Without it one is made at the first start, and kept."""

    secret_access_key: str | None = field(default=None, repr=False)
    """Secret of the root access key; goes with the id."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that a node can be told, one branch for each box."""

    data_dir: Path = Path("waystation-data")
    """Directory of everything that must survive a restart; made if missing. One node at a time uses it."""

    force_no_auth: bool = False
    """Lets a node without authentication listen beyond loopback: whoever reaches it owns every queue."""

    frontends: int = 0
    """FrontEnd processes that share the port, so that HTTP uses as many cores; all limits in [http] are those
    of each. With 0, one process does everything."""

    node_id: str | None = None
    """Name of this node in its cluster, the same at each start: letters, digits, dots, - and _. Without it,
    the machine's host name."""

    root: RootKeySettings = field(default_factory=RootKeySettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    service: ServiceSettings = field(default_factory=ServiceSettings)
    backend: BackendSettings = field(default_factory=BackendSettings)
    log: LogSettings = field(default_factory=LogSettings)
    nats: NatsSettings = field(default_factory=NatsSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    transport: TransportSettings = field(default_factory=TransportSettings)
    routing: RoutingSettings = field(default_factory=RoutingSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)


@cache
def all_settings() -> tuple[Setting, ...]:
    """Every setting there is. Computed once: it reads the docstrings of the boxes."""
    return settings_of(Settings)


def load_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Merge all sources into the settings that are in force.

    Args:
        arguments: those of `waystation serve`, without the word `serve`.
        environment: as `os.environ`; variables of other programs are ignored.

    Raises:
        UsageError: with a sentence for each unknown name, bad value and broken rule.
    """
    flags, config_flag, problems = read_flags(all_settings(), arguments)
    variables, more = read_environment(all_settings(), environment)
    problems += more
    config = environment.get(CONFIG_VARIABLE) if config_flag is None else config_flag
    in_file: dict[str, Given] = {}
    if config is not None:
        try:
            in_file, more = read_file(all_settings(), Path(config))
        except UsageError as error:
            more = list(error.problems)
        problems += more
    if problems:
        raise UsageError(*problems)

    given = in_file | variables | flags
    settings: Settings = _build(Settings, {key: each.value for key, each in given.items()})
    _check(settings, given)
    return settings


def _build(branch: Any, values: Mapping[str, object], above: str = "") -> Any:
    """A dataclass of the tree from values by key; what is not given keeps its default."""
    arguments = {}
    for name, kind in get_type_hints(branch).items():
        key = above + name
        if is_dataclass(kind):
            arguments[name] = _build(kind, values, f"{key}.")
        elif key in values:
            arguments[name] = values[key]
    return branch(**arguments)


def _check(settings: Settings, given: Mapping[str, Given]) -> None:
    by_key = {setting.key: setting for setting in all_settings()}
    values = {key: given[key].value if key in given else each.default for key, each in by_key.items()}
    problems = []
    for key, allowed in broken_rules(settings, values):
        setting = by_key[key]
        source = given[key].source if key in given else f"default of {setting.flag}"
        value = f": {shown(setting, values[key])}" if setting.kind is not bool else ""
        problems.append(f"{source}{value} {allowed}")
    if problems:
        raise UsageError(*problems)
