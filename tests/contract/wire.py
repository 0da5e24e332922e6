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
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.server import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY

SERVED = [
    "AddPermission",
    "ChangeMessageVisibility",
    "ChangeMessageVisibilityBatch",
    "CreateQueue",
    "DeleteMessage",
    "DeleteMessageBatch",
    "DeleteQueue",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
    "ListQueueTags",
    "ListQueues",
    "PurgeQueue",
    "ReceiveMessage",
    "RemovePermission",
    "SendMessage",
    "SendMessageBatch",
    "SetQueueAttributes",
    "TagQueue",
    "UntagQueue",
]
"""The operations that do what they say; all others are refused as unsupported."""


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
        """Status, `__type` and the query error of a refusal."""
        return self.status, self.json["__type"], self.headers["x-amzn-query-error"]


def post(
    url: str,
    operation: str,
    members: dict[str, Any] | bytes,
    *,
    headers: dict[str, str] | None = None,
    signed: bool = True,
    access_key_id: str = ACCESS_KEY_ID,
    secret: str = SECRET_ACCESS_KEY,
    late_s: float = 0.0,
) -> Answer:
    """POST one request of AWS JSON 1.0 to a URL, signed by botocore as of `late_s` ago."""
    body = members if isinstance(members, bytes) else json.dumps(members).encode()
    target = {"X-Amz-Target": f"AmazonSQS.{operation}", "Content-Type": "application/x-amz-json-1.0"}
    request = AWSRequest("POST", url, {**target, **(headers or {})}, body)
    parts = urlsplit(url)
    if signed:
        signed_at = datetime.now(UTC) - timedelta(seconds=late_s)
        with patch("botocore.auth.get_current_datetime", lambda: signed_at):
            SigV4Auth(Credentials(access_key_id, secret), "sqs", REGION).add_auth(request)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request("POST", parts.path or "/", body, dict(request.headers.items()))
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
    """The block is refused with this code (the last part of it will do), text and HTTP status."""
    seen = Refused()
    with pytest.raises(ClientError) as caught:
        yield seen
    error = caught.value.response["Error"]
    seen.code, seen.text = error["Code"], error["Message"]
    seen.status = caught.value.response["ResponseMetadata"]["HTTPStatusCode"]
    assert seen.code.removeprefix("AWS.SimpleQueueService.") == code, seen
    assert seen.status == status, seen
    if text is not None:
        assert seen.text == text
