"""Storage that fails, is full, is slow, or loses power breaks no promise; and a broken one is seen."""

from __future__ import annotations

import os
from pathlib import Path
from random import SystemRandom

import pytest

from tests.crash.faults import FaultyServer, Storage
from tests.crash.rounds import TO_THE_STORAGE, Chapter, figures
from tests.server import running

PLANTED = Path(__file__).with_name("planted")
ROUNDS = 8
_ATTEMPTS = 4
"""To have a planted fault met: whether it is, in three rounds of a second, is a matter of luck."""


@pytest.fixture
def storage(library: Path, tmp_path: Path) -> Storage:
    return Storage(library, tmp_path / "data", "storage")


def test_no_promise_is_broken_whatever_happens_to_the_storage(library: Path, tmp_path: Path) -> None:
    """Some rounds of many: `make crash ROUNDS=500` has more. CRASH_SEED=… repeats what was tried."""
    seed = os.environ.get("CRASH_SEED") or str(SystemRandom().randrange(10**6))
    print(f"CRASH_SEED={seed}")
    storage = Storage(library, tmp_path / "data", seed)
    chapter = Chapter(tmp_path, seed, storage)
    chapter.run(ROUNDS, TO_THE_STORAGE)
    print(chapter.happened, figures([chapter]), chapter.found, sep="\n")

    assert chapter.found == ""
    assert figures([chapter])["sends acknowledged"] > 10 * ROUNDS
    assert storage["syncs"] > ROUNDS, "the library is not between SQLite and its files"


MESSAGES = 50


def kept_through_losses_of_power(storage: Storage, folder: Path, *, lie: bool) -> set[int]:
    """How many of the messages were there afterwards, all of which were acknowledged."""
    server = FaultyServer(storage.data_dir, environment=storage.environment)
    try:
        server.start()
        sqs = server.client()
        queue = sqs.create_queue(QueueName="orders")["QueueUrl"]
        if lie:
            storage.lie()
        for number in range(MESSAGES):
            sqs.send_message(QueueUrl=queue, MessageBody=f"{number}")
        assert storage["syncs"] >= MESSAGES
    finally:
        server.kill()
    kept: set[int] = set()
    for seed in range(4):
        with running(storage.copy_after_power_loss(folder / str(seed), seed)) as left:
            sqs = left.client()
            queue, names = sqs.get_queue_url(QueueName="orders")["QueueUrl"], ["ApproximateNumberOfMessages"]
            counts = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
            kept.add(int(counts[names[0]]))
    return kept


def test_what_was_acknowledged_was_synced_and_a_loss_of_power_takes_none_of_it(
    storage: Storage, tmp_path: Path
) -> None:
    assert kept_through_losses_of_power(storage, tmp_path, lie=False) == {MESSAGES}


def test_without_true_syncs_a_loss_of_power_takes_what_was_acknowledged(
    storage: Storage, tmp_path: Path
) -> None:
    """So that the test before this one could have failed."""
    assert min(kept_through_losses_of_power(storage, tmp_path, lie=True)) < MESSAGES


@pytest.mark.parametrize(
    ("planted", "kind"),
    [("answers_before_it_appends", "loss of power"), ("forgets_deduplication", "kill")],
)
def test_a_server_that_breaks_a_promise_is_found_out(
    library: Path, tmp_path: Path, planted: str, kind: str
) -> None:
    """On a slow disk, so that each kill comes while somebody waits for an answer."""
    search = os.pathsep.join([str(PLANTED / planted), os.environ.get("PYTHONPATH", "")])
    for attempt in range(_ATTEMPTS):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        storage = Storage(library, folder / "data", planted, sync_us=10_000)
        chapter = Chapter(folder, f"{planted} {attempt}", storage, {"PYTHONPATH": search})
        chapter.run(3, {kind: 1})
        if chapter.broken:
            return
    pytest.fail("three rounds of it break no promise, each time")
