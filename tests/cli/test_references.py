"""What the catalogue and the shards say of each other has to be there, and is named if it is not."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from tests.cli.checking import Check
from tests.cli.directories import change, create, fill, send, value
from tests.server import arn
from waystation.metadata.queues import QueueRecord


def test_an_entry_that_cannot_be_decoded_is_named(check: Check, data_dir: Path) -> None:
    change(data_dir / "metadata.db", "UPDATE entry SET value = x'c1' WHERE key LIKE 'queue/%/orders'")

    [problem] = check(data_dir).problems

    assert "metadata.db is damaged: entry queue/000000000000/orders cannot be read" in problem


def test_an_attribute_that_means_nothing_is_named(check: Check, data_dir: Path) -> None:
    edit_record(data_dir, "orders", attributes={"DelaySeconds": "soon"})

    [problem] = check(data_dir).problems

    assert "entry queue/000000000000/orders cannot be read: " in problem


def edit_record(data_dir: Path, queue: str, **fields: object) -> None:
    key = f"queue/000000000000/{queue}"
    stored = value(data_dir / "metadata.db", f"SELECT value FROM entry WHERE key = '{key}'")
    record = msgspec.structs.replace(msgspec.msgpack.decode(stored, type=QueueRecord), **fields)
    encoded = msgspec.msgpack.encode(record)
    change(data_dir / "metadata.db", "UPDATE entry SET value = ? WHERE key = ?", encoded, key)


def test_a_secret_that_is_gone_is_missed(check: Check, data_dir: Path) -> None:
    change(data_dir / "metadata.db", "DELETE FROM entry WHERE key = 'secret/handles'")

    [problem] = check(data_dir).problems

    assert "the secret of message ids and receipt handles is missing" in problem


def test_a_missing_catalogue_is_named(check: Check, data_dir: Path) -> None:
    (data_dir / "metadata.db").unlink()

    [problem] = check(data_dir).problems

    assert problem.startswith("problem: metadata.db is missing")


def test_a_queue_that_its_shard_does_not_know_is_named(check: Check, data_dir: Path) -> None:
    edit_record(data_dir, "orders", number=9)

    problems = check(data_dir).problems

    assert "metadata.db has queue orders, which shard 0 does not know" in problems[0]
    assert "shard-000.db has queue orders, which the catalogue does not know, and 31 messages" in problems[1]


def test_a_queue_in_the_place_of_another_is_named(check: Check, data_dir: Path) -> None:
    edit_record(data_dir, "orders", name="orders", shard=1, number=1)

    problems = check(data_dir).problems

    assert any("gives queues letters and orders the same place in shard 1" in problem for problem in problems)


def test_an_empty_queue_that_the_catalogue_does_not_know_is_no_damage(check: Check, data_dir: Path) -> None:
    """A crash may come between the two steps of making one, and the next start clears up."""
    change(data_dir / "metadata.db", "DELETE FROM entry WHERE key LIKE 'queue/%/letters'")

    said = check(data_dir)

    assert said.problems == []
    assert "shard-001.db has queue letters, which the catalogue does not know" in said.remarks[0]


def test_a_queue_whose_deletion_was_cut_short_is_no_damage(check: Check, data_dir: Path) -> None:
    edit_record(data_dir, "orders", deleted_ms=1)

    said = check(data_dir)

    assert said.problems == []
    assert "shard-000.db has queue orders, which the catalogue does not know" in said.remarks[0]


def test_dead_letters_that_have_nowhere_to_go_are_remarked_on(check: Check, tmp_path: Path) -> None:
    policy = json.dumps({"deadLetterTargetArn": arn("letters"), "maxReceiveCount": 1})
    receive = ("ReceiveMessage", {"QueueUrl": "orders", "VisibilityTimeout": 0})
    fill(
        tmp_path / "data",
        [
            create("letters"),
            create("orders", RedrivePolicy=policy),
            ("DeleteQueue", {"QueueUrl": "letters"}),
            *send("orders", "hello"),
            receive,
            receive,
        ],
    )

    said = check(tmp_path / "data")

    assert said.problems == []
    assert f"queue orders has dead letters go to {arn('letters')}, which does not exist" in said.remarks[0]
    assert "; 1 message set aside for it" in said.remarks[0]
    assert "0 in flight, 1 set aside" in said.summary


def test_moves_out_of_a_queue_that_is_gone_are_remarked_on(check: Check, data_dir: Path) -> None:
    fill(data_dir, [("StartMessageMoveTask", {"SourceArn": arn("letters")})])
    change(data_dir / "metadata.db", "DELETE FROM entry WHERE key LIKE 'queue/%/letters'")

    said = check(data_dir)

    assert said.problems == []
    assert any("moves of messages out of queue letters, which is gone" in remark for remark in said.remarks)
