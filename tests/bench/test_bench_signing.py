"""The load generator's own signer and its own reader of answers, against what others say."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bench import signing
from bench.connection import complete_body, no_latencies
from bench.driver import percentile_ms
from bench.signing import Signer

ID, SECRET, HOST = "AKIAEXAMPLE", "a-secret", "127.0.0.1:9324"


def parts(request: bytes) -> tuple[dict[str, str], bytes]:
    """The headers and the body of a request."""
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines), body


def test_a_request_is_signed_as_botocore_would_sign_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own check is not the judge of the benchmark's signatures: botocore is."""
    now_s = 1_795_000_000
    monkeypatch.setattr(time, "time", lambda: float(now_s))
    body = b'{"QueueUrl":"http://127.0.0.1:9324/000000000000/bench","MessageBody":"hello"}'

    headers, sent_body = parts(Signer(HOST, ID, SECRET).request("SendMessage", body))

    timestamp = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    signed = {name: headers[name] for name in ("Host", "X-Amz-Target", "Content-Type", "X-Amz-Date")}
    request = AWSRequest("POST", f"http://{HOST}/", signed, body)
    request.context["timestamp"] = timestamp
    auth = SigV4Auth(Credentials(ID, SECRET), signing.SERVICE, signing.REGION)
    canonical = auth.canonical_request(request)
    expected = auth.signature(auth.string_to_sign(request, canonical), request)
    assert headers["X-Amz-Date"] == timestamp
    assert headers["Authorization"].endswith(f"Signature={expected}")
    assert f"SignedHeaders={auth.signed_headers(auth.headers_to_sign(request))}," in headers["Authorization"]
    assert (sent_body, headers["Content-Length"]) == (body, str(len(body)))


def test_an_answer_is_complete_once_all_bytes_of_its_body_are_there() -> None:
    """Answers come in pieces; none of them is taken for the whole."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: x\r\nContent-Length: 4\r\n\r\n{ }\n"

    for length in range(len(answer)):
        assert complete_body(answer[:length]) is None
    assert complete_body(answer) == b"{ }\n"


def test_a_percentile_is_a_latency_that_was_seen() -> None:
    """Of a hundred calls, the 99th percentile is the slowest but one."""
    latencies = no_latencies()
    latencies["SendMessage"].extend(n / 1_000 for n in range(1, 101))

    assert percentile_ms(latencies, 0.5) == pytest.approx({"SendMessage": 50, "": 50})
    assert percentile_ms(latencies, 0.99) == pytest.approx({"SendMessage": 99, "": 99})
    assert percentile_ms(latencies, 1.0) == pytest.approx({"SendMessage": 100, "": 100})
