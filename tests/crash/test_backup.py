"""Backups of a server under load, with letters on their way between two shards, are of one moment."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

from tests.crash.test_dead_letters import FLAGS, drain, is_empty_after_a_poll, poll
from tests.server import arn, eventually, running

BACKUPS = 4
LIVE_MAX = 600
"""Senders pause while there are so many, or receiving it all from each backup would take long."""
NEVER = (float("inf"), float("inf"))


@dataclass
class History:
    """When messages came and went, by their ids, on this process's clock."""

    sent_s: dict[str, float] = field(default_factory=dict)
    """When their sends were acknowledged."""
    deletes_s: dict[str, tuple[float, float]] = field(default_factory=dict)
    """When their deletes began, and were acknowledged."""


@dataclass(frozen=True)
class Backup:
    directory: Path
    began_s: float
    ended_s: float
    aside: int
    """Messages that were on their way to the other shard."""


def test_each_backup_has_every_message_once_that_was_there_when_it_was_made(tmp_path: Path) -> None:
    history = History()
    with running(tmp_path / "data", *FLAGS) as server:
        sqs = server.client()
        letters = sqs.create_queue(QueueName="letters")["QueueUrl"]
        document = {"deadLetterTargetArn": arn("letters"), "maxReceiveCount": 1}
        attributes = {"RedrivePolicy": json.dumps(document)}
        orders = sqs.create_queue(QueueName="orders", Attributes=attributes)["QueueUrl"]
        over = Event()
        work = [
            lambda: send(sqs, orders, history),
            *[lambda: poll(sqs, orders)] * 3,
            lambda: delete(sqs, letters, history),
        ]
        errors: list[BaseException] = []
        threads = [Thread(target=repeat, args=(each, over, errors), daemon=True) for each in work]
        for thread in threads:
            thread.start()
        eventually(lambda: len(history.deletes_s) > 500)
        backups: list[Backup] = []
        while len(backups) < BACKUPS or not any(backup.aside for backup in backups):
            assert len(backups) < 5 * BACKUPS, "none is made while letters are on their way"
            backups.append(back_up(tmp_path, len(backups)))
        over.set()
        for thread in threads:
            thread.join(timeout=30)
        assert errors == []
        server.stop()

    for backup in backups:
        verify(backup, history)


def repeat(step: Any, over: Event, errors: list[BaseException]) -> None:
    try:
        while not over.is_set():
            step()
    except BaseException as error:
        errors.append(error)
        raise


def send(sqs: Any, queue: str, history: History) -> None:
    if len(history.sent_s) - len(history.deletes_s) > LIVE_MAX:
        time.sleep(0.001)
        return
    entries = [{"Id": str(each), "MessageBody": "poison"} for each in range(10)]
    answer = sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    now_s = time.monotonic()
    history.sent_s |= {sent["MessageId"]: now_s for sent in answer["Successful"]}


def delete(sqs: Any, queue: str, history: History) -> None:
    """Delete what comes, but for one in eight, which every later backup has."""
    received = sqs.receive_message(
        QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1, VisibilityTimeout=1
    )
    messages = [each for each in received.get("Messages", []) if each["MessageId"][0] not in "ab"]
    if not messages:
        return
    began_s = time.monotonic()
    for message in messages:
        history.deletes_s[message["MessageId"]] = (began_s, float("inf"))
    entries = [
        {"Id": str(index), "ReceiptHandle": each["ReceiptHandle"]} for index, each in enumerate(messages)
    ]
    assert len(sqs.delete_message_batch(QueueUrl=queue, Entries=entries)["Successful"]) == len(entries)
    for message in messages:
        history.deletes_s[message["MessageId"]] = (began_s, time.monotonic())


def back_up(tmp_path: Path, number: int) -> Backup:
    target = tmp_path / f"backup-{number}"
    began_s = time.monotonic()
    run("backup", "--data-dir", tmp_path / "data", "--to", target)
    ended_s = time.monotonic()
    [aside] = re.findall(r"([0-9,]+) set aside", run("check", "--data-dir", target))
    return Backup(target, began_s, ended_s, int(aside.replace(",", "")))


def run(*arguments: str | Path) -> str:
    """What a command prints, which has to end well."""
    command = [sys.executable, "-m", "waystation", *map(str, arguments)]
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def verify(backup: Backup, history: History) -> None:
    """Restore it, serve it, and receive all that is in it."""
    restored = backup.directory.with_suffix(".restored")
    run("restore", "--from", backup.directory, "--data-dir", restored)
    with running(restored, *FLAGS) as server:
        sqs = server.client()
        orders, letters = (sqs.get_queue_url(QueueName=name)["QueueUrl"] for name in ("orders", "letters"))
        eventually(lambda: is_empty_after_a_poll(sqs, orders))
        found = drain(sqs, letters)
        server.stop()
    assert {message: times for message, times in found.items() if times > 1} == {}
    must = {
        message
        for message, sent_s in history.sent_s.items()
        if sent_s < backup.began_s and history.deletes_s.get(message, NEVER)[0] > backup.ended_s
    }
    assert must - set(found) == set(), "acknowledged before the backup, and not deleted"
    must_not = {message for message, (_, ended_s) in history.deletes_s.items() if ended_s < backup.began_s}
    assert must_not & set(found) == set(), "deleted before the backup"
    assert len(must) > 20
