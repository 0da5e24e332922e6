"""The page on compatibility says everything, and nothing that no test proves."""

from __future__ import annotations

import ast
from itertools import chain

from botocore.model import StringShape

from tests.compatibility.limit_rows import LIMITS
from tests.compatibility.page import PAGE, PROVOKED, ROOT, declared, page
from tests.compatibility.rows import (
    ACTIONS,
    DIFFERENT,
    ERRORS,
    GENERAL,
    QUEUE_ATTRIBUTES,
    SAME,
    STRICTER,
    SYSTEM_ATTRIBUTES,
    Row,
)
from tests.contract.test_every_error import CASES, OUT_OF_REACH
from tests.protocol.service_model import OPERATION_NAMES, SERVICE, error_shapes
from waystation.protocol import limits

ROWS = [*GENERAL, *ACTIONS, *QUEUE_ATTRIBUTES, *SYSTEM_ATTRIBUTES, *LIMITS, *ERRORS]


def names_of(rows: list[Row]) -> list[str]:
    return sorted(chain.from_iterable(row.names for row in rows))


def enumerated(shape_name: str) -> list[str]:
    shape = SERVICE.shape_for(shape_name)
    assert isinstance(shape, StringShape)
    return sorted(shape.enum)


def test_the_page_is_what_the_rows_and_the_table_of_errors_make_of_it() -> None:
    assert PAGE.read_text() == page(), "write it anew: python -m tests.compatibility.page"


def test_every_action_attribute_and_limit_has_one_row() -> None:
    assert names_of(ACTIONS) == OPERATION_NAMES
    assert names_of(QUEUE_ATTRIBUTES) == enumerated("QueueAttributeName")
    assert names_of(SYSTEM_ATTRIBUTES) == enumerated("MessageSystemAttributeName")
    assert names_of(LIMITS) == sorted(name for name in dir(limits) if name.isupper())


def test_every_error_is_provoked_or_out_of_reach_or_has_a_row() -> None:
    """Those of the model, and those that the server declares beside them: on the page there are no others."""
    provoked, rows = {case.shape for case in CASES}, names_of(ERRORS)

    assert set(error_shapes()) <= set(declared())
    assert provoked | set(OUT_OF_REACH) | set(rows) == set(declared())
    assert len(rows) == len(set(rows))
    assert set(OUT_OF_REACH).isdisjoint(rows)


def test_an_error_is_declared_as_it_was_provoked() -> None:
    """The page shows codes and statuses as declared."""
    for case in CASES:
        kind = declared()[case.shape]
        assert (kind.query_code, kind.status) == (case.query_code, case.status)


def test_every_test_that_is_named_is_there_and_is_run() -> None:
    tests: dict[str, dict[str, str]] = {}
    for test in (*PROVOKED, *chain.from_iterable(row.tests for row in ROWS)):
        file, _, name = test.partition("::")
        if file not in tests:
            tests[file] = decorators(file)
        assert name.startswith("test_")
        assert name in tests[file], test
        assert "skip" not in tests[file][name], test
        assert "xfail" not in tests[file][name], test


def decorators(file: str) -> dict[str, str]:
    """What is written above each function of a file of tests."""
    tree = ast.parse((ROOT / f"tests/{file}.py").read_text())
    return {
        node.name: " ".join(ast.unparse(each) for each in node.decorator_list)
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_what_is_not_the_same_says_why() -> None:
    assert {row.verdict for row in ROWS} == {SAME, STRICTER, DIFFERENT}
    assert all(row.remark for row in ROWS if row.verdict != SAME)


def test_only_what_is_different_may_have_no_test() -> None:
    unproved = [row for row in ROWS if not row.tests]

    assert all(row.verdict == DIFFERENT for row in unproved)
    assert names_of(unproved) == ["AccessDeniedException", "metrics", "rates"]


def test_no_test_is_named_twice_in_a_row() -> None:
    assert all(len(row.tests) == len(set(row.tests)) for row in ROWS)
