"""Who asks: a request's signature is verified against an access key.

On the path of every request, so what one client's requests have in common (the
constant start of their Authorization header, and all that follows from it) is
worked out once and kept. Kept only after a signature was right, so that a
stranger cannot fill the cache.

Never: logs or shows a secret, or says which part of a wrong signature is wrong.
Always: the body is hashed and compared, whatever its headers say of it.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from waystation.frontend import sigv4
from waystation.frontend.http_messages import Request
from waystation.frontend.settings import AuthSettings
from waystation.protocol.errors import (
    InvalidClientTokenId,
    MissingAuthenticationToken,
    RequestExpired,
    SignatureDoesNotMatch,
)


@dataclass(frozen=True, slots=True)
class AccessKey:
    """What a client signs with, and whose it is."""

    id: str
    secret: str = field(repr=False)
    account: str
    """Twelve digits."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    account: str
    """Twelve digits."""
    access_key_id: str


@dataclass(frozen=True, slots=True)
class _Signer:
    """A claim, and what follows from it and its access key."""

    claim: sigv4.Claim
    key: AccessKey
    signing_key: bytes = field(repr=False)
    scope: str
    signed_headers: str
    caller: Caller


class Authenticator:
    """Verifies AWS Signature Version 4, in a header or in the query of a presigned URL.

    Args:
        settings: whether to look at all, and how far clocks may differ.
        find_key: the access key of an id, or None. Asked for every request, so a key
            that is revoked or replaced counts from then on.
        clock: Unix time in seconds.
        anonymous: who everybody is while authentication is off; needed only then.
    """

    def __init__(
        self,
        settings: AuthSettings,
        find_key: Callable[[str], AccessKey | None],
        clock: Callable[[], float] = time.time,
        anonymous: Caller | None = None,
    ) -> None:
        assert settings.enabled or anonymous is not None, "somebody must be calling"
        self._settings = settings
        self._find_key = find_key
        self._clock = clock
        self._anonymous = anonymous
        # By all of an Authorization header but the signature at its end.
        self._signers: dict[str, _Signer] = {}

    def authenticate(self, request: Request) -> Caller:
        """Find out who sent a request, and that nobody changed it since.

        Raises:
            MissingAuthenticationToken: it is not signed.
            IncompleteSignature: the signature lacks a part or has one that cannot be read.
            InvalidSecurity: signed with another version of AWS's signatures.
            InvalidClientTokenId: an unknown access key, or a session token.
            SignatureDoesNotMatch: a wrong signature, or a clock too far from this one.
            RequestExpired: a presigned URL past its end.
        """
        if not self._settings.enabled:
            assert self._anonymous is not None
            return self._anonymous
        authorization = request.headers.get("authorization")
        if authorization is None:
            return self._authenticate_presigned(request)
        prefix = authorization[: -sigv4.SIGNATURE_LENGTH]
        signer = self._signers.get(prefix)
        if signer is None:
            claim, signature = sigv4.parse_authorization(authorization)
        else:
            claim, signature = signer.claim, authorization[-sigv4.SIGNATURE_LENGTH :]
        timestamp = sigv4.timestamp_of(request.headers)
        self._check_date(timestamp, claim, good_for_s=self._settings.clock_skew_max_s)
        if signer is None or not self._still_valid(signer):
            signer = self._signer(claim)
        _verify(request, signer, timestamp, sigv4.canonical_query(request.query), signature)
        # A signature elsewhere than at the end is allowed, but its header has no constant start.
        if authorization.endswith(signature):
            self._keep(prefix, signer)
        return signer.caller

    def _authenticate_presigned(self, request: Request) -> Caller:
        presigned = sigv4.parse_presigned(request.query) if request.query else None
        if presigned is None:
            raise MissingAuthenticationToken()
        if presigned.has_session_token:
            raise InvalidClientTokenId()
        self._check_date(presigned.timestamp, presigned.claim, good_for_s=None)
        signer = self._signer(presigned.claim)
        _verify(request, signer, presigned.timestamp, presigned.canonical_query, presigned.signature)
        # Asked last, so that only somebody with the key hears that the URL was once good.
        if self._clock() > sigv4.unix_time_s(presigned.timestamp) + presigned.expires_s:
            raise RequestExpired()
        return signer.caller

    def _check_date(self, timestamp: str, claim: sigv4.Claim, good_for_s: int | None) -> None:
        """Compare a signature's date with its scope and with this clock; None: it may be any time ago."""
        signed_at_s = sigv4.unix_time_s(timestamp)
        if timestamp[:8] != claim.day:
            raise SignatureDoesNotMatch(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                f"'{claim.day[:80]}' != '{timestamp[:8]}', from '{timestamp}'."
            )
        now_s = self._clock()
        skew_s = self._settings.clock_skew_max_s
        if signed_at_s > now_s + skew_s:
            raise SignatureDoesNotMatch(
                f"Signature not yet current: {timestamp} is still later than "
                f"{sigv4.iso_basic(now_s + skew_s)} ({sigv4.iso_basic(now_s)} + {_in_words(skew_s)})"
            )
        if good_for_s is not None and signed_at_s < now_s - good_for_s:
            raise SignatureDoesNotMatch(
                f"Signature expired: {timestamp} is now earlier than "
                f"{sigv4.iso_basic(now_s - good_for_s)} ({sigv4.iso_basic(now_s)} - {_in_words(good_for_s)})"
            )

    def _signer(self, claim: sigv4.Claim) -> _Signer:
        # An unknown id is answered sooner than a wrong signature; the answers differ anyway, as AWS's do.
        key = self._find_key(claim.access_key_id)
        if key is None:
            raise InvalidClientTokenId()
        return _Signer(
            claim=claim,
            key=key,
            signing_key=sigv4.signing_key(key.secret, claim),
            scope=claim.scope,
            signed_headers=";".join(claim.signed_headers),
            caller=Caller(key.account, key.id),
        )

    def _still_valid(self, signer: _Signer) -> bool:
        key = self._find_key(signer.claim.access_key_id)
        return key is signer.key or key == signer.key

    def _keep(self, prefix: str, signer: _Signer) -> None:
        if self._signers.get(prefix) is signer:
            return
        # Emptied when full: simpler than to track use, and one client costs microseconds to see again.
        if len(self._signers) >= self._settings.signers_max:
            self._signers.clear()
        self._signers[prefix] = signer


def _verify(request: Request, signer: _Signer, timestamp: str, query: str, signature: str) -> None:
    headers = request.headers
    if "x-amz-security-token" in headers:
        raise InvalidClientTokenId()
    body_digest = sha256(request.body).hexdigest()
    for name in headers:
        # What SQS reads must not be changed underway, and it reads these.
        if name[:6] == "x-amz-" and name not in signer.claim.signed_headers:
            raise SignatureDoesNotMatch(f"The header '{name[:80]}' is present and must be signed.")
    if headers.get("x-amz-content-sha256", body_digest) != body_digest:
        # UNSIGNED-PAYLOAD is refused here as well: no client needs it for SQS.
        raise SignatureDoesNotMatch(
            "The provided 'x-amz-content-sha256' header does not match what was computed."
        )
    canonical_request = (
        f"{request.method}\n{sigv4.canonical_path(request.path)}\n{query}\n"
        f"{sigv4.canonical_headers(headers, signer.claim)}\n{signer.signed_headers}\n{body_digest}"
    )
    to_sign = sigv4.string_to_sign(timestamp, signer.scope, canonical_request)
    expected = hmac.digest(signer.signing_key, to_sign, "sha256").hex()
    # As bytes: text that is not ASCII would be a TypeError.
    if not hmac.compare_digest(expected.encode(), signature.encode("latin-1")):
        raise SignatureDoesNotMatch()


def _in_words(duration_s: int) -> str:
    return f"{duration_s // 60} min." if duration_s % 60 == 0 else f"{duration_s} s."
