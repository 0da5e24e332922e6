"""Who is believed, and what the others are told."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from tests.frontend.signing import (
    CALLER,
    CREDENTIAL,
    KEY,
    Clock,
    authenticator,
    changed,
    presigned,
    refusal_of,
    signed,
    unsigned,
    with_authorization,
    with_parts,
)
from waystation.frontend.auth import AccessKey, Authenticator, Caller
from waystation.frontend.http_messages import Request
from waystation.frontend.settings import AuthSettings
from waystation.protocol.errors import (
    IncompleteSignature,
    InvalidClientTokenId,
    InvalidSecurity,
    MissingAuthenticationToken,
    SignatureDoesNotMatch,
)

DOES_NOT_MATCH = SignatureDoesNotMatch().message


def nobody(key_id: str) -> None:
    """Finds no key."""


def test_whoever_signs_with_a_known_key_is_believed() -> None:
    assert authenticator().authenticate(signed()) == CALLER


def test_a_request_of_boto3_is_believed() -> None:
    sent: list[AWSPreparedRequest] = []

    def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        sent.append(request)
        response = AWSResponse(request.url, 200, {}, None)
        response._content = b"{}"
        return response

    client = boto3.client(
        "sqs",
        region_name="eu-central-1",
        endpoint_url="http://localhost:9324",
        aws_access_key_id=KEY.id,
        aws_secret_access_key=KEY.secret,
    )
    client.meta.events.register("before-send.sqs", answer)
    client.send_message(QueueUrl="http://localhost:9324/111111111111/orders", MessageBody="hällo")
    headers = {
        name.lower(): value if isinstance(value, str) else value.decode()
        for name, value in sent[0].headers.items()
    }
    headers["host"] = "localhost:9324"
    request = Request("POST", "/", "/", "", headers, sent[0].body, secure=False)
    verifier = Authenticator(AuthSettings(), {KEY.id: KEY}.get)

    assert verifier.authenticate(request) == CALLER


@pytest.mark.parametrize("region", ["us-east-1", "mars-north-1", ""])
def test_any_region_is_served(region: str) -> None:
    assert authenticator().authenticate(signed(region=region)) == CALLER


def test_everybody_is_believed_while_authentication_is_off() -> None:
    anonymous = Caller(account="0" * 12, access_key_id="anonymous")
    verifier = Authenticator(AuthSettings(enabled=False), nobody, Clock(), anonymous)

    assert verifier.authenticate(unsigned()) is anonymous
    assert verifier.authenticate(with_authorization("nonsense")) is anonymous


def test_authentication_can_only_be_off_if_there_is_somebody_to_be() -> None:
    with pytest.raises(AssertionError, match="somebody must be calling"):
        Authenticator(AuthSettings(enabled=False), nobody)


@pytest.mark.parametrize("query", ["", "Action=ListQueues&Version=2012-11-05"])
def test_a_request_without_a_signature_is_told_so(query: str) -> None:
    refused = refusal_of(changed(unsigned(), query=query))

    assert isinstance(refused, MissingAuthenticationToken)
    assert refused.message == "Request is missing Authentication Token"


def test_an_unknown_access_key_is_refused() -> None:
    stranger = AccessKey("AKIAUNKNOWN", KEY.secret, "1" * 12)

    for request in (signed(key=stranger), presigned(key=stranger)):
        refused = refusal_of(request)
        assert isinstance(refused, InvalidClientTokenId)
        assert refused.message == "The security token included in the request is invalid."


def test_the_right_key_id_with_another_secret_is_refused() -> None:
    impostor = AccessKey(KEY.id, "x" * 40, "1" * 12)

    for request in (signed(key=impostor), presigned(key=impostor)):
        refused = refusal_of(request)
        assert isinstance(refused, SignatureDoesNotMatch)
        assert refused.message == DOES_NOT_MATCH


def test_a_session_token_with_a_lasting_key_is_refused() -> None:
    for request in (
        signed(token="t"),
        presigned(token="t"),
        changed(signed(), headers={"x-amz-security-token": "t"}),
    ):
        assert isinstance(refusal_of(request), InvalidClientTokenId)


def test_a_key_counts_until_it_is_revoked_or_replaced() -> None:
    known = {KEY.id: KEY}
    verifier = Authenticator(AuthSettings(), known.get, Clock())
    request = signed()
    assert verifier.authenticate(request) == CALLER

    known[KEY.id] = AccessKey(KEY.id, "y" * 40, "2" * 12)
    assert isinstance(refusal_of(request, verifier), SignatureDoesNotMatch)
    assert verifier.authenticate(signed(key=known[KEY.id])).account == "2" * 12

    del known[KEY.id]
    assert isinstance(refusal_of(request, verifier), InvalidClientTokenId)


def test_an_equal_key_from_another_look_up_is_the_same_key() -> None:
    def find_key(key_id: str) -> AccessKey:
        return AccessKey(key_id, KEY.secret, KEY.account)

    verifier = Authenticator(AuthSettings(), find_key, Clock())

    assert [verifier.authenticate(signed(body=b"%d" % i)) for i in range(3)] == [CALLER] * 3


def test_the_second_request_of_a_client_is_verified_like_the_first() -> None:
    verifier = authenticator()
    assert verifier.authenticate(signed(body=b"first")) == CALLER

    second = signed(body=b"second")
    assert isinstance(refusal_of(changed(second, body=b"other"), verifier), SignatureDoesNotMatch)
    assert verifier.authenticate(second) == CALLER


def test_what_is_kept_of_clients_is_bounded_and_only_of_those_that_were_right() -> None:
    keys = [AccessKey(f"AKIA{number}", KEY.secret, KEY.account) for number in range(10)]
    verifier = authenticator(None, *keys, signers_max=4)

    refusal_of(signed(key=AccessKey("AKIA0", "wrong", KEY.account)), verifier)
    assert len(verifier._signers) == 0

    for key in keys * 2:
        assert verifier.authenticate(signed(key=key)).access_key_id == key.id
        assert 1 <= len(verifier._signers) <= 4


def test_the_secret_of_a_key_is_never_shown() -> None:
    verifier = authenticator()
    verifier.authenticate(signed())

    assert KEY.secret not in repr(KEY)
    assert KEY.secret not in repr(list(verifier._signers.values()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Signature": None}, "Authorization header requires 'Signature' parameter."),
        ({"SignedHeaders": ""}, "Authorization header requires 'SignedHeaders' parameter."),
        (
            {"Credential": None, "Signature": None},
            (
                "Authorization header requires 'Credential' parameter. "
                "Authorization header requires 'Signature' parameter."
            ),
        ),
        (
            {"Credential": "AKID/20150830/us-east-1"},
            (
                "Credential must have exactly 5 slash-delimited elements, e.g. "
                "keyid/date/region/service/term, got 'AKID/20150830/us-east-1'"
            ),
        ),
    ],
)
def test_a_signature_that_lacks_a_part_is_told_which(changes: dict[str, str | None], message: str) -> None:
    refused = refusal_of(with_parts(**changes))

    assert isinstance(refused, IncompleteSignature)
    assert refused.message == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"Credential": CREDENTIAL.replace("sqs", "sns")},
            "Credential should be scoped to correct service: 'sqs'.",
        ),
        (
            {"Credential": CREDENTIAL + "x"},
            "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws4_requestx'.",
        ),
        ({"SignedHeaders": "x-amz-date"}, "'Host' must be a 'SignedHeader' in the AWS Authorization."),
        (
            {"SignedHeaders": "x-amz-date;host"},
            "SignedHeaders must be in lower case, sorted, and each be there once.",
        ),
        (
            {"SignedHeaders": "host;host;x-amz-date"},
            "SignedHeaders must be in lower case, sorted, and each be there once.",
        ),
        (
            {"SignedHeaders": "X-Amz-Date;host"},
            "SignedHeaders must be in lower case, sorted, and each be there once.",
        ),
        ({"SignedHeaders": "host"}, "The header 'x-amz-date' is present and must be signed."),
        ({"SignedHeaders": "host;x-amz-date;x-not-there"}, DOES_NOT_MATCH),
        ({"Signature": "ü" * 64}, DOES_NOT_MATCH),
        ({"Signature": "short"}, DOES_NOT_MATCH),
    ],
)
def test_a_signature_for_something_else_does_not_match(changes: dict[str, str], message: str) -> None:
    refused = refusal_of(with_parts(**changes))

    assert isinstance(refused, SignatureDoesNotMatch)
    assert refused.message == message


@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        ("", "Unsupported AWS 'algorithm': ''."),
        ("Bearer abc", "Unsupported AWS 'algorithm': 'Bearer'."),
        ("AWS4-HMAC-SHA512 Credential=a", "Unsupported AWS 'algorithm': 'AWS4-HMAC-SHA512'."),
        (
            "AWS4-HMAC-SHA256 nonsense",
            "'nonsense' not a valid key=value pair (missing equal-sign) in Authorization header.",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a,Credential=b",
            "Authorization header has more than one 'Credential' parameter.",
        ),
    ],
)
def test_an_authorization_header_that_cannot_be_read_is_refused(authorization: str, message: str) -> None:
    refused = refusal_of(with_authorization(authorization))

    assert isinstance(refused, IncompleteSignature)
    assert refused.message == message


@pytest.mark.parametrize(
    "request_",
    [
        with_authorization(f"AWS {KEY.id}:c2lnbmF0dXJl"),
        with_authorization(f"AWS4-ECDSA-P256-SHA256 Credential={CREDENTIAL}"),
        changed(unsigned(), query=f"AWSAccessKeyId={KEY.id}&SignatureVersion=2&Signature=c2lnbmF0dXJl"),
    ],
)
def test_other_versions_of_signatures_are_refused_with_the_one_to_use(request_: Request) -> None:
    refused = refusal_of(request_)

    assert isinstance(refused, InvalidSecurity)
    assert refused.message.endswith("is not supported. Sign with Version 4 (AWS4-HMAC-SHA256).")


def test_parts_of_an_authorization_header_come_in_any_order() -> None:
    request = signed()
    algorithm, _, rest = request.headers["authorization"].partition(" ")
    turned = f"{algorithm} {','.join(reversed(rest.split(', ')))}"

    verifier = authenticator()

    for _ in range(2):
        assert verifier.authenticate(changed(request, headers={"authorization": turned})) == CALLER


def test_a_header_that_sqs_reads_must_be_signed() -> None:
    refused = refusal_of(changed(signed(headers={}), headers={"x-amz-target": "AmazonSQS.PurgeQueue"}))

    assert isinstance(refused, SignatureDoesNotMatch)
    assert refused.message == "The header 'x-amz-target' is present and must be signed."


def test_proxies_may_add_and_change_headers_that_are_not_signed() -> None:
    request = changed(signed(), headers={"x-forwarded-for": "10.0.0.1", "x-amzn-trace-id": "Root=1"})

    assert authenticator().authenticate(request) == CALLER


@pytest.mark.parametrize("digest", ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "0" * 64, ""])
def test_the_body_is_hashed_whatever_a_header_says_of_it(digest: str) -> None:
    refused = refusal_of(signed(headers={"X-Amz-Content-SHA256": digest}))

    assert isinstance(refused, SignatureDoesNotMatch)
    assert refused.message == "The provided 'x-amz-content-sha256' header does not match what was computed."


def test_a_header_that_has_the_right_digest_of_the_body_is_fine() -> None:
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

    assert (
        authenticator().authenticate(signed(headers={"X-Amz-Content-SHA256": digest}, body=b"{}")) == CALLER
    )
