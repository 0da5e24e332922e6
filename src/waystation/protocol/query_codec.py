"""The Query protocol, which came before AWS JSON: forms to requests, results and errors to XML.

The same operations, structures and errors as `json_codec` has, and the same
promises: no behaviour, no validation beyond types, and whatever the bytes are, the
outcome is a request or a `Refusal`.

It differs in three ways that clients see. A request to a queue's own URL is about
that queue. Errors have their Query codes, and one has another text. And whoever
prefers JSON gets a JSON of the time before AWS JSON, as API Gateway asks for it.

Source: SQS API Reference and Developer Guide, "Making Query API requests"; the last
Query model of SQS (2012-11-05); recorded responses.
"""

from __future__ import annotations

from typing import Any

import msgspec

from waystation.protocol.errors import (
    CommonRefusal,
    InvalidAction,
    QueueDoesNotExist,
    Refusal,
    Unavailable,
    UnknownOperation,
)
from waystation.protocol.operations import OPERATIONS, Operation, QueueRequest, Shape
from waystation.protocol.query_forms import decode_text, parse_form, read_structure
from waystation.protocol.query_members import members_of
from waystation.protocol.query_xml import write_error, write_result

XML_TYPE = "text/xml"
JSON_TYPE = "application/json"

VERSIONS = {"2008-01-01", "2009-02-01", "2011-10-01", "2012-11-05"}
"""Of the API, as clients may name them. What we serve is the last, which takes all that the others took."""

_ROOT = "/"
_NOT_AT_A_QUEUE = {"CreateQueue", "ListQueues"}
_NAME_LENGTH_MAX = 80
_encode_json = msgspec.json.Encoder().encode


class NoSuchVersion(CommonRefusal):
    """A version of the API that never was."""

    def __init__(self, version: str) -> None:
        super().__init__(f"The requested version ( {version} ) is not valid.")


def operation_of(form: bytes, path: str) -> Operation:
    """Find the operation that a form's `Action` names.

    Cheap, unlike `decode`: it may be asked for before anybody knows who asks.

    Args:
        form: of the body, or the query of the URL, or both joined with `&`.
        path: of the URL. Every path but `/` is taken for a queue's.

    Raises:
        UnknownOperation: there is no action.
        InvalidAction: there is no such action, or not for a queue.
    """
    start = 0 if form.startswith(b"Action=") else form.find(b"&Action=") + 1
    if start == 0 and not form.startswith(b"Action="):
        raise UnknownOperation()
    start += len(b"Action=")
    end = form.find(b"&", start)
    name = decode_text(form[start:] if end < 0 else form[start:end])
    if not name:
        raise UnknownOperation()
    operation = OPERATIONS.get(name)
    if operation is None or (name in _NOT_AT_A_QUEUE and path not in ("", _ROOT)):
        raise InvalidAction(name[:_NAME_LENGTH_MAX])
    return operation


def decode(operation: Operation, form: bytes, path: str) -> Shape:
    """Read a request; unknown parameters are ignored, absent ones are None.

    Args:
        operation: says which structure the form holds.
        form: as in `operation_of`.
        path: a queue's stands for the `QueueUrl`, unless the form has one.

    Returns:
        An instance of `operation.request`. Mandatory members may be missing, but a
        batch without entries has an empty list of them.

    Raises:
        InvalidQueryParameter: the form is too long, or not UTF-8.
        NoSuchVersion: it is for another API.
        InvalidParameterValue: a text that is not the number or the base64 it should be.
        MissingParameter: an attribute or a tag that lacks its name or its value.
    """
    node = parse_form(form)
    version = node.below.get("Version")
    if version is not None and version.text and version.text not in VERSIONS:
        raise NoSuchVersion(version.text[:_NAME_LENGTH_MAX])
    request = read_structure(operation.request, node)
    if isinstance(request, QueueRequest) and not request.queue_url and path not in ("", _ROOT):
        request.queue_url = path
    return request


def encode(operation: Operation, result: Shape | None, request_id: str, *, as_json: bool = False) -> bytes:
    """Write a result, as XML or as the JSON that preceded AWS JSON."""
    if not as_json:
        return write_result(operation, result, request_id)
    answer: dict[str, Any] = {"ResponseMetadata": {"RequestId": request_id}}
    if result is not None:
        answer[f"{operation.name}Result"] = _plain(result)
    return _encode_json({f"{operation.name}Response": answer})


def encode_error(
    error: Refusal | Unavailable, request_id: str, *, as_json: bool = False
) -> tuple[int, bytes, str]:
    """Write an error down.

    Returns:
        HTTP status, body and content type. An unknown operation is XML in any case.
    """
    if isinstance(error, UnknownOperation):
        return error.status, b"<UnknownOperationException/>\n", XML_TYPE
    blame = "Sender" if error.status < 500 else "Receiver"
    text = error.message
    if isinstance(error, QueueDoesNotExist):
        text = f"{text.removesuffix('.')} for this wsdl version."
    if not as_json:
        return error.status, write_error(blame, error.query_code, text, request_id), XML_TYPE
    told = {"Code": error.query_code, "Message": text, "Type": blame}
    return error.status, _encode_json({"Error": told, "RequestId": request_id}), JSON_TYPE


def _plain(structure: Shape) -> dict[str, Any]:
    """A structure in the older JSON: maps are lists of pairs, and what is absent or empty is null."""
    plain: dict[str, Any] = {}
    for member in members_of(type(structure)):
        value = getattr(structure, member.attribute)
        # Recorded for this one list; the others are named as in the model.
        name = "messages" if member.name == "Messages" else member.name
        if member.kind == "one":
            plain[name] = _plain_value(value)
        elif member.kind == "list":
            plain[name] = [_plain_value(element) for element in value or ()] or None
        else:
            pairs = (value or {}).items()
            plain[name] = [{member.key: key, "Value": _plain_value(each)} for key, each in pairs] or None
    return plain


def _plain_value(value: Any) -> Any:
    return _plain(value) if isinstance(value, Shape) else value
