"""The networks of the test do what the faults take for granted, and go without a trace."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import parts
from tests.jepsen.disks import ForgetfulDisk, SmallDisk
from tests.jepsen.network import NAMESPACES, Namespace, Network, inside, need_programs, remove_leftovers
from tests.jepsen.programs import Program, Supervisor
from tests.server import eventually


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    found = Network()
    found.make()
    yield found
    found.remove()
    assert not list(NAMESPACES.glob(f"{found.tag}-*"))


@pytest.fixture(scope="module")
def machines(network: Network) -> list[Namespace]:
    """Three, with an echo of datagrams at port 7 of each."""
    return [network.add(f"m{number}", f"10.77.0.{number}") for number in (1, 2, 3)]


def is_heard(speaker: Namespace, listener: Namespace) -> bool:
    """Whether a datagram arrives."""
    with inside(listener), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind((listener.address, 7))
        ear.settimeout(0.3)
        with inside(speaker), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
            try:
                mouth.sendto(b"hello", (listener.address, 7))
            except OSError:  # there is no way out of this machine
                return False
        try:
            return ear.recv(10) == b"hello"
        except TimeoutError:
            return False


def test_what_is_cut_one_way_is_heard_the_other_way(machines: list[Namespace]) -> None:
    first, second, third = machines
    assert is_heard(first, second)
    try:
        first.lose(second, hears=False)

        assert not is_heard(first, second)
        assert is_heard(second, first)
        assert is_heard(first, third)
    finally:
        first.hear_all()
    assert is_heard(first, second)


def test_two_who_are_cut_off_from_each_other_both_hear_the_third(machines: list[Namespace]) -> None:
    first, second, third = machines
    try:
        first.lose(second)

        assert not is_heard(first, second)
        assert not is_heard(second, first)
        assert is_heard(first, third)
        assert is_heard(third, second)
    finally:
        first.hear_all()


def test_a_cable_that_is_out_can_be_put_in_again(machines: list[Namespace]) -> None:
    first, second, _ = machines
    first.set_link(up=False)
    assert not is_heard(first, second)
    assert not is_heard(second, first)

    first.set_link(up=True)

    eventually(lambda: is_heard(first, second))


def test_whoever_was_at_another_machine_is_at_home_again(machines: list[Namespace]) -> None:
    with inside(machines[0]):
        names = {name for _, name in socket.if_nameindex()}
    assert {"lo", "eth0"} <= names
    assert machines[0].name not in {name for _, name in socket.if_nameindex()}


def test_a_program_is_started_again_when_it_ends_and_not_when_it_was_killed(
    machines: list[Namespace], tmp_path: Path
) -> None:
    ends = Program(machines[0], [sys.executable, "-c", "print('here')"], tmp_path / "ends.log")
    killed = Program(machines[0], ["sleep", "60"], tmp_path / "killed.log")
    supervisor = Supervisor([ends, killed])
    ends.start()
    killed.start()
    killed.kill()
    supervisor.start()
    try:
        eventually(lambda: ends.log.read_text().count("here") == 2)
    finally:
        supervisor.over.set()
        supervisor.join()
        ends.kill()
    assert not killed.is_running
    assert (ends.ended_by_itself >= 1, killed.ended_by_itself) == (True, 0)


def test_a_killed_run_leaves_nothing_once_the_next_has_begun(tmp_path: Path) -> None:
    """Not its namespaces, not its processes, not its mounts."""
    need_programs()
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from tests.jepsen.disks import SmallDisk; from tests.jepsen.network import Network\n"
        "from tests.jepsen.programs import Program\n"
        "network = Network(); network.make(); machine = network.add('m1', '10.77.0.1')\n"
        "disk = SmallDisk(Path(sys.argv[1]), network.tag, 'disk'); disk.mount()\n"
        "Program(machine, ['sleep', '600'], Path(sys.argv[1]) / 'log').start()\n"
        "print(network.tag, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    tag = done.stdout.strip()
    assert tag, done.stderr
    assert list(NAMESPACES.glob(f"{tag}-*"))
    assert f"{tag}-disk" in Path("/proc/mounts").read_text()

    remove_leftovers()

    assert not list(NAMESPACES.glob(f"{tag}-*"))
    assert f"{tag}-disk" not in Path("/proc/mounts").read_text()


def test_a_full_disk_has_room_for_no_byte_until_room_is_made(network: Network, tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path, network.tag, "small", size_mib=1)
    disk.mount()
    disk.fill()

    with pytest.raises(OSError, match="No space left"):
        (disk.path / "more").write_bytes(b"x")
    disk.make_room()
    (disk.path / "more").write_bytes(b"x")


def test_a_disk_that_loses_power_keeps_what_was_synced_and_forgets_the_rest(
    network: Network, tmp_path: Path
) -> None:
    parts.program("mkfs.ext4", "e2fsprogs")
    disk = ForgetfulDisk(tmp_path, network.tag, "forgetful")
    disk.mount()
    with (disk.path / "synced").open("wb") as file:
        file.write(b"safe")
        file.flush()
        os.fsync(file.fileno())
    (disk.path / "not-synced").write_bytes(b"gone")
    began_s = time.monotonic()

    disk.lose_power()

    assert (disk.path / "synced").read_bytes() == b"safe"
    # The kernel writes out by itself what is 30 s old; a slower machine proves nothing.
    if time.monotonic() - began_s < 20:
        assert not (disk.path / "not-synced").exists()
