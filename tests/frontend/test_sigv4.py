"""Canonical forms, and AWS's own test vectors."""

from __future__ import annotations

import time

import pytest
from botocore.auth import SigV4Auth
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from tests.frontend.signing import CALLER, KEY, Clock, authenticator
from waystation.frontend import sigv4
from waystation.frontend.auth import AccessKey
from waystation.frontend.http_messages import Request

BOTOCORE = SigV4Auth(Credentials("a", "b"), "sqs", "us-east-1")


def test_the_signing_key_is_derived_as_in_the_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sigv4, "SERVICE", "iam")
    claim = sigv4.Claim("AKIDEXAMPLE", "20150830", "us-east-1", ("host",))

    key = sigv4.signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", claim)

    assert key.hex() == "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"


VECTORS = [
    ("GET", "/", "", {}, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ("GET", "/example/..", "", {}, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ("GET", "//", "", {}, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ("POST", "/", "", {}, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    (
        "GET",
        "/",
        "Param2=value2&Param1=value1",
        {},
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    (
        "GET",
        "/",
        "",
        {"my-header1": "value1", "my-header2": '"a   b   c"'},
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
]


@pytest.mark.parametrize(("method", "path", "query", "extra", "signature"), VECTORS)
def test_the_vectors_of_awss_test_suite_verify(
    method: str, path: str, query: str, extra: dict[str, str], signature: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sigv4, "SERVICE", "service")
    headers = {"host": "example.amazonaws.com", "x-amz-date": "20150830T123600Z", **extra}
    names = ";".join(sorted(headers))
    headers["authorization"] = (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    key = AccessKey("AKIDEXAMPLE", KEY.secret, CALLER.account)
    verifier = authenticator(Clock(), key)

    caller = verifier.authenticate(Request(method, path, path, query, headers, b"", secure=False))

    assert caller.access_key_id == "AKIDEXAMPLE"


@given(st.text("ab./~%-_é ", max_size=30).map("/".__add__))
def test_paths_are_normalised_and_encoded_as_botocore_does(path: str) -> None:
    # Botocore encodes characters as UTF-8; here a character is a byte of the wire.
    as_bytes = path.encode().decode("latin-1")

    assert sigv4.canonical_path(as_bytes) == BOTOCORE._normalize_url_path(path)


@pytest.mark.parametrize(
    ("query", "canonical"),
    [
        ("", ""),
        ("b=2&a=1", "a=1&b=2"),
        ("a=2&a=1&A=0", "A=0&a=1&a=2"),
        ("a", "a="),
        ("a=1&&", "a=1"),
        ("a=%7e%2f/:", "a=~%2F%2F%3A"),
        ("a=x+y", "a=x%20y"),
        ("a=x%2By", "a=x%2By"),
        ("a=b=c", "a=b%3Dc"),
        ("a=%zz", "a=%25zz"),
        ("a=\xc3\xbc", "a=%C3%BC"),
    ],
)
def test_spellings_of_a_query_that_mean_the_same_have_one_form(query: str, canonical: str) -> None:
    assert sigv4.canonical_query(query) == canonical


def test_a_long_path_takes_no_longer_than_its_length() -> None:
    path = "/" + "a" * 16_000 + "!"
    started_s = time.process_time()

    assert sigv4.canonical_path(path).endswith("a%21")

    # Looking twice at a character would take longer than the universe has.
    assert time.process_time() - started_s < 1
