"""Machines as network namespaces on a bridge, which lies in a namespace of its own.

Nothing here touches this machine's own network: what is cut, is cut between namespaces. Every name
begins with `wsj` and the number of the process that made it, so that a later run finds, and removes,
what a killed one has left.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.deploy import parts
from tests.server import eventually

_CLONE_NEWNET = 0x40000000
"""Of `setns`: the namespace is a network."""
_OURS = re.compile(r"wsj([0-9]+)(?:-|$)")
NAMESPACES = Path("/run/netns")


class Namespace:
    """One machine: an address, processes, and rules for what it hears and says."""

    def __init__(self, hub: str, name: str, tag: str, address: str) -> None:
        self.name = name
        self.full_name = f"{tag}-{name}"
        self.address = address
        self._hub = hub

    def make(self) -> None:
        """Make it, with a link to the bridge."""
        run("ip", "netns", "add", self.full_name)
        link = ("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self.full_name)
        run("ip", "-n", self._hub, *link)
        run("ip", "-n", self._hub, "link", "set", self.name, "master", "bridge", "up")
        inside = ("ip", "-n", self.full_name)
        run(*inside, "address", "add", f"{self.address}/24", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "link", "set", "lo", "up")

    def command(self, *words: str) -> list[str]:
        """A command in it."""
        # What is installed for administrators is not on everybody's PATH.
        program = shutil.which(words[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or words[0]
        return ["ip", "netns", "exec", self.full_name, program, *words[1:]]

    def set_link(self, *, up: bool) -> None:
        """Plug its cable in, or out."""
        run("ip", "-n", self._hub, "link", "set", self.name, "up" if up else "down")

    def lose(self, *others: Namespace, hears: bool = True, is_heard: bool = True) -> None:
        """From now on, what the others say to it is lost (`hears`), and what it says to them (`is_heard`)."""
        rules = ["add table ip cut"]
        for chain, hook, field, wanted in (
            ("hears", "input", "saddr", hears),
            ("says", "output", "daddr", is_heard),
        ):
            rules.append(f"add chain ip cut {chain} {{ type filter hook {hook} priority 0 ; }}")
            rules += [
                f"add rule ip cut {chain} ip {field} {other.address} drop" for other in others if wanted
            ]
        run(*self.command("nft", "-f", "-"), told="\n".join(rules))

    def hear_all(self) -> None:
        """Lose nothing any more."""
        run(*self.command("nft", "-f", "-"), told="add table ip cut\ndelete table ip cut\n")


class Network:
    """The bridge, and the machines on it. `remove` leaves nothing, nor any process in it."""

    def __init__(self) -> None:
        self.tag = f"wsj{os.getpid()}"
        self._hub = f"{self.tag}-hub"

    def make(self) -> None:
        """Make the bridge. Skips the test where there may be none."""
        need_programs()
        remove_leftovers()
        run("ip", "netns", "add", self._hub)
        run("ip", "-n", self._hub, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", self._hub, "link", "set", "bridge", "up")

    def add(self, name: str, address: str) -> Namespace:
        """A machine with that address on the bridge."""
        machine = Namespace(self._hub, name, self.tag, address)
        machine.make()
        return machine

    def remove(self) -> None:
        _remove(self.tag)


@contextmanager
def inside(machine: Namespace) -> Iterator[None]:
    """Whoever runs this, and each thread that it starts, opens its sockets at that machine meanwhile."""
    with (
        Path("/proc/thread-self/ns/net").open("rb") as home,
        (NAMESPACES / machine.full_name).open("rb") as there,
    ):
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def need_programs() -> None:
    """Skips the test, naming what is missing, where such a network cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    nft = parts.program("nft", "nftables")
    for name, package in (("ip", "iproute2"), ("mount", "mount")):
        parts.program(name, package)
    probe = f"wsj{os.getpid()}-probe"
    for command in (
        ["ip", "netns", "add", probe],
        ["ip", "-n", probe, "link", "add", "bridge", "type", "bridge"],
        ["ip", "-n", probe, "link", "add", "one", "type", "veth", "peer", "name", "two"],
        ["ip", "netns", "exec", probe, nft, "add", "table", "ip", "cut"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode != 0:
            _remove(f"wsj{os.getpid()}")
            pytest.skip(f"{' '.join(command)} does not work here: {done.stderr.strip()}")
    run("ip", "netns", "delete", probe)


def remove_leftovers() -> None:
    """Remove what runs have left whose processes are gone."""
    names = [path.name for path in NAMESPACES.glob("wsj*")] + [
        path.name for path in Path("/run").glob("wsj*")
    ]
    names += re.findall(r"wsj[0-9]+", Path("/proc/mounts").read_text(encoding="utf-8"))
    for number in {match[1] for name in names if (match := _OURS.match(name))}:
        if not Path(f"/proc/{number}").exists():
            _remove(f"wsj{number}")


def _remove(tag: str) -> None:
    """All that a run has made under its tag: processes, mounts, namespaces, files of `/run`."""
    namespaces = sorted(NAMESPACES.glob(f"{tag}-*"))

    def processes() -> list[int]:
        listed = [run("ip", "netns", "pids", path.name).split() for path in namespaces]
        return [int(number) for numbers in listed for number in numbers if int(number) != os.getpid()]

    for number in processes():
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    eventually(lambda: not processes(), within_s=10)
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    for place in reversed(mounts):
        if f"/{tag}-" in place:
            run("umount", place)
    for path in namespaces:
        run("ip", "netns", "delete", path.name)
    shutil.rmtree(f"/run/{tag}", ignore_errors=True)


def run(*command: str, told: str | None = None) -> str:
    """What the command says; fails with its complaint."""
    done = subprocess.run(command, input=told, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout
