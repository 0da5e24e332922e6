"""Which protocol a request speaks, and how that reads it and writes the answer.

AWS JSON, for whoever names an operation in a header or sends its content type; the
Query protocol for everybody else, which is how a browser sees this server too. A
wire has no state and no behaviour: what an operation does is the same over both.

Source: recorded responses, for what a request without an action gets, and for the
older JSON that `Accept` asks for.
"""

from __future__ import annotations

from typing import Protocol

from waystation.frontend.http_messages import Request, Response
from waystation.protocol import json_codec, query_codec
from waystation.protocol.errors import Refusal, Unavailable, UnknownOperation
from waystation.protocol.operations import Operation, Shape

_FORM_TYPE = "application/x-www-form-urlencoded"
_AWS_JSON_TYPES = "application/x-amz-json-"


class Wire(Protocol):
    """One protocol."""

    def operation_of(self, request: Request) -> Operation:
        """What is asked for: cheap, and told to strangers. Raises `UnknownOperation` or `InvalidAction`."""

    def decode(self, operation: Operation, request: Request) -> Shape:
        """What it is asked with. Raises a `Refusal` if that cannot be read."""

    def answer(self, operation: Operation, result: Shape | None, request_id: str) -> Response:
        """The answer to a request that was served."""

    def refuse(self, error: Refusal | Unavailable, request_id: str) -> Response:
        """The answer to a request that was not."""


def wire_of(request: Request) -> Wire:
    """The protocol that a request speaks, even if it speaks it badly."""
    headers = request.headers
    if "x-amz-target" in headers or headers.get("content-type", "").startswith(_AWS_JSON_TYPES):
        return _AWS_JSON
    if "application/json" in headers.get("accept", ""):
        return _QUERY_WITH_JSON
    return _QUERY


class _AwsJson:
    """AWS JSON 1.0, at any path: it says in the body which queue it is about."""

    def operation_of(self, request: Request) -> Operation:
        target = request.headers.get("x-amz-target")
        if request.method != "POST" or target is None:
            raise UnknownOperation("A POST with an X-Amz-Target header is expected: AWS JSON 1.0.")
        return json_codec.operation_of(target)

    def decode(self, operation: Operation, request: Request) -> Shape:
        return json_codec.decode(operation, request.body)

    def answer(self, operation: Operation, result: Shape | None, request_id: str) -> Response:
        headers = (("x-amzn-RequestId", request_id),)
        return Response(200, json_codec.encode(result), json_codec.CONTENT_TYPE, headers)

    def refuse(self, error: Refusal | Unavailable, request_id: str) -> Response:
        status, body, headers = json_codec.encode_error(error, request_id)
        return Response(status, body, json_codec.CONTENT_TYPE, headers)


class _Query:
    """The Query protocol, over GET and POST; answers in XML or in the older JSON."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def operation_of(self, request: Request) -> Operation:
        if request.method not in ("GET", "POST"):
            raise UnknownOperation()
        return query_codec.operation_of(_form(request), request.path)

    def decode(self, operation: Operation, request: Request) -> Shape:
        return query_codec.decode(operation, _form(request), request.path)

    def answer(self, operation: Operation, result: Shape | None, request_id: str) -> Response:
        body = query_codec.encode(operation, result, request_id, as_json=self._as_json)
        content_type = query_codec.JSON_TYPE if self._as_json else query_codec.XML_TYPE
        return Response(200, body, content_type, (("x-amzn-RequestId", request_id),))

    def refuse(self, error: Refusal | Unavailable, request_id: str) -> Response:
        status, body, content_type = query_codec.encode_error(error, request_id, as_json=self._as_json)
        return Response(status, body, content_type, (("x-amzn-RequestId", request_id),))


_AWS_JSON = _AwsJson()
_QUERY = _Query(as_json=False)
_QUERY_WITH_JSON = _Query(as_json=True)


def _form(request: Request) -> bytes:
    """All parameters of a request. A signature covers the query and the body alike."""
    query = request.query.encode("latin-1")
    if request.method != "POST" or not request.headers.get("content-type", _FORM_TYPE).startswith(_FORM_TYPE):
        return query
    return query + b"&" + request.body if query else request.body
