"""Four sources make one tree, in their order, and nothing that is wrong passes for right."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from waystation.cli.errors import UsageError
from waystation.cli.flags import read_flags
from waystation.cli.names import Setting
from waystation.cli.settings import Settings, all_settings, load_settings
from waystation.cli.sources import read_environment, read_file
from waystation.frontend.settings import AuthSettings, HttpSettings


def load(*arguments: str, environment: Mapping[str, str] | None = None) -> Settings:
    return load_settings(arguments, environment or {})


def problems(arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(UsageError) as caught:
        load_settings(arguments, environment or {})
    return caught.value.problems


def config(directory: Path, text: str) -> str:
    path = directory / "waystation.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_without_any_source_every_default_holds() -> None:
    assert load() == Settings()


def test_a_flag_goes_before_a_variable_and_that_before_the_file(tmp_path: Path) -> None:
    path = config(tmp_path, "[http]\nport = 1\nidle_timeout_s = 1\npipelined_max = 1\nread_timeout_s = 1\n")
    environment = {
        "WAYSTATION_CONFIG": path,
        "WAYSTATION_PORT": "2",
        "WAYSTATION_HTTP_IDLE_TIMEOUT_S": "2",
        "WAYSTATION_HTTP_PIPELINED_MAX": "2",
    }

    settings = load("--port", "3", "--http.idle-timeout-s=3", environment=environment)

    assert settings.http == HttpSettings(port=3, idle_timeout_s=3.0, pipelined_max=2, read_timeout_s=1.0)


def test_the_file_that_a_flag_names_replaces_the_one_of_the_variable(tmp_path: Path) -> None:
    path = config(tmp_path, "data_dir = '/data'")

    settings = load("--config", path, environment={"WAYSTATION_CONFIG": "/nowhere"})

    assert settings.data_dir == Path("/data")


@pytest.mark.parametrize(
    "setting", [each for each in all_settings() if not each.environment_only], ids=lambda each: each.key
)
def test_every_setting_is_reached_by_flag_variable_and_file_alike(setting: Setting, tmp_path: Path) -> None:
    """Whatever field a box gains, it can be set from everywhere."""
    value = _another_value(setting)
    word = _word(not value if setting.negated else value)
    file = config(tmp_path, _toml(setting.path, value))

    from_flag, _, flag_problems = read_flags(all_settings(), [setting.flag, word])
    from_variable, variable_problems = read_environment(all_settings(), {setting.variable: word})
    from_file, file_problems = read_file(all_settings(), Path(file))

    assert flag_problems + variable_problems + file_problems == []
    for given in (from_flag, from_variable, from_file):
        assert {key: each.value for key, each in given.items()} == {setting.key: value}


def _another_value(setting: Setting) -> object:
    """A value of the setting's type that is not its default."""
    if get_origin(setting.kind) is Literal:
        return get_args(setting.kind)[-1]
    if isinstance(setting.default, bool):
        return not setting.default
    return {int: 7, float: 7.5, str: "seven"}.get(
        setting.kind, Path("/seven") if _is_path(setting) else "seven"
    )


def _is_path(setting: Setting) -> bool:
    return Path in (setting.kind, *get_args(setting.kind))


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _toml(path: tuple[str, ...], value: object) -> str:
    *tables, name = path
    head = f"[{'.'.join(tables)}]\n" if tables else ""
    return f"{head}{name} = {_word(value) if isinstance(value, bool | int | float) else repr(str(value))}\n"


def test_flags_and_variables_are_all_different() -> None:
    settings = all_settings()

    assert len({each.flag for each in settings}) == len(settings)
    assert len({each.variable for each in settings}) == len(settings)


def test_every_setting_explains_itself() -> None:
    assert [each.key for each in all_settings() if not each.help] == []


def test_the_tree_cannot_change_once_it_is_built() -> None:
    settings = load()

    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.http.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--prot", "1"], "flag --prot is not known; did you mean --port?"),
        (["--http.port", "1"], "flag --http.port is not known; did you mean --port?"),
        (
            ["--http.idle-timeout=3"],
            "flag --http.idle-timeout is not known; did you mean --http.idle-timeout-s?",
        ),
        (["--zzzzzz"], "flag --zzzzzz is not known"),
        (["--root.access-key-id", "x"], "flag --root.access-key-id is not known"),
        (["now"], "argument now is not known; serve takes flags only"),
        (["--port"], "flag --port: expected one argument"),
    ],
)
def test_an_unknown_flag_is_refused(arguments: list[str], expected: str) -> None:
    assert problems(arguments) == (expected,)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("WAYSTATION_PROT", "WAYSTATION_PORT"),
        ("WAYSTATION_HTTP_PORT", "WAYSTATION_PORT"),
        ("WAYSTATION_AUTH_ENABLED", "WAYSTATION_NO_AUTH"),
        ("WAYSTATION_CONFIGURATION", "WAYSTATION_CONFIG"),
    ],
)
def test_an_unknown_variable_is_refused_and_the_closest_one_named(name: str, meant: str) -> None:
    expected = f"variable {name} is not known; did you mean {meant}?"

    assert problems(environment={name: "1"}) == (expected,)


def test_variables_of_other_programs_are_left_alone() -> None:
    assert load(environment={"HOME": "/root", "PORT": "1", "waystation_port": "1"}) == Settings()


def test_kubernetes_service_variables_are_recognised() -> None:
    """A service named waystation puts these into every pod beside it, and one is even named as ours."""
    found = problems(
        environment={"WAYSTATION_SERVICE_HOST": "10.0.0.1", "WAYSTATION_PORT": "tcp://10.0.0.1:1"}
    )

    assert found[0] == "variable WAYSTATION_PORT: tcp://10.0.0.1:1 is not a whole number"
    assert "enableServiceLinks: false" in found[-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prot = 1", "key prot is not known"),
        ("[http]\nprot = 1", "key http.prot is not known; did you mean http.port?"),
        ("[htpp]\nport = 1", "key htpp is not known; did you mean http?"),
        ("http = 1", "key http is a table, written [http]"),
        ("[http.port]\nx = 1", 'key http.port: {"x": 1} is not a whole number'),
        ("[http]\nport = '1'", 'key http.port: "1" is not a whole number'),
        ("[http]\nport = true", "key http.port: true is not a whole number"),
        ("[auth]\nenabled = 1", "key auth.enabled: 1 is not true or false"),
        ("[root]\nsecret_access_key = 'x'", "key root is not known"),
        ("data_dir = ''", 'key data_dir: "" is not a path'),
    ],
)
def test_the_file_is_held_to_names_and_types(tmp_path: Path, text: str, expected: str) -> None:
    path = config(tmp_path, text)

    [found] = problems(["--config", path])

    assert found.startswith(f"file {path}, {expected}")


@pytest.mark.parametrize(
    ("content", "expected"), [(b"[http", "is not TOML"), (b"\xff", "is not TOML"), (None, "cannot be read")]
)
def test_a_file_that_cannot_be_understood_is_named(
    tmp_path: Path, content: bytes | None, expected: str
) -> None:
    path = tmp_path / "waystation.toml"
    if content is not None:
        path.write_bytes(content)

    [found] = problems(["--config", str(path)])

    assert found.startswith(f"file {path} {expected}: ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--port", "x"], "flag --port: x is not a whole number"),
        (["--port", "1.5"], "flag --port: 1.5 is not a whole number"),
        (["--port", ""], "flag --port is empty; leave it out to get the default"),
        (["--http.idle-timeout-s", "soon"], "flag --http.idle-timeout-s: soon is not a number"),
        (["--no-auth=maybe"], "flag --no-auth: maybe is not true or false"),
        (["--log-level", "loud"], "flag --log-level: loud is not one of debug, info, warning, error"),
        (["--port", "65536"], "flag --port: 65536 must be from 0 to 65535, where 0 takes a free port"),
        (["--port", "-1"], "flag --port: -1 must be 0 or more"),
        (["--http.pipelined-max", "0"], "flag --http.pipelined-max: 0 must be more than 0"),
        (["--http.idle-timeout-s", "-0.5"], "flag --http.idle-timeout-s: -0.5 must be more than 0"),
        (["--http.idle-timeout-s", "inf"], "flag --http.idle-timeout-s: inf must be finite"),
        (["--http.idle-timeout-s", "nan"], "flag --http.idle-timeout-s: nan must be finite"),
        (["--account", "12"], "flag --account: 12 must be twelve digits"),
        (["--force-no-auth"], "flag --force-no-auth needs --no-auth as well"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_allowed(arguments: list[str], expected: str) -> None:
    assert problems(arguments) == (expected,)


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    path = config(tmp_path, "[http]\nprot = 1")

    found = problems(["--config", path, "--port", "x"], {"WAYSTATION_ACCOUNTS": "1"})

    assert [each.split()[0] for each in found] == ["flag", "variable", "file"]


@pytest.mark.parametrize("region", ["local", "us-east-1", "eu-central-1"])
def test_a_region_may_be_any_plain_name(region: str) -> None:
    assert load("--region", region).service.region == region


@pytest.mark.parametrize("region", ["US-EAST-1", "us_east", "-us", "us--east", "a/b", "a b"])
def test_a_region_that_would_break_an_arn_is_refused(region: str) -> None:
    [found] = problems([f"--region={region}"])

    assert "must be lower-case letters, digits and single hyphens" in found


@pytest.mark.parametrize(
    "url", ["http://localhost:9324", "https://queues.example.com", "https://[2001:db8::1]:443"]
)
def test_a_public_url_is_scheme_and_host(url: str) -> None:
    assert load("--public-url", url).service.public_url == url


@pytest.mark.parametrize(
    "url",
    [
        "queues.example.com",
        "ftp://example.com",
        "https://",
        "https://example.com/",
        "https://example.com?x",
        "https://user@example.com",
        "https://example.com:port",
        "https://[::1",
    ],
)
def test_a_public_url_with_more_or_less_is_refused(url: str) -> None:
    [found] = problems(["--public-url", url])

    assert "must be scheme and host alone" in found


def test_certificate_and_key_go_together(tmp_path: Path) -> None:
    pem = tmp_path / "both.pem"
    pem.touch()

    assert "--tls-key" in problems(["--tls-certificate", str(pem)])[0]
    assert "--tls-certificate" in problems(["--tls-key", str(pem)])[0]
    assert load("--tls-certificate", str(pem), "--tls-key", str(pem)).http.tls_key == pem


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")

    found = problems(["--tls-certificate", missing, "--tls-key", missing])

    assert f"{missing} must be a file that can be read (No such file or directory)" in found[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_without_authentication_loopback_is_allowed(host: str) -> None:
    assert load("--no-auth", "--host", host).auth == AuthSettings(enabled=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "queues.example.com", "localhost.example.com"])
def test_without_authentication_other_addresses_must_be_forced(host: str) -> None:
    [found] = problems(["--no-auth", "--host", host])

    assert found.startswith(f"flag --host: {host} must be loopback with --no-auth")
    assert load("--no-auth", "--force-no-auth", "--host", host).http.host == host


def test_a_switch_can_be_turned_off_again() -> None:
    assert load("--no-auth=false", environment={"WAYSTATION_NO_AUTH": "true"}).auth.enabled


def test_the_root_key_comes_from_the_environment() -> None:
    environment = {
        "WAYSTATION_ROOT_ACCESS_KEY_ID": "admin",
        "WAYSTATION_ROOT_SECRET_ACCESS_KEY": "correct-horse",
    }

    root = load(environment=environment).root

    assert (root.access_key_id, root.secret_access_key) == ("admin", "correct-horse")


@pytest.mark.parametrize("name", ["WAYSTATION_ROOT_ACCESS_KEY_ID", "WAYSTATION_ROOT_SECRET_ACCESS_KEY"])
def test_half_a_root_key_is_refused(name: str) -> None:
    [found] = problems(environment={name: "correct-horse" if "SECRET" in name else "admin"})

    assert found.startswith(f"variable {name}: ")
    assert "as well" in found


def test_a_secret_is_never_shown() -> None:
    environment = {
        "WAYSTATION_ROOT_ACCESS_KEY_ID": "admin",
        "WAYSTATION_ROOT_SECRET_ACCESS_KEY": "hunter2",
    }
    [too_short] = problems(environment=environment)

    assert "hunter2" not in too_short
    assert "correct-horse" not in repr(
        load(environment=environment | {"WAYSTATION_ROOT_SECRET_ACCESS_KEY": "correct-horse"})
    )
