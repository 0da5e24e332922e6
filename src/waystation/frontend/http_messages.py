"""What the HTTP server and its handler hand each other, and how an answer looks on the wire.

Pure data and pure functions: nothing here reads a socket or a clock. A request
is always complete when anybody sees it; an answer is always one write.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeAlias

JSON_TYPE = "application/x-amz-json-1.0"

KEEP = ""
"""Persistence of HTTP/1.1: the connection stays open, and saying so is not needed."""

KEEP_HTTP_1_0 = "Connection: keep-alive\r\n"
"""HTTP/1.0 clients take the connection for closed unless told otherwise."""

CLOSE = "Connection: close\r\n"

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


@dataclass(slots=True, eq=False)
class Request:
    """One complete HTTP request."""

    method: str
    """As sent, in capitals: `POST`."""

    target: str
    """The raw request target: `/a/b?x=y`, or `http://host/a/b?x=y` from clients that think us a proxy."""

    path: str
    """The path of the target, not decoded."""

    query: str
    """The query of the target without its `?`, not decoded; empty if there is none."""

    headers: dict[str, str]
    """Names in lower case, values stripped and as latin-1; repeated headers joined with `,`.

    HTTP/1.1 requests always have `host`, which comes from the target where that
    names one. Trailers of a chunked body are dropped.
    """

    body: bytes
    """Decoded from chunked; empty if there is none."""

    secure: bool
    """Whether it came over TLS."""


@dataclass(slots=True, eq=False)
class Response:
    """One complete answer. Not to be changed once it is handed over.

    Plain slots: freezing costs a microsecond per object, a tenth of a request.
    """

    status: int
    """200 or more."""

    body: bytes

    content_type: str

    headers: tuple[tuple[str, str], ...] = ()
    """Sent as they are, so no line breaks. The server adds Content-Length, Date and Connection."""


Handler: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]
"""Answers one request. `http_calls` says what such a coroutine may await."""


class HttpRefusal(Exception):
    """A request that breaks HTTP or a limit of the server: answered, then the connection closes.

    `error` is one of AWS's common error names.
    """

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.message = message

    def response(self) -> Response:
        """The answer in the form that AWS's JSON protocol gives errors."""
        return error_response(self.status, self.error, self.message)


def malformed(message: str, status: int = HTTPStatus.BAD_REQUEST) -> HttpRefusal:
    """What AWS says of "problems with the request at the HTTP level"."""
    return HttpRefusal(status, "MalformedHttpRequestException", message)


def error_response(status: int, error: str, message: str) -> Response:
    """An error as AWS's JSON protocol writes it."""
    body = json.dumps({"__type": f"com.amazonaws.sqs#{error}", "message": message}).encode()
    return Response(status, body, JSON_TYPE, (("x-amzn-ErrorType", error),))


INTERNAL_FAILURE = error_response(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "InternalFailure",
    "The request processing has failed because of an unknown error, exception or failure.",
)


def render(response: Response, date_line: str, persistence: str, *, with_body: bool) -> bytes:
    """Put an answer into bytes.

    Args:
        date_line: the whole Date header with its line break.
        persistence: `KEEP`, `KEEP_HTTP_1_0` or `CLOSE`.
        with_body: False for HEAD, whose answer has the length but not the body.
    """
    extra = "".join([f"{name}: {value}\r\n" for name, value in response.headers])
    head = (
        f"{STATUS_LINES[response.status]}{date_line}Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n{extra}{persistence}\r\n"
    ).encode("latin-1", "replace")
    return head + response.body if with_body else head
