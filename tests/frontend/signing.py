"""Requests signed by botocore, in the form in which our HTTP server hands them on."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from waystation.frontend.auth import AccessKey, Authenticator, Caller
from waystation.frontend.http_messages import Request
from waystation.frontend.settings import AuthSettings
from waystation.protocol.errors import Refusal

KEY = AccessKey(
    id="AKIAIOSFODNN7EXAMPLE", secret="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", account="1" * 12
)
CALLER = Caller(account="1" * 12, access_key_id=KEY.id)
SIGNED_AT_S = 1_440_938_160.0
"""2015-08-30 12:36:00 UTC, as in AWS's own examples."""

HEADERS = {"X-Amz-Target": "AmazonSQS.SendMessage", "Content-Type": "application/x-amz-json-1.0"}

CREDENTIAL = f"{KEY.id}/20150830/us-east-1/sqs/aws4_request"
GOOD_PARTS = {"Credential": CREDENTIAL, "SignedHeaders": "host;x-amz-date", "Signature": "0" * 64}


class Clock:
    """Stands still until it is set."""

    def __init__(self, now_s: float = SIGNED_AT_S) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def authenticator(clock: Clock | None = None, *keys: AccessKey, **settings: Any) -> Authenticator:
    """Knows KEY unless other keys are given."""
    known = {key.id: key for key in keys or (KEY,)}
    return Authenticator(AuthSettings(**settings), known.get, clock or Clock())


def signed(
    method: str = "POST",
    url: str = "http://localhost:9324/",
    headers: dict[str, str] | None = None,
    body: bytes = b"{}",
    **how: Any,
) -> Request:
    """A request with an Authorization header by botocore; `how` as in `_sign`."""
    return _sign(SigV4Auth, method, url, HEADERS if headers is None else headers, body, **how)


def presigned(
    method: str = "POST",
    url: str = "http://localhost:9324/",
    headers: dict[str, str] | None = None,
    expires_s: int = 3_600,
    **how: Any,
) -> Request:
    """A request with a signature in its query by botocore; its body is empty."""
    return _sign(SigV4QueryAuth, method, url, headers or {}, b"", expires=expires_s, **how)


def changed(request: Request, **changes: Any) -> Request:
    """The request with other fields, and with `headers` merged into its own; None removes one."""
    headers = request.headers | changes.pop("headers", {})
    present = {name: value for name, value in headers.items() if value is not None}
    return dataclasses.replace(request, headers=present, **changes)


def refusal_of(request: Request, verifier: Authenticator | None = None) -> Refusal:
    with pytest.raises(Refusal) as refused:
        (verifier or authenticator()).authenticate(request)
    return refused.value


def unsigned(**headers: str) -> Request:
    return Request("POST", "/", "/", "", {"host": "localhost:9324", **headers}, b"{}", secure=False)


def with_authorization(authorization: str) -> Request:
    return unsigned(**{"authorization": authorization, "x-amz-date": "20150830T123600Z"})


def with_parts(**changes: str | None) -> Request:
    """An Authorization header of GOOD_PARTS, some of them changed, or left out where None."""
    parts = {name: value for name, value in (GOOD_PARTS | changes).items() if value is not None}
    return with_authorization(
        "AWS4-HMAC-SHA256 " + ", ".join(f"{name}={value}" for name, value in parts.items())
    )


def _sign(
    signer: type[SigV4Auth],
    method: str,
    url: str,
    headers: dict[str, str],
    body: bytes,
    *,
    key: AccessKey = KEY,
    token: str | None = None,
    region: str = "us-east-1",
    service: str = "sqs",
    at_s: float = SIGNED_AT_S,
    **arguments: Any,
) -> Request:
    request = AWSRequest(method, url, headers, body)
    request.headers["Host"] = urlsplit(url).netloc
    moment = datetime.fromtimestamp(at_s, UTC)
    with patch("botocore.auth.get_current_datetime", lambda: moment):
        signer(Credentials(key.id, key.secret, token), service, region, **arguments).add_auth(request)
    parts = urlsplit(request.url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    on_the_wire = {name.lower(): value for name, value in request.headers.items()}
    return Request(method, target, parts.path, parts.query, on_the_wire, body, secure=False)
