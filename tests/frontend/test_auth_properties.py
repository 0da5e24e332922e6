"""Whatever botocore signs is believed, and nothing that was changed since."""

from __future__ import annotations

import string
from urllib.parse import parse_qsl, quote, urlencode

import pytest
from botocore.auth import SigV4Auth
from botocore.credentials import Credentials
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.frontend.signing import CALLER, HEADERS, KEY, authenticator, changed, presigned, signed
from waystation.frontend.http_messages import Request
from waystation.protocol.errors import Refusal, SignatureDoesNotMatch

methods = st.sampled_from(["GET", "POST", "PUT", "HEAD"])
path_characters = st.sampled_from(string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@%/")
paths = st.text(path_characters, max_size=20).map(lambda path: "/" + path.lstrip("/"))
queries = st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), max_size=4).map(
    lambda pairs: urlencode([pair for pair in pairs if pair[0]], quote_via=quote, safe="")
)
header_values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)).map(str.strip)
header_names = st.text(string.ascii_lowercase + "-", min_size=1, max_size=8).map(lambda name: f"x-amz-{name}")
headers = st.dictionaries(
    header_names.filter(lambda name: name not in ("x-amz-date", "x-amz-security-token")),
    header_values,
    max_size=3,
)
junk = st.text(st.characters(max_codepoint=0xFF), max_size=100)


def replaced(data: st.DataObject, text: str, alphabet: str) -> str:
    """The text with one character changed into another of the alphabet."""
    assume(text)
    place = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.sampled_from(alphabet).filter(lambda new: new != text[place]))
    return text[:place] + character + text[place + 1 :]


@given(methods, paths, queries, headers, st.binary(max_size=50))
def test_what_botocore_signs_is_believed(
    method: str, path: str, query: str, extra: dict[str, str], body: bytes
) -> None:
    url = f"http://localhost:9324{path}" + (f"?{query}" if query else "")

    request = signed(method, url, HEADERS | extra, body)

    verifier = authenticator()
    assert verifier.authenticate(request) == CALLER
    assert verifier.authenticate(request) == CALLER


@given(methods, paths, queries, headers)
def test_what_botocore_presigns_is_believed(
    method: str, path: str, query: str, extra: dict[str, str]
) -> None:
    distinct = urlencode(dict(parse_qsl(query)), quote_via=quote, safe="")
    url = f"http://localhost:9324{path}" + (f"?{distinct}" if distinct else "")

    assert authenticator().authenticate(presigned(method, url, extra)) == CALLER


@pytest.mark.parametrize("form", [signed, presigned])
@given(data=st.data())
def test_a_request_with_one_character_changed_is_refused(form: object, data: st.DataObject) -> None:
    sign = signed if form is signed else presigned
    request = sign(
        "POST", "http://localhost:9324/111111111111/orders?Action=SendMessage&b=%20%C3%BC", headers=HEADERS
    )
    part = data.draw(st.sampled_from(["method", "path", "query", "signed header", "authorization", "body"]))
    tampered = request
    match part:
        case "method":
            tampered = changed(request, method=replaced(data, request.method, string.ascii_uppercase))
        case "path":
            path = "/" + replaced(data, request.path[1:], string.printable.strip() + "é")
            assume(canonical_path_of_botocore(path) != request.path)
            tampered = changed(request, path=path)
        case "query":
            query = replaced(data, request.query, string.ascii_letters + string.digits + "%&=+")
            assume(sorted(parse_qsl(query, True)) != sorted(parse_qsl(request.query, True)))
            tampered = changed(request, query=query)
        case "signed header":
            name = data.draw(st.sampled_from(["host", "content-type", "x-amz-target"]))
            tampered = changed(
                request, headers={name: replaced(data, request.headers[name], string.ascii_letters + "é.-")}
            )
        case "authorization":
            assume("authorization" in request.headers)
            authorization = replaced(data, request.headers["authorization"], string.printable + "é")
            tampered = changed(request, headers={"authorization": authorization})
            assume(authorization.replace(" ", "") != request.headers["authorization"].replace(" ", ""))
        case "body":
            tampered = changed(request, body=data.draw(st.binary().filter(lambda body: body != request.body)))
    verifier = authenticator()
    assert verifier.authenticate(request) == CALLER

    with pytest.raises(Refusal):
        verifier.authenticate(tampered)


def canonical_path_of_botocore(path: str) -> str:
    signer = SigV4Auth(Credentials(KEY.id, KEY.secret), "sqs", "us-east-1")
    canonical: str = signer._normalize_url_path(path)
    return canonical


@given(place=st.integers(0, 63), data=st.data())
def test_a_signature_with_one_digit_changed_does_not_match(place: int, data: st.DataObject) -> None:
    request = signed()
    prefix, signature = request.headers["authorization"][:-64], request.headers["authorization"][-64:]
    digit = data.draw(st.sampled_from(string.hexdigits).filter(lambda new: new != signature[place]))
    forged = prefix + signature[:place] + digit + signature[place + 1 :]

    with pytest.raises(SignatureDoesNotMatch):
        authenticator().authenticate(changed(request, headers={"authorization": forged}))


@given(
    authorization=st.none() | junk | junk.map("AWS4-HMAC-SHA256 ".__add__), date=junk, query=junk, path=junk
)
def test_any_text_is_refused_in_good_order(
    authorization: str | None, date: str, query: str, path: str
) -> None:
    headers = {"host": "localhost", "x-amz-date": date}
    if authorization is not None:
        headers["authorization"] = authorization

    with pytest.raises(Refusal):
        authenticator().authenticate(Request("GET", path, path, query, headers, b"", secure=False))
