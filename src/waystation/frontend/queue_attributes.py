"""The attributes of a queue: which there are, what each may be, and what it is when nobody set it.

Source: SQS API Reference, CreateQueue and SetQueueAttributes; recorded
responses for the texts and for how the two kinds of encryption exclude each other.
What the three documents among them may hold is for `policies` and `redrive` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from waystation.frontend.policies import check_policy
from waystation.frontend.redrive import parse_redrive_allow_policy, parse_redrive_policy
from waystation.protocol import limits
from waystation.protocol.errors import InvalidAttributeName, InvalidAttributeValue

_RANGES = {
    "DelaySeconds": (0, limits.DELAY_S_MAX),
    "MaximumMessageSize": (limits.MESSAGE_BYTES_MIN, limits.MESSAGE_BYTES_MAX),
    "MessageRetentionPeriod": (limits.RETENTION_S_MIN, limits.RETENTION_S_MAX),
    "ReceiveMessageWaitTimeSeconds": (0, limits.WAIT_S_MAX),
    "VisibilityTimeout": (0, limits.VISIBILITY_TIMEOUT_S_MAX),
    "KmsDataKeyReusePeriodSeconds": (limits.KMS_KEY_REUSE_S_MIN, limits.KMS_KEY_REUSE_S_MAX),
}
_DOCUMENTS: dict[str, Callable[[str], object]] = {
    "Policy": check_policy,
    "RedrivePolicy": parse_redrive_policy,
    "RedriveAllowPolicy": parse_redrive_allow_policy,
}
"""Attributes that are JSON, and what refuses those that cannot be."""
_REMOVED_WHEN_EMPTY = (*_DOCUMENTS, "KmsMasterKeyId")
_KMS_KEY_LENGTH_MAX = 2_048
"""Characters of a key's id, ARN or alias. KMS API Reference, `KeyId`."""
_BOOLEAN = ("true", "false")
_CHOICES = {
    "SqsManagedSseEnabled": _BOOLEAN,
    "ContentBasedDeduplication": _BOOLEAN,
    "DeduplicationScope": ("queue", "messageGroup"),
    "FifoThroughputLimit": ("perQueue", "perMessageGroupId"),
}
_FIFO_DEFAULTS = {
    "FifoQueue": "true",
    "ContentBasedDeduplication": "false",
    "DeduplicationScope": "queue",
    "FifoThroughputLimit": "perQueue",
}
"""The attributes that only FIFO queues have."""

_DEFAULTS = {
    "DelaySeconds": str(limits.DELAY_S_DEFAULT),
    "MaximumMessageSize": str(limits.MESSAGE_BYTES_DEFAULT),
    "MessageRetentionPeriod": str(limits.RETENTION_S_DEFAULT),
    "ReceiveMessageWaitTimeSeconds": str(limits.WAIT_S_DEFAULT),
    "VisibilityTimeout": str(limits.VISIBILITY_TIMEOUT_S_DEFAULT),
    "KmsDataKeyReusePeriodSeconds": str(limits.KMS_KEY_REUSE_S_DEFAULT),
    "SqsManagedSseEnabled": "true",
}
READ_ONLY = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
)
_SETTABLE = {*_RANGES, *_DOCUMENTS, *_CHOICES, "FifoQueue", "KmsMasterKeyId"}
READABLE = {*_SETTABLE, *READ_ONLY, "All"}


def check_attributes(given: Mapping[str, str], *, is_fifo: bool = False) -> dict[str, str]:
    """Validate each of the attributes that a client wants to set on a queue of this kind.

    Returns:
        The same, numbers without leading zeros or signs.

    Raises:
        InvalidAttributeName, InvalidAttributeValue, InvalidParameterValue: with AWS's text.
        OverLimit: a policy is more than one may be.
    """
    if given.get("KmsMasterKeyId") and given.get("SqsManagedSseEnabled") == "true":
        raise InvalidAttributeName(
            "You can use one type of server-side encryption (SSE) at one time. "
            "You can either enable KMS SSE or SQS SSE."
        )
    return {name: _check(name, value, is_fifo) for name, value in given.items()}


def _check(name: str, value: str, is_fifo: bool) -> str:
    if name in _FIFO_DEFAULTS and not is_fifo:
        if name in ("FifoQueue", "ContentBasedDeduplication"):
            raise InvalidAttributeName.unknown(name)
        raise InvalidAttributeName(f"You can specify the {name} only when FifoQueue is set to true.")
    if name not in _SETTABLE:
        raise InvalidAttributeName.unknown(name)
    if name in _RANGES:
        return _check_number(name, value)
    if value == "" and name in _REMOVED_WHEN_EMPTY:
        return value
    if name in _DOCUMENTS:
        _DOCUMENTS[name](value)
    elif name == "KmsMasterKeyId":
        if len(value) > _KMS_KEY_LENGTH_MAX:
            raise InvalidAttributeValue.of(name)
    elif name == "FifoQueue":
        if value != "true":
            raise InvalidAttributeValue.of(name, "Modifying queue type is not supported.")
    elif value not in _CHOICES[name]:
        raise InvalidAttributeValue.of(name)
    return value


def _check_number(name: str, value: str) -> str:
    low, high = _RANGES[name]
    # A length first: int() of a hostile million digits would take its time.
    if not (value.isascii() and value.isdigit() and len(value) <= 20 and low <= int(value) <= high):
        raise InvalidAttributeValue.of(name)
    return str(int(value))


def merge_attributes(current: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The attributes after a change that `check_attributes` has passed.

    Raises:
        InvalidAttributeValue: they would not go together, as its limit of throughput is by
            message groups and its deduplication is not. The text is ours.
    """
    merged = {**current, **given}
    by_groups = merged.get("FifoThroughputLimit") == "perMessageGroupId"
    if by_groups and merged.get("DeduplicationScope") != "messageGroup":
        raise InvalidAttributeValue.of(
            "FifoThroughputLimit",
            "The value perMessageGroupId is allowed only when DeduplicationScope is messageGroup.",
        )
    if given.get("KmsMasterKeyId"):
        merged["SqsManagedSseEnabled"] = "false"
    elif given.get("SqsManagedSseEnabled") == "true":
        merged.pop("KmsMasterKeyId", None)
    return {name: value for name, value in merged.items() if value or name not in _REMOVED_WHEN_EMPTY}


def effective_attributes(current: Mapping[str, str]) -> dict[str, str]:
    """What clients are shown of what was set, defaults included."""
    shown = _with_defaults(current)
    # Without a key AWS does not show the default, even if it was set. What else was set has to
    # be seen: Terraform waits for that.
    name = "KmsDataKeyReusePeriodSeconds"
    if "KmsMasterKeyId" not in current and shown[name] == _DEFAULTS[name]:
        del shown[name]
    return shown


def _with_defaults(current: Mapping[str, str]) -> dict[str, str]:
    # A FIFO queue was created with `FifoQueue`, and no other queue can have got it.
    return {**_DEFAULTS, **(_FIFO_DEFAULTS if "FifoQueue" in current else {}), **current}


def first_difference(current: Mapping[str, str], given: Mapping[str, str]) -> str | None:
    """The first of the given attributes that an existing queue has otherwise; None if all agree."""
    existing = _with_defaults(current)
    for name, value in given.items():
        if not _is_same(name, existing.get(name, ""), value):
            return name
    return None


def _is_same(name: str, one: str, other: str) -> bool:
    if one == other or name not in _DOCUMENTS or not (one and other):
        return one == other
    # Documents that differ in blanks, or in the order of members, say the same.
    return bool(msgspec.json.decode(one) == msgspec.json.decode(other))
