"""AWS JSON 1.0: bytes to requests, results and errors to bytes.

No behaviour and no validation beyond types. Always: whatever the bytes are, the
outcome is a request or a `Refusal` whose text is ours, short, and has nothing of
the decoder or the body in it.

Source: botocore's `sqs` model (`jsonVersion` 1.0, `awsQueryCompatible`); the
Smithy pages "AWS JSON 1.0 protocol" and "AWS Query Compatible".
"""

from __future__ import annotations

import re
from typing import TypeAlias

import msgspec

from waystation.protocol.errors import Refusal, SerializationError, Unavailable, UnknownOperation
from waystation.protocol.operations import OPERATIONS, Operation, Shape

CONTENT_TYPE = "application/x-amz-json-1.0"

Headers: TypeAlias = tuple[tuple[str, str], ...]

_TARGET_PREFIX = "AmazonSQS."
_BY_TARGET = {_TARGET_PREFIX + name: operation for name, operation in OPERATIONS.items()}

_encode = msgspec.json.Encoder().encode

# How msgspec ends the text of a type error. Map keys appear as [...], so what the
# group catches is made of member names and indexes only.
_ERROR_PATH = re.compile(r" - at `\$\.?(.+)`\Z")


def operation_of(target: str) -> Operation:
    """Find the operation that an `X-Amz-Target` header names.

    Raises:
        UnknownOperation: there is none of that name.
    """
    operation = _BY_TARGET.get(target)
    if operation is None:
        raise UnknownOperation()
    return operation


def decode(operation: Operation, body: bytes) -> Shape:
    """Read a request; unknown members are ignored, absent and null ones are None.

    Args:
        operation: says which structure the body holds.
        body: UTF-8 JSON; an empty one means `{}`.

    Returns:
        An instance of `operation.request`. Mandatory members may be missing.

    Raises:
        SerializationError: not JSON, not UTF-8, nested too deeply, or a value of
            another type than the model gives it.
    """
    try:
        return operation.decoder.decode(body or b"{}")
    except msgspec.ValidationError as error:
        path = _ERROR_PATH.search(str(error))
        where = f"the value of {path[1]}" if path else "the request body"
        raise SerializationError(f"Wrong type: {where} is not what {operation.name} expects.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise SerializationError("The request body is not valid JSON.") from None


def encode(result: Shape | None) -> bytes:
    """Write a result. None, from an operation that gives nothing, is an empty body, as AWS sends it."""
    return b"" if result is None else _encode(result)


def encode_error(error: Refusal | Unavailable, request_id: str) -> tuple[int, bytes, Headers]:
    """Write an error down.

    Returns:
        HTTP status, body, and headers beside the content type. SDKs show the code
        of `x-amzn-query-error` and fall back on `__type`.
    """
    blame = "Sender" if error.status < 500 else "Receiver"
    body = _encode({"__type": f"{error.namespace}#{error.shape}", "message": error.message})
    headers = (
        ("x-amzn-RequestId", request_id),
        ("x-amzn-query-error", f"{error.query_code};{blame}"),
    )
    return error.status, body, headers
