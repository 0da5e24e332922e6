"""What an attempt to receive may have again."""

from __future__ import annotations

import pytest

from waystation.queues import attempts as attempts_module
from waystation.queues.attempts import ATTEMPT_MS, Attempts
from waystation.queues.message import IN_FLIGHT, READY, SET_ASIDE, Message


def in_flight(sequence: int, visible_at_ms: int = 500) -> Message:
    message = Message(sequence, 1, 10, 0, IN_FLIGHT, visible_at_ms)
    message.receive_count = 1
    return message


def noted(*messages: Message, at_ms: int = 0) -> tuple[Attempts, dict[int, Message]]:
    attempts = Attempts()
    attempts.note(b"x", at_ms, 500, messages)
    return attempts, {message.sequence: message for message in messages}


def test_an_attempt_has_its_messages_again_for_five_minutes() -> None:
    first, second = in_flight(1), in_flight(2)
    attempts, held = noted(first, second)

    assert attempts.messages(b"x", held, ATTEMPT_MS - 1) == [first, second]
    assert attempts.messages(b"x", held, ATTEMPT_MS) == []
    assert attempts.messages(b"y", held, 1) == []


@pytest.mark.parametrize(
    "change",
    [
        {"state": READY},
        {"state": SET_ASIDE},
        {"receive_count": 2},
        {"visible_at_ms": 501},
    ],
)
def test_an_attempt_has_nothing_again_once_one_message_is_not_as_it_left_it(change: dict[str, int]) -> None:
    second = in_flight(2)
    attempts, held = noted(in_flight(1), second)
    for name, value in change.items():
        setattr(second, name, value)

    assert attempts.messages(b"x", held, 1) == []


def test_an_attempt_has_nothing_again_once_one_message_is_gone() -> None:
    attempts, held = noted(in_flight(1), in_flight(2))
    del held[2]

    assert attempts.messages(b"x", held, 1) == []


def test_a_repeated_attempt_is_not_younger_for_that() -> None:
    message = in_flight(1)
    attempts, held = noted(message)
    assert [receipt.sequence for receipt in attempts.extend(b"x", 900)] == [1]
    message.visible_at_ms = 900

    assert attempts.messages(b"x", held, 1) == [message]
    assert attempts.messages(b"x", held, ATTEMPT_MS) == []


def test_old_attempts_are_forgotten_and_young_ones_are_saved() -> None:
    attempts, _ = noted(in_flight(1))
    attempts.note(b"y", 1, 500, [in_flight(2)])
    attempts.note(b"z", ATTEMPT_MS, 500, [in_flight(3)])
    saved = attempts.saved()

    assert [attempt.digest for attempt in saved] == [b"y", b"z"]
    assert Attempts(saved).saved() == saved


def test_the_oldest_attempts_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts_module, "ATTEMPTS_MAX", 2)
    attempts, held = noted(in_flight(1))
    for sequence, digest in ((2, b"y"), (3, b"z")):
        held[sequence] = in_flight(sequence)
        attempts.note(digest, 1, 500, [held[sequence]])

    assert len(attempts) == 2
    assert attempts.messages(b"x", held, 2) == []
    assert attempts.messages(b"y", held, 2) == [held[2]]
