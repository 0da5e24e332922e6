"""The README's way from one machine to three, followed word by word on three machines."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.jepsen.network import Namespace, Network, inside, run
from tests.jepsen.programs import Program
from tests.server import config, eventually

README = Path(__file__).parent.parent.parent / "README.md"
HERE = "10.79.0"
"""In place of the README's network."""


def blocks() -> list[str]:
    """The commands of the section, in order: for each machine, for one of them, for each."""
    section = README.read_text(encoding="utf-8").partition("## From one machine to three")[2]
    found = re.findall(r"```sh\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    return [each.replace("10.0.0", HERE) for each in found]


class Shell:
    """What a reader types on one machine, in a directory of that machine's own."""

    def __init__(self, machine: Namespace, number: int, folder: Path) -> None:
        self.machine = machine
        self._number = number
        self._programs: list[Program] = []
        self._folder = folder / machine.name
        self._folder.mkdir()
        # As the README asks: both programs are on the PATH.
        programs = folder / "programs"
        programs.mkdir(exist_ok=True)
        waystation = programs / "waystation"
        waystation.write_text(f'#!/bin/sh\nexec {sys.executable} -m waystation "$@"\n')
        waystation.chmod(0o755)
        self._path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"

    def types(self, commands: str) -> Program:
        """Give it all these commands; those in the background go on."""
        commands = commands.replace("export N=1", f"export N={self._number}")
        log = self._folder / f"said-{len(list(self._folder.glob('said-*')))}"
        environment = {"PATH": self._path, "N": str(self._number)}
        in_folder = f"cd {self._folder}\n{commands}\nwait\n"
        program = Program(self.machine, ["bash", "-euc", in_folder], log, environment)
        program.start()
        self._programs.append(program)
        return program

    def dies(self) -> None:
        """The machine with all that runs on it."""
        for process in run("ip", "netns", "pids", self.machine.full_name).split():
            os.kill(int(process), signal.SIGKILL)
        for program in self._programs:
            program.kill()


@pytest.fixture
def shells(tmp_path: Path) -> Iterator[list[Shell]]:
    """On each of three machines."""
    network = Network()
    network.make()
    made: list[Shell] = []
    try:
        made.extend(
            Shell(network.add(f"n{number}", f"{HERE}.{number}"), number, tmp_path) for number in (1, 2, 3)
        )
        yield made
    finally:
        for shell in made:
            shell.dies()
        network.remove()


@pytest.mark.timeout(300)
def test_three_machines_are_one_cluster_after_the_commands_of_the_readme(
    shells: list[Shell],
) -> None:
    servers, init, nodes = blocks()
    for shell in shells:
        shell.types(servers)

    def made() -> bool:
        making = shells[0].types(init)
        eventually(lambda: not making.is_running, within_s=90)
        return " is ready: 16 shards" in making.log.read_text()

    # Whoever types is slower than the servers are at finding each other.
    eventually(made, within_s=60)
    running = [shell.types(nodes) for shell in shells]
    eventually(lambda: all("listening on" in each.log.read_text() for each in running), within_s=90)

    said = "\n".join(each.log.read_text() for each in running)
    export = re.search(r"AWS_ACCESS_KEY_ID=(\S+) AWS_SECRET_ACCESS_KEY=(\S+)", said)
    assert export is not None, said
    with inside(shells[2].machine):
        first, second, third = (client(number, *export.groups()) for number in (1, 2, 3))
        url = first.create_queue(QueueName="orders")["QueueUrl"]
        first.send_message(QueueUrl=url, MessageBody="one coffee")
        shells[0].dies()
        eventually(lambda: received(second), within_s=60)
        third.send_message(QueueUrl=url, MessageBody="another")
        eventually(lambda: received(third), within_s=60)


def client(number: int, key: str, secret: str) -> Any:
    return boto3.client(
        "sqs",
        endpoint_url=f"http://{HERE}.{number}:9324",
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=config(retries={"total_max_attempts": 5, "mode": "standard"}),
    )


def received(client: Any) -> bool:
    """Receive and delete a message, if there is one."""
    url = client.get_queue_url(QueueName="orders")["QueueUrl"]
    messages = client.receive_message(QueueUrl=url, WaitTimeSeconds=5).get("Messages", [])
    for message in messages:
        client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return bool(messages)
