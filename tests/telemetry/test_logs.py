"""Log lines keep their two promises: they never raise, and one record is never two."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.telemetry.logs import JsonFormatter, TextFormatter, configure_logs
from waystation.telemetry.settings import TelemetrySettings

Write = Callable[[logging.Logger], None]
Format = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]


pytestmark = pytest.mark.usefixtures("logging_as_it_was")


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def written(log_format: Format, write: Write, level: Level) -> str:
    stream = io.StringIO()
    configure_logs(TelemetrySettings(log_level=level, log_format=log_format), stream)
    write(logging.getLogger("waystation.example"))
    return stream.getvalue()


def text_of(write: Write, level: Level = "info") -> str:
    return written("text", write, level)


def json_of(write: Write, level: Level = "info") -> dict[str, Any]:
    line = written("json", write, level)
    assert line.count("\n") == 1
    assert line.endswith("\n")
    found: dict[str, Any] = json.loads(line)
    return found


def record(message: str, extra: dict[str, Any], created: float = 0.0) -> logging.LogRecord:
    made = logging.LogRecord("waystation.example", logging.INFO, __file__, 1, message, (), None)
    made.created = created
    vars(made).update(extra)
    return made


def fail_with(message: str) -> Write:
    def write(logger: logging.Logger) -> None:
        try:
            raise ValueError(message)
        except ValueError:
            logger.exception("append failed", extra={"shard": 3})

    return write


def test_a_text_line_has_time_level_logger_message_and_facts() -> None:
    line = TextFormatter().format(record("shard recovered", {"shard": 3, "queue": "a b"}, created=1.5))

    assert line == '1970-01-01T00:00:01.500Z INFO waystation.example: shard recovered shard=3 queue="a b"'


def test_a_json_line_is_one_object_with_the_facts_beside_the_message() -> None:
    line = JsonFormatter().format(record("shard recovered", {"shard": 3, "path": Path("/data")}, created=1.5))

    assert json.loads(line) == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "info",
        "logger": "waystation.example",
        "message": "shard recovered",
        "shard": 3,
        "path": "/data",
    }


def test_information_is_not_written_unless_asked_for() -> None:
    assert TelemetrySettings().log_level == "warning"
    assert text_of(lambda logger: logger.info("started"), level="warning") == ""
    assert "started" in text_of(lambda logger: logger.info("started"), level="info")


def test_configuring_again_replaces_the_earlier_stream() -> None:
    first = io.StringIO()
    configure_logs(TelemetrySettings(), first)

    assert text_of(lambda logger: logger.error("once")).count("once") == 1
    assert first.getvalue() == ""


def test_an_exception_in_json_is_one_field_of_the_same_line() -> None:
    found = json_of(fail_with("disk\nfull"))

    assert found["shard"] == 3
    assert found["exception"].endswith("ValueError: disk\nfull")


def test_an_exception_in_text_is_indented_below_its_line() -> None:
    first, *rest = text_of(fail_with("disk full\n2026-01-01T00:00:00Z ERROR forged: line")).splitlines()

    assert first.endswith("append failed shard=3")
    assert rest
    assert all(line.startswith("    ") for line in rest)


@pytest.mark.parametrize("value", [Unprintable(), {"in": Unprintable()}, {(1, 2): 3}, float("nan"), b"\xff"])
def test_a_fact_that_cannot_be_written_never_loses_the_line(value: object) -> None:
    def write(logger: logging.Logger) -> None:
        logger.info("received", extra={"value": value, "queue": "orders"})

    found = json_of(write)

    assert found["message"] == "received"
    assert found["queue"] == "orders"
    assert isinstance(found["value"], str)
    assert "queue=orders" in text_of(write)


def test_a_circular_fact_never_loses_the_line() -> None:
    circular: list[object] = []
    circular.append(circular)

    assert json_of(lambda logger: logger.info("received", extra={"value": circular}))["value"] == "[[...]]"


def test_a_fact_never_hides_a_field_of_the_line() -> None:
    found = json_of(lambda logger: logger.info("received", extra={"time": "noon", "level": 7}))

    assert found["time"] != "noon"
    assert (found["level"], found["time_"], found["level_"]) == ("info", "noon", 7)


@given(message=st.text(), value=st.text())
def test_one_record_is_always_one_line(message: str, value: str) -> None:
    """Whatever a client managed to get into a name, a reader sees one record and no control code."""
    made = record(message, {"queue": value})

    for formatter in (TextFormatter(), JsonFormatter()):
        line = formatter.format(made)
        assert line.splitlines() == [line]
        assert "\x1b" not in line


@given(value=st.text())
def test_json_facts_come_back_as_they_were(value: str) -> None:
    assert json.loads(JsonFormatter().format(record("received", {"queue": value})))["queue"] == value
