"""Operations over either protocol on an app in this process, as botocore would call them on a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from botocore.exceptions import ClientError
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from tests.contract.forms import FORM_TYPE, pairs_of
from tests.frontend.app_driver import AppDriver, request_of
from tests.protocol.query_model import QUERY_SERVICE
from tests.protocol.service_model import SERVICE
from waystation.frontend.http_messages import Request

Call = Callable[..., Any]
"""Takes the name and the members of an operation, returns its result, and raises `ClientError`."""


def caller(app: AppDriver, protocol: str) -> Call:
    """Calls operations over `json` or `query`. Members may be of wrong values, but not of wrong types."""
    service, ask = {"json": (SERVICE, _json_request), "query": (QUERY_SERVICE, _form_request)}[protocol]
    parser = create_parser(protocol)

    def call(operation: str, **members: Any) -> Any:
        response = app.handle(ask(operation, members))
        received = {"status_code": response.status, "headers": dict(response.headers), "body": response.body}
        result = parser.parse(received, service.operation_model(operation).output_shape)
        if response.status != 200:
            raise ClientError(result, operation)
        return result

    return call


def _json_request(operation: str, members: dict[str, Any]) -> Request:
    serializer = create_serializer("json", include_validation=False)
    serialized = serializer.serialize_to_request(members, SERVICE.operation_model(operation))
    return request_of(operation, serialized["body"])


def _form_request(operation: str, members: dict[str, Any]) -> Request:
    headers = {"host": "queues.test:9324", "content-type": FORM_TYPE["Content-Type"]}
    form = urlencode(pairs_of(operation, members)).encode()
    return Request("POST", "/", "/", "", headers, form, secure=False)
