"""docs/compatibility.md, made from what the tests prove.

    python -m tests.compatibility.page

A test holds the page against this, every row against the model of SQS, and every
test that a row names against the tests that there are.
"""

from __future__ import annotations

from pathlib import Path

from tests.compatibility.rows import (
    ACTIONS,
    DIFFERENT,
    LIMITS,
    QUEUE_ATTRIBUTES,
    SAME,
    SYSTEM_ATTRIBUTES,
    Row,
)
from tests.contract.test_every_error import CASES, OUT_OF_REACH, Case
from waystation.protocol import limits

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/compatibility.md"

_HEAD = """# Compatibility with Amazon SQS

Every action, attribute, limit and error, and the test that proves what is said of it. This page is
made from the tests (`python -m tests.compatibility.page`), and a test checks that it is up to date,
that nothing of botocore's model of SQS is left out, and that every test it names is there. All of it
holds over both protocols, AWS JSON 1.0 and Query.

*same*: what AWS documents, or what was recorded of it. *stricter*: more is promised than by AWS.
*different*: read the remark.

Where AWS takes time (attributes within 60 s, new queues after 1 s, deletes within 60 s), changes are
seen at once. Requests must be signed with Signature Version 4; HTTPS is offered, not demanded. No
rate is throttled.
"""


def page() -> str:
    """The whole page."""
    parts = [
        _HEAD,
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


def _table(kind: str, rows: list[Row]) -> str:
    lines = [f"| {kind} | is | remark | test |", "|---|---|---|---|"]
    for row in rows:
        names = ", ".join(f"`{name}`" for name in row.names)
        lines.append(f"| {names} | {row.verdict} | {row.remark} | {_link(row.test)} |")
    return "\n".join(lines) + "\n"


def _limits() -> str:
    lines = ["| limit | is | remark | test |", "|---|---|---|---|"]
    for row in LIMITS:
        values = ", ".join(f"{name} {_value(name)}" for name in row.names)
        lines.append(f"| {values} | {row.verdict} | {row.remark} | {_link(row.test)} |")
    return "\n".join(lines) + "\n"


def _value(name: str) -> str:
    value = getattr(limits, name)
    if isinstance(value, int):
        return f"{value:,}"
    return f"`{value}`" if isinstance(value, str) else "(a pattern)"


def _errors() -> str:
    lines = ["| error | code in Query | status | is | remark |", "|---|---|---:|---|---|"]
    seen: dict[str, Case] = {case.shape: case for case in CASES}
    for shape, case in sorted(seen.items()):
        remark = f"provoked by {case.operation}"
        lines.append(f"| `{shape}` | `{case.query_code}` | {case.status} | {SAME} | {remark} |")
    for shape, why in sorted(OUT_OF_REACH.items()):
        lines.append(f"| `{shape}` | | | {DIFFERENT} | never: {why} |")
    name = "test_an_error_in_aws_json_has_a_shape_a_text_and_its_query_code_in_a_header"
    link = _link(f"contract/test_every_error::{name}")
    return "\n".join(lines) + f"\n\nProved by {link} and those beside it.\n"


def _link(test: str) -> str:
    file, _, name = test.partition("::")
    sentence = name.removeprefix("test_").replace("_", " ")
    return f"[{sentence}](../tests/{file}.py)"


if __name__ == "__main__":
    PAGE.write_text(page())
