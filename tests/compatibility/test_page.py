"""The page on compatibility says everything, and nothing that no test proves."""

from __future__ import annotations

import ast
from itertools import chain

from botocore.model import StringShape

from tests.compatibility.page import PAGE, ROOT, page
from tests.compatibility.rows import (
    ACTIONS,
    DIFFERENT,
    LIMITS,
    QUEUE_ATTRIBUTES,
    SAME,
    STRICTER,
    SYSTEM_ATTRIBUTES,
    Row,
)
from tests.contract.test_every_error import CASES, OUT_OF_REACH
from tests.protocol.service_model import OPERATION_NAMES, SERVICE, error_shapes
from waystation.protocol import limits

ROWS = [*ACTIONS, *QUEUE_ATTRIBUTES, *SYSTEM_ATTRIBUTES, *LIMITS]


def names_of(rows: list[Row]) -> list[str]:
    return sorted(chain.from_iterable(row.names for row in rows))


def enumerated(shape_name: str) -> list[str]:
    shape = SERVICE.shape_for(shape_name)
    assert isinstance(shape, StringShape)
    return sorted(shape.enum)


def test_the_page_is_what_the_rows_and_the_table_of_errors_make_of_it() -> None:
    assert PAGE.read_text() == page(), "write it anew: python -m tests.compatibility.page"


def test_every_action_attribute_error_and_limit_has_one_row() -> None:
    assert names_of(ACTIONS) == OPERATION_NAMES
    assert names_of(QUEUE_ATTRIBUTES) == enumerated("QueueAttributeName")
    assert names_of(SYSTEM_ATTRIBUTES) == enumerated("MessageSystemAttributeName")
    assert names_of(LIMITS) == sorted(name for name in dir(limits) if name.isupper())
    assert set(error_shapes()) <= {case.shape for case in CASES} | set(OUT_OF_REACH)


def test_every_test_that_a_row_names_is_there() -> None:
    tests: dict[str, set[str]] = {}
    for row in ROWS:
        file, _, name = row.test.partition("::")
        if file not in tests:
            tree = ast.parse((ROOT / f"tests/{file}.py").read_text())
            functions = (ast.FunctionDef, ast.AsyncFunctionDef)
            tests[file] = {node.name for node in tree.body if isinstance(node, functions)}
        assert name in tests[file], row


def test_what_is_not_the_same_says_why() -> None:
    assert {row.verdict for row in ROWS} == {SAME, STRICTER, DIFFERENT}
    assert all(row.remark for row in ROWS if row.verdict != SAME)
