"""Whatever form a client sends: an answer or a refusal, never a failure, and a refusal changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from botocore.serialize import create_serializer
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.contract.fuzz import HANDLE, REQUESTS
from tests.contract.test_requests_properties import prepare
from tests.contract.wire import SERVED
from tests.frontend.app_driver import AppDriver
from tests.protocol.query_model import NESTED_SERVICE, QUERY_SERVICE
from tests.protocol.service_model import OPERATION_NAMES
from waystation.frontend.http_messages import Request

Pairs = list[tuple[str, str]]

VALUES = st.sampled_from(["", "0", "-1", "x", "1.5", "99999999999999999999", "\x00", "\ufffe"]) | st.text(
    max_size=5
)


@pytest.fixture(scope="module")
def app() -> Iterator[AppDriver]:
    with AppDriver(carries=False) as driver:
        # No example may take a receive's whole waiting time.
        driver.backend.drain()
        yield driver


@st.composite
def mutated(draw: st.DrawFn, pairs: Pairs) -> Pairs:
    """The form with one parameter lost, doubled, moved to another name, or given another value."""
    at = draw(st.integers(0, len(pairs) - 1))
    name, value = pairs[at]
    parts = name.split(".")
    part = draw(st.integers(0, len(parts) - 1))
    renamed = ".".join([*parts[:part], draw(VALUES), *parts[part + 1 :]])
    instead = draw(
        st.sampled_from([[], [(name, value)] * 2, [(renamed, value)]])
        | VALUES.map(lambda other: [(name, other)])
    )
    return [*pairs[:at], *instead, *pairs[at + 1 :]]


@st.composite
def forms(draw: st.DrawFn) -> tuple[str, bytes]:
    """An operation, and a form for it: as it should be, with a wrong parameter, or with wrong bytes."""
    operation = draw(st.sampled_from([*SERVED * 3, *OPERATION_NAMES]))
    model = draw(st.sampled_from([QUERY_SERVICE, NESTED_SERVICE])).operation_model(operation)
    serialized = create_serializer("query", include_validation=False).serialize_to_request(
        draw(REQUESTS[operation]), model
    )
    pairs = [(name, str(value)) for name, value in serialized["body"].items()]
    damage = draw(st.sampled_from(["none", "none", "parameter", "bytes"]))
    if damage == "parameter":
        pairs = draw(mutated(pairs))
    form = urlencode(pairs).encode()
    if damage == "bytes":
        at = draw(st.integers(0, len(form)))
        form = form[:at] + draw(st.binary(max_size=3)) + form[at + draw(st.integers(0, 3)) :]
    return operation, form


@settings(max_examples=1_000, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(forms())
def test_no_form_fails_and_a_refused_one_changes_nothing(app: AppDriver, drawn: tuple[str, bytes]) -> None:
    operation, form = drawn
    form = form.replace(urlencode({"": HANDLE})[1:].encode(), prepare(app).encode())
    before = app.picture()

    headers = {"host": "queues.test:9324", "content-type": "application/x-www-form-urlencoded"}
    response = app.handle(Request("POST", "/", "/", "", headers, form, secure=False))

    event(f"{operation}: {response.status}")
    assert response.status in (200, 400, 403, 404)
    assert ElementTree.fromstring(response.body).tag
    if response.status != 200:
        assert app.picture() == before
