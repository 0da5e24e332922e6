"""What a message, a batch and a number in a request may be.

Source: SQS API Reference, SendMessage and SendMessageBatch; Developer Guide,
message quotas and message metadata; recorded responses for the texts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

from waystation.protocol import limits
from waystation.protocol.errors import (
    BatchEntryIdsNotDistinct,
    BatchEntryType,
    EmptyBatchRequest,
    InvalidBatchEntryId,
    InvalidMessageContents,
    InvalidParameterValue,
    MissingParameter,
    TooManyEntriesInBatchRequest,
)
from waystation.protocol.operations import (
    MessageAttributeValue,
    MessageSystemAttributeValue,
    Shape,
    require,
)

_ALLOWED_ASCII = bytes([9, 10, 13, *range(0x20, 0x7F + 1)])
_TYPE = re.compile(r"(String|Number|Binary)(\.[^\x00-\x1f]*)?\Z")
_TRACE_HEADER_LENGTH_MAX = 16_384
"""Characters, as many as fit the HTTP header that may carry one too; no other limit counts them."""
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*\Z", re.ASCII)
_NAME = re.compile(r"[\w.-]+\Z")
"""Letters of any script: the real service takes umlauts, whatever its documentation says."""


def check_text(text: str, utf8: bytes) -> None:
    """Raises `InvalidMessageContents` for a character that XML 1.0 does not have."""
    # Deleting all allowed bytes takes a tenth of the time of a regular expression.
    if utf8.translate(None, _ALLOWED_ASCII) and limits.FORBIDDEN_TEXT_PATTERN.search(text):
        raise InvalidMessageContents


def check_range(value: int | None, name: str, low: int, high: int, reason: str = "") -> None:
    """Raises `InvalidParameterValue` for a number outside `low` to `high`; None is in every range."""
    if value is not None and not low <= value <= high:
        reason = reason or f"Must be between {low} and {high}, if provided."
        raise InvalidParameterValue.of(str(value), name, reason)


def check_delay(delay_s: int | None, *, is_fifo: bool) -> None:
    """The `DelaySeconds` of a message: on a FIFO queue none of its own, and 0 stands for the queue's."""
    reason = f"DelaySeconds must be >= 0 and <= {limits.DELAY_S_MAX}."
    check_range(delay_s, "DelaySeconds", 0, limits.DELAY_S_MAX, reason)
    if is_fifo and delay_s:
        reason = "The request include parameter that is not valid for this queue type."
        raise InvalidParameterValue.of(delay_s, "DelaySeconds", reason)


def check_wait(wait_s: int | None) -> None:
    """The `WaitTimeSeconds` of a receive."""
    reason = f"Must be >= 0 and <= {limits.WAIT_S_MAX}, if provided."
    check_range(wait_s, "WaitTimeSeconds", 0, limits.WAIT_S_MAX, reason)


def check_client_id(value: str, name: str) -> None:
    """An id that a client has chosen: that of a group, a deduplication or a receive attempt."""
    if not limits.CLIENT_ID_PATTERN.match(value):
        raise InvalidParameterValue.of(
            value,
            name,
            f"{name} can only include alphanumeric and punctuation characters. "
            f"1 to {limits.CLIENT_ID_LENGTH_MAX} in length.",
        )


def check_fifo_only(value: str | None, name: str, *, is_fifo: bool) -> None:
    """A client id that a request of a FIFO queue may have, and one of a standard queue may not."""
    if value is not None:
        if not is_fifo:
            reason = "The request includes a parameter that is not valid for this queue type."
            raise InvalidParameterValue.of(value, name, reason)
        check_client_id(value, name)


def digest_of(client_id: str) -> bytes:
    """What the backend knows a client's id by: 16 bytes, which no two ids share by chance."""
    return blake2b(client_id.encode(), digest_size=16).digest()


# Message attributes


def check_attributes(attributes: dict[str, MessageAttributeValue]) -> int:
    """Validate user attributes; returns the bytes they count: names, types and values.

    Raises:
        InvalidParameterValue: there are too many, or a name, type or value cannot be.
        InvalidMessageContents: a text has a character that XML 1.0 does not have.
    """
    if len(attributes) > limits.MESSAGE_ATTRIBUTES_MAX:
        raise InvalidParameterValue(
            f"Number of message attributes [{len(attributes)}] exceeds the allowed maximum "
            f"[{limits.MESSAGE_ATTRIBUTES_MAX}]."
        )
    size = 0
    for name, attribute in attributes.items():
        _check_attribute_name(name)
        size += len(name.encode()) + _check_attribute_value(f"Message (user) attribute '{name}'", attribute)
    return size


def _check_attribute_name(name: str) -> None:
    reason = None
    if len(name) > limits.ATTRIBUTE_NAME_LENGTH_MAX or not name:
        reason = f"Length must be between 1 and {limits.ATTRIBUTE_NAME_LENGTH_MAX} characters."
    elif not _NAME.match(name):
        reason = "Can only include alphanumeric characters, hyphens, underscores, or periods."
    elif name.lower().startswith(("aws.", "amazon.")):
        reason = "Names that start with AWS. or Amazon. are reserved."
    elif name.startswith(".") or name.endswith(".") or ".." in name:
        reason = "Periods must not be first, last or next to each other."
    if reason is not None:
        raise InvalidParameterValue.of(name, "MessageAttributeName", reason)


def _check_attribute_value(what: str, attribute: MessageAttributeValue) -> int:
    data_type = attribute.data_type
    if not data_type:
        raise InvalidParameterValue(f"{what} must contain a non-empty message attribute type.")
    kind = _TYPE.match(data_type)
    if kind is None or len(data_type) > limits.ATTRIBUTE_TYPE_LENGTH_MAX:
        raise InvalidParameterValue(
            f"{what} has an invalid message attribute type, the set of supported type prefixes is "
            "Binary, Number, and String."
        )
    if attribute.string_list_values or attribute.binary_list_values:
        raise InvalidParameterValue(f"{what} has list values, which are reserved for future use.")
    is_binary = kind[1] == "Binary"
    value = attribute.binary_value if is_binary else attribute.string_value
    other = attribute.string_value if is_binary else attribute.binary_value
    if not value or other is not None:
        raise InvalidParameterValue(f"{what} must contain a non-empty value of type '{kind[1]}'.")
    if isinstance(value, bytes):
        return len(data_type.encode()) + len(value)
    utf8 = value.encode()
    check_text(value, utf8)
    if kind[1] == "Number" and not (len(value) <= 256 and _NUMBER.match(value)):
        raise InvalidParameterValue(f"Can't cast the value of {what.lower()} to a number.")
    return len(data_type.encode()) + len(utf8)


def check_system_attributes(attributes: dict[str, MessageSystemAttributeValue]) -> str:
    """Validate system attributes; returns the trace header, the only one that clients may send."""
    trace_header = ""
    for name, attribute in attributes.items():
        if name != "AWSTraceHeader":
            raise InvalidParameterValue(f"Message system attribute name '{name}' is invalid.")
        _check_attribute_value(f"Message system attribute '{name}'", attribute)
        if attribute.string_value is None or attribute.data_type != "String":
            raise InvalidParameterValue(f"Message system attribute '{name}' must be of type 'String'.")
        trace_header = attribute.string_value
    if len(trace_header) > _TRACE_HEADER_LENGTH_MAX:
        raise InvalidParameterValue(
            f"Message system attribute 'AWSTraceHeader' is longer than {_TRACE_HEADER_LENGTH_MAX} characters."
        )
    return trace_header


# Batches


class BatchEntry(Protocol):
    """An entry of any of the three batches."""

    id: str | None


def check_batch(entries: Sequence[Shape] | None, entry_type: BatchEntryType) -> list[str]:
    """Validate what holds for a batch as a whole; returns the entries' ids.

    Raises:
        EmptyBatchRequest, TooManyEntriesInBatchRequest, InvalidBatchEntryId,
        BatchEntryIdsNotDistinct, MissingParameter.
    """
    if not entries:
        raise EmptyBatchRequest(entry_type)
    if len(entries) > limits.BATCH_ENTRIES_MAX:
        raise TooManyEntriesInBatchRequest(len(entries), limits.BATCH_ENTRIES_MAX)
    ids: dict[str, None] = {}
    for number, entry in enumerate(entries, 1):
        entry_id: str | None = getattr(entry, "id", None)
        if entry_id is None:
            raise MissingParameter(f"{entry_type}.{number}.Id")
        if not limits.BATCH_ENTRY_ID_PATTERN.match(entry_id):
            raise InvalidBatchEntryId
        if entry_id in ids:
            raise BatchEntryIdsNotDistinct(entry_id)
        ids[entry_id] = None
    for number, entry in enumerate(entries, 1):
        require(entry, f"{entry_type}.{number}.")
    return list(ids)
