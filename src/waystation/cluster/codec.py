"""Commands, answers and errors of shards as the bytes that nodes exchange, and calls to shards over a link.

MessagePack, in arrays: a later release may add fields at the end, with defaults. An older node ignores
them, a newer one takes the defaults for what an older node does not say. Tags, names of error classes and
the order of fields never change.

Of an error it is told as well whether the shard has refused the command at once, so that nothing was done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import msgspec

from waystation.backend.errors import NotDone
from waystation.backend.errors import was_not_done as was_not_done
from waystation.backend.giving_back import give_back
from waystation.cluster.transport_client import Link, OutcomeUnknown
from waystation.cluster.transport_connection import CallRefused
from waystation.cluster.transport_server import Handler
from waystation.protocol.errors import Refusal, Unavailable
from waystation.queues.commands import Answer, Command, ReceiveMessages

SHARD_COMMAND = 1
"""The kind of call that gives a command to a shard."""

_GIVE_BACK_S = 5.0
"""For messages to be given back whose receive nobody waits for any more. Their visibility timeout goes on."""

Submit: TypeAlias = Callable[[int, Command], asyncio.Future[Answer]]


class _Request(msgspec.Struct, frozen=True, array_like=True, gc=False):
    shard: int
    command: Command


class _Error(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last three are for who does not know the class."""

    name: str
    text: str
    at_once: bool
    is_refusal: bool
    shape: str = ""
    query_code: str = ""
    status: int = 0


_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(_Request)
_answers: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Answer)
_errors = msgspec.msgpack.Decoder(_Error)
_classes: dict[str, type[Refusal | Unavailable]] = {}


def encode_command(shard: int, command: Command) -> bytes:
    """A command, and the number of the shard that it is for."""
    return _encoder.encode(_Request(shard, command))


def decode_command(payload: bytes) -> tuple[int, Command]:
    """Raises `ValueError`: it is none, or one that only a newer release knows."""
    request = _requests.decode(payload)
    return request.shard, request.command


def encode_answer(answer: Answer) -> bytes:
    """What a shard has answered."""
    return _encoder.encode(answer)


def decode_answer(payload: bytes) -> Answer:
    """Raises `ValueError`: it is none, or one that only a newer release knows."""
    answer: Answer = _answers.decode(payload)
    return answer


def encode_error(error: Refusal | Unavailable, *, at_once: bool) -> bytes:
    """An error of a shard; `at_once`: it came before anything was done."""
    return _encoder.encode(
        _Error(
            type(error).__name__,
            error.message,
            at_once,
            isinstance(error, Refusal),
            error.shape,
            error.query_code,
            error.status,
        )
    )


def decode_error(payload: bytes) -> Refusal | Unavailable:
    """An error of the same class and text; `was_not_done` tells what it says of the command.

    One of a class that only a newer release knows is a plain `Refusal` that clients see as what it is, or,
    as it may say anything, an `OutcomeUnknown`. Raises `ValueError`: it is none.
    """
    told = _errors.decode(payload)
    found = _class_of(told.name)
    if found is not None:
        # Not by its constructor: that builds the text from data that is not sent.
        error = found.__new__(found)
        error.args = (told.text,)
        error.message = told.text
    elif told.is_refusal:
        error = Refusal(told.text)
        vars(error).update(shape=told.shape, query_code=told.query_code, status=told.status)
    else:
        error = OutcomeUnknown(told.text)
    if told.at_once:
        error.__cause__ = NotDone("The shard has refused the command at once.")
    return error


def _class_of(name: str) -> type[Refusal | Unavailable] | None:
    if name not in _classes:
        # Again when one is missing: its module may have been imported since.
        _classes.update((each.__name__, each) for each in error_classes())
    return _classes.get(name)


def error_classes() -> list[type[Refusal | Unavailable]]:
    """All of both families that are known in this process."""
    found: list[type[Refusal | Unavailable]] = [Refusal, Unavailable]
    for each in found:  # which grows meanwhile
        found.extend(sub for sub in each.__subclasses__() if sub not in found)
    return found


def shard_handler(submit: Submit) -> Handler:
    """The handler of a `TransportServer` that gives each command to `submit(shard, command)`."""

    def handle(kind: int, payload: bytes) -> asyncio.Future[bytes]:
        try:
            if kind != SHARD_COMMAND:
                raise Unavailable(f"Calls of kind {kind} are not known to this node.")
            answering = submit(*decode_command(payload))
        except (Refusal, Unavailable) as error:
            raise CallRefused(encode_error(error, at_once=True)) from error
        except ValueError as error:
            unknown = Unavailable(f"The command is not known to this node: {error}")
            raise CallRefused(encode_error(unknown, at_once=True)) from error
        return _Encoded(answering)

    return handle


class _Encoded(asyncio.Future[bytes]):
    """The bytes of an answer that is still to come; cancelling this cancels that."""

    __slots__ = ("_answering",)

    def __init__(self, answering: asyncio.Future[Answer]) -> None:
        super().__init__(loop=answering.get_loop())
        self._answering = answering
        if answering.done():
            self._take(answering)
        else:
            answering.add_done_callback(self._take)

    def cancel(self, msg: Any | None = None) -> bool:
        """False, and it goes on, once there is an answer: messages may be in it that are to be given back."""
        return self._answering.cancel(msg) and super().cancel(msg)

    def _take(self, answering: asyncio.Future[Answer]) -> None:
        error = None if answering.cancelled() else answering.exception()
        if self.done():
            return
        if answering.cancelled():
            super().cancel()
        elif error is None:
            self.set_result(_encoder.encode(answering.result()))
        elif isinstance(error, Refusal | Unavailable):
            self.set_exception(CallRefused(encode_error(error, at_once=False)))
        else:
            self.set_exception(error)


class ShardLink:
    """The shards of one other node, over a link to it, which whoever built this closes."""

    def __init__(self, link: Link) -> None:
        self.link = link

    def submit(self, shard: int, command: Command, timeout_s: float) -> asyncio.Future[Answer]:
        """Give a command to a shard of the node. Nothing is raised: all errors are the future's.

        They are those of `Shard.submit`, by the same classes, and those of `Link.call`. `was_not_done` tells
        those apart that leave the outcome open. If the future is cancelled, a receive no longer waits, and
        messages that come all the same are given back.
        """
        payload = encode_command(shard, command)
        if not isinstance(command, ReceiveMessages):
            return self.link.call(SHARD_COMMAND, payload, timeout_s, decode_answer, decode_error)
        late = partial(give_back, self._give, shard)
        return self.link.call(SHARD_COMMAND, payload, timeout_s, decode_answer, decode_error, late)

    def _give(self, shard: int, command: Command) -> asyncio.Future[Answer]:
        return self.submit(shard, command, _GIVE_BACK_S)
