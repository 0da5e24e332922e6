"""Signed HTTP requests, made as cheaply as Python can: the client must not be what is measured.

Every request carries a true Signature Version 4 over its own body. What does not change within
one second (the date, the signed headers, the scope) is put together once in that second.
It signs the four headers that are always there, and knows no queries and no other path than `/`.
"""

from __future__ import annotations

import hmac
import time
from hashlib import sha256

REGION = "us-east-1"
SERVICE = "sqs"
CONTENT_TYPE = "application/x-amz-json-1.0"
SIGNED_HEADERS = "content-type;host;x-amz-date;x-amz-target"

_ALGORITHM = "AWS4-HMAC-SHA256"


class Signer:
    """Turns an operation and its JSON into the bytes of a signed request."""

    def __init__(self, host: str, access_key_id: str, secret: str) -> None:
        """`host` as the Host header says it, with the port."""
        self._host = host
        self._access_key_id = access_key_id
        self._secret = secret
        self._second = 0
        self._day_key = ("", b"")
        self._heads: dict[str, tuple[bytes, bytes, bytes]] = {}

    def request(self, operation: str, body: bytes) -> bytes:
        """The whole request: `POST /`, headers, signature and body."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._heads.clear()
        head = self._heads.get(operation)
        if head is None:
            head = self._heads[operation] = self._head(operation)
        canonical, to_sign, wire = head
        canonical_digest = sha256(canonical + sha256(body).hexdigest().encode()).hexdigest()
        signature = hmac.digest(self._day_key[1], to_sign + canonical_digest.encode(), "sha256").hex()
        return b"%b%b\r\nContent-Length: %d\r\n\r\n%b" % (wire, signature.encode(), len(body), body)

    def _head(self, operation: str) -> tuple[bytes, bytes, bytes]:
        """What precedes the digest in the canonical request and in the string to sign, and the headers."""
        timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._second))
        day = timestamp[:8]
        if day != self._day_key[0]:
            self._day_key = (day, self._signing_key(day))
        target = f"AmazonSQS.{operation}"
        scope = f"{day}/{REGION}/{SERVICE}/aws4_request"
        canonical = (
            f"POST\n/\n\ncontent-type:{CONTENT_TYPE}\nhost:{self._host}\nx-amz-date:{timestamp}\n"
            f"x-amz-target:{target}\n\n{SIGNED_HEADERS}\n"
        )
        wire = (
            f"POST / HTTP/1.1\r\nHost: {self._host}\r\nX-Amz-Target: {target}\r\n"
            f"Content-Type: {CONTENT_TYPE}\r\nX-Amz-Date: {timestamp}\r\n"
            f"Authorization: {_ALGORITHM} Credential={self._access_key_id}/{scope}, "
            f"SignedHeaders={SIGNED_HEADERS}, Signature="
        )
        return canonical.encode(), f"{_ALGORITHM}\n{timestamp}\n{scope}\n".encode(), wire.encode()

    def _signing_key(self, day: str) -> bytes:
        key = f"AWS4{self._secret}".encode()
        for part in (day, REGION, SERVICE, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return key
