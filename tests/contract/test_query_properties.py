"""Whatever form a client sends: an answer or a refusal, never a failure, and a refusal changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote_plus, urlencode
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.contract.forms import Pairs, pairs_of
from tests.contract.fuzz import FIFO_NAME, QUEUE_NAME, prepare, requests, still_app
from tests.frontend.app_driver import ACCOUNT, AppDriver
from tests.protocol.query_model import NESTED_SERVICE, QUERY_SERVICE
from waystation.frontend.http_messages import Request

ACCEPTED = ["*/*", "application/json"]
PATHS = ["/", "/", "/", f"/{ACCOUNT}/{QUEUE_NAME}", f"/{ACCOUNT}/{FIFO_NAME}", "/nowhere"]

VALUES = st.sampled_from(["", "0", "-1", "x", "1.5", "99999999999999999999", "\x00", "\ufffe"]) | st.text(
    max_size=5
)


@pytest.fixture(scope="module")
def app() -> Iterator[AppDriver]:
    with still_app() as app:
        yield app


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
    operation, members = draw(requests())
    pairs = pairs_of(operation, members, draw(st.sampled_from([QUERY_SERVICE, NESTED_SERVICE])))
    damage = draw(st.sampled_from(["none", "none", "parameter", "bytes"]))
    if damage == "parameter":
        pairs = draw(mutated(pairs))
    form = urlencode(pairs).encode()
    if damage == "bytes":
        at = draw(st.integers(0, len(form)))
        form = form[:at] + draw(st.binary(max_size=3)) + form[at + draw(st.integers(0, 3)) :]
    return operation, form


@settings(max_examples=1_500, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(forms(), st.sampled_from(["GET", "POST"]), st.sampled_from(PATHS), st.sampled_from(ACCEPTED))
def test_no_form_fails_and_a_refused_one_changes_nothing(
    app: AppDriver, drawn: tuple[str, bytes], method: str, path: str, accept: str
) -> None:
    operation, form = drawn
    for stand_in, value in prepare(app).items():
        form = form.replace(quote_plus(stand_in).encode(), quote_plus(value).encode())
    before = app.picture()

    headers = {"host": "queues.test:9324", "accept": accept}
    headers["content-type"] = "application/x-www-form-urlencoded"
    query, body = (form.decode("latin-1"), b"") if method == "GET" else ("", form)
    response = app.handle(Request(method, f"{path}?{query}", path, query, headers, body, secure=False))

    event(f"{operation}: {response.status}")
    assert response.status in (200, 400, 403, 404)
    if accept == "*/*" or b"<UnknownOperationException" in response.body:
        assert ElementTree.fromstring(response.body).tag
    else:
        assert json.loads(response.body)
    if response.status != 200:
        assert app.picture() == before
