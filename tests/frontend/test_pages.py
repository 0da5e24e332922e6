"""Lists in pages: whatever the sizes, nothing is shown twice or left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.frontend.pages import Page
from waystation.protocol.errors import InvalidParameterValue

queue_names = st.from_regex(r"[A-Za-z0-9_-]{1,20}(\.fifo)?", fullmatch=True)


def from_here(names: list[str], page: Page) -> list[str]:
    """What the catalogue would give for a page: one more than fits."""
    return [name for name in names if name > page.after][: page.length_max + 1]


@given(st.sets(queue_names).map(sorted), st.integers(1, 10))
def test_pages_that_follow_each_other_show_every_name_once(names: list[str], size: int) -> None:
    shown, token, pages = [], None, 0
    while pages == 0 or token is not None:
        page = Page.asked_for(size, token)
        part, token = page.cut(from_here(names, page))
        shown += part
        pages += 1

    assert shown == names
    assert pages == max(1, -(-len(names) // size))


def test_without_a_size_a_page_has_1000_names_and_no_token() -> None:
    names = sorted(f"queue-{number}" for number in range(1_001))
    page = Page.asked_for(None, None)

    assert page.cut(from_here(names, page)) == (names[:1_000], None)


@pytest.mark.parametrize("size", [0, -1, 1_001])
def test_a_page_has_1_to_1000_names(size: int) -> None:
    with pytest.raises(InvalidParameterValue, match="MaxResults"):
        Page.asked_for(size, None)


@given(st.text(max_size=20))
def test_whatever_token_comes_back_is_read_or_refused(token: str) -> None:
    try:
        page = Page.asked_for(1, token)
    except InvalidParameterValue:
        return  # anything else would fail the test
    assert page.after.isascii()
