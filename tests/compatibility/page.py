"""docs/compatibility.md, made from what the tests prove.

    python -m tests.compatibility.page

A test holds the page against this, every row against the model of SQS, and every
test that a row names against the tests that there are.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import waystation
from tests.compatibility.limit_rows import LIMITS
from tests.compatibility.rows import (
    ACTIONS,
    DIFFERENT,
    ERRORS,
    GENERAL,
    QUEUE_ATTRIBUTES,
    SAME,
    SYSTEM_ATTRIBUTES,
    Row,
)
from tests.contract.test_every_error import CASES, OUT_OF_REACH, Case
from waystation.protocol import errors, limits

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/compatibility.md"

_HEAD = """# Compatibility with Amazon SQS

Every action, attribute, limit and error, and the test that proves what is said of it. This page is
made from the tests (`python -m tests.compatibility.page`), and a test checks that it is up to date,
that nothing of botocore's model of SQS is left out, and that every test it names is there. Most tests
below `contract` ask over both protocols, AWS JSON 1.0 and Query.

*same*: what AWS documents, or what was recorded of it. *stricter*: more is promised than by AWS.
*different*: read the remark. What is not there has no test.
"""

PROVOKED = (
    "contract/test_every_error::test_an_error_in_aws_json_has_a_shape_a_text_and_its_query_code_in_a_header",
    "contract/test_every_error::test_an_error_in_query_blames_the_sender_and_has_a_code_and_a_text",
)
"""The tests that provoke every case of the table of errors."""


def page() -> str:
    """The whole page."""
    parts = [
        _HEAD,
        "## The service\n",
        _table("what", GENERAL, code=False),
        "## Actions\n",
        _table("action", ACTIONS),
        "## Queue attributes\n",
        _table("attribute", QUEUE_ATTRIBUTES),
        "## Message system attributes\n",
        _table("attribute", SYSTEM_ATTRIBUTES),
        "## Limits\n",
        _limits(),
        "## Errors\n",
        _errors(),
    ]
    return "\n".join(parts)


def declared() -> dict[str, type[errors.Refusal | errors.Unavailable]]:
    """Every error that the server declares, by its shape."""
    # Not those alone that something has imported by chance, and none that tests declare.
    for module in walk_packages(waystation.__path__, "waystation."):
        if not module.name.endswith(".__main__"):
            import_module(module.name)
    kinds: list[type[errors.Refusal | errors.Unavailable]] = [
        *errors.Refusal.__subclasses__(),
        *errors.CommonRefusal.__subclasses__(),
        errors.Unavailable,
    ]
    kinds.remove(errors.CommonRefusal)  # what others have in common, and no error itself
    return {kind.shape: kind for kind in kinds if kind.__module__.startswith("waystation.")}


def _table(kind: str, rows: list[Row], *, code: bool = True) -> str:
    lines = [f"| {kind} | is | remark | test |", "|---|---|---|---|"]
    for row in rows:
        names = ", ".join(f"`{name}`" if code else name for name in row.names)
        lines.append(f"| {names} | {row.verdict} | {row.remark} | {_links(row.tests)} |")
    return "\n".join(lines) + "\n"


def _limits() -> str:
    lines = ["| limit | is | remark | test |", "|---|---|---|---|"]
    for row in LIMITS:
        values = ", ".join(f"{name} {_value(name)}" for name in row.names)
        lines.append(f"| {values} | {row.verdict} | {row.remark} | {_links(row.tests)} |")
    return "\n".join(lines) + "\n"


def _value(name: str) -> str:
    value = getattr(limits, name)
    if isinstance(value, int):
        return f"{value:,}"
    return f"`{value}`" if isinstance(value, str) else "(a pattern)"


def _errors() -> str:
    """Those that a case provokes are proved by the case; more may be said of them, and proved, by a row."""
    lines = ["| error | code in Query | status | is | remark | test |", "|---|---|---:|---|---|---|"]
    cases: dict[str, Case] = {case.shape: case for case in CASES}
    rows = {name: row for row in ERRORS for name in row.names}
    for shape, kind in sorted(declared().items()):
        row = rows.get(shape) or Row((shape,), (), SAME, "")
        if shape in OUT_OF_REACH:
            row = row._replace(verdict=DIFFERENT, remark=f"never: {OUT_OF_REACH[shape]}")
        links = [_links(row.tests)] if row.tests else []
        if shape in cases:
            links.insert(0, f"[{cases[shape].operation} provokes it](../tests/contract/test_every_error.py)")
        tests = ", ".join(links)
        lines.append(
            f"| `{shape}` | `{kind.query_code}` | {kind.status} | {row.verdict} | {row.remark} | {tests} |"
        )
    return "\n".join(lines) + f"\n\nWhat provokes an error is sent in both protocols: {_links(PROVOKED)}.\n"


def _links(tests: tuple[str, ...]) -> str:
    return ", ".join(_link(test) for test in tests)


def _link(test: str) -> str:
    file, _, name = test.partition("::")
    sentence = name.removeprefix("test_").replace("_", " ")
    return f"[{sentence}](../tests/{file}.py)"


if __name__ == "__main__":
    PAGE.write_text(page())
