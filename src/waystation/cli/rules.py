"""What settings must be beyond their type: ranges, shapes, and how they fit together.

All such rules are here and nowhere else, each a pair: the setting it is about, and
what is allowed. Boxes rely on them and do not check again.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from waystation.frontend.partitions import PARTITIONS_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from waystation.cli.settings import Settings

Rule = Iterator[tuple[str, str]]

_ACCOUNT = re.compile(r"[0-9]{12}")
_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
# A `/` would end the id inside the credential scope of a signature.
_ACCESS_KEY_ID = re.compile(r"[A-Za-z0-9_]{3,128}")
_SECRET = re.compile(r"[!-~]{8,128}")

_OPEN_TO_ALL = "which lets all who reach it read and delete messages; --force-no-auth allows it all the same"

FRONTENDS_MAX = 64
"""Far more than one backend can keep busy."""

# Numbers that may be zero; all others are limits and times that only make sense above it.
_ZERO_ALLOWED = frozenset(
    {
        "frontends",
        "http.port",
        "http.shutdown_grace_s",
        "auth.clock_skew_max_s",
        "service.name_reuse_s",
        "service.purge_interval_s",
    }
)


def broken_rules(settings: Settings, values: Mapping[str, object]) -> Rule:
    """Find every rule that the settings break.

    Args:
        settings: the whole tree.
        values: the same by key, such as `http.port`.

    Returns:
        The key of a setting, and a phrase that says what is allowed ("must be …").
    """
    yield from _numbers(values)
    yield from _front_ends(settings)
    yield from _partitions(settings)
    yield from _addresses(settings)
    yield from _tls(settings)
    yield from _trust(settings)
    yield from _root_key(settings)


def is_loopback(host: str) -> bool:
    """Only this machine can reach `host`. A name other than `localhost` could point anywhere."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _numbers(values: Mapping[str, object]) -> Rule:
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not math.isfinite(value):
            yield key, "must be finite"
        elif value < 0 or (value == 0 and key not in _ZERO_ALLOWED):
            yield key, "must be 0 or more" if key in _ZERO_ALLOWED else "must be more than 0"


def _front_ends(settings: Settings) -> Rule:
    if settings.frontends > FRONTENDS_MAX:
        yield "frontends", f"must be at most {FRONTENDS_MAX}"
    if settings.frontends and settings.nats.servers:
        yield "frontends", "must be 0 with --cluster, where more nodes use more cores"


def _partitions(settings: Settings) -> Rule:
    if settings.service.partitions > PARTITIONS_MAX:
        yield "service.partitions", f"must be at most {PARTITIONS_MAX}"


def _addresses(settings: Settings) -> Rule:
    if settings.http.port > 65_535:
        yield "http.port", "must be from 0 to 65535, where 0 takes a free port"
    if not _ACCOUNT.fullmatch(settings.service.account):
        yield "service.account", "must be twelve digits"
    if not _REGION.fullmatch(settings.service.region):
        yield "service.region", "must be lower-case letters, digits and single hyphens, as in us-east-1"
    url = settings.service.public_url
    if url is not None and not _is_origin(url):
        yield "service.public_url", "must be scheme and host alone, as in https://queues.example.com"


def _is_origin(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is no number, or a broken IPv6 address
        return False
    netloc = "" if host is None else (f"[{host}]" if ":" in host else host)
    netloc += "" if port is None else f":{port}"
    return parts.scheme in {"http", "https"} and netloc != "" and url.lower() == f"{parts.scheme}://{netloc}"


def _tls(settings: Settings) -> Rule:
    certificate, key = settings.http.tls_certificate, settings.http.tls_key
    if certificate is not None and key is None:
        yield "http.tls_certificate", "needs the private key as well, in --tls-key"
    if key is not None and certificate is None:
        yield "http.tls_key", "needs the certificate as well, in --tls-certificate"
    yield from _readable("http.tls_certificate", certificate)
    yield from _readable("http.tls_key", key)


def _readable(key: str, path: Path | None) -> Rule:
    if path is None:
        return
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        yield key, f"must be a file that can be read ({error.strerror})"


def _trust(settings: Settings) -> Rule:
    if settings.auth.enabled and settings.force_no_auth:
        yield "force_no_auth", "needs --no-auth as well"
    if not settings.auth.enabled and not settings.force_no_auth and not is_loopback(settings.http.host):
        yield "http.host", f"must be loopback with --no-auth, {_OPEN_TO_ALL}"


def _root_key(settings: Settings) -> Rule:
    access_key_id, secret = settings.root.access_key_id, settings.root.secret_access_key
    if access_key_id is not None and secret is None:
        yield "root.access_key_id", "needs WAYSTATION_ROOT_SECRET_ACCESS_KEY as well"
    if secret is not None and access_key_id is None:
        yield "root.secret_access_key", "needs WAYSTATION_ROOT_ACCESS_KEY_ID as well"
    if access_key_id is not None and not _ACCESS_KEY_ID.fullmatch(access_key_id):
        yield "root.access_key_id", "must be 3 to 128 letters, digits and underscores"
    if secret is not None and not _SECRET.fullmatch(secret):
        yield "root.secret_access_key", "must be 8 to 128 printable ASCII characters without spaces"
