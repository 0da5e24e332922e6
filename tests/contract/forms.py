"""Requests of the Query protocol written by hand, the same over each protocol in turn, and their errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

from botocore.model import ServiceModel
from botocore.serialize import create_serializer

from tests.contract.wire import Answer, Members, exchange
from tests.protocol.query_model import QUERY_SERVICE

NAMESPACE = "{http://queue.amazonaws.com/doc/2012-11-05/}"
FORM_TYPE = {"Content-Type": "application/x-www-form-urlencoded"}

Pairs = list[tuple[str, str]]


def pairs_of(operation: str, members: Members, service: ServiceModel = QUERY_SERVICE) -> Pairs:
    """The parameters that stand for the members of a request, its action and version among them."""
    serializer = create_serializer("query", include_validation=False)
    serialized = serializer.serialize_to_request(members, service.operation_model(operation))
    return [(name, str(value)) for name, value in serialized["body"].items()]


def post_form(
    url: str, operation: str, members: Members, *, headers: dict[str, str] | None = None, **signing: Any
) -> Answer:
    """As `post` does it, in the Query protocol. An operation that the model lacks has plain members."""
    known = operation in QUERY_SERVICE.operation_names
    pairs = pairs_of(operation, members) if known else [("Action", operation), *members.items()]
    return exchange("POST", url, {**FORM_TYPE, **(headers or {})}, urlencode(pairs).encode(), **signing)


def get(url: str, parameters: dict[str, str], *, presigned: bool = False, **headers: str) -> Answer:
    """A GET with its parameters in the query of the URL."""
    return exchange("GET", f"{url}?{urlencode(parameters, quote_via=quote)}", headers, presigned=presigned)


Ask = Callable[..., Answer]
"""`post` or `post_form`: one request by hand, whatever the protocol."""


@dataclass(frozen=True)
class Told:
    """What an error says in either protocol."""

    status: int
    code: str
    """The code of Query, which an error in AWS JSON has in a header."""
    text: str
    blame: str
    request_id: str


def told(answer: Answer) -> Told:
    """Read an error. Fails if it has not exactly the form that AWS gives it in the protocol of the answer."""
    error = _told_in_xml(answer) if answer.headers["content-type"] == "text/xml" else _told_in_json(answer)
    assert len(error.request_id) == 36
    return error


def _told_in_json(answer: Answer) -> Told:
    assert answer.headers["content-type"] == "application/x-amz-json-1.0"
    error = json.loads(answer.body)
    assert set(error) == {"__type", "message"}
    code, _, blame = answer.headers["x-amzn-query-error"].partition(";")
    return Told(answer.status, code, error["message"], blame, answer.headers["x-amzn-requestid"])


def _told_in_xml(answer: Answer) -> Told:
    root = ElementTree.fromstring(answer.body)
    assert root.tag == f"{NAMESPACE}ErrorResponse"
    assert [each.tag.removeprefix(NAMESPACE) for each in root] == ["Error", "RequestId"]
    error, request_id = root
    parts = {each.tag.removeprefix(NAMESPACE): each.text or "" for each in error}
    assert list(parts) == ["Type", "Code", "Message", "Detail"]
    assert request_id.text == answer.headers["x-amzn-requestid"]
    return Told(answer.status, parts["Code"], parts["Message"], parts["Type"], request_id.text or "")
