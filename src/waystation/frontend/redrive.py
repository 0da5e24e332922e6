"""The two documents about dead letters: where a queue's go, and whose a queue takes.

Reads them and judges whether they fit together. Never looks a queue up: what has to
be known of the other queue is an argument.

Source: SQS API Reference, SetQueueAttributes; texts of the real service as clients
have reported them. Those about a target's own policy and about a queue that would be
its own target are ours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from waystation.frontend.arns import QueueArn
from waystation.protocol import limits
from waystation.protocol.errors import InvalidAttributeValue, InvalidParameterValue, Refusal

_TARGET = "deadLetterTargetArn"
_COUNT = "maxReceiveCount"
_PERMISSION = "redrivePermission"
_SOURCES = "sourceQueueArns"
_UNSUPPORTED = "Amazon SQS can't create the redrive allow policy, as it's in an unsupported format."


class RedrivePolicy(NamedTuple):
    """Where a queue's dead letters go, and after how many receives."""

    target_arn: QueueArn
    max_receive_count: int
    """1 to 1,000: the receive that would exceed it moves the message instead."""


class RedriveAllowPolicy(NamedTuple):
    """Whose dead letters a queue takes: those of `sources`, or if that is None everybody's."""

    sources: tuple[QueueArn, ...] | None = None

    def allows(self, source: QueueArn) -> bool:
        """A queue may be told to send its dead letters here."""
        return self.sources is None or source in self.sources


def parse_redrive_policy(text: str) -> RedrivePolicy:
    """Read the attribute `RedrivePolicy`.

    Raises:
        InvalidParameterValue: it is no object with exactly a queue's ARN and a number of
            receives, or a text of one, from 1 to 1,000.
        InvalidAttributeValue: it is longer than any such object.
    """
    document = _object("RedrivePolicy", text, "Redrive policy is not a valid JSON map.")
    for name in (_TARGET, _COUNT):
        if name not in document:
            raise _invalid(text, f"Redrive policy does not contain mandatory attribute: {name}.")
    if len(document) > 2:
        raise _invalid(text, f"Only following attributes are supported: [{_TARGET}, {_COUNT}].")
    target = _arn(document[_TARGET])
    if target is None:
        raise _invalid(text, f"Invalid value for {_TARGET}.")
    return RedrivePolicy(target, _receive_count(text, document[_COUNT]))


def _receive_count(text: str, count: object) -> int:
    number = count
    # A length first: int() of a hostile million digits would take its time.
    if isinstance(count, str) and count.isascii() and count.isdigit() and len(count) <= 20:
        number = int(count)
    if (
        isinstance(number, int)
        and not isinstance(number, bool)
        and limits.RECEIVE_COUNT_MIN <= number <= limits.RECEIVE_COUNT_MAX
    ):
        return number
    shown = count if isinstance(count, str) else msgspec.json.encode(count).decode()
    raise _invalid(
        text,
        f"Invalid value for {_COUNT}: {shown}, valid values are from {limits.RECEIVE_COUNT_MIN} to "
        f"{limits.RECEIVE_COUNT_MAX} both inclusive.",
    )


def parse_redrive_allow_policy(text: str) -> RedriveAllowPolicy:
    """Read the attribute `RedriveAllowPolicy`.

    Raises:
        InvalidParameterValue: it is no object with a permission that AWS knows, or lists
            sources where it must not, or not the 1 to 10 that it must.
        InvalidAttributeValue: it is longer than any such object.
    """
    name = "RedriveAllowPolicy"
    document = _object(name, text, _UNSUPPORTED)
    permission, sources = document.get(_PERMISSION), document.get(_SOURCES)
    if not document.keys() <= {_PERMISSION, _SOURCES} or permission not in ("allowAll", "denyAll", "byQueue"):
        raise InvalidParameterValue.of(text, name, _UNSUPPORTED)
    if permission != "byQueue":
        if _SOURCES in document:
            reason = f"{_SOURCES} can be specified only when {_PERMISSION} is byQueue."
            raise InvalidParameterValue.of(text, name, reason)
        return RedriveAllowPolicy(() if permission == "denyAll" else None)
    if not isinstance(sources, list) or not 1 <= len(sources) <= limits.REDRIVE_ALLOW_SOURCES_MAX:
        reason = f"byQueue needs 1 to {limits.REDRIVE_ALLOW_SOURCES_MAX} {_SOURCES}."
        raise InvalidParameterValue.of(text, name, reason)
    arns = [_arn(source) for source in sources]
    if None in arns:
        raise InvalidParameterValue.of(text, name, f"Invalid value for {_SOURCES}.")
    return RedriveAllowPolicy(tuple(arn for arn in arns if arn is not None))


def check_target(text: str, source: QueueArn, target_allows: str | None) -> None:
    """Decide whether a queue may have a redrive policy.

    Args:
        text: the policy, one that `parse_redrive_policy` can read.
        source: the queue that would have it.
        target_allows: the target's `RedriveAllowPolicy`, empty if it has none; None if
            there is no such queue.

    Raises:
        InvalidParameterValue: the target is not a queue of the same owner, region and type
            that takes the source's dead letters.
    """
    target = parse_redrive_policy(text).target_arn
    if target.account != source.account:
        raise _invalid(text, "Dead-letter target owner should be same as the source.")
    if target.region != source.region:
        raise _invalid(text, "Dead-letter target must be in same region as the source.")
    if target.is_fifo != source.is_fifo:
        raise _invalid(text, "Dead-letter queue must be same type of queue as the source.")
    if target == source:
        raise _invalid(text, "A queue cannot be its own dead-letter queue.")
    if target_allows is None:
        raise _invalid(text, "Dead letter target does not exist.")
    if target_allows and not parse_redrive_allow_policy(target_allows).allows(source):
        raise _invalid(text, "The redrive allow policy of the dead-letter queue does not allow this source.")


def _object(name: str, text: str, reason: str) -> dict[str, Any]:
    if len(text.encode()) > limits.POLICY_BYTES_MAX:
        raise InvalidAttributeValue.of(name)
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        raise InvalidParameterValue.of(text, name, reason) from None


def _arn(value: object) -> QueueArn | None:
    return QueueArn.parse(value) if isinstance(value, str) else None


def _invalid(text: str, reason: str) -> Refusal:
    return InvalidParameterValue.of(text, "RedrivePolicy", reason)
