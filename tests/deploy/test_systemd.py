"""The units are sound, and agree with what the programs take and how long they need."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy import parts
from waystation.cli.settings import Settings, all_settings, load_settings

UNITS = parts.DEPLOY / "systemd"


def values(name: str, key: str) -> list[str]:
    """What a unit says for a key, in order."""
    text = (UNITS / name).read_text(encoding="utf-8")
    return re.findall(rf"^{key}=(.*)$", text, flags=re.MULTILINE)


def seconds(name: str, key: str) -> int:
    [value] = values(name, key)
    return int(value.removesuffix("s"))


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with a program that is on this machine, and drop-ins on a unit like Debian's."""
    for name in ("waystation.service", "nats-server.service"):
        text = (UNITS / name).read_text(encoding="utf-8")
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE)
        (tmp_path / name).write_text(text, encoding="utf-8")
    for name in ("haproxy", "keepalived"):
        unit = f"[Unit]\nDescription={name}\n[Service]\nType=notify\nExecStart=/bin/true\n"
        (tmp_path / f"{name}.service").write_text(unit, encoding="utf-8")
        drop_in = tmp_path / f"{name}.service.d"
        drop_in.mkdir()
        text = (UNITS / f"{name}.conf").read_text(encoding="utf-8")
        (drop_in / "waystation.conf").write_text(
            text.replace("/usr/sbin/keepalived", "/bin/true"), encoding="utf-8"
        )
    return tmp_path


@pytest.mark.parametrize("name", ["waystation", "nats-server", "haproxy", "keepalived"])
def test_systemd_has_nothing_to_say_against_a_unit(name: str, units: Path) -> None:
    analyze = parts.program("systemd-analyze", "systemd")

    check = subprocess.run(
        [analyze, "verify", "--man=no", str(units / f"{name}.service")],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{units}:"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert [line for line in check.stderr.splitlines() if str(units) in line] == []
    assert check.returncode == 0, check.stderr


@pytest.mark.parametrize("name", ["waystation.service", "nats-server.service"])
def test_a_unit_may_do_little(name: str, units: Path) -> None:
    """systemd's own judgement, from 0 (nothing) to 10 (everything). Network and its data are what is left."""
    analyze = parts.program("systemd-analyze", "systemd")

    check = subprocess.run(
        [analyze, "security", "--offline=yes", "--threshold=20", str(units / name)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert check.returncode == 0, check.stdout[-2_000:]


def test_a_stop_is_given_the_time_it_takes() -> None:
    settings = Settings()
    nats = (parts.DEPLOY / "nats" / "nats-server.conf").read_text(encoding="utf-8")
    lame_duck_s = sum(
        int(found) for found in re.findall(r'^lame_duck_\w+: "(\d+)s"', nats, flags=re.MULTILINE)
    )

    node_s = settings.cluster.leave_s + settings.http.shutdown_grace_s + settings.transport.drain_s
    assert seconds("waystation.service", "TimeoutStopSec") > node_s
    assert lame_duck_s == 35
    assert seconds("nats-server.service", "TimeoutStopSec") > lame_duck_s


def test_a_unit_allows_as_many_files_as_the_limits_need() -> None:
    [haproxy] = values("haproxy.conf", "LimitNOFILE")
    [waystation] = values("waystation.service", "LimitNOFILE")

    assert int(haproxy) > 2 * 16_000
    assert int(waystation) > Settings().http.connections_max + Settings().transport.connections_max + 256


def test_all_in_the_environment_file_are_settings(tmp_path: Path) -> None:
    """An unknown name keeps a node from starting."""
    lines = (UNITS / "waystation.env").read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    found = {name: value for name, _, value in pairs}
    known = {setting.variable for setting in all_settings()}
    file = tmp_path / "pem"
    file.write_text("")
    found |= {name: str(file) for name, value in found.items() if value.startswith("/etc/")}
    found |= {"WAYSTATION_ROOT_ACCESS_KEY_ID": "EXAMPLE", "WAYSTATION_ROOT_SECRET_ACCESS_KEY": "of-the-test"}

    assert set(found) <= known
    assert load_settings([], found).service.public_url == "https://queues.example.com"
