"""AWS Signature Version 4 as a pure function: what a request claims, and what its signature must be.

Knows no keys and no clock: `auth` has those. The signature covers the method, the
path, the query, the signed headers and the body, in a canonical form in which
spellings that mean the same are the same.

Always: text is latin-1, as HTTP's bytes were decoded, so that what is hashed are
the bytes that the client sent; whatever a request holds, a function here returns
or raises a `Refusal`.

Source: AWS General Reference, "Create a signed AWS API request". SQS normalises
paths and encodes them twice, as every service but S3 does. Texts are AWS's.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote_from_bytes, unquote_to_bytes

from waystation.protocol.errors import IncompleteSignature, InvalidSecurity, SignatureDoesNotMatch

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "sqs"
TERMINATOR = "aws4_request"

SIGNATURE_LENGTH = 64
"""Hexadecimal digits."""

EXPIRES_S_MAX = 604_800
"""A presigned request is good for a week at most."""

_DATE = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
# A path that is its own canonical form. Every repetition ends in a slash, so that
# no path makes it look twice at a character.
_CANONICAL_PATH = re.compile(r"/(?:[A-Za-z0-9_~-][A-Za-z0-9_.~-]*/)*(?:[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)?")
_BLANKS = re.compile(r"[ \t]+")


@dataclass(frozen=True, slots=True)
class Claim:
    """Who says to have signed, and for what: the same for all requests of one client and day."""

    access_key_id: str
    day: str
    """YYYYMMDD."""
    region: str
    """Any: the region is part of the signing key, but no node serves only one."""
    signed_headers: tuple[str, ...]
    """Lower case, sorted, and `host` among them."""

    @property
    def scope(self) -> str:
        """What the signing key is good for."""
        return f"{self.day}/{self.region}/{SERVICE}/{TERMINATOR}"


@dataclass(frozen=True, slots=True)
class Presigned:
    """A signature in the query of a URL."""

    claim: Claim
    timestamp: str
    expires_s: int
    signature: str
    canonical_query: str
    """Without the signature itself."""
    has_session_token: bool


def parse_authorization(header: str) -> tuple[Claim, str]:
    """Read an Authorization header.

    Returns:
        The claim and the signature, which is any text so far.

    Raises:
        InvalidSecurity: another version of AWS's signatures.
        IncompleteSignature: a part is missing, doubled or cannot be read.
        SignatureDoesNotMatch: signed for another service, or without `host`.
    """
    algorithm, _, rest = header.partition(" ")
    _check_algorithm(algorithm)
    parts: dict[str, str] = {}
    for part in rest.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or name in parts:
            raise IncompleteSignature(
                f"'{name[:80]}' not a valid key=value pair (missing equal-sign) in Authorization header."
                if not equals
                else f"Authorization header has more than one '{name[:80]}' parameter."
            )
        parts[name] = value
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if not parts.get(name)]
    if missing:
        raise IncompleteSignature(
            " ".join(f"Authorization header requires '{name}' parameter." for name in missing)
        )
    return _claim(parts["Credential"], parts["SignedHeaders"]), parts["Signature"]


def parse_presigned(query: str) -> Presigned | None:
    """Read a signature out of a query; None if there is not even an attempt at one.

    Raises:
        As `parse_authorization`.
    """
    pairs = [
        (_decode(name), _decode(value))
        for name, _, value in (pair.partition("=") for pair in query.split("&") if pair)
    ]
    names = [name for name, _ in pairs]
    if b"SignatureVersion" in names and b"Signature" in names:
        raise _another_version("2")
    if not any(name.startswith(b"X-Amz-") for name in names):
        return None
    _check_presigned_names(names)
    given = {name.decode(): value.decode("latin-1") for name, value in pairs if name in _PRESIGNED_NAMES}
    _check_algorithm(given["X-Amz-Algorithm"])
    return Presigned(
        claim=_claim(given["X-Amz-Credential"], given["X-Amz-SignedHeaders"]),
        timestamp=given["X-Amz-Date"],
        expires_s=_expires_s(given["X-Amz-Expires"]),
        signature=given["X-Amz-Signature"],
        canonical_query=_join([pair for pair in pairs if pair[0] != b"X-Amz-Signature"]),
        has_session_token=b"X-Amz-Security-Token" in names,
    )


def timestamp_of(headers: Mapping[str, str]) -> str:
    """When a request was signed: `X-Amz-Date`, or else `Date`, as YYYYMMDDTHHMMSSZ.

    Raises:
        IncompleteSignature: neither is there, or `Date` cannot be read.
    """
    timestamp = headers.get("x-amz-date")
    if timestamp is not None:
        return timestamp
    date = headers.get("date")
    if date is None:
        raise IncompleteSignature(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        )
    if _DATE.fullmatch(date):
        return date
    try:
        moment = parsedate_to_datetime(date)
        # A date in no zone ("-0000") is UTC by RFC 5322, but local time to `datetime`.
        return iso_basic((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise _bad_date(date) from None


@lru_cache(maxsize=1024)
def unix_time_s(timestamp: str) -> float:
    """Unix time of a YYYYMMDDTHHMMSSZ.

    Cached: the requests of one second share one timestamp.

    Raises:
        IncompleteSignature: not such a date.
    """
    try:
        if _DATE.fullmatch(timestamp):
            return datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        pass
    raise _bad_date(timestamp)


def iso_basic(unix_time_s: float) -> str:
    """YYYYMMDDTHHMMSSZ of a Unix time."""
    return datetime.fromtimestamp(unix_time_s, UTC).strftime("%Y%m%dT%H%M%SZ")


def signing_key(secret: str, claim: Claim) -> bytes:
    """Derive the 32-byte key that signs for one day, region and service."""
    key = f"AWS4{secret}".encode()
    for part in (claim.day, claim.region, SERVICE, TERMINATOR):
        key = hmac.digest(key, part.encode("latin-1"), "sha256")
    return key


def canonical_path(path: str) -> str:
    """Drop dot segments and doubled slashes, then percent-encode what is encoded already."""
    if _CANONICAL_PATH.fullmatch(path):
        return path
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    slash = "/" if kept and path.endswith("/") else ""
    return quote_from_bytes(f"/{'/'.join(kept)}{slash}".encode("latin-1"), safe="/~")


def canonical_query(query: str) -> str:
    """Decode every name and value, encode them in the one canonical way, and sort."""
    if not query:
        return ""
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return _join([(_decode(name), _decode(value)) for name, _, value in pairs])


def canonical_headers(headers: Mapping[str, str], claim: Claim) -> str:
    """The signed headers, one per line, with the blanks in their values folded.

    Raises:
        SignatureDoesNotMatch: one was signed that is not there.
    """
    lines = []
    for name in claim.signed_headers:
        value = headers.get(name)
        if value is None:
            raise SignatureDoesNotMatch()
        if "  " in value or "\t" in value:
            value = _BLANKS.sub(" ", value)
        lines.append(f"{name}:{value}\n")
    return "".join(lines)


def string_to_sign(timestamp: str, scope: str, canonical_request: str) -> bytes:
    """What the signing key signs."""
    digest = sha256(canonical_request.encode("latin-1")).hexdigest()
    return f"{ALGORITHM}\n{timestamp}\n{scope}\n{digest}".encode("latin-1")


# What a presigned URL must have, each exactly once, in the order in which it is missed.
_PRESIGNED_NAMES = (
    b"X-Amz-Algorithm",
    b"X-Amz-Credential",
    b"X-Amz-Signature",
    b"X-Amz-SignedHeaders",
    b"X-Amz-Date",
    b"X-Amz-Expires",
)


def _check_presigned_names(names: list[bytes]) -> None:
    for name in _PRESIGNED_NAMES:
        count = names.count(name)
        if count != 1:
            problem = "requires" if count == 0 else "has more than one"
            raise IncompleteSignature(
                f"AWS query-string authentication {problem} '{name.decode()}' parameter."
            )


def _check_algorithm(algorithm: str) -> None:
    if algorithm == ALGORITHM:
        return
    if algorithm in ("AWS", "AWS3", "AWS3-HTTPS"):
        raise _another_version("2")
    if algorithm.startswith("AWS4-ECDSA"):
        raise _another_version("4A")
    raise IncompleteSignature(f"Unsupported AWS 'algorithm': '{algorithm[:80]}'.")


def _another_version(version: str) -> InvalidSecurity:
    return InvalidSecurity(
        f"AWS Signature Version {version} is not supported. Sign with Version 4 ({ALGORITHM})."
    )


def _claim(credential: str, signed_headers: str) -> Claim:
    # From the right: it is the access key id that somebody may have put slashes into.
    elements = credential.rsplit("/", 4)
    if len(elements) != 5:
        raise IncompleteSignature(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, "
            f"got '{credential[:160]}'"
        )
    access_key_id, day, region, service, terminator = elements
    names = tuple(signed_headers.split(";"))
    problems = []
    if service != SERVICE:
        problems.append(f"Credential should be scoped to correct service: '{SERVICE}'.")
    if terminator != TERMINATOR:
        problems.append(
            f"Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{terminator[:80]}'."
        )
    if "host" not in names:
        problems.append("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    if problems:
        raise SignatureDoesNotMatch(" ".join(problems))
    if list(names) != sorted(set(names)) or signed_headers != signed_headers.lower():
        raise SignatureDoesNotMatch("SignedHeaders must be in lower case, sorted, and each be there once.")
    return Claim(access_key_id, day, region, names)


def _expires_s(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= EXPIRES_S_MAX):
        raise IncompleteSignature(f"X-Amz-Expires must be between 1 and {EXPIRES_S_MAX} seconds (a week).")
    return int(text)


def _bad_date(date: str) -> IncompleteSignature:
    return IncompleteSignature(
        f"Date must be in ISO-8601 'basic format'. Got '{date[:80]}'. "
        "See http://en.wikipedia.org/wiki/ISO_8601"
    )


def _decode(text: str) -> bytes:
    # A plus sign is a space here because it is one for whoever reads the query later:
    # to sign one meaning and read the other would let anybody change it underway.
    return unquote_to_bytes(text.replace("+", " ").encode("latin-1"))


def _join(pairs: list[tuple[bytes, bytes]]) -> str:
    # Sorted as encoded: "a-" precedes "a" followed by a character that is encoded.
    encoded = sorted(
        (quote_from_bytes(name, safe="~"), quote_from_bytes(value, safe="~")) for name, value in pairs
    )
    return "&".join([f"{name}={value}" for name, value in encoded])
