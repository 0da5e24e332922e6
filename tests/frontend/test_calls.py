"""Which queue a `QueueUrl` names."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.frontend.auth import Caller
from waystation.frontend.calls import Call, find_queue, queue_url
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.queues import Queue, QueueRecord
from waystation.protocol.errors import InvalidAddress, MissingParameter, QueueDoesNotExist, Refusal

ACCOUNT = "1" * 12
OTHER = "2" * 12
CALL = Call(Caller(ACCOUNT, "AKIA"), "http://localhost:9324", "")


class Known:
    """A catalogue that has `orders` in two accounts."""

    def find(self, account: str, name: str) -> Queue | None:
        if name != "orders" or account not in (ACCOUNT, OTHER):
            return None
        return Queue(QueueRecord(name, account, 0, 0, 0, 1), 1)


CATALOGUE = cast(Catalogue, Known())


def find(url: str | None) -> Queue:
    return find_queue(CATALOGUE, CALL, url)


def test_a_queue_is_found_under_the_url_that_it_was_given() -> None:
    queue = find("orders")

    assert find(queue_url(CALL, queue)).record == queue.record
    assert queue_url(CALL, queue) == f"http://localhost:9324/{ACCOUNT}/orders"


@pytest.mark.parametrize(
    "url",
    [
        "orders",
        f"/{ACCOUNT}/orders",
        f"https://sqs.eu-central-1.amazonaws.com/{ACCOUNT}/orders",
        f"//proxy.example/{ACCOUNT}/orders",
        f"http://[::1]:9324/{ACCOUNT}/orders",
        f"http://localhost/{ACCOUNT}/orders?x=y#z",
    ],
)
def test_host_query_and_scheme_do_not_matter(url: str) -> None:
    assert find(url).record.account == ACCOUNT


@pytest.mark.parametrize("url", [None, ""])
def test_no_url_is_a_missing_parameter(url: str | None) -> None:
    with pytest.raises(MissingParameter, match="QueueUrl"):
        find(url)


@pytest.mark.parametrize(
    "url", ["unknown", "Orders", f"/{OTHER}/orders", f"/{ACCOUNT}/unknown", "//x//orders"]
)
def test_an_unknown_queue_and_one_of_somebody_else_look_the_same(url: str) -> None:
    with pytest.raises(QueueDoesNotExist):
        find(url)


@pytest.mark.parametrize(
    "url", ["/", "a/b", "http://x", f"http://x/{ACCOUNT}", f"/{ACCOUNT}/orders/", "http://[x/a/b"]
)
def test_what_cannot_be_the_url_of_a_queue_is_an_invalid_address(url: str) -> None:
    with pytest.raises(InvalidAddress):
        find(url)


@given(st.text(max_size=30) | st.text("/:.[]@?#%a1", max_size=20))
def test_no_text_is_anything_but_a_queue_or_a_refusal(url: str) -> None:
    try:
        queue = find(url)
    except Refusal:
        return
    assert queue.record.account == ACCOUNT


def test_an_endless_url_is_refused_before_it_is_remembered() -> None:
    with pytest.raises(InvalidAddress) as refusal:
        find("http://localhost/" + "1" * 5_000_000 + "/orders")

    assert len(refusal.value.message) < 200
