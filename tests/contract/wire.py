"""How a request and its answer look on the wire, and how a refusal looks to an SDK."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.server import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY

Members = dict[str, Any]
"""Of a request, by their names on the wire."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str, str]:
        """Status, `__type` and the query error of a refusal in AWS JSON."""
        return self.status, self.json["__type"], self.headers["x-amzn-query-error"]


def post(
    url: str,
    operation: str,
    members: Members | bytes,
    *,
    headers: dict[str, str] | None = None,
    **signing: Any,
) -> Answer:
    """POST one request of AWS JSON 1.0 to a URL, signed as `exchange` does it."""
    body = members if isinstance(members, bytes) else json.dumps(members).encode()
    target = {"X-Amz-Target": f"AmazonSQS.{operation}", "Content-Type": "application/x-amz-json-1.0"}
    return exchange("POST", url, {**target, **(headers or {})}, body, **signing)


def exchange(
    method: str,
    url: str,
    headers: dict[str, str],
    body: bytes = b"",
    *,
    signed: bool = True,
    presigned: bool = False,
    access_key_id: str = ACCESS_KEY_ID,
    secret: str = SECRET_ACCESS_KEY,
    late_s: float = 0.0,
) -> Answer:
    """One request and its answer; botocore signs it as of `late_s` ago, in a header or in the URL."""
    request = AWSRequest(method, url, headers, body)
    if signed or presigned:
        signer = SigV4QueryAuth if presigned else SigV4Auth
        signed_at = datetime.now(UTC) - timedelta(seconds=late_s)
        with patch("botocore.auth.get_current_datetime", lambda: signed_at):
            signer(Credentials(access_key_id, secret), "sqs", REGION).add_auth(request)
    parts = urlsplit(request.url)
    target = f"{parts.path or '/'}?{parts.query}".removesuffix("?")
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request(method, target, body, dict(request.headers.items()))
        response = connection.getresponse()
        received = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, received, response.read())
    finally:
        connection.close()


@dataclass
class Refused:
    """What an SDK shows of a refusal, once there was one."""

    code: str = ""
    text: str = ""
    status: int = 0


@contextmanager
def refused(code: str, text: str | None = None, status: int = 400) -> Iterator[Refused]:
    """The block is refused with this code (the last part of it will do), text and HTTP status.

    The text is that of AWS JSON: of its error for a missing queue, Query has another.
    """
    seen = Refused()
    with pytest.raises(ClientError) as caught:
        yield seen
    error = caught.value.response["Error"]
    seen.code, seen.text = error["Code"], error["Message"].replace(" for this wsdl version", "")
    seen.status = caught.value.response["ResponseMetadata"]["HTTPStatusCode"]
    assert seen.code.removeprefix("AWS.SimpleQueueService.") == code, seen
    assert seen.status == status, seen
    if text is not None:
        assert seen.text == text
