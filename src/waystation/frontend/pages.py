"""Lists of queues in pages: how long one may be, where it begins, and the token for the next.

A token is the last name of its page. So a list goes on where it ended, whatever has
been created or deleted meanwhile, and the server remembers nothing.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from contextlib import suppress
from typing import NamedTuple, Self

from waystation.frontend.message_rules import check_range
from waystation.protocol import limits
from waystation.protocol.errors import InvalidParameterValue


class Page(NamedTuple):
    """The page that a client asks for."""

    after: str
    """The name of the queue that comes just before; empty for the first page."""
    length_max: int
    is_sized: bool
    """The client named a size; only then it hears that there is more."""

    @classmethod
    def asked_for(cls, max_results: int | None, token: str | None) -> Self:
        """Raises `InvalidParameterValue` for a size out of range, or a token that was never given out."""
        check_range(max_results, "MaxResults", limits.LIST_RESULTS_MIN, limits.LIST_RESULTS_MAX)
        return cls(_read_token(token), max_results or limits.LIST_RESULTS_MAX, max_results is not None)

    def cut(self, names: list[str]) -> tuple[list[str], str | None]:
        """The names on this page and the token for the next, of all names from here or one too many."""
        shown = names[: self.length_max]
        if len(names) == len(shown) or not self.is_sized:
            return shown, None
        return shown, urlsafe_b64encode(shown[-1].encode()).decode()


def _read_token(token: str | None) -> str:
    if not token:
        return ""
    with suppress(Base64Error, ValueError):
        name = urlsafe_b64decode(token).decode("ascii")
        if limits.QUEUE_NAME_PATTERN.match(name.removesuffix(limits.FIFO_SUFFIX)):
            return name
    raise InvalidParameterValue("Invalid or expired next token.")
