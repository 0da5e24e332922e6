"""Commands, answers and errors as bytes: all of them, both ways, and between two releases."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waystation.backend.errors import ShardBusy, ShardUnavailable
from waystation.cluster.codec import (
    SHARD_COMMAND,
    decode_answer,
    decode_command,
    decode_error,
    encode_answer,
    encode_command,
    encode_error,
    error_classes,
    shard_handler,
    was_not_done,
)
from waystation.cluster.transport_client import NotDone, OutcomeUnknown
from waystation.cluster.transport_connection import CallRefused
from waystation.protocol.errors import OverLimit, QueueDoesNotExist, Refusal, Unavailable
from waystation.queues import commands
from waystation.queues.commands import Answer, Command, CountMessages, Counts

COMMANDS = [*get_args(commands.Command)]
ANSWERS = [*get_args(commands.Answer)]


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """All values of a field's type; `from_type` would give integers that MessagePack has no room for."""
    if kind is int:
        return st.integers(-(2**63), 2**63 - 1)
    if get_origin(kind) is list:
        return st.lists(values_of(get_args(kind)[0]), max_size=10)
    if get_origin(kind) is tuple:
        return st.tuples(*map(values_of, get_args(kind)))
    if get_origin(kind) is dict:
        return st.dictionaries(*map(values_of, get_args(kind)), max_size=10)
    if issubclass(kind, msgspec.Struct):
        hints = get_type_hints(kind)
        return st.builds(kind, **{name: values_of(hints[name]) for name in kind.__struct_fields__})
    return st.from_type(kind)


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
@given(data=st.data(), shard=st.integers(0, 65_535))
@settings(max_examples=25)
def test_every_command_comes_out_as_it_went_in(kind: type[Command], data: st.DataObject, shard: int) -> None:
    command = data.draw(values_of(kind))

    assert decode_command(encode_command(shard, command)) == (shard, command)


@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=25)
def test_every_answer_comes_out_as_it_went_in(kind: type[Answer], data: st.DataObject) -> None:
    answer = data.draw(values_of(kind))

    decoded = decode_answer(encode_answer(answer))

    assert type(decoded) is kind
    assert decoded == answer


def test_every_kind_of_command_and_answer_of_that_module_can_be_sent() -> None:
    """What is added there and left out of the unions is found here."""
    tagged = {
        each
        for each in vars(commands).values()
        if isinstance(each, type)
        and issubclass(each, msgspec.Struct)
        and each.__struct_config__.tag is not None
    }

    assert tagged == {*COMMANDS, *ANSWERS}


@pytest.mark.parametrize("error_class", error_classes(), ids=lambda each: each.__name__)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
def test_every_error_keeps_its_class_code_and_text(
    error_class: type[Refusal | Unavailable], at_once: bool
) -> None:
    error = error_class.__new__(error_class)
    error.args = ("Something is not right: ü.",)
    error.message = "Something is not right: ü."

    decoded = decode_error(encode_error(error, at_once=at_once))

    assert type(decoded) is error_class
    assert (decoded.message, str(decoded)) == (error.message, error.message)
    told = (decoded.namespace, decoded.shape, decoded.query_code, decoded.status)
    assert told == (error.namespace, error.shape, error.query_code, error.status)
    if at_once:
        assert was_not_done(decoded)


def test_the_names_of_all_errors_differ() -> None:
    names = [each.__name__ for each in error_classes()]

    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("error", "certain"),
    [
        (QueueDoesNotExist(), True),
        (OverLimit.in_flight(3), True),
        (ShardBusy(), True),
        (NotDone(), True),
        (ShardUnavailable("The shard is recovering."), False),
        (OutcomeUnknown(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_of_an_error_that_comes_later_its_class_says_whether_the_outcome_is_open(
    error: Refusal | Unavailable, certain: bool
) -> None:
    assert was_not_done(decode_error(encode_error(error, at_once=False))) is certain


def with_first(payload: bytes, name: str) -> bytes:
    """The bytes of an error as a newer release would name it."""
    told = msgspec.msgpack.decode(payload)
    return msgspec.msgpack.encode([name, *told[1:]])


def test_a_refusal_of_a_newer_release_is_seen_by_clients_as_what_it_is() -> None:
    decoded = decode_error(with_first(encode_error(OverLimit("Too many."), at_once=False), "OverNewLimit"))

    assert type(decoded) is Refusal
    assert (decoded.message, decoded.shape, decoded.status) == ("Too many.", "OverLimit", 403)


@pytest.mark.parametrize("at_once", [True, False])
def test_an_unavailability_of_a_newer_release_leaves_open_what_came_later(at_once: bool) -> None:
    decoded = decode_error(with_first(encode_error(Unavailable("Not now."), at_once=at_once), "ShardMoving"))

    assert type(decoded) is OutcomeUnknown
    assert decoded.message == "Not now."
    assert was_not_done(decoded) is at_once


def test_what_a_newer_release_adds_at_the_end_is_ignored() -> None:
    told = [3, [9, 7, "of a newer release", {"and": "more"}], "here as well"]
    answer = [6, 1, 2, 3, ["expired", 4]]

    assert decode_command(msgspec.msgpack.encode(told)) == (3, CountMessages(7))
    assert decode_answer(msgspec.msgpack.encode(answer)) == Counts(1, 2, 3)


def test_what_an_older_release_does_not_say_takes_its_default() -> None:
    older = msgspec.msgpack.encode([0, [6, 7, 10, 30_000]])
    entry = msgspec.msgpack.encode([0, [5, 7, [[b"envelope"]]]])
    received = msgspec.msgpack.encode([4, 7, [[1, 2, 3, 4, 5]]])

    assert decode_command(older) == (0, commands.ReceiveMessages(7, 10, 30_000, 0, b""))
    assert decode_command(entry) == (0, commands.SendMessages(7, [commands.Entry(b"envelope", 0, "", b"")]))
    assert decode_answer(received) == commands.Received(7, [commands.ReceivedMessage(1, 2, 3, 4, 5, "", b"")])


@given(st.binary())
def test_bytes_that_mean_nothing_are_a_value_error(payload: bytes) -> None:
    decoders: list[Any] = [decode_command, decode_answer, decode_error]
    for decode in decoders:
        with suppress(ValueError):
            decode(payload)


def refusal_of(payload: bytes, kind: int = SHARD_COMMAND) -> Refusal | Unavailable:
    """What a handler says at once, where every shard would count three messages."""

    def submit(shard: int, command: Command) -> asyncio.Future[Answer]:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        answer.set_result(Counts(3, 0, 0))
        return answer

    async def call() -> bytes:
        return await shard_handler(submit)(kind, payload)

    with pytest.raises(CallRefused) as refused:
        asyncio.run(call())
    return decode_error(refused.value.payload)


def test_a_command_of_a_newer_release_is_certain_not_to_be_done() -> None:
    refusal = refusal_of(msgspec.msgpack.encode([0, [99, 7]]))

    assert was_not_done(refusal)
    assert "not known to this node" in refusal.message


def test_a_kind_of_call_that_is_not_known_is_certain_not_to_be_done() -> None:
    refusal = refusal_of(encode_command(0, CountMessages(7)), kind=999)

    assert was_not_done(refusal)
    assert "kind 999" in refusal.message
