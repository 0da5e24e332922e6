"""How long a signature is good, in both of its forms."""

from __future__ import annotations

import pytest

from tests.frontend.signing import (
    CALLER,
    CREDENTIAL,
    SIGNED_AT_S,
    Clock,
    authenticator,
    changed,
    presigned,
    refusal_of,
    signed,
    with_parts,
)
from waystation.protocol.errors import (
    IncompleteSignature,
    RequestExpired,
    SignatureDoesNotMatch,
)


@pytest.mark.parametrize("skew_s", [-300, 300])
def test_a_clock_may_be_five_minutes_off(skew_s: int) -> None:
    assert authenticator(Clock(SIGNED_AT_S + skew_s)).authenticate(signed()) == CALLER


def test_an_old_signature_is_refused_with_both_times() -> None:
    refused = refusal_of(signed(), authenticator(Clock(SIGNED_AT_S + 301)))

    assert isinstance(refused, SignatureDoesNotMatch)
    assert refused.message == (
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"
    )


def test_a_signature_from_the_future_is_refused_with_both_times() -> None:
    for request in (signed(), presigned()):
        refused = refusal_of(request, authenticator(Clock(SIGNED_AT_S - 301)))

        assert isinstance(refused, SignatureDoesNotMatch)
        assert refused.message == (
            "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z "
            "(20150830T123059Z + 5 min.)"
        )


@pytest.mark.parametrize("expires_s", [1, 3_600, 604_800])
def test_a_presigned_url_is_good_until_it_expires(expires_s: int) -> None:
    request = presigned(expires_s=expires_s)

    assert authenticator(Clock(SIGNED_AT_S + expires_s)).authenticate(request) == CALLER
    refused = refusal_of(request, authenticator(Clock(SIGNED_AT_S + expires_s + 1)))
    assert isinstance(refused, RequestExpired)


@pytest.mark.parametrize("expires", ["0", "-1", "604801", "1e3", "%D9%A3", "", "9" * 5_000])
def test_a_presigned_url_may_not_be_good_for_longer_than_a_week(expires: str) -> None:
    request = presigned()

    refused = refusal_of(
        changed(request, query=request.query.replace("X-Amz-Expires=3600", f"X-Amz-Expires={expires}"))
    )

    assert isinstance(refused, IncompleteSignature)
    assert refused.message == "X-Amz-Expires must be between 1 and 604800 seconds (a week)."


@pytest.mark.parametrize("name", ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"])
def test_a_presigned_url_has_every_part_exactly_once(name: str) -> None:
    request = presigned()
    parts = request.query.split("&")
    [part] = [part for part in parts if part.startswith(f"X-Amz-{name}=")]
    without = "&".join(other for other in parts if other != part)

    missing = refusal_of(changed(request, query=without))
    doubled = refusal_of(changed(request, query="&".join([*parts, part])))

    assert isinstance(missing, IncompleteSignature)
    assert missing.message == f"AWS query-string authentication requires 'X-Amz-{name}' parameter."
    assert isinstance(doubled, IncompleteSignature)
    assert doubled.message == f"AWS query-string authentication has more than one 'X-Amz-{name}' parameter."


def test_a_presigned_url_covers_the_body() -> None:
    assert isinstance(refusal_of(changed(presigned(), body=b"x")), SignatureDoesNotMatch)


def test_the_date_header_stands_in_for_x_amz_date() -> None:
    request = signed(headers={"Date": "replaced by the signer"})
    assert request.headers["date"] == "Sun, 30 Aug 2015 12:36:00 -0000"
    assert "x-amz-date" not in request.headers

    assert authenticator().authenticate(request) == CALLER
    assert isinstance(
        refusal_of(changed(request, headers={"date": "Sun, 30 Aug 2015 12:36:01 GMT"})), SignatureDoesNotMatch
    )


def test_a_signature_needs_a_date() -> None:
    refused = refusal_of(changed(signed(), headers={"x-amz-date": None}))

    assert isinstance(refused, IncompleteSignature)
    assert refused.message == (
        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
    )


@pytest.mark.parametrize(
    "date",
    ["", "20150830", "2015-08-30T12:36:00Z", "20151330T123600Z", "20150830T123660Z", "20150830T1236٣٣Z"],
)
@pytest.mark.parametrize("header", ["x-amz-date", "date"])
def test_a_date_that_cannot_be_read_is_refused(header: str, date: str) -> None:
    refused = refusal_of(changed(signed(), headers={"x-amz-date": None} | {header: date}))

    assert isinstance(refused, IncompleteSignature)
    assert refused.message.startswith("Date must be in ISO-8601 'basic format'. Got '")


def test_the_day_of_the_credential_is_the_day_of_the_date() -> None:
    refused = refusal_of(with_parts(Credential=CREDENTIAL.replace("20150830", "20150829")))

    assert isinstance(refused, SignatureDoesNotMatch)
    assert refused.message == (
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
        "'20150829' != '20150830', from '20150830T123600Z'."
    )
