"""Cuts the bytes of one connection into complete requests, and refuses what is not HTTP.

llhttp (through `httptools`) does the parsing and refuses most of what request smuggling
needs: two Content-Lengths, Content-Length beside Transfer-Encoding, folded headers,
bare line feeds, spaces before colons. This file adds the limits, the checks on Host and the
features we turn down. No I/O, no clock: the same bytes give the same requests, however
they are cut.
"""

from __future__ import annotations

import re
from collections import deque
from enum import Enum
from http import HTTPStatus

import httptools

from waystation.frontend.http_messages import (
    CLOSE,
    KEEP,
    KEEP_HTTP_1_0,
    HttpRefusal,
    Request,
    malformed,
)
from waystation.frontend.settings import HttpSettings

_NAMES = {
    spelling.encode(): name
    for name in (
        "accept-encoding",
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-target",
        "x-amzn-query-mode",
    )
    for spelling in (name, name.title(), name.title().replace("Sha", "SHA"))
}
"""Names that AWS's SDKs send, as Python's, Go's and JavaScript's spell them: a look-up is
cheaper than decoding."""

_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%\[\]:-]*").fullmatch
"""RFC 3986, section 3.2: host and port. Queue URLs repeat it, so nothing else may pass."""

_ABSOLUTE = re.compile(r"https?://([^/]*)(.*)", re.IGNORECASE).fullmatch

_LENGTH_DIGITS_MAX = 19
"""More cannot be a length, and Python refuses to read numbers of thousands of digits."""


class Stage(Enum):
    """How far the newest request has come."""

    NOTHING = "no byte of it yet"
    HEAD = "its head is not whole"
    BODY = "its body is not whole"


# Python 3.11 looks members of an Enum up slowly.
NOTHING, HEAD, BODY = Stage


class RequestReader:
    """One connection's parser: bytes go into `feed`, requests come out of `requests`."""

    __slots__ = (
        "_body",
        "_body_bytes_max",
        "_feed_bytes",
        "_header_bytes_max",
        "_headers",
        "_host",
        "_parser",
        "_persistence",
        "_repeated_bytes",
        "_request",
        "_shared_bytes",
        "_silent_bytes",
        "_target",
        "_target_bytes_max",
        "continue_wanted",
        "held_bytes",
        "requests",
        "secure",
        "stage",
    )

    def __init__(self, settings: HttpSettings, *, secure: bool) -> None:
        self.requests: deque[tuple[Request, str]] = deque()
        """Complete requests, oldest first, each with what its answer says about the connection."""
        self.stage = NOTHING
        self.held_bytes = 0
        """Bodies and parts of bodies read so far; whoever answers a request takes its body off."""
        self.continue_wanted = False
        """Whether the client holds the body back until it gets `100 Continue`."""
        self._header_bytes_max = settings.header_bytes_max
        self._target_bytes_max = settings.target_bytes_max
        self._body_bytes_max = settings.body_bytes_max
        self.secure = secure
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body: bytes | bytearray = b""
        self._request: Request | None = None
        self._persistence = KEEP
        self._host = ""
        self._repeated_bytes = 0  # names of headers that were joined
        self._feed_bytes = 0
        # Bytes fed since the feed in which a head or piece of a body last ended. That is
        # an unfinished head, chunk extensions or trailers, which nobody else counts.
        self._silent_bytes = 0
        # Bytes of the feed in which the last request ended, so the next may have begun.
        self._shared_bytes = 0
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)

    def feed(self, data: bytes | memoryview) -> None:
        """Parse more bytes; what gets complete is added to `requests`.

        Raises:
            HttpRefusal: these bytes are no HTTP, or too much of it. Requests that were complete before
                are in `requests`. The reader is of no more use.
        """
        assert self._parser is not None
        self._feed_bytes = len(data)
        self._silent_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            # One of the methods below has raised; httptools keeps what it was.
            raise error.__context__ or error from None
        except httptools.HttpParserError as error:
            raise _not_http(str(error)) from None
        # Twice, because these bytes include what the limit does not count, such as padding.
        if self._silent_bytes > 2 * self._header_bytes_max:
            raise _head_too_large()

    def close(self) -> None:
        """Forget everything, and the parser, which refers back to this object."""
        self.requests.clear()
        self._body = b""
        self._parser = None

    # What follows is called by the parser, in this order.

    def on_message_begin(self) -> None:
        self.stage = HEAD

    def on_url(self, piece: bytes) -> None:
        self._target += piece
        if len(self._target) > self._target_bytes_max:
            raise malformed("The request target is too long.", HTTPStatus.REQUEST_URI_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        # Eleven times in a request: here, tenths of a microsecond add up.
        try:
            key = _NAMES[name]
        except KeyError:
            key = name.decode("latin-1").lower()
        text = value.strip().decode("latin-1")
        headers = self._headers
        if key in headers:
            if key == "host":
                raise malformed("The request has more than one Host header.")
            self._repeated_bytes += len(name) + len(": \r\n")
            text = f"{headers[key]},{text}"
        headers[key] = text

    def on_headers_complete(self) -> None:
        parser, headers = self._parser, self._headers
        assert parser is not None
        if self._shared_bytes + self._silent_bytes > self._header_bytes_max:
            self._check_head_bytes()
        self._silent_bytes = 0
        self._persistence = KEEP
        if "connection" in headers or not parser.should_keep_alive():
            self._persistence = _choose_persistence(parser)
        if parser.should_upgrade():
            raise malformed("This server does not switch protocols.", HTTPStatus.NOT_IMPLEMENTED)
        if self._target == b"/":  # as AWS's SDKs send it
            target, path, query = "/", "/", ""
        else:
            target, path, query = self._split_target()
        host = headers.get("host")
        if host != self._host:
            self._check_host(host, parser)
        length = headers.get("content-length")
        if length is not None:
            if len(length) > _LENGTH_DIGITS_MAX or int(length) > self._body_bytes_max:
                raise _body_too_large()
        elif "transfer-encoding" in headers:
            _check_transfer_encoding(headers["transfer-encoding"], parser)
        if "expect" in headers:
            self._check_expectation(headers["expect"], parser)
        method = parser.get_method().decode("latin-1")
        self._request = Request(method, target, path, query, headers, b"", self.secure)
        # A new dictionary, because trailers will come to `on_header` as well; it is thrown away.
        self._headers = {}
        self._repeated_bytes = 0
        self._target = b""
        self.stage = BODY

    def on_body(self, piece: bytes) -> None:
        self._silent_bytes = 0
        self.continue_wanted = False
        self.held_bytes += len(piece)
        if not self._body:
            self._body = piece
        else:
            if isinstance(self._body, bytes):
                # Not a list of pieces: in chunks of two bytes, it would take thirty times the body.
                self._body = bytearray(self._body)
            self._body += piece
        if len(self._body) > self._body_bytes_max:
            raise _body_too_large()

    def on_message_complete(self) -> None:
        request = self._request
        assert request is not None
        if self._headers:
            self._check_head_bytes()  # trailers
            self._headers = {}
            self._repeated_bytes = 0
        request.body = bytes(self._body)
        self.requests.append((request, self._persistence))
        self._request = None
        self._body = b""
        self._silent_bytes = 0
        self._shared_bytes = self._feed_bytes
        self.continue_wanted = False
        self.stage = NOTHING

    # Checks that few requests need.

    def _check_head_bytes(self) -> None:
        """Count exactly what came together with other bytes."""
        fields = sum(len(name) + len(value) + len(": \r\n") for name, value in self._headers.items())
        if fields + self._repeated_bytes + len(self._target) > self._header_bytes_max:
            raise _head_too_large()

    def _check_host(self, host: str | None, parser: httptools.HttpRequestParser) -> None:
        if host is None:
            if parser.get_http_version() == "1.1":
                raise malformed("The request has no Host header.")
        elif _HOST(host) is None:
            raise malformed("The Host header is not a host.")
        else:
            self._host = host

    def _split_target(self) -> tuple[str, str, str]:
        """Target, path and query; the host that an absolute target names replaces the header's."""
        target = self._target.decode("latin-1")
        path, _, query = target.partition("?")
        absolute = _ABSOLUTE(path)
        if absolute is not None:  # RFC 9112, section 3.2.2
            self._headers["host"] = absolute[1]
            path = absolute[2] or "/"
        return target, path, query

    def _check_expectation(self, expectation: str, parser: httptools.HttpRequestParser) -> None:
        if parser.get_http_version() == "1.0":
            return  # RFC 9110, 10.1.1: ignored
        if expectation.lower() != "100-continue":
            raise malformed("This server cannot meet the Expect header.", HTTPStatus.EXPECTATION_FAILED)
        self.continue_wanted = True


def _choose_persistence(parser: httptools.HttpRequestParser) -> str:
    """What the answer says about the connection. Raises `HttpRefusal` for versions not spoken here."""
    version = parser.get_http_version()
    if version not in ("1.0", "1.1"):
        raise _version_not_spoken()
    if not parser.should_keep_alive():
        return CLOSE
    return KEEP if version == "1.1" else KEEP_HTTP_1_0


def _check_transfer_encoding(encoding: str, parser: httptools.HttpRequestParser) -> None:
    if parser.get_http_version() == "1.0":
        raise malformed("HTTP/1.0 has no Transfer-Encoding.")
    if encoding.lower() != "chunked":
        raise malformed("The only transfer coding known here is chunked.", HTTPStatus.NOT_IMPLEMENTED)


def _not_http(reason: str) -> HttpRefusal:
    """Put the parser's complaint into a refusal."""
    if reason in ("Invalid HTTP version", "Pause on PRI/Upgrade"):
        return _version_not_spoken()
    return malformed(f"The request is not valid HTTP: {reason}.")


def _version_not_spoken() -> HttpRefusal:
    return malformed("This server speaks HTTP/1.1.", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)


def _head_too_large() -> HttpRefusal:
    return malformed("The request's head is too large.", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)


def _body_too_large() -> HttpRefusal:
    return HttpRefusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "RequestEntityTooLargeException",
        "The request's body is too large.",
    )
